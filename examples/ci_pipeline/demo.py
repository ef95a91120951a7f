"""The demo: ``python -m examples.ci_pipeline.demo``. A pipeline that cannot publish goes on there; a bug stops one."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from holdfast import Engine, Run

from .workflow import NAME, PACKAGE, dag

BUG: Final = ("clock.py", "minutes=25", "minutes=52")


async def main(console: Console) -> int:
    """Runs the demo and returns the exit code: 0 when all went as it should."""
    with tempfile.TemporaryDirectory(prefix="ci-") as folder:
        async with Engine(f"sqlite:///{folder}/ci.db", observers=()) as engine:
            went_on = await cannot_publish(engine, Path(folder), console)
            refused = await has_a_bug(engine, Path(folder), console)
    return 0 if went_on and refused else 1


async def cannot_publish(engine: Engine, folder: Path, console: Console) -> bool:
    """Runs the pipeline without a shelf, puts one up, resumes; tells whether `publish` alone was run again."""
    console.rule("1. Everything is well, but there is no shelf to put the wheel on")
    run = await engine.start(NAME, params(folder, PACKAGE, "good"))
    await run.wait()
    console.print(await shown(run))
    (folder / "shelf").mkdir()
    console.rule("2. Put up a shelf and resume")
    await engine.resume(run.id)
    result = await run.result()
    again = {stage.name for stage in await run.stages() if stage.attempt > 1}
    console.print(f"  run again: {', '.join(sorted(again))}")
    console.print(f"  {Path(result['publish']['wheel']).name}", highlight=False)
    console.print(f"  sha256 {result['publish']['sha256']}", highlight=False, soft_wrap=True)
    return again == {"publish"}


async def has_a_bug(engine: Engine, folder: Path, console: Console) -> bool:
    """Runs the pipeline over a package with a bug; tells whether it failed and published nothing."""
    file, right, wrong = BUG
    console.rule(f"3. A bug: {wrong} in {file}")
    source = folder / "buggy"
    shutil.copytree(PACKAGE, source)
    module = source / "src" / "tidetable" / file
    module.write_text(module.read_text("utf-8").replace(right, wrong), "utf-8")
    (folder / "empty shelf").mkdir()
    run = await (await engine.start(NAME, params(folder, source, "bad", "empty shelf"))).wait()
    console.print(await shown(run))
    return run.status == "failed" and not list((folder / "empty shelf").iterdir())


def params(folder: Path, source: Path, work: str, shelf: str = "shelf") -> dict[str, str]:
    """Returns the params of a run with a folder of its own to work in."""
    (folder / work).mkdir()
    return {"source": str(source), "work": str(folder / work), "shelf": str(folder / shelf)}


async def shown(run: Run) -> Table:
    """Returns a line for each step, and one for each task that came to none."""
    stages = await run.stages()
    reasons = {made.to_node: made.reason for made in await run.decisions()}
    table = Table(box=None, padding=(0, 2), show_header=False)
    for task in dag.tasks:
        own = [stage for stage in stages if stage.name == task]
        for stage in own:
            said = (
                stage.error.message.splitlines()[0] if stage.error else stage.output if task == "test" else ""
            )
            mark = "[red]✗[/]" if stage.error else "[green]✓[/]"
            table.add_row(mark, task, f"{stage.duration or 0:.2f} s", escape(str(said)))
        if not own:
            table.add_row("[dim]-[/]", task, "", escape(reasons.get(task) or ""))
    return table


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Console())))
