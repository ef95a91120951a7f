"""The demo: ``python -m examples.fleet_release.demo``: version 2 does not start on one host; version 3 goes live."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from holdfast import Engine, Runtime

from .fleet import Fleet
from .workflow import fleet_release

HOSTS = ["amrum", "borkum", "sylt"]


async def deploy(engine: Engine, fleet: Fleet, console: Console, version: str) -> dict[str, Any]:
    """Releases a version, and shows each step of the saga; returns where the machine ended."""
    console.print(f"\n[bold]version {version}[/bold]")
    run = await engine.start(fleet_release, {"version": version, "hosts": HOSTS}, id=f"release-{version}")
    await run.send("approve", {"by": "Ada"})
    await run.wait()
    for child in await run.children():
        for stage in await child.stages():
            told = stage.error.message if stage.error is not None else stage.output
            mark = {"completed": "✓", "failed": "✗"}.get(stage.status.value, "·")
            console.print(
                f"  {mark} {stage.name}  {'' if told is None else told}", highlight=False, emoji=False
            )
    result: dict[str, Any] = await run.result()
    console.print(f"{result['state']}; {fleet.shown()}", highlight=False)
    return result


async def play(console: Console, folder: Path) -> tuple[dict[str, Any], dict[str, Any], Fleet]:
    (folder / "fleet").mkdir()
    fleet = Fleet(folder / "fleet", HOSTS, "1")
    fleet.broken.add(("sylt", "2"))
    async with Engine(f"sqlite:///{folder}/runs.db", runtime=Runtime(fleet=fleet), observers=()) as engine:
        second = await deploy(engine, fleet, console, "2")
        third = await deploy(engine, fleet, console, "3")
        return second, third, fleet


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(play(Console(), Path(name)))
