"""Guarded steps in a world where processes die, freeze and lose their store: no try is lost or made twice too often."""

from __future__ import annotations

import asyncio

import pytest

from holdfast import END, START, CircuitBreaker, RetryPolicy, RunStatus, State, StateGraph
from holdfast.errors import StoreUnavailable
from holdfast.model import facts
from holdfast.registry import Registry, as_workflow
from holdfast.resilience import Bulkhead, RateLimit
from holdfast.testing import World
from holdfast.testing.faults import Faults
from holdfast.testing.loop import ProcessDied

FAULTS = Faults(crash=0.004, freeze=0.002, refuse=0.01, lose=0.01, late=0.005, twice=0.005, delay=0.05)


class Service:
    """Is down for a while of virtual time, and counts who is in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.begun: list[float] = []

    async def __call__(self, state: State) -> State:
        self.begun.append(self.world.now)
        await asyncio.sleep(0.2)
        if self.world.now < 40:
            raise ConnectionError("down")
        return state.set("answer", 42)

    def graph(self) -> StateGraph:
        graph = StateGraph("guarded")
        graph.add_node(
            "ask",
            self,
            retry=RetryPolicy(attempts=4, backoff=1),
            breaker=CircuitBreaker("service", threshold=3, reset_timeout=8, probe_timeout=5),
            rate_limit=RateLimit(5, per=1, burst=5),
            bulkhead=Bulkhead(4),
        )
        graph.add_edge(START, "ask")
        graph.add_edge("ask", END)
        return graph


async def begin(world: World, id_: str) -> None:
    while True:
        try:
            await (await world.someone()).start("guarded", id=id_)
        except (ProcessDied, StoreUnavailable):
            await world.sleep(1)
        else:
            return


@pytest.mark.parametrize("seed", range(12))
async def test_every_guarded_run_ends_and_an_open_breaker_costs_no_try(seed: int) -> None:
    async with World(seed=seed) as world:
        service = Service(world)
        registry = Registry()
        registry.add(as_workflow(service.graph()))
        for _ in range(2):
            await world.engine(registry=registry)
        ids = [f"run-{number}" for number in range(12)]
        world.plan.faults = FAULTS
        await asyncio.gather(*(begin(world, id_) for id_ in ids))
        ended = [await world.ended(id_) for id_ in ids]
        world.calm()
        for run in ended:
            if run.status is RunStatus.FAILED:
                journal = [
                    fact
                    for row in await world.store.journal(run.id)
                    for fact in facts.Journal.decode(row.facts)
                ]
                failures = [
                    fact
                    for fact in journal
                    if isinstance(fact, facts.StepFailed)
                    or (isinstance(fact, facts.StepRetried) and fact.error is not None)
                ]
                assert len(failures) == 4, "it failed after four tries, and refusals are none"
            else:
                assert run.status is RunStatus.COMPLETED
        failed = {run.id for run in ended if run.status is RunStatus.FAILED}
        letters = await (await world.someone()).dead_letters()
        assert {letter.id for letter in letters} == failed, "B-D3: whenever it died, it is one letter"
        assert len(service.begun) < 12 * 5
