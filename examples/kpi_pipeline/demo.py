"""The demo: ``python -m examples.kpi_pipeline.demo [PICTURE]``.

The board's portal is closed at first: after three tries the saga gives the old scores back and unlocks the period. Then
the portal opens, the same run is resumed, and the ranking is published. The tries make it take some twenty seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from examples.assessment.workflow import lifecycle
from holdfast import Engine, Run, RunFailed, RunStatus, Runtime
from holdfast.errors import InvalidTransition

from .archive import Archive
from .plot import draw
from .workflow import RETRY, assessment

PERIOD = "2026-Q3"
SAMPLES = Path(__file__).with_name("samples") / "actuals.csv"


async def calculate(period: Run, run: Run, console: Console) -> None:
    """Follows the saga's run, and tells the life of the assessment how it ended."""
    async for event in run.events(after=run.position):
        if event.type in ("stage.completed", "stage.failed", "stage.retried"):
            console.print(
                f"  {event.data['name']}: {event.type.partition('.')[2]}", highlight=False, emoji=False
            )
    await run.refresh()
    outcome = await period.send("COMPLETE" if run.status is RunStatus.COMPLETED else "FAIL")
    console.print(f"the assessment is {outcome.state}", style="bold")


async def progress_of(run: Run) -> list[int]:
    """What the pipeline told, in order."""
    child = (await run.children())[-1]  # an earlier one was of the try that was undone
    return [int(event.data["percent"]) async for event in child.events(types="stage.progress")]


async def play(console: Console, folder: Path, picture: Path, saga: Any = None) -> dict[str, Any]:
    """Plays the story on a store in the folder; returns what came of it."""
    closed = [True]
    book = Archive(folder / "archive.json")
    runtime = Runtime(archive=book, actuals=SAMPLES, notes=[], portal=lambda: bool(closed))
    before = book.read()
    async with Engine(f"sqlite:///{folder}/runs.db", runtime=runtime, observers=()) as engine:
        period = await engine.start(lifecycle, id=f"period-{PERIOD}")
        try:
            await period.send("APPROVE")
        except InvalidTransition as error:
            console.print(error.message, style="red")
        for event in ("SUBMIT", "APPROVE", "START_CALCULATION"):
            console.print(f"{event}: {(await period.send(event)).state}", highlight=False)
        run = await engine.start(saga or assessment(RETRY), {"period": PERIOD}, id=f"assess-{PERIOD}")
        await calculate(period, run, console)
        try:
            await run.result()
        except RunFailed as error:
            console.print(f"{error.__cause__}; undone: {', '.join(error.error.compensated)}", style="red")
        undone = book.read()
        closed.clear()
        await period.send("START_CALCULATION")
        await run.resume()
        await calculate(period, run, console)
        result = await run.result()
        told = await progress_of(run)
        state = (await period.send("ARCHIVE")).state
    pipeline = result["calculate"]
    for each in pipeline["ranking"]:
        console.print(f"  {each['rank']}. {each['line']:16} {each['points']:6.1f}", highlight=False)
    draw(pipeline["ranking"], pipeline["scores"], picture)
    return {"before": before, "undone": undone, "after": book.read(), "progress": told, "state": state}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Assess the third quarter of 2026.")
    parser.add_argument("picture", nargs="?", type=Path, default=Path("kpi_ranking.png"))
    file = parser.parse_args().picture
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(play(Console(), Path(name), file))
    print(f"the ranking is drawn in {file}")
