"""A saga within a saga, with something going wrong at each commit of both: nothing is done that is not undone."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from holdfast import RunStatus, Saga
from holdfast.model.ids import COMPENSATION
from holdfast.registry import Registry
from holdfast.testing.faults import Mishap
from holdfast.testing.world import World
from tests.simulation.sagas import SETTLED, Outside


class Trip:
    """An outer saga of three steps, the second of which is a saga of three steps."""

    def __init__(self, fails: str) -> None:
        self.outside = Outside()
        self.fails = fails
        self.undone: Counter[str] = Counter()
        inner = Saga("flight")
        for name in ("seat", "meal", "pay"):
            self._add(inner, name)
        self.saga = Saga("trip")
        self._add(self.saga, "hotel")
        self.saga.add_step("flight", forward=inner, compensate=self._refund)
        self._add(self.saga, "car")
        self._add(self.saga, "insurance", parallel="last")
        self._add(self.saga, "parking", parallel="last")

    def _add(self, saga: Saga, name: str, **options: Any) -> None:
        async def forward(idempotency_key: str) -> None:
            if name == self.fails:
                raise ConnectionError(name)
            self.outside.do(idempotency_key)
            await asyncio.sleep(0.5)

        async def compensate(idempotency_key: str) -> None:
            self.outside.undo(idempotency_key.replace(COMPENSATION, ""))
            await asyncio.sleep(0.2)

        saga.add_step(name, forward=forward, compensate=compensate, **options)

    async def _refund(self, idempotency_key: str) -> None:
        """Takes back all that a completed flight did."""
        flight = idempotency_key.replace(COMPENSATION, "")
        self.undone[flight] += 1
        child = flight.replace(":flight#", "/flight~")
        for key in [key for key in self.outside.done if key.startswith(f"{child}:")]:
            self.outside.undo(key)


async def play(fails: str, number: int, mishap: Mishap, *, after: bool) -> int:
    trip = Trip(fails)
    registry = Registry()
    registry.add(trip.saga)
    async with World(number) as world:
        for each in range(2):
            await world.engine(registry=registry, machine=f"m{each}")
        if number:
            world.plan.at_commit(number, mishap, after=after)
        run = await world.execute("trip", id="t")
        where = f"{mishap} {'after' if after else 'before'} commit {number}"
        assert run.status is (RunStatus.FAILED if fails else RunStatus.COMPLETED), where
        if fails:
            assert trip.outside.done == set(), where
            assert run.error is not None
            expected = {"seat": ("hotel",), "pay": ("hotel",), "car": ("flight", "hotel")}
            # An attempt that was lost may have taken effect: then what failed is undone, too.
            undone = tuple(name for name in run.error.compensated or () if name != fails)
            assert undone == expected.get(fails, ("insurance", "car", "flight", "hotel")), where
        else:
            assert len(trip.outside.done) == 7, where
        assert set(trip.undone) <= {"t:flight#1"}
        await world.sleep(SETTLED)
    return world.plan.commits


@pytest.mark.parametrize("mishap", ["crash", "freeze", "lose"])
@pytest.mark.parametrize("fails", ["", "seat", "pay", "car", "parking"])
def test_each_commit(fails: str, mishap: Mishap) -> None:
    with asyncio.Runner() as runner:
        total = runner.run(play(fails, 0, mishap, after=False))
        assert total > 1
        for number in range(1, total + 1):
            for after in (False, True):
                runner.run(play(fails, number, mishap, after=after))
