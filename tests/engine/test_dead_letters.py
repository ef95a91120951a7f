"""Dead letters: runs that failed for good or killed their workers, seen and taken up again, on each store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from holdfast import (
    END,
    START,
    Engine,
    InvalidStatus,
    PayloadRejected,
    RetryPolicy,
    Run,
    RunFailed,
    RunNotFound,
    State,
    StateGraph,
)
from holdfast.errors import RedriveActive
from holdfast.registry import Registry, as_workflow
from holdfast.testing import World
from tests.graphs import until

Open = Callable[..., Awaitable[Engine]]


class Service:
    """Fails while it is down; says which runs it served."""

    def __init__(self) -> None:
        self.down = True
        self.seen: list[Any] = []

    def graph(self, name: str = "ask", **options: Any) -> StateGraph:
        def ask(state: State) -> State:
            self.seen.append(state.run_id)
            if self.down:
                raise OSError(f"down for {state['n']}")
            return state.set("answer", 42)

        def before(state: State) -> State:
            return state.set("n", state.get("n", 0) + 1)

        graph = StateGraph(name)
        graph.add_node("before", before)
        graph.add_node("ask", ask, **options)
        graph.add_edge(START, "before")
        graph.add_edge("before", "ask")
        graph.add_edge("ask", END)
        return graph


async def dead(engine: Engine, graph: StateGraph, *ids: str) -> list[Run]:
    runs = [await engine.start(graph, id=id_) for id_ in ids]
    for run in runs:
        await run.wait()
    return runs


async def test_a_run_that_fails_for_good_is_a_dead_letter_and_is_redriven_at_its_step(engine: Engine) -> None:
    """B-D8: with its reason, its history and the step's input."""
    service = Service()
    await dead(engine, service.graph(retry=RetryPolicy(attempts=2, backoff=0)), "a")
    (letter,) = await engine.dead_letters()
    assert (letter.id, letter.code, letter.stage, letter.attempt) == ("a", "step_failed", "ask", 2)
    full = await engine.dead_letter("a")
    assert full.input == {"n": 1}
    assert [(each.step, each.attempt, each.code, each.message) for each in full.history] == [
        ("ask", 1, "step_failed", "down for 1"),
        ("ask", 2, "step_failed", "down for 1"),
    ]
    assert (full.redrives, full.dead_at) == (0, letter.dead_at)
    service.down = False
    run = await engine.redrive("a")
    assert (await run.result())["n"] == 1
    assert await engine.dead_letters() == []


async def test_one_that_dies_again_is_a_letter_again_and_counts(engine: Engine) -> None:
    """B-D1."""
    service = Service()
    await dead(engine, service.graph(), "a")
    for number in range(1, 4):
        await (await engine.redrive("a")).wait()
        assert (await engine.dead_letter("a")).redrives == number
    assert len((await engine.dead_letter("a")).history) == 4


async def test_twice_at_once_is_once(open_engine: Open, url: str) -> None:
    """B-D2: two operators in two engines."""
    service = Service()
    engine = await open_engine(url)
    other = await open_engine(url, registry=Registry(), workers=False)
    await dead(engine, service.graph(), "a")
    asked = await asyncio.gather(*(each.redrive("a") for each in (engine, other) * 3), return_exceptions=True)
    assert all(isinstance(each, Run | InvalidStatus) for each in asked)
    await engine.wait("a")
    assert service.seen == ["a", "a"]
    assert (await engine.dead_letter("a")).redrives == 1


async def test_many_are_redriven_those_that_were_there_and_not_too_often(engine: Engine) -> None:
    """B-D1: what dies again meanwhile is not redriven again in the same pass, so it ends."""
    service = Service()
    graph = service.graph()
    await dead(engine, graph, *"abc")
    for _ in range(2):
        redriven = [run.id async for run in engine.redrive_many(rate=1000, most_redrives=2)]
        assert sorted(redriven) == ["a", "b", "c"]
        for run in redriven:
            await engine.wait(run)
    assert [run.id async for run in engine.redrive_many(rate=1000, most_redrives=2)] == []


async def test_many_are_chosen_by_workflow_and_code(engine: Engine) -> None:
    service = Service()
    await dead(engine, service.graph("one"), "a")
    await dead(engine, service.graph("two"), "b")
    assert [letter.id for letter in await engine.dead_letters("two")] == ["b"]
    assert [letter.id for letter in await engine.dead_letters(code="step_failed", limit=1)] == ["b"]
    assert await engine.dead_letters(code="poison") == []
    assert [run.id async for run in engine.redrive_many("one")] == ["a"]


async def test_who_stops_leaves_the_rest_and_two_do_not_redrive_at_once(engine: Engine) -> None:
    """B-D2."""
    service = Service()
    await dead(engine, service.graph(), *"abc")
    service.down = False
    redriving = engine.redrive_many(rate=1000)
    first = await anext(redriving)
    with pytest.raises(RedriveActive):
        await anext(engine.redrive_many())
    await redriving.aclose()
    await first.wait()
    assert len(await engine.dead_letters()) == 2
    assert len([run async for run in engine.redrive_many(rate=1000)]) == 2


async def test_a_letter_that_is_put_away_is_gone_until_it_dies_again(engine: Engine) -> None:
    """B-D8."""
    service = Service()
    await dead(engine, service.graph(), "a")
    for _ in range(2):
        assert (await engine.discard("a")).status == "failed"
    assert await engine.dead_letters() == []
    with pytest.raises(InvalidStatus, match="no dead letter"):
        await engine.redrive("a")
    await (await engine.resume("a")).wait()
    assert [letter.id for letter in await engine.dead_letters()] == ["a"]
    await engine.delete("a")
    assert await engine.dead_letters() == []


async def test_a_healthy_run_is_not_redriven(engine: Engine) -> None:
    service = Service()
    service.down = False
    (run,) = await dead(engine, service.graph(), "a")
    for act in (engine.redrive, engine.discard, engine.dead_letter):
        with pytest.raises(InvalidStatus, match="run 'a' is completed; it is no dead letter") as refused:
            await act("a")
        assert "dead-letters" in refused.value.fix
        with pytest.raises(RunNotFound):
            await act("unknown")
    assert (await run.refresh()).status == "completed"


async def test_a_cancelled_run_is_no_dead_letter(engine: Engine) -> None:
    async def wait(state: State) -> None:
        await asyncio.sleep(3600)

    graph = StateGraph("wait")
    graph.add_node("wait", wait)
    graph.add_edge(START, "wait")
    graph.add_edge("wait", END)
    run = await engine.start(graph)
    await run.cancel()
    await run.wait()
    assert await engine.dead_letters() == []


async def test_a_run_that_killed_its_workers_is_a_letter_and_can_be_put_away(
    open_engine: Open, url: str
) -> None:
    """B-D4: three deaths without an end, as the store counts them."""
    service = Service()
    client = await open_engine(url, workers=False)
    await client.start(service.graph("poison"), id="p")
    store = client.store
    for number in range(3):
        assert await store.claim_run(f"w{number}", "p") is not None
        await store.reclaim([f"w{number}"], "died")
    engine = await open_engine(url)

    async def parked() -> bool:
        return (await engine.get("p")).status == "paused"

    await until(parked)
    (letter,) = await engine.dead_letters(code="poison")
    assert (letter.id, service.seen) == ("p", [])
    assert (await engine.dead_letter("p")).history[-1].code == "poison"
    await engine.discard("p")
    with pytest.raises(RunFailed) as failed:
        await engine.result("p")
    assert failed.value.error.code == "discarded"
    assert await engine.dead_letters() == []


async def test_many_come_back_at_the_rate_as_they_were() -> None:
    """B-D6, in virtual time: one in each half second, with its params, tags and priority."""
    service = Service()
    graph = service.graph("paced")
    async with World() as world:
        registry = Registry()
        registry.lend(as_workflow(graph))
        engine = await world.engine(registry=registry)
        for name in "abcd":
            run = await engine.start("paced", {"n": 5}, id=name, tags=["nightly"], priority=3)
            await run.wait()
        service.down = False
        at = []
        async for run in engine.redrive_many(rate=2):
            at.append(world.now)
            after = await run.wait()
            assert (after.status, after.params, after.tags, after.priority) == (
                "completed",
                {"n": 5},
                ("nightly",),
                3,
            )
        assert len(at) == 4
        assert all(second - first >= 0.5 for first, second in pairwise(at))


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"rate": -1}, {"per": 0}, {"most_redrives": 0}], ids=str)
async def test_absurd_numbers_are_refused(open_engine: Open, memory_url: str, wrong: dict[str, Any]) -> None:
    engine = await open_engine(memory_url)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        await anext(engine.redrive_many(**wrong))


async def test_letters_come_in_pages(engine: Engine) -> None:
    ids = [f"run-{number}" for number in range(5)]
    await dead(engine, Service().graph(), *ids)
    page = await engine.dead_letters(limit=2)
    assert ([letter.id for letter in page], page.total) == (["run-4", "run-3"], 5)
    assert page.items == page
    following = await engine.dead_letters(limit=2, after=page.next)
    assert [letter.id for letter in following] == ["run-2", "run-1"]
    await engine.discard("run-0")
    last = await engine.dead_letters(limit=2, after=following.next)
    assert (list(last), last.next, last.total) == ([], None, 4)
    assert [letter.id async for letter in await engine.dead_letters(limit=3)] == ids[:0:-1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"after": "nonsense"},
        {"after": "1"},
        {"after": "9" * 30 + ":a"},
        {"after": 7},
        {"limit": 0},
        {"limit": 10**9},
    ],
    ids=str,
)
async def test_a_page_that_cannot_be_is_refused(
    open_engine: Open, memory_url: str, wrong: dict[str, Any]
) -> None:
    engine = await open_engine(memory_url)
    with pytest.raises(PayloadRejected) as refused:
        await engine.dead_letters(**wrong)
    assert refused.value.field == next(iter(wrong))


async def test_who_redrives_many_can_be_stopped_from_another_process(open_engine: Open, url: str) -> None:
    """And what it had not reached is left for the next time."""
    engine = await open_engine(url)
    other = await open_engine(url, registry=Registry(), workers=False)
    service = Service()
    await other.stop_redriving()  # nobody does: that is no mistake, and stops nobody later
    await dead(engine, service.graph(), *"abc")
    service.down = False
    redriven = []
    async for run in engine.redrive_many(rate=1000):
        redriven.append(run.id)
        await other.stop_redriving()
    (first,) = redriven  # they failed at once, in any order
    await engine.wait(first)
    assert {letter.id for letter in await engine.dead_letters()} == {*"abc"} - {first}
    assert len([run async for run in other.redrive_many(rate=1000)]) == 2
