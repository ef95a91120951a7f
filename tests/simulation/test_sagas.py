"""Sagas among crashes, at each commit in turn and at random: each compensation takes effect once per key."""

from __future__ import annotations

import asyncio
import os
from random import Random

import pytest

from holdfast.testing.faults import NO_FAULTS, Mishap
from holdfast.testing.world import World
from tests.simulation.sagas import Scene, draw_steps
from tests.simulation.scenario import draw_shape

LONG = "HOLDFAST_TEST_LONG" in os.environ
CHUNK = 1000 if LONG else 50
SEEDS = 20_000 if LONG else 400
PLANS = range(60 if LONG else 8)


async def play(seed: int) -> Scene:
    """One seed: a random saga among random trouble."""
    random = Random(f"saga {seed}")
    async with World(seed) as world:
        scene = Scene(world, draw_steps(random), random)
        shape = draw_shape(random)
        interventions = random.choice((0, 0, 1, 3))
        await scene.play(shape.engines, shape.faults, interventions, resume=random.random() < 0.5)
    return scene


async def play_with(plan: int, number: int, mishap: Mishap, *, after: bool) -> int:
    """A saga that goes back, with a mishap at one commit; returns how many there were."""
    random = Random(f"plan {plan}")
    async with World(plan) as world:
        scene = Scene(world, draw_steps(random), random)
        if number:
            world.plan.at_commit(number, mishap, after=after)
        await scene.play(2, NO_FAULTS, 0, resume=False)
    return world.plan.commits


@pytest.mark.parametrize("mishap", ["crash", "freeze", "lose", "late", "twice"])
@pytest.mark.parametrize("plan", PLANS)
def test_each_commit(plan: int, mishap: Mishap) -> None:
    with asyncio.Runner() as runner:
        total = runner.run(play_with(plan, 0, mishap, after=False))
        assert total > 1
        for number in range(1, total + 1):
            for after in (False, True):
                runner.run(play_with(plan, number, mishap, after=after))


@pytest.mark.timeout(3600 if LONG else 300)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_seeds(first: int) -> None:
    with asyncio.Runner() as runner:
        for seed in range(first, first + CHUNK):
            runner.run(play(seed))
