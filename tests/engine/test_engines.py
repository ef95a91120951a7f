"""Several engines and processes on one store; closing, reopening, and starts that are cut off."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from holdfast import (
    Engine,
    PayloadRejected,
    RetryPolicy,
    RunStatus,
    Runtime,
    State,
    StepContext,
    WorkflowNotFound,
    step_context,
)
from holdfast.errors import StoreUnavailable
from holdfast.patterns.graph.factory import GraphWorkflow
from holdfast.registry import Registry, as_workflow
from holdfast.store.rows import Claimed
from tests.conftest import OpenEngine
from tests.crash.processes import child, engine_on
from tests.graphs import PATIENCE, Gate, nothing, parallel, sequence, until


async def has(engine: Engine, run: str, status: RunStatus) -> bool:
    return (await engine.get(run)).status is status


# --- a client here, a worker in another process


async def test_a_client_starts_follows_and_cancels_what_another_process_drives(
    url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with (
        engine_on(url, workers=False, registry=Registry()) as client,
        child(url, None, "--stay") as worker,
    ):
        await worker.until("open")
        listed = {info.name: info.here for info in await client.workflows()}
        assert listed["wide"] is False
        run = await client.start("wide", {"log": str(log), "size": 3})
        async with asyncio.timeout(PATIENCE):
            types = [event.type async for event in run.events()]
        assert (types[0], types[-1]) == ("run.started", "run.completed")
        assert types.count("stage.completed") == 11
        assert (await run.result())["label"] == "40/5/2"
        slow = await client.start("slow", {"log": str(log), "seconds": 60})
        await until(lambda: " one#1 1 " in log.read_text())
        await slow.cancel()
        assert (await slow.wait(timeout=PATIENCE)).status is RunStatus.CANCELLED
        with pytest.raises(WorkflowNotFound):
            await client.start("nobody")
        worker.terminate()
        assert await worker.ended() == 0
        # The list stays, so that a client can still start what a worker will do later.
        waiting = await client.start("slow", {"log": str(log), "seconds": 0})
        assert waiting.status is RunStatus.PENDING


async def test_a_client_checks_params_against_the_listed_schema(url: str, open_engine: OpenEngine) -> None:
    order = dataclasses.make_dataclass("Order", [("order", str), ("cents", int)])
    there = Registry()
    there.add(GraphWorkflow("order", lambda graph, _, params: _one_node(graph, params), params=order))
    worker = await open_engine(url, registry=there)
    client = await open_engine(url, workers=False, registry=Registry())
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"cents": 5}, "order"),
        ({"order": "a", "cents": 5, "colour": 1}, "colour"),
    ]
    for params, field in wrong:
        with pytest.raises(PayloadRejected) as caught:
            await client.start("order", params)
        assert caught.value.field == field
    run = await client.start("order", {"order": "a", "cents": 5})
    assert (await client.result(run.id, timeout=PATIENCE))["cents"] == 5
    assert await worker.count() == 1


class Delivery(msgspec.Struct):
    order: str
    due: datetime
    pace: Literal["slow", "fast"] = "slow"
    weight: float = 1.5
    limit: Decimal | None = None
    file: Path = Path("none")
    tags: tuple[str, ...] = ()


async def test_a_client_converts_params_and_fills_defaults_as_the_workflow_does(
    url: str, open_engine: OpenEngine
) -> None:
    there = Registry()
    there.add(GraphWorkflow("deliver", lambda graph, _, params: _one_node(graph, params), params=Delivery))
    worker = await open_engine(url, registry=there)
    client = await open_engine(url, workers=False, registry=Registry())
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"due": 5}, "due"),
        ({"due": "soon"}, "due"),
        ({"pace": "quick"}, "pace"),
        ({"weight": "heavy"}, "weight"),
        ({"order": 5}, "order"),
    ]
    right = {"order": "a", "due": "2026-11-20T12:00:00Z", "limit": "1.50", "weight": 2}
    for params, field in wrong:
        with pytest.raises(PayloadRejected) as caught:
            await client.start("deliver", right | params)
        assert caught.value.field == field
    run = await client.start("deliver", right)
    expected = await (await worker.start("deliver", right)).result()
    found = await client.result(run.id, timeout=PATIENCE)
    assert (found["due"], found["pace"]) == (datetime(2026, 11, 20, 12, tzinfo=UTC), "slow")
    for field in ("order", "due", "pace", "weight", "limit", "file"):
        assert (found[field], type(found[field])) == (expected[field], type(expected[field])), field
    assert await worker.count() == 2


def _one_node(graph: Any, params: dict[str, Any]) -> dict[str, Any]:
    graph.add_node("a", nothing).set_entry_point("a").set_exit_point("a")
    return params


async def test_a_worker_takes_up_what_a_client_has_started(url: str, open_engine: OpenEngine) -> None:
    graph = sequence("later", node=lambda s: {"n": s["n"] + 1})
    client = await open_engine(url, workers=False, registry=Registry())
    run = await client.start(graph, {"n": 1})
    assert (run.status, run.started_at) == (RunStatus.PENDING, None)
    there = Registry()
    there.add(as_workflow(graph))
    await open_engine(url, registry=there)
    assert await run.result(timeout=PATIENCE) == {"n": 2}


async def test_registering_wakes_the_worker(url: str, open_engine: OpenEngine, registry: Registry) -> None:
    graph = sequence("later", node=lambda _: {"n": 1})
    client = await open_engine(url, workers=False, registry=Registry())
    worker = await open_engine(url)
    run = await client.start(graph)
    assert await has(worker, run.id, RunStatus.PENDING)
    registry.add(as_workflow(graph))
    assert await run.result(timeout=PATIENCE) == {"n": 1}


async def test_two_workers_share_the_runs_and_none_is_done_twice(url: str, open_engine: OpenEngine) -> None:
    done: list[str] = []

    async def node(state: State, step: StepContext) -> dict[str, str]:
        await asyncio.sleep(0)
        done.append(step.run_id)
        return {"by": step.runtime.name}

    graph = sequence("shared", a=node, b=node)
    engines = []
    for name in ("one", "two"):
        there = Registry()
        there.add(as_workflow(graph))
        engines.append(await open_engine(url, registry=there, runtime=Runtime(name=name), concurrency=2))
    client = await open_engine(url, workers=False, registry=Registry())
    runs = [await client.start(graph, id=f"run-{n}") for n in range(40)]
    results = [(await run.result(timeout=PATIENCE))["by"] for run in runs]
    assert sorted(done) == sorted([run.id for run in runs] * 2)
    assert set(results) == {"one", "two"}


# --- closing and opening


async def test_closing_lets_running_nodes_end_and_begins_nothing(url: str, open_engine: OpenEngine) -> None:
    gate, calls = Gate(), []

    def first(state: State) -> dict[str, int]:
        gate.wait()
        return {"n": 1}

    graph = sequence("close", first=first, second=lambda _: calls.append(1))
    engine = await open_engine(url)
    run = await engine.start(graph)
    await gate.until_reached()
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    gate.open()
    await closing
    assert calls == []
    client = await open_engine(url, workers=False)
    left = await client.get(run.id)
    assert (left.status, left.waiting_on) == (RunStatus.WAITING, ("a worker",))
    await open_engine(url)
    assert await client.result(run.id, timeout=PATIENCE) == {"n": 1}
    assert calls == [1]
    assert "StepRetried" not in [fact["fact"] for fact in await client.journal(run.id)]


@pytest.mark.parametrize("backoff", [0.5, 30.0])
async def test_a_run_in_back_off_is_not_lost_by_closing(
    url: str, open_engine: OpenEngine, backoff: float
) -> None:
    gate = Gate()

    def node(state: State, step: StepContext) -> dict[str, int]:
        if step.attempt == 1:
            gate.wait()
            raise ConnectionError
        return {"attempt": step.attempt}

    policy = RetryPolicy(attempts=2, backoff=backoff, jitter="none")
    engine = await open_engine(url)
    run = await engine.start(sequence("close", node=(node, {"retry": policy})))
    await gate.until_reached()
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    gate.open()
    await closing
    engine = await open_engine(url)
    if backoff < 1:
        assert await engine.result(run.id, timeout=PATIENCE) == {"attempt": 2}
    else:
        assert (await engine.get(run.id)).waiting_on[0].startswith("retry of node")
        assert await engine.store.next_due() is not None


async def test_a_node_beyond_the_grace_is_dropped_and_runs_again_under_another_attempt(
    url: str, open_engine: OpenEngine
) -> None:
    gate, calls = Gate(), []

    def node(state: State, step: StepContext) -> dict[str, int]:
        calls.append((step.attempt, step.cancelled))
        if step.attempt < 3:
            gate.reached.set()
            gate.wait()
        return {"attempt": step.attempt}

    graph = sequence("grace", before=nothing, node=node)
    for number in (1, 2):
        engine = await open_engine(url)
        if number == 1:
            await engine.start(graph, id="grace")
        await until(lambda number=number: len(calls) == number)  # type: ignore[misc]
        assert await has(engine, "grace", RunStatus.RUNNING)
        await engine.close(grace=0)
    engine = await open_engine(url)
    assert await engine.result("grace", timeout=PATIENCE) == {"attempt": 3}
    gate.open()
    reasons = [fact["reason"] for fact in await engine.journal("grace") if fact["fact"] == "StepRetried"]
    assert reasons == ["worker lost"] * 2
    assert [attempt for attempt, _ in calls] == [1, 2, 3]


async def test_a_closing_worker_takes_a_cancel_from_elsewhere_to_its_node(
    url: str, open_engine: OpenEngine
) -> None:
    """At once: it does not give the node the rest of its grace first."""
    gate = Gate()

    async def node(state: State) -> None:
        gate.reached.set()
        await asyncio.Event().wait()

    engine, other = await open_engine(url), await open_engine(url, workers=False)
    await engine.start(sequence("closing", node=node), id="closing")
    await gate.until_reached()
    closing = asyncio.create_task(engine.close(grace=1000 * PATIENCE))
    await until(lambda: engine._parts is None)
    assert await has(other, "closing", RunStatus.RUNNING)
    await other.cancel("closing")
    async with asyncio.timeout(PATIENCE):
        await closing
    assert await has(other, "closing", RunStatus.CANCELLED)


async def test_a_run_taken_up_between_nodes_says_that_it_runs(url: str, open_engine: OpenEngine) -> None:
    """Else a second loss would not be seen, and an attempt begin twice under one number."""
    gates, calls = [Gate(), Gate()], []

    def node(state: State, step: StepContext) -> None:
        calls.append((step.name, step.attempt))
        gates[len(calls) > 1].wait()

    graph = sequence("between", one=node, two=node)
    engine = await open_engine(url)
    await engine.start(graph, id="between")
    await gates[0].until_reached()
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    gates[0].open()
    await closing
    engine = await open_engine(url)
    await gates[1].until_reached()
    assert await has(engine, "between", RunStatus.RUNNING)
    await engine.close(grace=0)
    gates[1].open()
    engine = await open_engine(url)
    await engine.wait("between", timeout=PATIENCE)
    assert calls == [("one", 1), ("two", 1), ("two", 2)]


async def test_closing_while_jobs_are_claimed_leaves_none_with_nobody(
    url: str, open_engine: OpenEngine
) -> None:
    graph = sequence("claimed", node=lambda _: {"n": 1})
    client = await open_engine(url, workers=False, registry=Registry())
    engine = await open_engine(url)
    engine.registry.add(as_workflow(graph))
    claimed, original = asyncio.Event(), engine.store.claim

    async def claim(*arguments: Any, **named: Any) -> list[Claimed]:
        answer = list(await original(*arguments, **named))
        if answer:
            claimed.set()
            await asyncio.sleep(0.05)  # the answer takes its time; the jobs are held already
        return answer

    engine.store.claim = claim  # type: ignore[method-assign]
    runs = [await client.start(graph) for _ in range(3)]
    await asyncio.wait_for(claimed.wait(), PATIENCE)
    await engine.close()
    await open_engine(url)
    for run in runs:
        assert await run.result(timeout=5) == {"n": 1}


async def test_a_run_whose_load_fails_is_given_back(url: str, open_engine: OpenEngine) -> None:
    graph = sequence("load", node=lambda _: {"n": 1})
    client = await open_engine(url, workers=False, registry=Registry())
    runs = [await client.start(graph) for _ in range(3)]
    for run in runs:
        await run.signal("hello")  # else all there is of it comes with the claim
    there = Registry()
    engine = await open_engine(url, registry=there)
    failures, original = [1, 1], engine.store.load

    async def load(*arguments: Any) -> Any:
        if failures:
            failures.pop()
            raise StoreUnavailable("the disk hiccups")
        return await original(*arguments)

    engine.store.load = load  # type: ignore[assignment,method-assign]
    there.add(as_workflow(graph))
    for run in runs:
        assert await run.result(timeout=10) == {"n": 1}
    assert failures == []


async def test_closing_twice_and_at_once_is_harmless(url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(url)
    await engine.execute(sequence("done", node=nothing))
    await asyncio.gather(*[engine.close() for _ in range(3)])
    await engine.close()


async def test_who_waits_is_told_when_the_engine_closes(url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(url)
    run = await engine.start(sequence("later", node=nothing), delay=3600)
    waiting = [asyncio.create_task(run.result()), asyncio.create_task(_last(engine, run.id))]
    await until(lambda: all(not task.done() for task in waiting))
    await engine.close()
    for task in waiting:
        with pytest.raises(StoreUnavailable, match="not open"):
            await asyncio.wait_for(task, PATIENCE)


async def _last(engine: Engine, run: str) -> None:
    async for _ in engine.events(run):
        pass


async def test_nothing_is_left_of_a_closed_engine(url: str) -> None:
    before = asyncio.all_tasks()
    async with engine_on(url) as engine:
        await engine.execute(sequence("done", a=nothing))
    assert asyncio.all_tasks() == before


# --- starts that are cut off


@pytest.mark.parametrize("turns", range(4))
async def test_a_start_whose_caller_gives_up_leaves_no_orphan(engine: Engine, turns: int) -> None:
    graph = sequence("cut", node=lambda _: {"n": 1})
    await engine.execute(graph)
    starting = asyncio.create_task(engine.start(graph, id="cut", secrets={"token": "correct horse"}))
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    # It is there wholly or not at all; either way the same start can be made again.
    await engine.start(graph, id="cut", secrets={"token": "correct horse"})
    assert await engine.result("cut", timeout=5) == {"n": 1}


async def test_a_start_cut_off_in_a_client_is_there_for_the_worker(url: str, open_engine: OpenEngine) -> None:
    graph = sequence("cut", node=lambda _: {"n": 1})
    client = await open_engine(url, workers=False)
    starting = asyncio.create_task(client.start(graph, id="cut"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await client.start(graph, id="cut")
    await open_engine(url)
    assert await client.result("cut", timeout=5) == {"n": 1}


# --- what nodes get


async def test_factories_and_nodes_share_the_runtime(
    any_url: str, open_engine: OpenEngine, registry: Registry
) -> None:
    class Documents:
        pages = 7

    seen: list[Any] = []

    def factory(graph: Any, runtime: Runtime, params: dict[str, Any]) -> State:
        def node(state: State, step: StepContext) -> dict[str, int]:
            seen.append((runtime.documents, step.runtime.documents, step_context().runtime.documents))
            runtime.logger.info("counted")
            return {"pages": runtime.documents.pages}

        graph.add_node("count", node).set_entry_point("count").set_exit_point("count")
        return State({})

    documents = Documents()
    engine = await open_engine(any_url, runtime=Runtime(documents=documents))
    registry.add(as_workflow(factory, "count"))
    assert await engine.execute("count") == {"pages": 7}
    assert seen == [(documents, documents, documents)]


async def test_a_service_that_was_not_given_is_named(engine: Engine, registry: Registry) -> None:
    def factory(graph: Any, runtime: Runtime, params: dict[str, Any]) -> State:
        return State({"pages": runtime.documents.pages})

    registry.add(as_workflow(factory, "count"))
    run = await (await engine.start("count")).wait()
    assert run.error is not None
    assert "'documents'" in run.error.message


async def test_each_step_of_a_round_has_its_own_context(engine: Engine) -> None:
    async def asynchronous(state: State, step: StepContext) -> dict[str, str]:
        await asyncio.sleep(0)
        assert step_context() is step or step_context().name == step.name
        return {step.name: step_context().idempotency_key}

    def plain(state: State, step: StepContext) -> dict[str, str]:
        return {step.name: step_context().idempotency_key}

    run = await engine.start(parallel("contexts", a=asynchronous, b=asynchronous, c=plain, d=plain))
    assert await run.result() == {name: f"{run.id}:{name}#1" for name in "abcd"}


# --- a store that others hold


async def test_a_lock_of_another_process_is_waited_for(file_url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(file_url)
    await engine.execute(sequence("first", node=nothing))
    blocker = sqlite3.connect(file_url.removeprefix("sqlite:///"), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    running = asyncio.create_task(engine.execute(sequence("second", node=lambda _: {"n": 1})))
    await asyncio.sleep(0.1)
    assert not running.done()
    blocker.execute("ROLLBACK")
    blocker.close()
    assert await asyncio.wait_for(running, PATIENCE) == {"n": 1}


async def test_a_file_of_another_program_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="belongs to another program") as caught:
        await Engine(f"sqlite:///{path}").open()
    assert caught.value.fix
    assert path.read_bytes() == before
