"""The world as users have it: real engines on virtual time, which die, freeze and come back as told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import Any

import pytest

from holdfast import END, START, RetryPolicy, StateGraph
from holdfast.errors import StoreUnavailable
from holdfast.model.facts import StepCompleted, StepRetried
from holdfast.registry import Registry
from holdfast.testing import Faults, ProcessDied, VirtualClock, World
from holdfast.testing.loop import StandStill
from holdfast.testing.world import inside

pytest_plugins = ["holdfast.testing.pytest_plugin"]


def chain(log: list[str], count: int = 3, seconds: float = 60.0, **options: Any) -> StateGraph:
    """A graph of nodes in a row, each of which takes some time and adds 1."""
    graph = StateGraph("chain")
    before = START
    for number in range(count):

        async def add(state: Any, number: int = number) -> dict[str, Any]:
            log.append(f"{inside()} n{number}")
            await asyncio.sleep(seconds)
            return {"count": state["count"] + 1}

        graph.add_node(f"n{number}", add, **options)
        graph.add_edge(before, f"n{number}")
        before = f"n{number}"
    graph.add_edge(before, END)
    return graph


async def test_hours_pass_in_no_time() -> None:
    async with World() as world:  # real hours would be longer than a test may take
        engine = await world.engine(registry=Registry())
        assert await engine.execute(chain([], seconds=3600), {"count": 0}) == {"count": 3}
        assert world.now == pytest.approx(3 * 3600, abs=1)


async def test_real_time_goes_on_after_the_world() -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with World() as world:
        await world.sleep(100_000)
    assert before <= loop.time() < before + 60
    begun = time.perf_counter()
    await asyncio.sleep(0.02)
    assert time.perf_counter() - begun >= 0.01


async def test_a_timer_that_is_left_fires_in_real_time() -> None:
    loop, fired = asyncio.get_running_loop(), asyncio.Event()
    async with World() as world:
        await world.sleep(1000)
        loop.call_later(0.01, fired.set)
    async with asyncio.timeout(5):
        await fired.wait()


async def test_a_killed_engine_does_nothing_more_and_another_goes_on() -> None:
    log: list[str] = []
    async with World() as world:
        first = await world.engine(registry=Registry())
        run = await first.start(chain(log), {"count": 0})
        await world.sleep(90)
        world.crash(first)
        with pytest.raises(ProcessDied):
            await first.get(run.id)
        second = await world.engine()
        assert await second.result(run.id) == {"count": 3}
    assert log == ["engine-1 n0", "engine-1 n1", "engine-2 n1", "engine-2 n2"]


async def test_no_finally_runs_in_a_killed_engine() -> None:
    log: list[str] = []

    async def node(state: Any) -> None:
        try:
            log.append("begun")
            await asyncio.sleep(60)
        finally:
            log.append("cleaned up" if world.now < 1000 else "buried")

    graph = StateGraph("tidy").add_node("a", node).add_edge(START, "a").add_edge("a", END)
    world = World()
    async with world:
        engine = await world.engine(registry=Registry())
        await engine.start(graph)
        await world.sleep(1)
        world.crash(engine)
        await world.sleep(1000)
        assert log == ["begun"]


async def test_who_waits_on_a_killed_engine_is_told() -> None:
    async with World() as world:
        engine = await world.engine(registry=Registry())
        run = await engine.start(chain([]), {"count": 0})
        waiting = asyncio.create_task(engine.result(run.id))
        await world.sleep(10)
        world.crash(engine)
        with pytest.raises(ProcessDied):
            await waiting


async def test_a_frozen_engine_loses_its_runs_and_cannot_write() -> None:
    log: list[str] = []
    async with World() as world:
        zombie = await world.engine(registry=Registry())
        other = await world.engine()
        run = await zombie.start(chain(log), {"count": 0})
        await world.sleep(10)
        world.freeze(zombie, 100)
        assert await other.result(run.id) == {"count": 3}
        assert world.chronicle.conflicts == 1
        facts = [fact for commit in world.chronicle.commits_of(run.id) for fact in commit.facts]
        assert StepRetried(at=0, step="n0#1", attempt=2, reason="worker lost") in [
            _timeless(f) for f in facts
        ]
        ends = [fact.step for fact in facts if isinstance(fact, StepCompleted)]
        assert ends == ["START#1", "n0#1", "n1#1", "n2#1"]
    assert log == ["engine-1 n0", "engine-2 n0", "engine-2 n1", "engine-2 n2"]


def _timeless(fact: Any) -> Any:
    return type(fact)(**{name: getattr(fact, name) for name in fact.__struct_fields__ if name != "at"})


async def test_an_engine_that_is_cut_off_goes_on_when_it_is_not() -> None:
    async with World() as world:
        engine = await world.engine(registry=Registry())
        run = await engine.start(chain([]), {"count": 0})
        engine.way.cut = True
        with pytest.raises(StoreUnavailable):
            await engine.get(run.id)
        await world.sleep(600)
        engine.way.cut = False
        assert await engine.result(run.id) == {"count": 3}


@pytest.mark.parametrize("seed", range(8))
async def test_a_workflow_survives_what_a_seed_has_in_store(seed: int) -> None:
    log: list[str] = []
    async with World(seed, faults=Faults(crash=0.1, freeze=0.05, lose=0.1, delay=0.2)) as world:
        with contextlib.suppress(ProcessDied):  # it may die at once; another one is made then
            await world.engine(registry=Registry())
        run = await world.execute(chain(log, retry=RetryPolicy(attempts=2)), {"count": 0})
        assert run.status == "completed"
        assert await run.state() == {"count": 3}
        assert len(world.engines) > 1 or len(log) == 3


async def test_something_can_be_made_to_fail_at_a_certain_commit() -> None:
    async with World() as world:
        await world.engine(registry=Registry())
        world.plan.at_commit(2, "crash", after=True)
        run = await world.execute(chain([]), {"count": 0})
        assert [stage.attempt for stage in await run.stages()] == [1, 2, 1]


async def test_long_waits_cost_nothing_and_end_in_time() -> None:
    tries = []

    def node(state: Any, step: Any) -> None:
        tries.append(world.now)
        if step.attempt < 3:
            raise RuntimeError("not yet")

    long = timedelta(hours=3)
    graph = StateGraph("patient")
    graph.add_node(
        "a", node, retry=RetryPolicy(attempts=3, backoff=long, factor=1, max_backoff=long, jitter="none")
    )
    graph.add_edge(START, "a").add_edge("a", END)
    world = World()
    async with world:
        engine = await world.engine(registry=Registry())
        run = await engine.start(graph)
        await world.sleep(long.total_seconds() * 1.5)
        assert (await run.refresh()).status == "waiting"
    assert [round(when / long.total_seconds(), 3) for when in tries] == [0, 1]


async def test_observers_see_what_their_engine_committed(holdfast_world: World) -> None:
    from holdfast.runtime.observers import StreamingObserver

    stream = StreamingObserver(1000)
    engine = await holdfast_world.engine(registry=Registry(), observers=[stream])
    run = await engine.start(chain([]), {"count": 0})
    await run.result()
    await engine.close()
    seen = [event.type async for event in stream.events()]
    assert (seen[0], seen[-1], seen.count("stage.completed")) == ("run.started", "run.completed", 3)


async def test_a_stuck_run_is_told() -> None:
    async def forever(state: Any) -> None:
        await asyncio.get_running_loop().create_future()

    graph = StateGraph("stuck").add_node("a", forever).add_edge(START, "a").add_edge("a", END)

    async def wait() -> None:
        async with World() as world:
            await world.engine(registry=Registry())
            run = await (await world.someone()).start(graph)
            await world.ended(run.id, patience=100)

    with pytest.raises(AssertionError, match="is stuck"):
        await wait()


def test_a_world_in_which_nothing_will_ever_happen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.testing.loop.PATIENCE", 0.01)

    async def wait() -> None:
        async with World():
            await asyncio.get_running_loop().create_future()

    with pytest.raises(StandStill):
        asyncio.run(wait())


async def test_a_violation_names_the_seed() -> None:
    with pytest.raises(AssertionError, match="seed 42 broke 1 laws") as caught:
        async with World(42) as world:
            world.chronicle.violations.append("something")
    assert caught.value.__notes__ == ["in the world of seed 42"]


async def test_worlds_do_not_nest() -> None:
    async with World() as world:
        with pytest.raises(TypeError, match="virtual already"):
            async with World():
                pass
        await world.sleep(1)


def test_clocks_of_one_seed_draw_the_same() -> None:
    one, other = VirtualClock(7), VirtualClock(7)
    assert [one.draw(), one.token()] == [other.draw(), other.token()]
    assert one.forward(1.5) - other.now() == 1_500_000
    assert len(one.token()) == 20
