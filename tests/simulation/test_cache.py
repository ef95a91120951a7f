"""Runs that share results among crashes: no half entry, no wrong one, and what took a result never ran."""

from __future__ import annotations

import asyncio
import contextlib
import os
from random import Random
from typing import Any

import msgspec
import pytest

from holdfast import CachePolicy, DAGWorkflow, RetryPolicy, StepContext
from holdfast.core.caching import kept_in
from holdfast.model.values import decode
from holdfast.registry import Registry
from holdfast.store.rows import CacheQuery
from holdfast.testing import World
from holdfast.testing.faults import NO_FAULTS, Faults
from holdfast.testing.loop import ProcessDied

FAULTS = Faults(crash=0.03, freeze=0.01, refuse=0.03, lose=0.03, late=0.02, twice=0.03, delay=0.1)
ONE = os.environ.get("HOLDFAST_SEED")
CHUNK = 20
SEEDS = 2_000 if "HOLDFAST_TEST_LONG" in os.environ else 60


def right(task: str, given: Any) -> Any:
    """What a task gives for what it gets."""
    match task:
        case "split":
            return [given, given + 1]
        case "each":
            return given * 10
        case _:
            return sum(given)


def build(random: Random, ran: set[tuple[str, str]]) -> DAGWorkflow:
    """A chain over a map; each task takes time, and some fail at first. `ran` notes whose code began."""
    made = DAGWorkflow(name="shared", max_parallel=random.choice((None, 1, 2)))

    def add(name: str, before: str = "", **options: Any) -> None:
        seconds, fails = random.choice((0.0, 0.5, 5.0)), random.random() < 0.3

        async def run(step: StepContext, value: Any) -> Any:
            ran.add((step.run_id, step.step_id))
            await asyncio.sleep(seconds)
            if fails and step.attempt == 1:
                raise ValueError("the first try")
            return right(name, value)

        async def first(step: StepContext, given: int) -> Any:
            return await run(step, given)

        policy = CachePolicy(
            ttl=random.choice((None, None, 3.0, 60.0)),
            scope=random.choice(("workflow", "workflow", "global", "run")),
            version=name,
        )
        retry = RetryPolicy(attempts=3, backoff=random.choice((0.1, 3.0)))
        depends_on = [before] if before else []
        made.add_task(
            name, run if before else first, depends_on=depends_on, retry=retry, cache=policy, **options
        )

    add("split")
    add("each", "split", map_over="split")
    add("sum", "each")
    return made


async def play(seed: int) -> int:
    """One seed: some runs of few different inputs, two of them at a time; returns how many results were taken."""
    random = Random(f"cache {seed}")
    ran: set[tuple[str, str]] = set()
    async with World(seed=seed, faults=FAULTS if seed % 4 else NO_FAULTS) as world:
        registry = Registry()
        registry.add(build(random, ran))
        for _ in range(random.choice((1, 2))):
            with contextlib.suppress(ProcessDied):
                await world.engine(registry=registry)
        for turn in range(random.choice((1, 2, 3))):
            pair = [(f"r{turn}{letter}", random.choice((1, 2))) for letter in "ab"]
            starts = (world.execute("shared", {"given": given}, id=name) for name, given in pair)
            for run, (_, given) in zip(await asyncio.gather(*starts), pair, strict=True):
                split = right("split", given)
                each = [right("each", item) for item in split]
                assert await (await world.someone()).result(run.id) == {
                    "split": split,
                    "each": each,
                    "sum": sum(each),
                }
        return await judge(world, ran)


async def judge(world: World, ran: set[tuple[str, str]]) -> int:
    """What is kept is whole and right, and whoever took it did not run; returns how many did."""
    engine = await world.someone()
    stages = {run.id: await engine.stages(run.id) for run in (await engine.runs(limit=100)).items}
    for run, each in stages.items():
        for stage in each:
            step = f"{stage.name}#{stage.iteration}"
            if stage.cached:
                assert (run, step) not in ran, "it took a result, and ran"
                made = [one for one in stages[stage.cached] if one.name == stage.name and not one.cached]
                assert stage.output in [one.output for one in made]
            else:
                assert (run, step) in ran
                assert stage.missed
    for listed in await world.store.cache(CacheQuery()):
        (entry,) = (await world.store.cached([listed.key])).values()
        made = [one for one in stages[entry.run] if one.name == entry.step and not one.cached]
        assert decode(kept_in(entry).data) in [one.output for one in made]
        assert msgspec.json.decode(entry.parts)["version"]
    return sum(bool(stage.cached) for each in stages.values() for stage in each)


@pytest.mark.parametrize("first", [int(ONE)] if ONE else range(0, SEEDS, CHUNK))
async def test_shared_results(first: int) -> None:
    taken = [await play(seed) for seed in ([first] if ONE else range(first, first + CHUNK))]
    assert ONE or sum(taken) > CHUNK


async def test_a_result_expires() -> None:
    """And says so; until it is forgotten, long after that."""
    async with World(seed=1) as world:
        registry = Registry()
        made = DAGWorkflow(name="brief")
        made.add_task("a", lambda: 1, cache=60)
        registry.add(made)
        engine = await world.engine(registry=registry)
        for name, rest in (("r1", 30), ("r2", 40), ("r3", 0)):
            await world.execute("brief", id=name)
            await world.sleep(rest)
        told = [(await engine.stages(name))[0] for name in ("r1", "r2", "r3")]
        assert [stage.cached for stage in told] == ["", "r1", ""]
        assert told[2].missed.startswith("expired at 20")
        await world.sleep(24 * 3600)
        assert len(await engine.cached()) == 1
        await world.sleep(300)
        assert await engine.cached() == []
