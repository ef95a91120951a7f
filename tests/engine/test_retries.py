"""Retries and timeouts of nodes, short and long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast import Engine, RetryPolicy, RunFailed, RunStatus, State, StepContext
from holdfast.registry import Registry
from tests.conftest import OpenEngine
from tests.graphs import Gate, parallel, sequence, until

AT_ONCE = RetryPolicy(attempts=3, backoff=0, jitter="none")


def failing(times: int, calls: list[int] | None = None) -> Callable[[State, StepContext], dict[str, int]]:
    """A node that fails in its first attempts."""

    def node(state: State, step: StepContext) -> dict[str, int]:
        if calls is not None:
            calls.append(step.attempt)
        if step.attempt <= times:
            raise ConnectionError(f"attempt {step.attempt}")
        return {"attempt": step.attempt}

    return node


async def attempts_of(engine: Engine, run: str) -> list[tuple[int, str, str]]:
    (stage,) = await engine.stages(run)
    return [(one.number, str(one.status), one.error.message if one.error else "") for one in stage.attempts]


async def test_attempts_counts_all_tries(engine: Engine) -> None:
    calls: list[int] = []
    run = await engine.start(sequence("retry", node=(failing(9, calls), {"retry": AT_ONCE})))
    with pytest.raises(RunFailed, match="attempt 3") as caught:
        await run.result()
    assert caught.value.attempt == 3
    assert calls == [1, 2, 3]
    assert await attempts_of(engine, run.id) == [(n, "failed", f"attempt {n}") for n in (1, 2, 3)]


async def test_a_later_attempt_may_succeed(engine: Engine) -> None:
    run = await engine.start(sequence("retry", node=(failing(2), {"retry": AT_ONCE})))
    assert await run.result() == {"attempt": 3}
    assert [status for _, status, _ in await attempts_of(engine, run.id)] == ["failed", "failed", "completed"]


async def test_without_a_policy_there_is_one_try(engine: Engine) -> None:
    calls: list[int] = []
    await (await engine.start(sequence("once", node=failing(9, calls)))).wait()
    assert calls == [1]


async def test_only_the_errors_of_the_policy_are_tried_again(engine: Engine) -> None:
    calls: list[int] = []
    for options in ({"retry_on": (ValueError,)}, {"give_up_on": (OSError,)}):
        policy = RetryPolicy(attempts=3, backoff=0, **options)
        await (await engine.start(sequence("some", node=(failing(9, calls), {"retry": policy})))).wait()
    assert calls == [1, 1]


async def test_the_key_is_the_same_for_every_attempt_and_for_no_other_step(engine: Engine) -> None:
    keys: list[str] = []

    def node(state: State, step: StepContext) -> None:
        keys.append(step.idempotency_key)
        if step.attempt < 3:
            raise ConnectionError

    run = await engine.start(sequence("keys", a=(node, {"retry": AT_ONCE}), b=(node, {"retry": AT_ONCE})))
    await run.wait()
    assert keys == [f"{run.id}:a#1"] * 3 + [f"{run.id}:b#1"] * 3


async def test_siblings_are_not_run_again(engine: Engine) -> None:
    calls: list[str] = []
    await engine.execute(
        parallel("pair", good=lambda _: calls.append("good"), bad=(failing(2), {"retry": AT_ONCE})),
    )
    assert calls == ["good"]


# --- waiting between tries


async def test_a_short_back_off_is_sat_out(engine: Engine) -> None:
    policy = RetryPolicy(attempts=2, backoff=0.15, jitter="none")
    run = await engine.start(sequence("short", node=(failing(1), {"retry": policy})))
    assert await run.result() == {"attempt": 2}
    retried, completed = await _facts(engine, run.id, "StepRetried", "StepCompleted")
    assert retried["due"] - retried["at"] == 150_000
    assert completed["started"] >= retried["due"]


async def _facts(engine: Engine, run: str, *kinds: str) -> list[dict[str, Any]]:
    return [fact for fact in await engine.journal(run) if fact["fact"] in kinds and fact["step"] != "START#1"]


async def test_a_long_back_off_releases_the_run(any_url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(any_url, concurrency=1)
    policy = RetryPolicy(attempts=2, backoff=timedelta(seconds=1.3), jitter="none")
    run = await engine.start(sequence("long", node=(failing(1), {"retry": policy})))
    await until(lambda: _has(engine, run.id, RunStatus.WAITING))
    await run.refresh()
    (waiting,) = run.waiting_on
    assert waiting.startswith("retry of node 20")
    assert waiting.endswith("Z")
    (stage,) = await run.stages()
    assert (stage.attempt, stage.status) == (2, "retrying")
    assert stage.error is not None
    assert stage.error.message == "attempt 1"
    # It holds no slot: the only one is free for another run.
    assert await engine.execute(sequence("quick", node=lambda _: {"n": 1})) == {"n": 1}
    assert await run.result() == {"attempt": 2}
    retried, completed = await _facts(engine, run.id, "StepRetried", "StepCompleted")
    assert completed["started"] >= retried["due"]
    assert (await run.refresh()).waiting_on == ()


async def _has(engine: Engine, run: str, status: RunStatus) -> bool:
    return (await engine.get(run)).status is status


async def test_a_wake_up_while_it_waits_does_not_begin_the_try_early(engine: Engine) -> None:
    policy = RetryPolicy(attempts=2, backoff=1.3, jitter="none")
    run = await engine.start(sequence("long", node=(failing(1), {"retry": policy})))
    await until(lambda: _has(engine, run.id, RunStatus.WAITING))
    await run.signal("hello")
    await until(lambda: _signalled(engine, run.id))
    assert await run.result() == {"attempt": 2}
    retried, completed = await _facts(engine, run.id, "StepRetried", "StepCompleted")
    assert retried["reason"] == "failed"
    assert completed["started"] >= retried["due"]


async def _signalled(engine: Engine, run: str) -> bool:
    return "SignalReceived" in [fact["fact"] for fact in await engine.journal(run)]


async def test_a_wake_up_at_the_moment_of_the_release_is_not_lost(url: str, open_engine: OpenEngine) -> None:
    """The store refuses the release, and the row must say what became of it."""
    engine = await open_engine(url)
    other = await open_engine(url, workers=False, registry=Registry())

    async def node(state: State, step: StepContext) -> dict[str, int]:
        if step.attempt == 1:
            await other.signal(step.run_id, "early", 1)
            raise ConnectionError
        return {"attempt": step.attempt}

    policy = RetryPolicy(attempts=2, backoff=1.2, jitter="none")
    run = await engine.start(sequence("race", node=(node, {"retry": policy})))
    await until(lambda: _signalled(engine, run.id))
    await until(lambda: _has(engine, run.id, RunStatus.WAITING))
    assert await run.result() == {"attempt": 2}
    # Nobody took the wait for the loss of a worker.
    assert [fact["reason"] for fact in await _facts(engine, run.id, "StepRetried")] == ["failed"]


async def test_the_others_of_a_round_go_on_while_one_waits(engine: Engine) -> None:
    gate = Gate()
    policy = RetryPolicy(attempts=2, backoff=1.2, jitter="none")
    graph = parallel("mixed", slow=lambda _: gate.wait(), flaky=(failing(1), {"retry": policy}))
    run = await engine.start(graph)
    await until(lambda: _retried(engine, run.id))
    assert (await run.refresh()).status is RunStatus.RUNNING
    gate.open()
    await until(lambda: _has(engine, run.id, RunStatus.WAITING))
    assert await run.result() == {"attempt": 2}


async def _retried(engine: Engine, run: str) -> bool:
    return bool(await _facts(engine, run, "StepRetried"))


async def test_a_run_that_fails_does_not_wait_for_the_back_off_of_others(engine: Engine) -> None:
    gate = Gate()

    def bad(state: State) -> None:
        gate.wait()
        raise ValueError("for good")

    policy = RetryPolicy(attempts=2, backoff=60, jitter="none")
    run = await engine.start(parallel("mixed", flaky=(failing(1), {"retry": policy}), bad=bad))
    await until(lambda: _retried(engine, run.id))
    gate.open()
    with pytest.raises(RunFailed, match="for good"):
        await run.result(timeout=5)
    assert {stage.name: str(stage.status) for stage in await run.stages()} == {
        "bad": "failed",
        "flaky": "cancelled",
    }


# --- resume


async def test_a_resume_gives_a_new_budget_and_goes_on_counting(engine: Engine) -> None:
    calls: list[int] = []
    policy = RetryPolicy(attempts=2, backoff=0, jitter="none")
    run = await engine.start(sequence("budget", node=(failing(3, calls), {"retry": policy})))
    await run.wait()
    assert calls == [1, 2]
    await run.resume()
    assert await run.result() == {"attempt": 4}
    assert calls == [1, 2, 3, 4]


# --- timeouts of one attempt


async def test_an_async_attempt_that_takes_too_long_is_stopped_and_tried_again(engine: Engine) -> None:
    stopped: list[int] = []

    async def slow(state: State, step: StepContext) -> dict[str, int]:
        if step.attempt < 3:
            try:
                await asyncio.sleep(60)
            finally:
                stopped.append(step.attempt)
        return {"attempt": step.attempt}

    run = await engine.start(sequence("slow", node=(slow, {"retry": AT_ONCE, "timeout": 0.05})))
    assert await run.result() == {"attempt": 3}
    assert stopped == [1, 2]
    (stage,) = await run.stages()
    assert [one.error.code if one.error else "" for one in stage.attempts] == ["step_timed_out"] * 2 + [""]


async def test_a_plain_attempt_that_takes_too_long_is_told_and_its_late_result_refused(
    engine: Engine,
) -> None:
    told, ended = threading.Event(), threading.Event()

    def slow(state: State, step: StepContext) -> dict[str, int]:
        if step.attempt == 1:
            end = time.monotonic() + 10
            while not step.cancelled and time.monotonic() < end:
                time.sleep(0.002)
            told.set()
            assert ended.wait(10)
        return {"attempt": step.attempt}

    run = await engine.start(
        sequence("slow", node=(slow, {"retry": AT_ONCE, "timeout": timedelta(seconds=0.05)}))
    )
    assert await run.result() == {"attempt": 2}
    assert told.wait(10)
    ended.set()
    assert await run.state() == {"attempt": 2}


async def test_a_timeout_without_retry_fails_the_run(engine: Engine) -> None:
    async def slow(state: State) -> None:
        await asyncio.sleep(60)

    with pytest.raises(RunFailed, match=r"attempt 1 took longer than 0\.05 s") as caught:
        await engine.execute(sequence("slow", node=(slow, {"timeout": 0.05})))
    assert caught.value.error.code == "step_timed_out"
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_the_timeout_of_a_node_that_queues_begins_when_it_runs(
    any_url: str, open_engine: OpenEngine
) -> None:
    engine = await open_engine(any_url, concurrency=1)  # one thread, too
    gate = Gate()

    def first(state: State) -> dict[str, int]:
        gate.wait()
        return {"first": 1}

    second = (lambda _: {"second": 2}, {"timeout": 0.2})
    run = await engine.start(parallel("queue", first=first, second=second))
    await gate.until_reached()
    waited_until = datetime.now(UTC) + timedelta(seconds=0.3)
    await until(lambda: datetime.now(UTC) > waited_until)
    gate.open()
    assert await run.result() == {"first": 1, "second": 2}
