"""W4: the status "cancelled" was never stored, for the last write went through the scope that had just been cancelled.

What ends a run is a commit like any other: run and stage say "cancelled" whoever gave up and whatever was cut off.
"""

from __future__ import annotations

import asyncio

import pytest

from holdfast import Engine, RunStatus, State
from tests.conftest import OpenEngine
from tests.elsewhere import elsewhere
from tests.graphs import PATIENCE, sequence


async def look(url: str, run: str) -> list[object]:
    async with Engine(url, workers=False, observers=()) as engine:
        found = await engine.get(run)
        return [
            found.status,
            [stage.status for stage in await found.stages()],
            found.completed_at is not None,
        ]


async def test_a_cancelled_run_says_so_in_the_file(url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(url)
    begun = asyncio.Event()

    async def node(state: State) -> None:
        begun.set()
        await asyncio.sleep(PATIENCE)

    run = await engine.start(sequence("w04", done=lambda _: {"n": 1}, node=node))
    await begun.wait()
    await run.cancel()
    await run.wait()
    assert await elsewhere(look, url, run.id) == ["cancelled", ["completed", "cancelled"], True]


@pytest.mark.parametrize("ends", ["caller", "engine"])
async def test_who_cancels_may_be_cut_off_at_once(url: str, open_engine: OpenEngine, ends: str) -> None:
    engine = await open_engine(url)
    begun = asyncio.Event()

    async def node(state: State) -> None:
        begun.set()
        await asyncio.sleep(PATIENCE)

    run = await engine.start(sequence("w04", node=node))
    await begun.wait()
    await engine.cancel(run.id)
    if ends == "caller":
        waiting = asyncio.create_task(run.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await engine.wait(run.id, timeout=PATIENCE)
    else:
        await engine.close()
        engine = await open_engine(url)  # if the close came first, the wish is in the inbox
        await engine.wait(run.id, timeout=PATIENCE)
    assert (await engine.get(run.id)).status is RunStatus.CANCELLED
