"""Attempts: whatever a step does ends as one arrival; places are bounded and given on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from holdfast.core.caching import CachePolicy
from holdfast.core.context import StepContext, step_context
from holdfast.core.kept_errors import MESSAGE_LIMIT
from holdfast.core.ledger import OpenStep
from holdfast.core.policy import Policy
from holdfast.core.retries import RetryPolicy
from holdfast.core.work import Blobs, Outcome
from holdfast.model import facts
from holdfast.model.profile import StageProfile
from holdfast.model.secrets import Secrets
from holdfast.model.values import encode
from holdfast.runtime.attempt import Attempt
from holdfast.runtime.clock import SystemClock
from holdfast.runtime.executor import Executor
from holdfast.runtime.feed import Feed
from holdfast.runtime.streaming import Streams
from holdfast.runtime.threads import Threads
from holdfast.store.sqlite.store import SqliteStore
from tests.graphs import until


class Work:
    """One call, with an answer that is taken as it is."""

    name = "step"
    inline = False
    heartbeat_timeout: float | None = None
    cache: CachePolicy | None = None
    profile: StageProfile | None = None
    policy: Policy | None = None

    def __init__(
        self,
        call: Callable[[StepContext], Any],
        *,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        blobs: Mapping[str, bytes] | None = None,
    ) -> None:
        self._call = call
        self.retry = retry
        self.timeout = timeout
        self.is_async = asyncio.iscoroutinefunction(call)
        self._blobs = blobs or {}

    def call(self, context: StepContext) -> Any:
        return self._call(context)

    def accept(self, value: Any, context: StepContext) -> Outcome:
        return Outcome(encode(value), blobs=self._blobs)


class Bench:
    """An executor, and what its attempts delivered."""

    def __init__(self, threads: int = 10, tasks: int = 10) -> None:
        streams = Streams(SqliteStore(":memory:"), Feed())
        self.executor = Executor(SystemClock(), threads, tasks, streams, Threads("bench"))
        self.delivered: list[facts.Fact] = []
        self.blobs = Blobs()

    def attempt(
        self, work: Work, *, attempt: int = 1, failures: int = 0, secrets: Mapping[str, str] | None = None
    ) -> Attempt:
        step = OpenStep("step#1", "step", attempt=attempt, failures=failures)
        return Attempt(
            self.executor,
            "run",
            step,
            work,
            services="services",
            pinned=facts.NOTHING,
            secrets=Secrets(secrets or {}),
            blobs=self.blobs,
            deliver=lambda _, fact: self.delivered.append(fact),
            record=self._record,
        )

    def _record(self, ended: Sequence[facts.Fact], kept: concurrent.futures.Future[None]) -> None:
        self.delivered += ended
        kept.set_result(None)

    def enter(self, call: Callable[[StepContext], Any], **options: Any) -> Attempt:
        work = {key: options.pop(key) for key in ("retry", "timeout", "blobs") if key in options}
        attempt = self.attempt(Work(call, **work), **options)
        self.executor.enter(attempt)
        return attempt

    async def end(self, attempt: Attempt) -> facts.Fact:
        await until(lambda: attempt.ended)
        return self.delivered[-1]


@pytest.fixture
async def bench() -> Any:
    made = Bench()
    yield made
    made.executor.close()


def both(call: Callable[[StepContext], Any]) -> Iterator[Callable[[StepContext], Any]]:
    """The call as a plain function and as a coroutine."""
    yield call

    async def asynchronous(step: StepContext) -> Any:
        await asyncio.sleep(0)
        return call(step)

    yield asynchronous


def raising(error: BaseException) -> Callable[[StepContext], Any]:
    def call(step: StepContext) -> Any:
        raise error

    return call


# --- ends


async def test_what_is_returned_is_a_completion(bench: Bench) -> None:
    for call in both(
        lambda step: {"attempt": step.attempt, "services": step.runtime, "here": step_context().name}
    ):
        fact = await bench.end(bench.enter(call, attempt=3, blobs={"h": b"large"}))
        assert isinstance(fact, facts.StepCompleted)
        assert (fact.step, fact.attempt) == ("step#1", 3)
        assert bytes(fact.data) == b'{"attempt":3,"services":"services","here":"step"}'
        assert 0 < fact.started <= fact.at
    assert bench.blobs.fresh == {"h": b"large"}


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), RecursionError()], ids=repr
)
async def test_what_is_raised_is_a_failure(bench: Bench, error: BaseException) -> None:
    for call in both(raising(error)):
        attempt = bench.enter(call)
        fact = await bench.end(attempt)
        assert isinstance(fact, facts.StepFailed)
        assert fact.error.type == type(error).__name__
        assert (fact.error.step, fact.error.name, fact.error.attempt) == ("step#1", "step", 1)
        assert attempt.error is error


async def test_a_value_that_cannot_be_stored_is_a_failure(bench: Bench) -> None:
    for call in both(lambda _: object()):
        fact = await bench.end(bench.enter(call))
        assert isinstance(fact, facts.StepFailed)
        assert fact.error.code == "payload_rejected"


async def test_a_failure_with_tries_left_is_a_retry(bench: Bench) -> None:
    policy = RetryPolicy(attempts=3, backoff=0.5, jitter="none")
    fact = await bench.end(bench.enter(raising(ValueError("no")), retry=policy, attempt=5, failures=1))
    assert isinstance(fact, facts.StepRetried)
    assert (fact.attempt, fact.reason, fact.due - fact.at) == (6, "failed", 1_000_000)
    assert fact.error is not None
    assert fact.error.attempt == 5
    fact = await bench.end(bench.enter(raising(ValueError("no")), retry=policy, attempt=6, failures=2))
    assert isinstance(fact, facts.StepFailed)


async def test_errors_are_kept_without_secrets_and_within_bounds(bench: Bench) -> None:
    secret = "hunter2hunter2"
    text = f"{secret} x\udce9 " + "x" * 100_000
    fact = await bench.end(bench.enter(raising(ValueError(text)), secrets={"token": secret}))
    assert isinstance(fact, facts.StepFailed)
    assert fact.error.message.startswith("[secret token] x\\udce9 xxx")
    assert len(fact.error.message) == MESSAGE_LIMIT
    assert secret not in fact.error.traceback


async def test_a_plain_function_may_return_an_awaitable(bench: Bench) -> None:
    async def later() -> str:
        await asyncio.sleep(0)
        return step_context().name

    fact = await bench.end(bench.enter(lambda _: later()))
    assert isinstance(fact, facts.StepCompleted)
    assert bytes(fact.data) == b'"step"'


async def test_a_step_within_the_commit_runs_at_once(bench: Bench) -> None:
    for call, kind in ((lambda _: 1, facts.StepCompleted), (raising(SystemExit(1)), facts.StepFailed)):
        work = Work(call)
        work.inline = True
        bench.attempt(work).run_here()
        assert type(bench.delivered[-1]) is kind


# --- timeouts


async def test_a_task_that_takes_too_long_is_stopped(bench: Bench) -> None:
    stopped = asyncio.Event()

    async def slow(step: StepContext) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    attempt = bench.enter(slow, timeout=0.02)
    fact = await bench.end(attempt)
    assert isinstance(fact, facts.StepFailed)
    assert (fact.error.code, fact.error.message) == ("step_timed_out", "attempt 1 took longer than 0.02 s")
    await asyncio.wait_for(stopped.wait(), 5)
    assert len(bench.delivered) == 1


async def test_a_thread_that_takes_too_long_is_told_and_its_result_refused(bench: Bench) -> None:
    told, go = threading.Event(), threading.Event()
    contexts: list[StepContext] = []

    def slow(step: StepContext) -> int:
        contexts.append(step)
        while not step.cancelled:
            threading.Event().wait(0.001)
        told.set()
        assert go.wait(10)
        return 5

    await bench.end(bench.enter(slow, timeout=0.02))
    await until(told.is_set)
    go.set()
    await until(lambda: not bench.executor._counts[False])
    assert [type(fact) for fact in bench.delivered] == [facts.StepFailed]


async def test_a_step_in_time_is_left_alone(bench: Bench) -> None:
    for call in both(lambda _: 1):
        assert isinstance(await bench.end(bench.enter(call, timeout=60)), facts.StepCompleted)


# --- cancelling


async def test_a_cancelled_task_ends_as_cancelled(bench: Bench) -> None:
    async def slow(step: StepContext) -> None:
        await asyncio.sleep(60)

    attempt = bench.enter(slow)
    await asyncio.sleep(0)
    attempt.cancel(grace=60)
    assert isinstance(await bench.end(attempt), facts.StepCancelled)
    attempt.cancel(grace=60)
    assert len(bench.delivered) == 1


async def test_who_was_asked_to_end_may_still_complete_or_fail(bench: Bench) -> None:
    for outcome, kind in ((None, facts.StepCompleted), (ValueError("cleanup"), facts.StepFailed)):

        async def stubborn(step: StepContext, outcome: BaseException | None = outcome) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if outcome is not None:
                    raise outcome from None

        attempt = bench.enter(stubborn, retry=RetryPolicy(attempts=5))
        await asyncio.sleep(0)
        attempt.cancel(grace=60)
        assert type(await bench.end(attempt)) is kind, "and there is no second try"


async def test_who_does_not_stop_is_abandoned(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()
    attempt = bench.enter(lambda _: go.wait(10))
    await asyncio.sleep(0)
    attempt.cancel(grace=0.01)
    assert isinstance(await bench.end(attempt), facts.StepCancelled)
    assert "abandoned" in caplog.text
    go.set()


async def test_a_dropped_attempt_says_nothing_more(bench: Bench) -> None:
    cancelled = asyncio.Event()

    async def slow(step: StepContext) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            assert step.cancelled
            cancelled.set()

    attempt = bench.enter(slow)
    await asyncio.sleep(0)
    attempt.drop()
    await asyncio.wait_for(cancelled.wait(), 5)
    assert bench.delivered == []


# --- places


async def test_tasks_and_threads_are_bounded_apart_and_places_are_given_on() -> None:
    bench = Bench(threads=2, tasks=1)
    go, running, most = threading.Event(), [0], [0]

    def plain(step: StepContext) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        assert go.wait(10)
        running[0] -= 1

    async def task(step: StepContext) -> str:
        await asyncio.sleep(0)
        return "task"

    attempts = [bench.enter(plain) for _ in range(5)]
    other = bench.enter(task)
    assert isinstance(await bench.end(other), facts.StepCompleted), "tasks have places of their own"
    assert [attempt.began > 0 for attempt in attempts] == [True, True, False, False, False]
    go.set()
    for attempt in attempts:
        await until(lambda attempt=attempt: attempt.ended)  # type: ignore[misc]
    assert most == [2]
    assert bench.executor._counts == {True: 0, False: 0}
    bench.executor.close()


async def test_one_that_is_cancelled_in_the_queue_never_begins() -> None:
    bench = Bench(threads=1)
    go = threading.Event()
    first = bench.enter(lambda _: go.wait(10))
    second, third, fourth = (bench.enter(lambda _: 1) for _ in range(3))
    second.cancel(grace=60)
    third.drop()
    assert [type(fact) for fact in bench.delivered] == [facts.StepCancelled]
    go.set()
    await until(lambda: first.ended and fourth.ended)
    assert not second.began
    assert not third.began
    assert bench.executor._counts[False] == 0
    bench.executor.close()


# --- progress


async def test_progress_is_a_fact_at_most_once_a_second_and_the_latest_counts(bench: Bench) -> None:
    go = threading.Event()

    def report(step: StepContext) -> None:
        for percent in range(100):
            step.progress(percent, f"at {percent}, with hunter2hunter2 x\udce9")
        assert go.wait(10)

    attempt = bench.enter(report, secrets={"token": "hunter2hunter2"})
    await until(lambda: len(bench.delivered) == 2)
    first, last = bench.delivered
    assert isinstance(first, facts.StepProgressed)
    assert isinstance(last, facts.StepProgressed)
    assert (first.percent, last.percent) == (0, 99)
    assert last.message == "at 99, with [secret token] x\\udce9"
    go.set()
    await bench.end(attempt)


async def test_progress_after_the_end_is_forgotten(bench: Bench) -> None:
    contexts: list[StepContext] = []
    await bench.end(bench.enter(lambda step: contexts.append(step)))  # noqa: PLW0108 - the result must be None
    contexts[0].progress(50)
    await asyncio.sleep(0)
    assert len(bench.delivered) == 1
