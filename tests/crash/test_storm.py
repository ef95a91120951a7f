"""Two workers on one file that are killed again and again while a client pauses, resumes, cancels and signals runs."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from holdfast import Engine, InvalidStatus, Run, RunStatus
from holdfast.registry import Registry
from tests.crash.processes import Child, check_all, child, engine_on, recovered
from tests.crash.workflows import WIDE_RESULT
from tests.graphs import LONG

RUNS = 40 if LONG else 10
ROUNDS = 120 if LONG else 20


async def disturb(client: Engine, run: Run, chance: random.Random) -> None:
    """Do one thing to a run that a person might do."""
    match chance.choice(["pause", "pause", "resume", "resume", "resume", "cancel", "signal"]):
        case "pause":
            await run.pause()
        case "resume":
            if (await run.refresh()).status is not RunStatus.COMPLETED:
                await run.resume()
        case "cancel" if chance.random() < 0.3:
            await run.cancel()
        case "signal":
            if (await run.refresh()).status in (RunStatus.RUNNING, RunStatus.WAITING):
                await signal(run)


async def signal(run: Run) -> None:
    with suppress(InvalidStatus):  # it may have ended since it was looked at
        await run.signal("hello", {"n": 1})


@pytest.mark.parametrize("seed", range(10 if LONG else 1))
async def test_runs_survive_a_storm(url: str, log: Path, seed: int) -> None:
    chance = random.Random(seed)
    named = {f"run-{n}": ("wide", {"log": str(log), "size": 3}) for n in range(RUNS)}
    async with engine_on(url, workers=False, registry=Registry()) as client:
        async with AsyncExitStack() as stack:
            workers: list[Child] = [await stack.enter_async_context(child(url, None, "--stay", "--slots", 4))]
            await workers[0].until("open")
            runs = [await client.start(workflow, params, id=id_) for id_, (workflow, params) in named.items()]
            for round_ in range(ROUNDS):
                if round_ % 4 == 0:
                    chance.choice(workers).kill()
                    workers.append(await stack.enter_async_context(child(url, None, "--stay", "--slots", 4)))
                await disturb(client, chance.choice(runs), chance)
                # The moments are what is tried; nothing is waited for.
                await asyncio.sleep(chance.uniform(0, 0.05))
        for run in runs:
            if (await run.refresh()).status in (RunStatus.PAUSED, RunStatus.CANCELLED):
                await run.resume()
    results = await recovered(url, named)
    assert results == {run: {**WIDE_RESULT, "log": str(log)} for run in named}
    await check_all(url, log)
