"""Something goes wrong at each commit in turn, before it and after it, once for every commit that a run makes."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from holdfast.testing.faults import Mishap
from holdfast.testing.world import World
from tests.simulation.scenario import Scenario, Shape

PLANS = range(60 if "HOLDFAST_TEST_LONG" in os.environ else 8)
CALM = Shape(engines=2)


async def commits_of(plans: int) -> int:
    """How many commits the run makes when nothing goes wrong."""
    async with World(plans) as world:
        scenario = Scenario(world, replace(CALM), plans=plans)
        await scenario.play()
        assert await scenario.verdict() == []
    return world.plan.commits


async def play_with(plans: int, number: int, mishap: Mishap, *, after: bool) -> None:
    async with World(plans) as world:
        scenario = Scenario(world, replace(CALM), plans=plans)
        world.plan.at_commit(number, mishap, after=after)
        scenario.strict = False  # a run that was interrupted is not calm
        await scenario.play()
        assert await scenario.verdict() == [], f"{mishap} {'after' if after else 'before'} commit {number}"


@pytest.mark.parametrize("mishap", ["crash", "freeze", "lose", "late", "twice"])
@pytest.mark.parametrize("plans", PLANS)
def test_each_commit(plans: int, mishap: Mishap) -> None:
    with asyncio.Runner() as runner:
        total = runner.run(commits_of(plans))
        assert total > 1
        for number in range(1, total + 1):
            for after in (False, True):
                runner.run(play_with(plans, number, mishap, after=after))


def test_two_crashes_in_a_row() -> None:
    async def twice(first: int, second: int) -> None:
        async with World(first * 100 + second) as world:
            scenario = Scenario(world, replace(CALM), plans=3)
            scenario.strict = False
            world.plan.at_commit(first, "crash", after=True)
            world.plan.at_commit(first + second, "crash", after=False)
            await scenario.play()
            assert await scenario.verdict() == [], f"commits {first} and {first + second}"

    with asyncio.Runner() as runner:
        total = runner.run(commits_of(3))
        for first in range(1, total + 1):
            for second in range(1, 4):
                runner.run(twice(first, second))
