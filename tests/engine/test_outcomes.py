"""How runs end and what callers get: results, errors with all that is known, bad nodes of every kind."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from holdfast import (
    Engine,
    HoldfastError,
    RequestError,
    RetryPolicy,
    RunCancelled,
    RunFailed,
    RunStatus,
    RunTimedOut,
    State,
    StepContext,
    step_context,
)
from tests.conftest import OpenEngine
from tests.graphs import Gate, nothing, parallel, sequence, until


class Broken(Exception):
    """A user's own exception."""


def raising(error: BaseException) -> Callable[[State], None]:
    def node(state: State) -> None:
        raise error

    return node


async def test_a_failure_carries_all_that_is_known(engine: Engine) -> None:
    error = Broken("the scanner is on fire")
    graph = sequence("fail", first=lambda _: {"n": 1}, second=raising(error), third=nothing)
    run = await engine.start(graph, {"m": 0})
    with pytest.raises(RunFailed) as caught:
        await run.result()
    failure = caught.value
    assert (failure.run_id, failure.stage, failure.attempt, failure.path) == (
        run.id,
        "second",
        1,
        ("first", "second"),
    )
    assert failure.state == {"m": 0, "n": 1}, "the last good state"
    assert failure.__cause__ is error
    assert failure.code == "run_failed"
    assert f"resume('{run.id}')" in failure.fix
    assert (failure.error.type, failure.error.message) == (f"{__name__}.Broken", "the scanner is on fire")
    assert "raise error" in failure.error.traceback
    assert "the scanner is on fire" in str(failure)
    await run.refresh()
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error.message == "the scanner is on fire"


async def test_what_a_node_is_advised_to_do_is_told_with_the_failure(engine: Engine) -> None:
    run = await engine.start(sequence("advised", node=lambda _: {"n": object()}))
    with pytest.raises(RunFailed) as caught:
        await run.result()
    failure = caught.value
    assert failure.error.fix.startswith("Store its data")
    assert str(failure).endswith(f"which cannot be stored. {failure.error.fix}")
    in_memory = engine.url.endswith(":memory:")
    assert f"engine.resume('{run.id}')" in failure.fix
    assert ("holdfast resume" in failure.fix) is not in_memory


def test_a_graph_without_an_engine_says_how_it_goes_on() -> None:
    mended: list[bool] = []
    graph = sequence("alone", node=lambda _: {"n": 1} if mended else 1 / 0)
    with pytest.raises(RunFailed) as caught:
        graph.execute()
    assert caught.value.fix == "Mend the cause, then go on from there: graph.resume(error.run_id)"
    mended.append(True)
    assert graph.resume(caught.value.run_id) == {"n": 1}


async def test_the_result_can_be_had_again_and_by_others(url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(url)
    good = await engine.start(sequence("good", node=lambda _: {"n": 1}))
    bad = await engine.start(sequence("bad", node=raising(Broken("no"))))
    assert await good.result() == await good.result() == {"n": 1}
    other = await open_engine(url, workers=False)
    assert await other.result(good.id) == {"n": 1}
    with pytest.raises(RunFailed, match="Broken: no") as caught:
        await other.result(bad.id)
    assert caught.value.error.type == f"{__name__}.Broken"
    assert caught.value.stage == "node"


async def test_wait_never_raises_for_the_outcome(engine: Engine) -> None:
    run = await engine.start(sequence("bad", node=raising(Broken("no"))))
    assert await run.wait() is run
    assert run.status is RunStatus.FAILED
    assert (await engine.wait(run.id)).status is RunStatus.FAILED


async def test_waiting_has_a_timeout_that_leaves_the_run_alone(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("wait", node=lambda _: gate.wait()))
    for waiting in (run.wait(timeout=0.01), run.result(timeout=0.01), engine.wait(run.id, 0.01)):
        with pytest.raises(TimeoutError):
            await waiting
    gate.open()
    assert (await run.wait()).status is RunStatus.COMPLETED


async def test_a_caller_that_is_cancelled_leaves_the_run_alone(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("wait", node=lambda _: gate.wait()))
    callers = [asyncio.create_task(run.result()), asyncio.create_task(run.wait())]
    await gate.until_reached()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    gate.open()
    assert (await engine.wait(run.id)).status is RunStatus.COMPLETED


# --- run timeouts


async def test_a_run_that_takes_too_long_is_timed_out(engine: Engine) -> None:
    stopped = threading.Event()

    async def forever(state: State) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    run = await engine.start(sequence("long", node=forever), timeout=0.2)
    with pytest.raises(RunTimedOut) as caught:
        await run.result()
    assert isinstance(caught.value, TimeoutError)
    assert stopped.is_set()
    await run.refresh()
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error.code == "run_timed_out"
    assert [stage.status for stage in await run.stages()] == ["cancelled"]


async def test_a_run_that_waits_is_timed_out_too(engine: Engine) -> None:
    policy = RetryPolicy(attempts=2, backoff=60, jitter="none")
    run = await engine.start(sequence("long", node=(raising(Broken("no")), {"retry": policy})), timeout=0.3)
    with pytest.raises(RunTimedOut):
        await run.result()


async def test_a_run_in_time_is_not_timed_out(engine: Engine) -> None:
    run = await engine.start(sequence("quick", node=nothing), timeout=60)
    await run.wait()
    assert run.status is RunStatus.COMPLETED
    # Nothing is left that would wake it.
    assert await engine.store.next_due() is None


async def test_a_cleanup_that_raises_does_not_hide_the_timeout(engine: Engine) -> None:
    async def messy(state: State) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise Broken("while cleaning up")

    with pytest.raises(RunTimedOut):
        await engine.execute(sequence("long", node=messy), timeout=0.2)


# --- nodes that misbehave


@pytest.mark.parametrize(
    ("node", "type_", "message"),
    [
        (lambda _: 5, "PayloadRejected", "node 'node' returned int"),
        (lambda _: [1], "PayloadRejected", "node 'node' returned list"),
        (lambda _: (n for n in "ab"), "PayloadRejected", "node 'node' returned generator"),
        (
            lambda _: {"k": {"a": [1, object()]}},
            "PayloadRejected",
            r"node 'node': k\.a\[1\] is of type object",
        ),
        (lambda _: {1: 2}, "PayloadRejected", "node 'node'"),
        (lambda _: {"k": "\ud800"}, "PayloadRejected", "node 'node': k has a lone surrogate"),
        (lambda s: s.set("k", object()), "PayloadRejected", "k is of type object"),
        (lambda s: s["missing"], "KeyError", "missing"),
        (lambda _: sys.exit(4), "SystemExit", "4"),
        (raising(KeyboardInterrupt()), "KeyboardInterrupt", ""),
        (raising(GeneratorExit()), "GeneratorExit", ""),
        (raising(asyncio.CancelledError()), "CancelledError", ""),
        (raising(StopIteration()), "StopIteration", ""),
        (raising(Broken("x\udce9")), "Broken", r"x\\udce9"),
    ],
    ids=[
        *("number", "list", "generator", "object", "key", "surrogate", "set", "missing", "exit", "interrupt"),
        *("generator-exit", "cancelled", "stop-iteration", "surrogate-text"),
    ],
)
async def test_a_bad_node_fails_its_run_and_nothing_else(
    engine: Engine, node: Callable[[State], Any], type_: str, message: str
) -> None:
    async def asynchronous(state: State) -> Any:
        await asyncio.sleep(0)
        return node(state)

    for kind, fn in (("plain", node), ("async", asynchronous)):
        run = await engine.start(sequence(f"bad {kind}", node=fn))
        with pytest.raises(RunFailed) as caught:
            await run.result()
        assert re.search(message, str(caught.value))
        # A coroutine cannot raise StopIteration: Python makes a RuntimeError of it.
        expected = "RuntimeError" if (kind, type_) == ("async", "StopIteration") else type_
        assert caught.value.error.type.rpartition(".")[2] == expected
        assert caught.value.stage == "node"
    assert await engine.execute(sequence("good", node=lambda _: {"n": 1})) == {"n": 1}


async def test_a_node_that_recurses_fails_its_run_and_nothing_else(engine: Engine) -> None:
    def deep(state: State) -> Any:
        return deep(state)

    with pytest.raises(RunFailed, match="maximum recursion depth exceeded"):
        await engine.execute(sequence("deep", node=deep))
    nested: dict[str, Any] = {}
    for _ in range(5000):
        nested = {"in": nested}
    with pytest.raises(RunFailed) as caught:
        await engine.execute(sequence("nested", node=lambda _: {"k": nested}))
    assert caught.value.error.code in ("payload_rejected", "step_failed")
    assert await engine.execute(sequence("good", node=lambda _: {"n": 1})) == {"n": 1}


async def test_an_error_whose_text_cannot_be_made_is_an_error_still(engine: Engine) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("mute")

    with pytest.raises(RunFailed, match="Mute"):
        await engine.execute(sequence("mute", node=raising(Mute())))


async def test_a_huge_error_is_kept_in_bounds(engine: Engine) -> None:
    run = await (await engine.start(sequence("loud", node=raising(Broken("x" * 1_000_000))))).wait()
    assert run.error is not None
    assert 1000 < len(run.error.message) <= 10_000
    assert len(run.error.traceback) <= 20_000


async def test_a_node_that_holds_the_loop_is_told_of_and_the_lease_is_kept(
    url: str, open_engine: OpenEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await open_engine(url)
    begun = threading.Event()

    async def blocking(state: State) -> None:
        begun.set()
        end = time.monotonic() + 10
        # What the watch tells is awaited here, on the loop that this very node holds.
        while "has held the event loop" not in caplog.text and time.monotonic() < end:
            time.sleep(0.01)  # noqa: ASYNC251 - just that is what is tried

    with caplog.at_level(logging.WARNING, "holdfast"):
        run = await engine.start(sequence("block", node=blocking))
        await run.wait()
    assert begun.is_set()
    assert run.status is RunStatus.COMPLETED
    (message,) = [record.getMessage() for record in caplog.records if "event loop" in record.getMessage()]
    assert "node#1" in message
    assert "plain `def`" in message


async def test_a_task_of_the_user_that_holds_the_loop_is_not_taken_for_a_step(
    url: str, open_engine: OpenEngine, caplog: pytest.LogCaptureFixture
) -> None:
    await open_engine(url)
    current = asyncio.current_task()
    assert current is not None
    current.set_name("my-main")
    end = time.monotonic() + 10
    with caplog.at_level(logging.WARNING, "holdfast"):
        while "has held the event loop" not in caplog.text and time.monotonic() < end:
            time.sleep(0.01)  # noqa: ASYNC251 - just that is what is tried
    (message,) = [record.getMessage() for record in caplog.records if "event loop" in record.getMessage()]
    assert message.startswith("the task 'my-main', which is no step, has held the event loop")
    assert "asyncio.to_thread" in message
    assert "plain `def`" not in message


async def test_a_failing_node_lets_the_others_of_its_round_end(engine: Engine) -> None:
    gate = Gate()

    def slow(state: State) -> dict[str, int]:
        gate.wait()
        return {"slow": 1}

    run = await engine.start(parallel("mixed", bad=raising(Broken("no")), slow=slow))
    await gate.until_reached()
    await until(lambda: _failed(engine, run.id))
    assert (await run.refresh()).status is RunStatus.RUNNING
    gate.open()
    with pytest.raises(RunFailed) as caught:
        await run.result()
    assert caught.value.stage == "bad"
    assert caught.value.state == {}, "nothing of the round is merged"
    assert {stage.name: stage.status for stage in await run.stages()} == {
        "bad": "failed",
        "slow": "completed",
    }


async def _failed(engine: Engine, run: str) -> bool:
    return any(fact["fact"] == "StepFailed" for fact in await engine.journal(run))


async def test_of_several_failures_the_first_declared_is_told(engine: Engine) -> None:
    first = Gate()

    def late(state: State) -> None:
        first.wait()
        raise Broken("late")

    def early(state: State) -> None:
        first.open()
        raise Broken("early")

    with pytest.raises(RunFailed, match="late") as caught:
        await engine.execute(parallel("two", late=late, early=early))
    assert caught.value.stage == "late"


async def test_a_cancelled_run_raises_so(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("wait", node=lambda _, step: until_cancelled(gate, step)))
    await gate.until_reached()
    await engine.cancel(run.id, reason="the customer left (x\udce9)")
    with pytest.raises(RunCancelled, match=r"the customer left \(x\\udce9\)"):
        await run.result()


def until_cancelled(gate: Gate, step: StepContext) -> None:
    gate.reached.set()
    end = time.monotonic() + 10
    while not step.cancelled and time.monotonic() < end:
        time.sleep(0.002)


async def test_every_error_says_what_to_do(engine: Engine) -> None:
    errors: list[HoldfastError] = []
    run = await engine.start(sequence("bad", node=raising(Broken("no"))))
    for asked in (
        engine.start("nobody"),
        engine.get("nobody"),
        engine.start(sequence("x", node=nothing), id="a b"),
        engine.runs(status="lost"),
        engine.runs(limit=0),
        engine.runs(after="x"),
        run.result(),
    ):
        with pytest.raises(HoldfastError) as caught:
            await asked
        errors.append(caught.value)
    assert [(error.code, error) for error in errors if not error.fix] == []
    assert len({error.code for error in errors}) == 4


def test_there_is_no_step_outside_of_one() -> None:
    with pytest.raises(RequestError, match="no step runs here"):
        step_context()
