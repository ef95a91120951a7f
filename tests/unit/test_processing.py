"""Chains, parallel items and choices in a plain Python, with plain and async functions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from holdfast import (
    ChainConfig,
    ConditionalConfig,
    Observer,
    ParallelConfig,
    process_chain,
    process_conditional,
    process_parallel,
    register_observer,
    worker_pool,
)
from holdfast.core import observers
from holdfast.errors import ChainError, ConditionalError, DefinitionError, ParallelError
from holdfast.model.event import RunEvent
from holdfast.processing import ParallelResult
from tests.graphs import PATIENCE, Gate, until

Fn = Callable[..., Any]


def as_async(fn: Fn) -> Fn:
    async def called(*arguments: Any) -> Any:
        await asyncio.sleep(0)
        return fn(*arguments)

    return called


@pytest.fixture(params=["plain", "async"])
def form(request: pytest.FixtureRequest) -> Callable[[Fn], Fn]:
    """Gives a function as it is or as an async one."""
    return as_async if request.param == "async" else lambda fn: fn


def joined(item: str, state: str) -> str:
    return f"{state}->{item}"


def breaking(on: Any, fn: Fn) -> Fn:
    def broken(item: Any, *rest: Any) -> Any:
        if item == on:
            raise ValueError(f"no {item}")
        return fn(item, *rest)

    return broken


# --- chains


async def test_a_chain_folds_its_items(form: Callable[[Fn], Fn]) -> None:
    told: list[tuple[int, int, str]] = []
    done = await process_chain("abc", "start", form(joined), progress=lambda *news: told.append(news))
    assert (done.final, done.intermediate, done.steps) == ("start->a->b->c", (), 3)
    assert told == [(1, 3, "start->a"), (2, 3, "start->a->b"), (3, 3, "start->a->b->c")]


async def test_a_chain_keeps_the_states_between_when_asked() -> None:
    config = ChainConfig(capture_intermediate_states=True)
    assert (await process_chain("ab", "s", joined, config)).intermediate == ("s", "s->a", "s->a->b")
    assert (await process_chain("", "s", joined, config)).intermediate == ("s",)


async def test_an_empty_chain_gives_what_it_began_with() -> None:
    done = await process_chain([], "s", joined)
    assert (done.final, done.intermediate, done.steps) == ("s", (), 0)


async def test_a_chain_ends_at_its_first_error(form: Callable[[Fn], Fn]) -> None:
    seen: list[str] = []

    def step(item: str, state: str) -> str:
        seen.append(item)
        return str(breaking("c", joined)(item, state))

    with pytest.raises(ChainError, match="chain failed at step 2: no c") as caught:
        await process_chain("abcd", "s", form(step))
    error = caught.value
    assert (error.step_index, error.item, error.state) == (2, "c", "s->a->b")
    assert isinstance(error.__cause__, ValueError)
    assert seen == ["a", "b", "c"]


async def test_a_cancelled_chain_runs_no_further_step() -> None:
    seen: list[str] = []

    async def step(item: str, state: str) -> str:
        seen.append(item)
        if item == "b":
            task.cancel()
        return state

    task = asyncio.create_task(process_chain("abc", "s", step))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["a", "b"]


async def test_a_deadline_ends_a_chain() -> None:
    async def forever(item: str, state: str) -> str:
        await asyncio.Event().wait()
        return state

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await process_chain("a", "s", forever)


async def test_a_long_chain() -> None:
    assert (await process_chain(range(1000), 0, lambda item, state: state + item)).final == 499_500


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError("mine"), SystemExit(3), KeyboardInterrupt()], ids=repr
)
async def test_what_a_step_raises_ends_nothing_but_the_chain(
    error: BaseException, form: Callable[[Fn], Fn]
) -> None:
    def step(item: str, state: str) -> str:
        raise error

    with pytest.raises(ChainError) as caught:
        await process_chain("a", "s", form(step))
    assert caught.value.error is error


# --- parallel


async def test_results_are_in_the_order_of_the_items(form: Callable[[Fn], Fn]) -> None:
    done = await process_parallel(range(100), form(lambda n: n * n))
    assert done.results == [n * n for n in range(100)]
    assert done.errors == []
    assert await process_parallel([], form(str)) == ParallelResult([], [])


async def test_the_first_result_waits_for_the_last() -> None:
    count = 16
    gates = [asyncio.Event() for _ in range(count + 1)]
    gates[count].set()

    async def reversed_order(n: int) -> int:
        await gates[n + 1].wait()
        gates[n].set()
        return n

    done = await process_parallel(range(count), reversed_order, ParallelConfig(max_workers=count))
    assert done.results == list(range(count))


async def test_plain_functions_run_beside_each_other() -> None:
    meeting = threading.Barrier(3, timeout=PATIENCE)
    done = await process_parallel(range(3), lambda _: meeting.wait() >= 0, ParallelConfig(max_workers=3))
    assert done.results == [True, True, True]


async def test_no_more_than_max_workers_at_once() -> None:
    running: set[int] = set()
    most = 0

    async def task(n: int) -> None:
        nonlocal most
        running.add(n)
        most = max(most, len(running))
        await asyncio.sleep(0)
        running.remove(n)

    await process_parallel(range(20), task, ParallelConfig(max_workers=2))
    assert most == 2


async def test_errors_are_collected(form: Callable[[Fn], Fn]) -> None:
    def halves(n: int) -> int:
        if n % 2 == 0:
            raise ValueError(f"no {n}")
        return n * 2

    done = await process_parallel(range(10), form(halves), ParallelConfig(fail_fast=False))
    assert done.results == [2, 6, 10, 14, 18]
    assert [(error.index, error.item, str(error.error)) for error in done.errors] == [
        (n, n, f"no {n}") for n in range(0, 10, 2)
    ]


async def test_when_no_item_succeeds_that_is_an_error(form: Callable[[Fn], Fn]) -> None:
    def bad(n: int) -> int:
        raise ValueError("all" if n else "first")

    with pytest.raises(ParallelError) as caught:
        await process_parallel(range(4), form(bad), ParallelConfig(fail_fast=False))
    assert str(caught.value) == "4 items failed with 2 error types: 'all' (3 items), 'first' (1 item)"
    assert (caught.value.result.results, len(caught.value.errors)) == ([], 4)


@pytest.mark.parametrize("fail_fast", [True, None])
async def test_after_a_failure_nothing_begins_and_what_has_begun_ends(fail_fast: bool | None) -> None:
    begun: list[int] = []
    failed = asyncio.Event()

    async def task(n: int) -> int:
        begun.append(n)
        if n == 1:
            failed.set()
            raise ValueError("one")
        await failed.wait()
        await asyncio.sleep(0)
        return n

    with pytest.raises(ParallelError, match="item 1: one") as caught:
        await process_parallel(range(50), task, ParallelConfig(max_workers=3, fail_fast=fail_fast))
    assert begun == [0, 1, 2]
    assert caught.value.result.results == [0, 2]


async def test_progress_is_told_of_each_success_in_order() -> None:
    told: list[tuple[int, int]] = []

    async def progress(done: int, total: int, result: int) -> None:
        told.append((done, total))

    config = ParallelConfig(fail_fast=False)
    await process_parallel(range(6), breaking(3, lambda n: n), config, progress)
    assert told == [(n, 6) for n in range(1, 6)]


async def test_a_progress_callback_that_raises_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    def progress(*news: Any) -> None:
        raise OSError("terminal gone")

    assert (await process_parallel([1], str, progress=progress)).results == ["1"]
    assert "a progress callback raised after 1 of 1" in caplog.text


async def test_being_cancelled_cancels_what_runs_and_begins_nothing() -> None:
    begun: list[int] = []
    ended: list[int] = []

    async def task(n: int) -> None:
        begun.append(n)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(n)

    work = asyncio.create_task(process_parallel(range(100), task, ParallelConfig(max_workers=4)))
    await until(lambda: len(begun) == 4)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert begun == sorted(ended) == [0, 1, 2, 3]


async def test_a_thread_is_not_waited_for_when_cancelled() -> None:
    gate = Gate()
    work = asyncio.create_task(process_parallel([1], lambda _: gate.wait()))
    await gate.until_reached()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    gate.open()


async def test_a_cancel_of_its_own_is_the_failure_of_an_item() -> None:
    async def task(n: int) -> int:
        if n == 1:
            raise asyncio.CancelledError
        return n

    done = await process_parallel(range(3), task, ParallelConfig(fail_fast=False))
    assert done.results == [0, 2]
    assert isinstance(done.errors[0].error, asyncio.CancelledError)


async def test_a_pool(form: Callable[[Fn], Fn]) -> None:
    assert await worker_pool(range(50), form(lambda n: n + 1)) == list(range(1, 51))
    assert await worker_pool([], form(str)) == []
    with pytest.raises(ValueError, match="no 3"):
        await worker_pool(range(5), form(breaking(3, str)))


# --- choices


def high_or_low(n: int) -> str:
    return "high" if n > 10 else "low"


async def test_the_state_chooses_the_route(form: Callable[[Fn], Fn]) -> None:
    routes = {"high": form(lambda n: n - 10), "low": form(lambda n: n + 10)}
    assert await process_conditional(15, form(high_or_low), routes) == 5
    assert await process_conditional(5, form(high_or_low), routes) == 15
    assert await process_conditional(5, lambda _: "else", routes, form(lambda n: -n)) == -5


@pytest.mark.parametrize(
    ("predicate", "message", "route"),
    [
        (lambda _: "x", "conditional failed: route 'x' not found and no default handler", ""),
        (lambda _: [], r"conditional failed: route \[\] not found", ""),
        (lambda n: n["no"], "conditional failed: 'int' object", ""),
        (lambda _: "bad", "conditional failed on route 'bad': integer division", "bad"),
    ],
    ids=["unknown", "unhashable", "predicate", "handler"],
)
async def test_a_choice_that_fails_has_the_state_as_it_was(predicate: Fn, message: str, route: str) -> None:
    with pytest.raises(ConditionalError, match=message) as caught:
        await process_conditional(7, predicate, {"bad": lambda n: n // 0})
    assert (caught.value.route, caught.value.state) == (route, 7)


async def test_a_cancelled_choice_takes_no_route() -> None:
    async def predicate(n: int) -> str:
        task.cancel()
        await asyncio.sleep(0)
        return "a"

    def never(n: int) -> int:
        pytest.fail("a handler ran")

    task = asyncio.create_task(process_conditional(1, predicate, {"a": never}))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_they_compose() -> None:
    chained = await process_chain([1, 2], 0, lambda item, state: state + item)
    spread = await process_parallel([chained.final] * 4, lambda n: n)
    label = await process_conditional(
        str(sum(spread.results)),
        lambda text: "twelve" if text == "12" else "x",
        {"twelve": lambda _: "success"},
    )
    assert (chained.final, label) == (3, "success")


# --- observers


class Seen(Observer):
    def __init__(self) -> None:
        self.events: list[RunEvent] = []

    async def on_event(self, event: RunEvent) -> None:
        self.events.append(event)

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]


@pytest.fixture(autouse=True)
def _own_observers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that a test gives are those of no other test."""
    monkeypatch.setattr(observers, "_registry", dict(observers._registry))


@pytest.fixture
def seen() -> Seen:
    observer = Seen()
    register_observer("seen", observer)
    return observer


async def test_a_chain_tells_its_observer(seen: Seen) -> None:
    await process_chain("ab", "s", joined, ChainConfig(observer="seen"))
    steps = ["step.start", "step.complete"] * 2
    assert seen.types == ["chain.start", *steps, "chain.complete"]
    assert [event.position for event in seen.events] == [1, 2, 3, 4, 5, 6]
    assert {(event.run_id, event.data["source"]) for event in seen.events} == {("", "chain")}
    assert seen.events[1].data == {"source": "chain", "step_index": 0, "total_steps": 2}


async def test_a_failed_chain_tells_why(seen: Seen) -> None:
    with pytest.raises(ChainError):
        await process_chain("a", "s", breaking("a", joined), ChainConfig(observer="seen"))
    assert seen.types == ["chain.start", "step.start", "step.complete", "chain.complete"]
    assert [event.data.get("error") for event in seen.events[2:]] == [
        {"type": "ValueError", "message": "no a"}
    ] * 2


async def test_parallel_items_tell_their_observer(seen: Seen) -> None:
    config = ParallelConfig(observer="seen", fail_fast=False, max_workers=1)
    await process_parallel([0, 1], breaking(1, str), config)
    work = ["worker.start", "worker.complete"] * 2
    assert seen.types == ["parallel.start", *work, "parallel.complete"]
    assert seen.events[-2].data["error"] == {"type": "ValueError", "message": "no 1"}
    assert seen.events[-1].data == {"source": "parallel", "items_processed": 1, "items_failed": 1}


async def test_a_choice_tells_its_observer(seen: Seen) -> None:
    config = ConditionalConfig(observer="seen")
    await process_conditional(1, lambda _: "x", {}, lambda n: n, config)
    assert seen.types == ["route.evaluate", "route.select", "route.execute"]
    assert [event.data.get("route") for event in seen.events] == [None, "default", "default"]


async def test_an_unknown_observer_is_refused_before_anything_runs() -> None:
    def never(*_: Any) -> Any:
        pytest.fail("something ran")

    for work in (
        process_chain([1], 0, never, ChainConfig(observer="nobody")),
        process_parallel([1], never, ParallelConfig(observer="nobody")),
        process_conditional(1, never, {}, config=ConditionalConfig(observer="nobody")),
    ):
        with pytest.raises(DefinitionError, match="failed to resolve observer: unknown observer: nobody"):
            await work


async def test_an_observer_that_raises_or_hangs_harms_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Observer):
        def on_event(self, event: RunEvent) -> None:
            raise OSError("no disk")

    class Hanging(Observer):
        async def on_event(self, event: RunEvent) -> None:
            await asyncio.Event().wait()

    register_observer("broken", Broken)
    register_observer("hanging", Hanging)
    monkeypatch.setattr("holdfast.runtime.telling.CLOSING", 0.01)
    for name in ("broken", "hanging"):
        done = await process_chain("ab", "s", joined, ChainConfig(observer=name))
        assert done.final == "s->a->b"
    assert "observer broken raised OSError on chain.start" in caplog.text
    assert "observer hanging did not see the last 6 events" in caplog.text


async def test_nothing_is_left_behind() -> None:
    before = asyncio.all_tasks()
    await process_parallel(range(5), as_async(str))
    await process_chain("ab", "s", joined, ChainConfig(observer=None))
    assert asyncio.all_tasks() == before
