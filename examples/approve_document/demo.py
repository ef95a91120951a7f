"""The demo: ``python -m examples.approve_document.demo [--no]``.

Two documents go in. One waits for a person; the engine is closed meanwhile, and another one brings the answer.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from examples.models import model_from_environment
from examples.terminal import follow, named, result_of, shown
from holdfast import Engine, Runtime
from holdfast.agents import Agent

from .workflow import NAME, QUESTION, offline

SAMPLES: Final = {
    "notice": "Opening hours in winter\nFrom November the reading room closes at five.\n",
    "offer": "Offer for the north roof\nWe offer to renew the roof for EUR 48,000, to be paid on completion.\n",
}


async def main(agent: Agent, console: Console, *, yes: bool) -> int:
    """Runs the demo and returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="approve-document-") as folder:
        place = Path(folder)
        runtime = Runtime(agent=agent, outbox=place)
        store = f"sqlite:///{place / 'runs.db'}"
        console.rule(f"1. Two documents, assessed by {named(agent)}")
        async with Engine(store, runtime=runtime, observers=()) as engine:
            for name, text in SAMPLES.items():
                document = place / f"{name}.md"
                document.write_text(text, encoding="utf-8")
                console.print(f" {name}", style="bold")
                await follow(await engine.start(NAME, {"document": str(document)}, id=name), console)
        console.rule("2. The engine is closed: what waits is rows in the store")
        return await answer_all(store, runtime, console, yes=yes)


async def answer_all(store: str, runtime: Runtime, console: Console, *, yes: bool) -> int:
    """Opens another engine, answers what is asked, and shows how each run ended."""
    async with Engine(store, runtime=runtime, observers=()) as engine:
        for asked in await engine.interrupts():
            console.print(
                f" {asked.run_id} asks to {asked.name}: {asked.payload}", highlight=False, markup=False
            )
            await engine.signal(asked.run_id, QUESTION, {"yes": yes, "by": "Ada"})
            console.print(f" Ada says {'yes' if yes else 'no'}", style="bold")
        console.rule("3. The end")
        for name in SAMPLES:
            run = await engine.get(name)
            result = await result_of(run, console)
            if result is None:
                return 1
            console.print(
                shown(result, "title", "risk", "why", *(["by"] if "by" in result else []), "outcome")
            )
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Publish two documents, one after a person approved it.")
    parser.add_argument("--no", dest="yes", action="store_false", help="the person says no")
    agreed = parser.parse_args().yes
    sys.exit(asyncio.run(main(model_from_environment("AGENT") or offline(), Console(), yes=agreed)))
