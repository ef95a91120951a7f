"""Following a run: its events onto a screen, until it ends, parks, or somebody asks to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Final

from holdfast.cli.screens import FRAME_SECONDS, Screen
from holdfast.core.events import events_of, reader
from holdfast.engine import Engine
from holdfast.model.event import RunEvent
from holdfast.model.run import RunStatus
from holdfast.run import Run

LOOK_SECONDS: Final = 0.5
"""How often the run's row is looked at for what no event tells."""

PAUSED_LOOKS: Final = 3
PATIENT_LOOKS: Final = 60
"""How often a run must be seen paused to be taken for it, without and with stages that run."""

PAGE: Final = 500


async def recorded(
    engine: Engine, run: Run, after: int = 0, types: Collection[str] | None = None, until: int | None = None
) -> AsyncIterator[RunEvent]:
    """Yield the events that are there, up to a position if one is given, and do not wait for more."""
    position, end = after, run.position if until is None else until
    read = reader(await engine.store.blobs(run.id))
    while position < end:
        rows = await engine.store.journal(run.id, after=position, limit=PAGE)
        if not rows:
            return
        for event in events_of(rows, position, types, read):
            if event.position > end:
                return
            yield event
        position = rows[-1].position + rows[-1].count - 1


async def follow(engine: Engine, run: Run, screen: Screen, before: int) -> None:
    """Show the run until it ends or is paused; what there is up to position `before` is told as old."""
    async for event in recorded(engine, run, until=before):
        screen.absorb(event, old=True)
    await watch(engine, run, screen, before)


async def watch(engine: Engine, run: Run, screen: Screen, after: int = 0) -> None:
    """Show the run's events after a position until it ends or is paused."""
    tasks = [
        asyncio.ensure_future(work)
        for work in (_absorb(engine, run, screen, after), _tick(engine, run, screen))
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _absorb(engine: Engine, run: Run, screen: Screen, after: int) -> None:
    """Take events in until the run has ended."""
    async for event in engine.events(run.id, after):
        screen.absorb(event)
        screen.tick()


async def _tick(engine: Engine, run: Run, screen: Screen) -> None:
    """Draw until the run is paused and its running stages have ended.

    A resume that its holder has not seen yet looks like a pause for a moment. Stages of a lost worker never end.
    """
    loop = asyncio.get_running_loop()
    looked, paused = 0.0, 0
    while paused < (PATIENT_LOOKS if screen.view.running else PAUSED_LOOKS):
        if loop.time() - looked >= LOOK_SECONDS:
            looked = loop.time()
            row = await engine.get(run.id)
            screen.view.settle(row.status, row.waiting_on)
            paused = paused + 1 if row.status is RunStatus.PAUSED else 0
        screen.tick()
        await asyncio.sleep(FRAME_SECONDS / 2)
