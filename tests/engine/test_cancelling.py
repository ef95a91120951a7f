"""Cancelling, pausing and resuming runs, whatever they are at and wherever the wish comes from."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from holdfast import (
    END,
    START,
    Engine,
    GraphConfig,
    InvalidStatus,
    RetryPolicy,
    RunCancelled,
    RunFailed,
    RunStatus,
    Send,
    State,
    StateGraph,
    StepContext,
)
from holdfast import engine as engines
from holdfast.errors import Cancelled
from holdfast.patterns.graph.factory import GraphWorkflow
from holdfast.registry import Registry
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, Gate, nothing, parallel, sequence, until


async def kinds(engine: Engine, run: str) -> list[str]:
    return [fact["fact"] for fact in await engine.journal(run)]


async def has(engine: Engine, run: str, status: RunStatus) -> bool:
    return (await engine.get(run)).status is status


def spin(gate: Gate, step: StepContext) -> None:
    """Stand before the gate until the step is cancelled."""
    gate.reached.set()
    end = time.monotonic() + 10
    while not step.cancelled and time.monotonic() < end:
        time.sleep(0.002)


# --- cancelling


async def test_a_running_async_node_is_cancelled_at_its_await(engine: Engine) -> None:
    gate, caught = Gate(), []

    async def node(state: State) -> None:
        gate.reached.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            caught.append(error)
            raise

    run = await engine.start(sequence("stop", a=lambda _: {"n": 1}, b=node, c=nothing))
    await gate.until_reached()
    await run.cancel()
    with pytest.raises(RunCancelled):
        await run.result()
    assert len(caught) == 1
    assert {stage.name: str(stage.status) for stage in await run.stages()} == {
        "a": "completed",
        "b": "cancelled",
    }
    assert await run.state() == {"n": 1}
    assert (await kinds(engine, run.id))[-4:] == [
        "CancelRequested",
        "StepCancelRequested",
        "StepCancelled",
        "RunCancelled",
    ]


async def test_a_running_plain_node_sees_that_it_is_cancelled(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("stop", node=lambda _, step: spin(gate, step), after=nothing))
    await gate.until_reached()
    await run.cancel()
    await run.wait()
    assert run.status is RunStatus.CANCELLED
    # It came back by itself, so it is not called cancelled; what would follow did not begin.
    assert [(stage.name, str(stage.status)) for stage in await run.stages()] == [("node", "completed")]


async def test_a_last_node_that_gives_up_when_cancelled_does_not_complete_its_run(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("stop", node=lambda _, step: spin(gate, step)))
    await gate.until_reached()
    await run.cancel()
    assert (await run.wait()).status is RunStatus.CANCELLED


async def test_a_plain_node_that_does_not_stop_is_abandoned_after_its_grace(
    any_url: str, open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "CANCEL_GRACE", 0.1)
    engine = await open_engine(any_url)
    gate = Gate()

    def late(state: State) -> dict[str, bool]:
        gate.wait()
        return {"late": True}

    run = await engine.start(sequence("deaf", node=late))
    await gate.until_reached()
    await run.cancel()
    await run.wait(timeout=5)
    assert run.status is RunStatus.CANCELLED
    gate.open()
    assert await engine.execute(sequence("next", node=lambda _: {"n": 1})) == {"n": 1}
    # Its late result was refused.
    assert await run.state() == {}


async def test_what_a_node_raises_while_it_cleans_up_does_not_fail_a_cancelled_run(engine: Engine) -> None:
    gate = Gate()

    async def messy(state: State) -> None:
        gate.reached.set()
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("the cleanup failed")

    run = await engine.start(sequence("messy", node=messy))
    await gate.until_reached()
    await run.cancel()
    await run.wait()
    assert run.status is RunStatus.CANCELLED
    (stage,) = await run.stages()
    assert stage.error is not None
    assert "the cleanup failed" in stage.error.message


async def test_a_failure_from_before_the_cancel_stands(engine: Engine) -> None:
    gate = Gate()

    def bad(state: State) -> None:
        raise ValueError("before")

    run = await engine.start(parallel("both", bad=bad, slow=lambda _, step: spin(gate, step)))
    await gate.until_reached()
    await until(lambda: _failed(engine, run.id))
    await run.cancel()
    with pytest.raises(RunFailed, match="before"):
        await run.result()


async def _failed(engine: Engine, run: str) -> bool:
    return "StepFailed" in await kinds(engine, run)


async def test_all_nodes_of_a_round_are_cancelled(engine: Engine) -> None:
    gates = [Gate(), Gate()]

    async def sleep(state: State) -> None:
        gates[1].reached.set()
        await asyncio.sleep(60)

    run = await engine.start(parallel("round", a=lambda _, step: spin(gates[0], step), b=sleep))
    for gate in gates:
        await gate.until_reached()
    await run.cancel()
    await run.wait()
    assert run.status is RunStatus.CANCELLED
    assert {stage.name: str(stage.status) for stage in await run.stages()} == {
        "a": "completed",
        "b": "cancelled",
    }


async def test_a_second_cancel_is_harmless(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("stop", node=lambda _, step: spin(gate, step)))
    await gate.until_reached()
    await asyncio.gather(*[engine.cancel(run.id) for _ in range(10)])
    await run.wait()
    await run.cancel()
    assert run.status is RunStatus.CANCELLED
    assert (await kinds(engine, run.id)).count("CancelRequested") == 1


async def test_an_ended_run_is_not_changed_by_a_cancel_or_pause(engine: Engine) -> None:
    run = await engine.start(sequence("done", node=nothing))
    await run.wait()
    position = run.position
    assert (await run.cancel()).status is RunStatus.COMPLETED
    assert (await run.pause()).status is RunStatus.COMPLETED
    assert (await run.refresh()).position == position


async def test_a_pending_run_is_cancelled_without_ever_beginning(
    url: str, open_engine: OpenEngine, registry: Registry
) -> None:
    calls: list[int] = []
    graph = sequence("pending", node=lambda _: calls.append(1))
    client = await open_engine(url, workers=False, registry=Registry())
    run = await client.start(graph)
    await run.cancel()
    # Nobody is there to carry it out: the wish is kept.
    assert run.status is RunStatus.PENDING
    registry.add(GraphWorkflow("pending", lambda g, _, p: _copied(g, graph, p)))
    await open_engine(url)
    assert (await run.wait(timeout=10)).status is RunStatus.CANCELLED
    assert calls == []
    assert run.completed_at is not None


def _copied(graph: StateGraph, other: StateGraph, params: dict[str, Any]) -> dict[str, Any]:
    graph.nodes.update(other.nodes)
    graph.edges.update(other.edges)
    return params


async def test_a_run_that_waits_for_a_retry_is_cancelled_at_once(engine: Engine) -> None:
    def bad(state: State) -> None:
        raise ConnectionError

    policy = RetryPolicy(attempts=2, backoff=60, jitter="none")
    run = await engine.start(sequence("waits", node=(bad, {"retry": policy})))
    await until(lambda: has(engine, run.id, RunStatus.WAITING))
    await run.cancel()
    await run.wait(timeout=5)
    assert run.status is RunStatus.CANCELLED
    (stage,) = await run.stages()
    assert stage.status == "cancelled"
    assert await engine.store.next_due() is None


async def test_a_cancel_comes_from_any_engine_on_the_store(url: str, open_engine: OpenEngine) -> None:
    gate = Gate()
    engine = await open_engine(url)
    other = await open_engine(url, workers=False, registry=Registry())
    run = await engine.start(sequence("stop", node=lambda _, step: spin(gate, step)))
    await gate.until_reached()
    await other.cancel(run.id)
    assert (await other.wait(run.id, timeout=10)).status is RunStatus.CANCELLED
    assert (await run.refresh()).status is RunStatus.CANCELLED


async def test_a_cancelled_run_goes_on_when_it_is_resumed(engine: Engine) -> None:
    gate, calls = Gate(), []

    async def node(state: State, step: StepContext) -> dict[str, int]:
        calls.append(step.attempt)
        if step.attempt == 1:
            gate.reached.set()
            await asyncio.sleep(60)
        return {"n": step.attempt}

    run = await engine.start(sequence("again", first=lambda _: calls.append(0), node=node))
    await gate.until_reached()
    await run.cancel()
    await run.wait()
    await run.resume()
    assert await run.result() == {"n": 2}
    assert calls == [0, 1, 2]


def test_cancelled_is_no_exception_that_a_node_swallows_by_chance() -> None:
    assert not issubclass(Cancelled, Exception)
    assert issubclass(Cancelled, asyncio.CancelledError)


# --- pausing


async def test_a_paused_run_lets_its_nodes_end_and_begins_nothing(engine: Engine) -> None:
    gate, calls = Gate(), []

    def first(state: State) -> dict[str, int]:
        gate.wait()
        return {"n": 1}

    run = await engine.start(sequence("pause", first=first, second=lambda _: calls.append(2)))
    await gate.until_reached()
    await engine.pause(run.id, reason="the auditors are here")
    await until(lambda: has(engine, run.id, RunStatus.PAUSED))
    gate.open()
    await until(lambda: _completed(engine, run.id, "first#1"))
    await run.refresh()
    assert run.status is RunStatus.PAUSED
    assert run.waiting_on == ("resume: the auditors are here",)
    assert calls == []
    await run.resume()
    assert (await run.wait()).status is RunStatus.COMPLETED
    assert calls == [2]
    assert (await kinds(engine, run.id)).count("StepRetried") == 0, "the first node was not run again"


async def _completed(engine: Engine, run: str, step: str) -> bool:
    return any(f["fact"] == "StepCompleted" and f["step"] == step for f in await engine.journal(run))


async def test_a_paused_run_holds_no_slot(any_url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(any_url, concurrency=1)
    gate = Gate()
    run = await engine.start(sequence("pause", node=lambda _: gate.wait(), after=nothing))
    await gate.until_reached()
    await run.pause()
    gate.open()
    assert await engine.execute(sequence("next", node=lambda _: {"n": 1})) == {"n": 1}
    assert await has(engine, run.id, RunStatus.PAUSED)


async def test_a_second_pause_changes_nothing(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("pause", node=lambda _: gate.wait()))
    await gate.until_reached()
    await asyncio.gather(*[engine.pause(run.id) for _ in range(5)])
    await until(lambda: has(engine, run.id, RunStatus.PAUSED))
    gate.open()
    await until(lambda: _completed(engine, run.id, "node#1"))
    assert (await kinds(engine, run.id)).count("RunPaused") == 1


async def test_a_paused_run_is_resumed_while_its_node_still_runs(engine: Engine) -> None:
    gate, calls = Gate(), []

    def node(state: State, step: StepContext) -> None:
        calls.append(step.attempt)
        gate.wait()

    run = await engine.start(sequence("pause", node=node, after=lambda _: calls.append(9)))
    await gate.until_reached()
    await run.pause()
    await until(lambda: has(engine, run.id, RunStatus.PAUSED))
    await run.resume()
    await until(lambda: has(engine, run.id, RunStatus.RUNNING))
    gate.open()
    await run.wait()
    assert calls == [1, 9]


async def test_a_failure_while_paused_is_tried_again_by_the_resume(engine: Engine) -> None:
    gate = Gate()

    def node(state: State, step: StepContext) -> dict[str, int]:
        if step.attempt == 1:
            gate.wait()
            raise ConnectionError
        return {"attempt": step.attempt}

    run = await engine.start(sequence("pause", node=node))
    await gate.until_reached()
    await run.pause()
    await until(lambda: has(engine, run.id, RunStatus.PAUSED))
    gate.open()
    await until(lambda: _failed(engine, run.id))
    assert await has(engine, run.id, RunStatus.PAUSED)
    await run.resume()
    assert await run.result() == {"attempt": 2}


async def test_a_retry_that_comes_due_while_paused_waits_for_the_resume(engine: Engine) -> None:
    def node(state: State, step: StepContext) -> dict[str, int]:
        if step.attempt == 1:
            raise ConnectionError
        return {"attempt": step.attempt}

    policy = RetryPolicy(attempts=2, backoff=1.1, jitter="none")
    run = await engine.start(sequence("pause", node=(node, {"retry": policy})))
    await until(lambda: has(engine, run.id, RunStatus.WAITING))
    await run.pause()
    await until(lambda: has(engine, run.id, RunStatus.PAUSED))
    # The row that would wake it is taken, and still nothing begins.
    await until(lambda: _nothing_due(engine))
    await until(lambda: has(engine, run.id, RunStatus.PAUSED))
    assert (await kinds(engine, run.id))[-1] == "RunPaused"
    await run.resume()
    assert await run.result() == {"attempt": 2}


async def _nothing_due(engine: Engine) -> bool:
    return await engine.store.next_due() is None


async def test_a_paused_run_can_be_cancelled(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("pause", node=lambda _: gate.wait(), after=nothing))
    await gate.until_reached()
    await run.pause()
    gate.open()
    await until(lambda: _completed(engine, run.id, "node#1"))
    await run.cancel()
    await run.wait(timeout=5)
    assert run.status is RunStatus.CANCELLED


async def test_what_is_asked_of_a_run_that_is_held_here_counts_at_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, entered, may_go_on = Gate(), asyncio.Event(), asyncio.Event()
    run = await engine.start(sequence("pause", node=lambda _: gate.wait(), after=nothing))
    await gate.until_reached()

    async def busy() -> int:
        entered.set()
        await may_go_on.wait()
        return 0

    monkeypatch.setattr(engine.store, "move_due", busy)
    async with asyncio.timeout(PATIENCE):
        await entered.wait()  # who looks for what other processes ask does not look now
    await run.pause()
    gate.open()
    await until(lambda: has(engine, run.id, RunStatus.PAUSED))
    may_go_on.set()
    assert [stage.name for stage in await run.stages()] == ["node"]


async def test_signals_to_a_paused_run_wait_for_it(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("pause", node=lambda _: gate.wait(), after=nothing))
    await gate.until_reached()
    await run.pause()
    await until(lambda: has(engine, run.id, RunStatus.PAUSED))
    gate.open()
    await until(lambda: _completed(engine, run.id, "node#1"))
    await run.signal("hello", {"n": 1})
    assert await has(engine, run.id, RunStatus.PAUSED)
    await run.resume()
    await run.wait()
    assert (await kinds(engine, run.id)).count("SignalReceived") == 1


# --- resuming


async def test_resume_goes_on_from_the_failed_node(engine: Engine) -> None:
    calls: list[str] = []

    def second(state: State, step: StepContext) -> dict[str, int]:
        calls.append(f"second {step.attempt}")
        if step.attempt == 1:
            raise ConnectionError("the network is down")
        return {"second": state["first"] + 1}

    def first(state: State) -> dict[str, int]:
        calls.append("first")
        return {"first": 1}

    run = await engine.start(sequence("resume", first=first, second=second))
    await run.wait()
    assert run.status is RunStatus.FAILED
    await run.resume()
    assert await run.result() == {"first": 1, "second": 2}
    assert calls == ["first", "second 1", "second 2"]
    await run.refresh()
    assert run.error is None


async def test_siblings_of_a_failed_node_are_not_run_again(engine: Engine) -> None:
    calls: list[str] = []

    def bad(state: State, step: StepContext) -> dict[str, int]:
        if step.attempt == 1:
            raise ConnectionError
        return {"bad": step.attempt}

    def good(state: State) -> dict[str, int]:
        calls.append("good")
        return {"good": 1}

    run = await engine.start(parallel("siblings", good=good, bad=bad))
    await run.wait()
    await run.resume()
    assert await run.result() == {"good": 1, "bad": 2}
    assert calls == ["good"]


async def test_items_of_a_fan_out_that_are_done_are_not_run_again(engine: Engine) -> None:

    calls: list[int] = []
    broken = {3, 5}

    def item(state: State) -> dict[str, Any]:
        calls.append(state["index"])
        if state["index"] in broken:
            raise ConnectionError(state["index"])
        return {f"item {state['index']}": True}

    graph = StateGraph("items")
    graph.add_node("item", item)
    graph.add_conditional_edge(START, lambda _: [Send("item", {"index": n}) for n in range(8)], ["item"])
    graph.add_edge("item", END)
    run = await engine.start(graph)
    await run.wait()
    broken.clear()
    await run.resume()
    assert len(await run.result()) == 8
    assert sorted(calls) == sorted([*range(8), 3, 5])


async def test_the_first_node_can_fail_and_be_resumed(engine: Engine) -> None:
    def node(state: State, step: StepContext) -> dict[str, int]:
        if step.attempt < 3:
            raise ConnectionError
        return {"attempt": step.attempt}

    run = await engine.start(sequence("first", node=node), {"n": 1})
    for _ in range(2):
        assert (await run.wait()).status is RunStatus.FAILED
        await run.resume()
    assert await run.result() == {"n": 1, "attempt": 3}


async def test_a_run_that_failed_in_a_router_goes_on_when_that_is_mended(engine: Engine) -> None:
    calls, broken = [], [True]

    def route(state: State) -> str:
        if broken:
            raise LookupError("which way?")
        return "b"

    graph = sequence("router", a=lambda _: calls.append("a"), b=lambda _: calls.append("b"))
    graph.edges.pop("a")
    graph.add_conditional_edge("a", route, ["b"])
    run = await engine.start(graph)
    with pytest.raises(RunFailed, match=r"which way\?"):
        await run.result()
    broken.clear()
    await run.resume()
    await run.result()
    assert calls == ["a", "b"]


async def test_a_resume_of_a_run_that_goes_on_changes_nothing(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("busy", node=lambda _: gate.wait()))
    await gate.until_reached()
    position = (await run.refresh()).position
    assert (await run.resume()).status is RunStatus.RUNNING
    gate.open()
    await run.wait()
    assert run.position == position + 3, "a result, a decision and the end"
    with pytest.raises(InvalidStatus):
        await run.resume()


async def test_many_resumes_at_once_are_one(engine: Engine) -> None:
    calls: list[int] = []

    def node(state: State, step: StepContext) -> None:
        calls.append(step.attempt)
        if step.attempt == 1:
            raise ConnectionError

    run = await engine.start(sequence("many", node=node))
    await run.wait()
    await asyncio.gather(*[engine.resume(run.id) for _ in range(20)])
    await run.wait()
    assert run.status is RunStatus.COMPLETED
    assert calls == [1, 2]
    assert (await kinds(engine, run.id)).count("RunResumed") == 1


async def test_a_resumed_run_counts_its_iterations_on(engine: Engine) -> None:

    def node(state: State, step: StepContext) -> dict[str, int]:
        if state.get("n", 0) == 3 and step.attempt == 1:
            raise ConnectionError
        return {"n": state.get("n", 0) + 1}

    graph = sequence("loop", config=GraphConfig(max_iterations=5), node=node)
    graph.edges.pop("node")
    graph.add_conditional_edge("node", lambda s: END if s["n"] >= s["until"] else "node", ["node", END])
    run = await engine.start(graph, {"until": 9})
    await run.wait()
    await run.resume()
    with pytest.raises(RunFailed, match=r"max iterations \(5\) exceeded"):
        await run.result()
    assert [stage.iteration for stage in await run.stages()] == [1, 2, 3, 4, 5]


async def test_a_resume_comes_from_any_engine_on_the_store(url: str, open_engine: OpenEngine) -> None:
    broken = threading.Event()
    broken.set()

    def node(state: State) -> dict[str, int]:
        if broken.is_set():
            raise ConnectionError
        return {"n": 1}

    engine = await open_engine(url)
    other = await open_engine(url, workers=False, registry=Registry())
    run = await engine.start(sequence("far", node=node))
    await run.wait()
    broken.clear()
    resumed = await other.resume(run.id)
    assert resumed.status in (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.COMPLETED)
    assert await other.result(run.id, timeout=10) == {"n": 1}


async def test_a_step_that_a_resume_finds_still_ending_runs_again(engine: Engine) -> None:
    gate, ending = Gate(), Gate()

    def node(state: State, step: StepContext) -> dict[str, int]:
        if step.attempt == 1:
            spin(gate, step)
            ending.wait()
            raise InterruptedError
        return {"attempt": step.attempt}

    run = await engine.start(sequence("late", node=node))
    await gate.until_reached()
    await run.pause()
    await run.cancel()
    await ending.until_reached()
    await run.resume()

    async def resumed() -> bool:
        return "RunResumed" in await kinds(engine, run.id)

    await until(resumed)
    ending.open()
    assert await run.result(PATIENCE) == {"attempt": 2}
