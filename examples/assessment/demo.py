"""The demo: ``python -m examples.assessment.demo``.

A period goes through its life by events. Between two of them the engine is closed: a period that waits is rows.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from holdfast import Engine, InvalidTransition

from .workflow import lifecycle

MORNING: Final = ("APPROVE", "SUBMIT", "APPROVE")
EVENING: Final = ("START_CALCULATION", "FAIL", "START_CALCULATION", "COMPLETE", "ARCHIVE", "RECALCULATE")


async def main(console: Console) -> int:
    """Run the demo and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="assessment-") as folder:
        store = f"sqlite:///{Path(folder) / 'runs.db'}"
        console.rule("1. A period is drafted, submitted, approved")
        async with Engine(store, observers=()) as engine:
            await engine.start(lifecycle, id="period-2026-Q3")
            await say(engine, MORNING, console)
        console.rule("2. The engine was closed and opened again")
        async with Engine(store, observers=()) as engine:
            run = await engine.get("period-2026-Q3")
            console.print(
                f" {run.id} is {run.status.value}, it waits for {', '.join(run.waiting_on)}", highlight=False
            )
            await say(engine, EVENING, console)
            console.rule("3. What is recorded")
            for each in await run.decisions():
                mark = "->" if each.result else "x "
                console.print(f" {each.from_node:17} {mark} {each.to_node or each.reason}", highlight=False)
            result = await run.result()
    console.rule("4. The table, drawn")
    console.print(lifecycle.to_ascii(), highlight=False, markup=False)
    return 0 if result["state"] == "ARCHIVED" else 1


async def say(engine: Engine, events: tuple[str, ...], console: Console) -> None:
    """Send events to the period, and show what becomes of each."""
    run = await engine.get("period-2026-Q3")
    for event in events:
        try:
            outcome = await run.send(event)
        except InvalidTransition as refusal:
            console.print(f" {event:18} {refusal}. {refusal.fix}", style="red", highlight=False)
        else:
            console.print(f" {event:18} now {outcome.state}", style="green", highlight=False)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Console())))
