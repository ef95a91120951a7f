"""The demo: ``python -m examples.etl.demo [FOLDER]``. A process is killed in the middle of the ETL, another goes on."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from holdfast import Engine, Runtime
from holdfast.model.audit import Decision, Stage

from .worker import RUN_ID
from .workflow import COLUMNS, Plug, Row, dag

VICTIM: Final = "IBM"


async def main(folder: Path, console: Console) -> int:
    """Runs the demo and returns the exit code: 0 when nothing that had finished was run again."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="etl-") as runs:
        store = f"sqlite:///{Path(runs) / 'runs.db'}"
        before = await die_in_the_middle(store, folder, console)
        result, again = await go_on(store, before, console)
    console.rule("3. The report")
    console.print(years_table(result["table"]))
    if remark := result["report"]["remark"]:
        console.print(f"  {remark}", style="yellow")
    console.print(
        f"  {result['load']} rows are in {folder / 'warehouse.db'}", highlight=False, soft_wrap=True
    )
    console.print(f"  the picture is {result['report']['picture']}", highlight=False, soft_wrap=True)
    return 0 if before and not again else 1


async def die_in_the_middle(store: str, folder: Path, console: Console) -> set[str]:
    """Runs the ETL in a process that gets SIGKILL in the middle of a map; returns the steps that had finished."""
    console.rule("1. Run the ETL in a process that dies")
    worker = [sys.executable, "-m", "examples.etl.worker", store, str(folder), "--die-at", VICTIM]
    ended = await asyncio.to_thread(subprocess.run, worker, check=False)
    async with Engine(store, workers=False) as client:
        run = await client.get(RUN_ID)
        before = finished(await run.stages())
    console.print(f"  the process is gone (exit code {ended.returncode}) with {VICTIM} in hand")
    console.print(
        f"  in the store: the run is {run.status}, finished are {', '.join(sorted(before))}", highlight=False
    )
    return before


async def go_on(store: str, before: set[str], console: Console) -> tuple[Row, set[str]]:
    """Opens an engine on the same store, which takes the run up; returns its result and what was run in vain."""
    console.rule("2. Open the store again: the run goes on by itself")
    async with Engine(store, runtime=Runtime(plug=Plug()), observers=()) as engine:
        run = await engine.get(RUN_ID)
        result = await run.result()
        stages, decisions = await run.stages(), await run.decisions()
    again = before & {_step(stage) for stage in stages if stage.attempt > 1}
    console.print(tasks_table(stages, decisions))
    console.print(f"  finished before the kill: {len(before)} steps; of these run again: {len(again)}")
    return result, again


def finished(stages: Sequence[Stage]) -> set[str]:
    return {_step(stage) for stage in stages if stage.status == "completed"}


def _step(stage: Stage) -> str:
    return f"{stage.name} #{stage.iteration}" if dag.tasks[stage.name].map_over else stage.name


def tasks_table(stages: Sequence[Stage], decisions: Sequence[Decision]) -> Table:
    """Returns a line for each task: how many steps it came to, how often these were begun, and what is to be said."""
    table = Table(box=None, padding=(0, 2))
    for column in ("", "task", "steps", "attempts", ""):
        table.add_column(column, justify="right" if column in {"steps", "attempts"} else "left")
    remarks = {made.to_node: made.reason for made in decisions}
    for task in dag.tasks:
        own = [stage for stage in stages if stage.name == task]
        errors = [stage.error.message for stage in own if stage.error]
        good = sum(stage.status == "completed" for stage in own)
        table.add_row(
            "[green]✓[/]" if good == len(own) > 0 else "[yellow]~[/]" if good else "[red]✗[/]",
            task,
            str(len(own)),
            str(sum(stage.attempt for stage in own)),
            escape(errors[0] if errors else remarks.get(task) or ""),
        )
    return table


def years_table(rows: Sequence[Row]) -> Table:
    """Returns the rows as a person reads them; what is not known is a dash."""
    table = Table(box=None, padding=(0, 2))
    for title in ("year", "shares $", "shares €", "jobs, million", "warmest, °C", "rain, mm"):
        table.add_column(title, justify="right")
    for row in rows:
        numbers = ("-" if row[name] is None else f"{row[name]:,.1f}" for name in COLUMNS[1:])
        table.add_row(row["year"], *numbers)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the ETL, die in the middle of it, go on.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("etl_report"))
    sys.exit(asyncio.run(main(parser.parse_args().folder, Console())))
