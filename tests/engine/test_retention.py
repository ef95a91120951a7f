"""Retention: ended runs go when they are old, or too many, with their children; nothing else does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from holdfast import END, START, DefinitionError, Engine, RunConflict, State, StateGraph, interrupt
from holdfast.registry import Registry
from holdfast.resilience import Retention
from holdfast.store.open import open_store
from holdfast.testing.store_cases import NOON, SetClock

Open = Callable[..., Awaitable[Engine]]


def graph(name: str = "g", retention: Retention | None = None) -> StateGraph:
    def node(state: State) -> None:
        if state.get("wait"):
            interrupt("go")
        if state.get("fail"):
            raise ValueError("no")

    made = StateGraph(name, retention=retention)
    made.add_node("node", node)
    made.add_edge(START, "node")
    made.add_edge("node", END)
    return made


class Kept:
    """An engine on a clock that stands still until it is moved."""

    def __init__(self, open_engine: Open, url: str) -> None:
        self._open = open_engine
        self._url = url
        self.clock = SetClock(NOON)
        self.engine: Any = None

    async def open(self, retention: Retention | None = None) -> None:
        store = open_store(self._url, self.clock)
        self.engine = await self._open(self._url, store=store, retention=retention)

    async def run(self, id_: str, made: StateGraph | None = None, /, **params: Any) -> None:
        self.clock.forward(1)
        run = await self.engine.start(made or graph(), params, id=id_)
        if "wait" not in params:
            await run.wait()

    async def round(self) -> list[str]:
        await self.engine._open.retaining.round()
        return sorted([run.id async for run in await self.engine.runs()])


@pytest.fixture
def kept(open_engine: Open, any_url: str) -> Kept:
    return Kept(open_engine, any_url)


async def test_ended_runs_go_after_thirty_days_and_others_stay(kept: Kept) -> None:
    await kept.open()
    await kept.run("done")
    await kept.run("failed", fail=True)
    await kept.run("waits", wait=True)
    kept.clock.forward(30 * 86_400 - 10)
    assert await kept.round() == ["done", "failed", "waits"]
    await kept.run("new")
    kept.clock.forward(100)
    assert await kept.round() == ["new", "waits"]
    assert await kept.engine.store.check() == []


async def test_its_age_counts_from_its_end(kept: Kept) -> None:
    """B-D5: a dead letter is kept as long after it died, however long it took."""
    await kept.open(Retention(age=1000))
    await kept.run("slow", wait=True)
    kept.clock.forward(5000)
    await kept.engine.signal("slow", "go")
    await kept.engine.wait("slow")
    assert await kept.round() == ["slow"]
    kept.clock.forward(1001)
    assert await kept.round() == []


async def test_so_many_of_the_newest_are_kept_however_old(kept: Kept) -> None:
    await kept.open(Retention(completed=2, failed=timedelta(seconds=500)))
    for number in range(5):
        await kept.run(f"c{number}")
    await kept.run("f0", fail=True)
    assert await kept.round() == ["c3", "c4", "f0"]
    kept.clock.forward(10**9)
    assert await kept.round() == ["c3", "c4"]


async def test_a_workflow_may_say_how_long_its_own_runs_are_kept(kept: Kept) -> None:
    await kept.open(Retention(age=1000))
    longer, fewer = graph("longer", Retention(age=5000)), graph("fewer", Retention(completed=1))
    for number in range(2):
        await kept.run(f"g{number}")
        await kept.run(f"l{number}", longer)
        await kept.run(f"f{number}", fewer)
    assert await kept.round() == ["f1", "g0", "g1", "l0", "l1"]
    kept.clock.forward(1001)
    assert await kept.round() == ["f1", "l0", "l1"]
    kept.clock.forward(4000)
    assert await kept.round() == ["f1"]


async def test_runs_of_a_workflow_that_another_worker_lists_are_left_to_that_one(
    open_engine: Open, url: str
) -> None:
    first = Kept(open_engine, url)
    await first.open(Retention(age=10**6))
    await first.run("theirs", graph("theirs", Retention(age=10**7)))
    other = Kept(open_engine, url)
    other.clock = first.clock
    other.engine = await open_engine(
        url, store=open_store(url, first.clock), retention=Retention(age=10), registry=Registry()
    )
    first.clock.forward(1000)
    assert await other.round() == ["theirs"]


async def test_counts_hold_for_each_of_many_workflows_that_nobody_knows_any_more(
    open_engine: Open, file_url: str
) -> None:
    first = Kept(open_engine, file_url)
    await first.open()
    for name in ("a", "b", "c"):
        for number in range(2):
            await first.run(f"{name}{number}", graph(name))
    await first.engine.close()
    first.clock.forward(10 * 86_400)
    later = Kept(open_engine, file_url)
    later.clock = first.clock
    store = open_store(file_url, first.clock)
    later.engine = await open_engine(
        file_url, store=store, retention=Retention(completed=1), registry=Registry()
    )
    assert await later.round() == ["a1", "b1", "c1"]


async def test_a_dead_letter_does_not_go_silently(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """B-D5."""
    await kept.open(Retention(age=1000))
    await kept.run("done")
    await kept.run("failed", fail=True)
    kept.clock.forward(2000)
    with caplog.at_level(logging.INFO, "holdfast"):
        await kept.round()
    told = [(r.run_id, r.subject) for r in caplog.records if getattr(r, "event", "") == "letter.deleted"]  # type: ignore[attr-defined]
    assert told == [("failed", "g")]


async def test_nothing_goes_when_nothing_is_said(kept: Kept) -> None:
    await kept.open(Retention(age=None, failed=0))
    await kept.run("c")
    await kept.run("f", fail=True)
    kept.clock.forward(10**9)
    assert await kept.round() == ["c"]


async def test_an_id_stays_taken_as_long_again(kept: Kept) -> None:
    await kept.open(Retention(age=1000))
    await kept.run("a")
    kept.clock.forward(1001)
    assert await kept.round() == []
    with pytest.raises(RunConflict, match="was deleted"):
        await kept.run("a")
    kept.clock.forward(1001)
    await kept.round()
    await kept.run("a")


async def test_a_clock_that_is_set_back_deletes_nothing(kept: Kept) -> None:
    await kept.open()
    await kept.run("a")
    kept.clock.at -= 10**6 * 86_400
    assert await kept.round() == ["a"]


async def test_two_workers_delete_each_run_once(open_engine: Open, url: str) -> None:
    first = Kept(open_engine, url)
    await first.open(Retention(completed=5))
    for number in range(12):
        await first.run(f"c{number:02}")
    second = Kept(open_engine, url)
    second.clock = first.clock
    await second.open(Retention(completed=5))
    await asyncio.gather(*(each.engine._open.retaining.round() for each in (first, second) * 3))
    assert await first.round() == [f"c{number:02}" for number in range(7, 12)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"age": 0},
        {"age": -1},
        {"age": "30d"},
        {"completed": -1},
        {"completed": 1.5},
        {"failed": timedelta(-1)},
    ],
    ids=str,
)
def test_what_says_no_time_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=f"Retention: {next(iter(wrong))}="):
        Retention(**wrong)
