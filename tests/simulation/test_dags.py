"""Random DAGs with random rules, failures, skips, choices and maps among crashes, against a model of the rules."""

from __future__ import annotations

import asyncio
import contextlib
import os
from random import Random
from typing import Any

import pytest

from holdfast import RunStatus
from holdfast.errors import InvalidStatus, RunNotFound, StoreUnavailable
from holdfast.registry import Registry
from holdfast.testing import World
from holdfast.testing.faults import NO_FAULTS, Faults
from holdfast.testing.loop import ProcessDied
from tests.simulation.dags import Ends, build, draw_tasks, expected, fails

FAULTS = Faults(crash=0.02, freeze=0.01, refuse=0.03, lose=0.03, late=0.02, twice=0.03, delay=0.1)
ONE = os.environ.get("HOLDFAST_SEED")
CHUNK = 20
SEEDS = 4_000 if "HOLDFAST_TEST_LONG" in os.environ else 240


async def play(seed: int) -> None:
    """One seed: a run to its end, begun anew beside it now and then, and when it failed once more, mended."""
    random = Random(f"dag {seed}")
    tasks = draw_tasks(random)
    healthy = False
    dag = build(tasks, random, lambda: healthy)
    order = dag.topological_sort()
    tasks.sort(key=lambda task: order.index(task.name))
    first = expected(tasks)
    async with World(seed=seed, faults=FAULTS if seed % 3 else NO_FAULTS) as world:
        registry = Registry()
        registry.add(dag)
        for _ in range(random.choice((1, 2))):
            with contextlib.suppress(ProcessDied):
                await world.engine(registry=registry)
        beside = asyncio.create_task(reruns(world, Random(f"reruns {seed}"), order))
        run = await world.execute("drawn", id="r")
        await judge(world, run, first, failed=fails(tasks, first))
        for fork in await beside:
            await judge(world, await world.ended(fork), first, failed=fails(tasks, first))
        if run.status is RunStatus.FAILED:
            healthy = True
            world.plan.faults = FAULTS if seed % 3 else NO_FAULTS
            await resume(world)
            again = await world.ended("r")
            world.calm()
            again = await (await world.someone()).get("r")
            second = expected(tasks, mended=True, before=first)
            await judge(world, again, second, failed=fails(tasks, second))


async def reruns(world: World, random: Random, names: list[str]) -> list[str]:
    """Begin the run anew from some tasks, at some times while it is under way or after; returns the new runs."""
    made = []
    for _ in range(random.choice((0, 0, 1, 2))):
        await world.sleep(random.uniform(0, 3))
        with contextlib.suppress(ProcessDied, StoreUnavailable, RunNotFound):
            made.append((await (await world.someone()).rerun("r", random.choice(names))).id)
    return made


async def resume(world: World) -> None:
    while True:
        try:
            await (await world.someone()).resume("r")
        except InvalidStatus:
            return  # an earlier try reached the store, and its answer was lost
        except (ProcessDied, StoreUnavailable):
            await world.sleep(1)
        else:
            return


async def judge(world: World, run: Any, ends: Ends, *, failed: bool) -> None:
    assert run.status is (RunStatus.FAILED if failed else RunStatus.COMPLETED), ends.how
    assert await (await world.someone()).state(run.id) == ends.results, ends.how
    ruled_out = {
        decision.to_node: decision.name
        for decision in await (await world.someone()).decisions(run.id)
        if not decision.result and decision.name != "map"
    }
    letters = {"skipped": "K", "upstream_failed": "U"}
    for name in ends.ruled_out:
        assert letters[ruled_out[name]] == ends.how[name], name


@pytest.mark.parametrize("first", [int(ONE)] if ONE else range(0, SEEDS, CHUNK))
async def test_dags(first: int) -> None:
    for seed in range(first, first + (1 if ONE else CHUNK)):
        await play(seed)
