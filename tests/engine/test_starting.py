"""Starting runs: handles, ids, conflicts, params, priorities, delays."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NoReturn, TypedDict

import pytest

from holdfast import (
    END,
    START,
    DefinitionError,
    Engine,
    InvalidStatus,
    PayloadRejected,
    RequestError,
    RunConflict,
    RunFailed,
    RunNotFound,
    RunStatus,
    State,
    StateGraph,
    StoreError,
    WorkflowNotFound,
)
from holdfast.errors import StoreDamaged, StoreUnavailable
from holdfast.patterns.graph.factory import GraphWorkflow
from holdfast.registry import Registry
from tests.conftest import OpenEngine
from tests.graphs import Gate, nothing, sequence, until


def doubling() -> StateGraph:
    return sequence("double", double=lambda s: {"n": s["n"] * 2})


async def test_execute_gives_the_result(engine: Engine) -> None:
    assert await engine.execute(doubling(), {"n": 21}) == {"n": 42}


async def test_start_gives_a_handle_of_a_committed_run(engine: Engine) -> None:
    gate = Gate()

    async def wait(state: State) -> dict[str, int]:
        await gate.passed()
        return {"n": state["n"] + 1}

    before = datetime.now(UTC)
    run = await engine.start(sequence("wait", wait=wait), {"n": 1}, tags=["b", "a"], priority=3)
    assert run.status is RunStatus.RUNNING
    stored = await engine.get(run.id)
    assert (stored.workflow, stored.params, stored.tags, stored.priority) == ("wait", {"n": 1}, ("b", "a"), 3)
    assert stored.queue == "default"
    assert stored.created_at >= before - timedelta(seconds=1)
    assert stored.started_at is not None
    assert stored.completed_at is None
    gate.open()
    assert await run.result() == {"n": 2}
    assert run.completed_at is None, "a handle is a snapshot"
    again = await run.refresh()
    assert (again is run, again.status) == (True, "completed")
    assert again.completed_at is not None
    assert again.updated_at >= again.created_at


async def test_a_registered_workflow_is_started_by_name(engine: Engine, registry: Registry) -> None:
    def factory(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
        graph.add_node("a", lambda s: {"greeting": f"hello {s['name']}"})
        graph.add_edge(START, "a").add_edge("a", END)
        return State({"name": params["name"]})

    registry.add(GraphWorkflow("greet", factory, "Greets", version="2"))
    run = await engine.start("greet", {"name": "Ada"})
    assert run.version == "2"
    assert (await run.result())["greeting"] == "hello Ada"
    (info,) = await engine.workflows()
    assert (info.name, info.description, info.version, info.here) == ("greet", "Greets", "2", True)


async def test_an_unknown_workflow_is_refused_with_those_that_are_known(
    engine: Engine, registry: Registry
) -> None:
    registry.add(GraphWorkflow("greet", lambda *_: State({})))
    with pytest.raises(WorkflowNotFound, match="'great' is not registered") as caught:
        await engine.start("great")
    assert "greet" in caught.value.fix
    assert await engine.count() == 0


async def test_an_object_that_is_no_workflow_is_refused(engine: Engine) -> None:
    with pytest.raises(Exception, match="is not a workflow"):
        await engine.start(42)
    with pytest.raises(Exception, match="no name"):
        await engine.start(StateGraph())


# --- ids and conflicts


async def test_the_same_id_and_params_give_the_same_run(engine: Engine) -> None:
    calls: list[int] = []
    graph = sequence("count", node=lambda _: calls.append(1))
    first = await engine.start(graph, {"n": 1}, id="order/7")
    second = await engine.start(graph, {"n": 1}, id="order/7")
    assert first.id == second.id == "order/7"
    await first.wait()
    third = await engine.start(graph, {"n": 1}, id="order/7")
    assert third.status is RunStatus.COMPLETED
    assert calls == [1]
    assert await engine.count() == 1


async def test_many_starts_at_once_with_one_id_give_one_run(engine: Engine) -> None:
    calls: list[int] = []
    graph = sequence("count", node=lambda _: calls.append(1))
    runs = await asyncio.gather(*[engine.start(graph, id="once") for _ in range(50)])
    assert {run.id for run in runs} == {"once"}
    await engine.wait("once")
    assert calls == [1]


async def test_starts_at_once_from_two_engines_give_one_run(url: str, open_engine: OpenEngine) -> None:
    calls: list[int] = []
    graph = sequence("count", node=lambda _: calls.append(1))
    engines = [await open_engine(url), await open_engine(url, registry=Registry())]
    runs = await asyncio.gather(*[engine.start(graph, id="once") for engine in engines for _ in range(20)])
    await asyncio.gather(*[run.wait() for run in runs])
    assert calls == [1]


async def test_other_params_are_always_a_conflict(engine: Engine) -> None:
    graph = sequence("double", node=nothing)
    await engine.start(graph, {"n": 1}, id="taken")
    policies: tuple[Literal["return", "reject", "restart"], ...] = ("return", "reject", "restart")
    for policy in policies:
        with pytest.raises(RunConflict, match="'taken' exists already") as caught:
            await engine.start(graph, {"n": 2}, id="taken", on_conflict=policy)
        assert caught.value.fix


@pytest.mark.parametrize(
    "params", [{"n": 1.0}, {"n": True}, {"n": "1"}, {"n": (1,)}, {"n": 1, "m": None}], ids=str
)
async def test_params_of_another_type_are_others(engine: Engine, params: dict[str, Any]) -> None:
    graph = sequence("typed", node=nothing)
    await engine.execute(graph, {"n": 1}, id="taken")
    with pytest.raises(RunConflict, match="exists already"):
        await engine.start(graph, params, id="taken")


@pytest.mark.parametrize(
    ("params", "again"),
    [
        ({"n": float("nan")}, {"n": float("nan")}),
        ({"a": 1, "b": {"c": 2, "d": [3]}}, {"b": {"d": [3], "c": 2}, "a": 1}),
        ({"n": {1: "a", 2: {"x": 1, "y": 2}}}, {"n": {2: {"y": 2, "x": 1}, 1: "a"}}),
        ({"n": {3, 1, 2}}, {"n": {2, 3, 1}}),
    ],
    ids=str,
)
async def test_equal_params_are_the_same_in_any_order(
    engine: Engine, params: dict[str, Any], again: dict[str, Any]
) -> None:
    graph = sequence("equal", node=nothing)
    run = await engine.start(graph, params, id="taken")
    assert (await engine.start(graph, again, id="taken")).id == run.id
    assert await engine.count() == 1


async def test_a_graph_does_not_replace_another_one_of_its_name(engine: Engine, registry: Registry) -> None:
    registered = GraphWorkflow("x", lambda *_: State())
    registry.add(registered)
    with pytest.raises(DefinitionError, match="'x' is registered already") as caught:
        await engine.start(sequence("x", node=nothing))
    assert "another name" in caught.value.fix
    assert registry.get("x") is registered
    assert await engine.count() == 0


async def test_a_graph_that_is_built_anew_takes_the_place_of_the_one_before(engine: Engine) -> None:
    for n in range(3):
        assert await engine.execute(sequence("anew", node=lambda _, n=n: {"n": n})) == {"n": n}
    with pytest.raises(DefinitionError, match="'anew' is registered already"):
        await engine.start(sequence("anew", other=nothing))


async def test_another_workflow_is_always_a_conflict(engine: Engine) -> None:
    await engine.start(sequence("one", node=nothing), id="taken")
    with pytest.raises(RunConflict, match="'taken' exists already"):
        await engine.start(sequence("two", node=nothing), id="taken")


async def test_reject_refuses_what_return_returns(engine: Engine) -> None:
    graph = sequence("double", node=nothing)
    await engine.start(graph, {"n": 1}, id="taken")
    with pytest.raises(RunConflict):
        await engine.start(graph, {"n": 1}, id="taken", on_conflict="reject")


async def test_restart_replaces_a_run_that_has_ended_with_all_its_options(engine: Engine) -> None:
    calls: list[int] = []
    graph = sequence("count", node=lambda _: calls.append(1))
    options: dict[str, Any] = {"id": "again", "tags": ["x"], "priority": 4, "on_conflict": "restart"}
    await (await engine.start(graph, {"n": 1}, **options)).wait()
    run = await engine.start(graph, {"n": 1}, **options)
    assert (run.tags, run.priority) == (("x",), 4)
    await run.wait()
    assert calls == [1, 1]
    assert await engine.count() == 1
    # The old journal is gone, not continued.
    assert [fact["fact"] for fact in await run.journal()].count("RunStarted") == 1


async def test_restart_returns_a_run_that_goes_on(engine: Engine) -> None:
    gate = Gate()
    graph = sequence("wait", node=lambda _: gate.wait())
    first = await engine.start(graph, id="busy")
    second = await engine.start(graph, id="busy", on_conflict="restart")
    assert second.created_at == first.created_at
    gate.open()
    await second.wait()


async def test_a_deleted_id_stays_taken(engine: Engine) -> None:
    graph = sequence("double", node=nothing)
    await (await engine.start(graph, id="gone")).wait()
    await engine.delete("gone")
    with pytest.raises(RunConflict, match="was deleted"):
        await engine.start(graph, id="gone")
    with pytest.raises(RunNotFound, match="'gone' not found"):
        await engine.get("gone")


@pytest.mark.parametrize("bad", ["", " ", "a b", "a\nb", "/a", "x" * 201, "é", 7, b"a"], ids=repr)
async def test_a_malformed_id_is_refused(engine: Engine, bad: Any) -> None:
    with pytest.raises(PayloadRejected, match="malformed run id") as caught:
        await engine.start(sequence("double", node=nothing), id=bad)
    assert caught.value.field == "id"
    with pytest.raises(PayloadRejected, match="malformed run id"):
        await engine.get(bad)


async def test_unknown_runs_are_not_found_whatever_is_asked(engine: Engine) -> None:
    asked: list[Any] = [
        engine.get("nobody"),
        engine.wait("nobody"),
        engine.result("nobody"),
        engine.stages("nobody"),
        engine.decisions("nobody"),
        engine.journal("nobody"),
        engine.state("nobody"),
        engine.signal("nobody", "x"),
        engine.cancel("nobody"),
        engine.pause("nobody"),
        engine.resume("nobody"),
        engine.delete("nobody"),
    ]
    for answer in asked:
        with pytest.raises(RunNotFound, match="'nobody' not found"):
            await answer
    with pytest.raises(RunNotFound):
        async for _ in engine.events("nobody"):
            pass


# --- params


class Order(TypedDict):
    order: str
    cents: int


async def test_params_are_bound_and_converted(engine: Engine, registry: Registry) -> None:
    def factory(graph: StateGraph, runtime: Any, params: Order) -> State:
        graph.add_node("pay", lambda s: {"paid": s["cents"]})
        graph.add_edge(START, "pay").add_edge("pay", END)
        return State(params)

    registry.add(GraphWorkflow("order", factory, params=Order))
    assert (await engine.execute("order", {"order": "a", "cents": 5}))["paid"] == 5
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"order": "a"}, "cents", "missing"),
        ({"order": "a", "cents": "many"}, "cents", "expected int"),
        ({"order": "a", "cents": 5, "colour": "red"}, "colour", "no parameter"),
    ]
    for params, field, message in wrong:
        with pytest.raises(PayloadRejected, match=message) as caught:
            await engine.start("order", params)
        assert caught.value.field == field
        assert field in str(caught.value)
    assert await engine.count() == 1


async def test_params_that_cannot_be_stored_are_refused_naming_the_key(engine: Engine) -> None:
    graph = sequence("double", node=nothing)
    with pytest.raises(PayloadRejected, match=r"a\.b\[1\]"):
        await engine.start(graph, {"a": {"b": [1, object()]}})
    with pytest.raises(PayloadRejected, match="params is of type list"):
        await engine.start(graph, [1])  # type: ignore[arg-type]
    assert await engine.count() == 0


async def test_what_the_caller_does_with_the_params_later_changes_nothing(engine: Engine) -> None:
    gate = Gate()
    given = {"items": [1, 2]}

    def node(state: State) -> dict[str, Any]:
        gate.wait()
        return {"seen": state["items"]}

    run = await engine.start(sequence("wait", node=node), given)
    given["items"].append(3)
    gate.open()
    assert (await run.result())["seen"] == [1, 2]


# --- a raising factory, a graph that does not validate


async def test_a_factory_that_raises_fails_the_run_and_not_its_start(
    engine: Engine, registry: Registry
) -> None:
    broken = [True]

    def factory(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
        if broken:
            raise LookupError("no such document")
        graph.add_node("a", nothing)
        graph.add_edge(START, "a").add_edge("a", END)
        return State({"made": True})

    registry.add(GraphWorkflow("broken", factory))
    run = await engine.start("broken")
    with pytest.raises(RunFailed, match="no such document") as caught:
        await run.result()
    assert isinstance(caught.value.__cause__, LookupError)
    broken.clear()
    await run.resume()
    assert await run.result() == {"made": True}


@pytest.mark.parametrize("error", [SystemExit(3), RecursionError("too deep")], ids=repr)
async def test_a_factory_that_exits_or_recurses_takes_nothing_down(
    engine: Engine, registry: Registry, error: BaseException
) -> None:
    def factory(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
        raise error

    registry.add(GraphWorkflow("broken", factory))
    run = await (await engine.start("broken")).wait()
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error.type == type(error).__name__


def _unsound(graph: StateGraph) -> StateGraph:
    graph.add_node("a", nothing).add_node("b", nothing).add_node("c", nothing)
    return graph.add_edge(START, "a").add_edge("a", END).add_edge("b", "c")


PROBLEMS = ("'b' is unreachable", "'c' is unreachable", "'c' is a dead end")


async def test_a_graph_that_does_not_validate_is_refused_with_every_problem(engine: Engine) -> None:
    with pytest.raises(DefinitionError, match="not valid") as caught:
        await engine.start(_unsound(StateGraph("unsound")))
    assert [problem for problem in PROBLEMS if problem not in str(caught.value)] == []
    assert await engine.count() == 0


async def test_a_factory_whose_graph_does_not_validate_fails_its_run_with_every_problem(
    engine: Engine, registry: Registry
) -> None:
    def factory(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
        _unsound(graph)
        return State({})

    registry.add(GraphWorkflow("unsound", factory))
    run = await (await engine.start("unsound")).wait()
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert [problem for problem in PROBLEMS if problem not in run.error.message] == []


# --- priority and delay


async def test_a_larger_priority_goes_first(url: str, open_engine: OpenEngine, registry: Registry) -> None:
    order: list[str] = []
    graph = sequence("ordered", node=lambda s: order.append(s["name"]))
    client = await open_engine(url, workers=False, registry=Registry())
    for name, priority in [("low", -1), ("first", 0), ("second", 0), ("high", 5)]:
        await client.start(graph, {"name": name}, priority=priority, id=name)
    assert [run.status async for run in await client.runs()] == [RunStatus.PENDING] * 4
    registry.add(GraphWorkflow("ordered", lambda g, _, p: _like(g, graph, p)))
    worker = await open_engine(url, concurrency=1)
    for name in ("low", "first", "second", "high"):
        await worker.wait(name)
    assert order == ["high", "first", "second", "low"]


def _like(graph: StateGraph, other: StateGraph, params: dict[str, Any]) -> dict[str, Any]:
    graph.nodes.update(other.nodes)
    graph.edges.update(other.edges)
    return params


async def test_no_more_runs_are_driven_than_there_are_slots(any_url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(any_url, concurrency=2)
    gate, running = Gate(), [0, 0]

    async def node(state: State) -> None:
        running[0] += 1
        running[1] = max(running)
        await gate.passed()
        running[0] -= 1

    graph = sequence("slots", node=node)
    runs = [await engine.start(graph) for _ in range(6)]
    await until(lambda: running[0] == 2)
    assert sorted(run.status for run in runs) == ["pending"] * 4 + ["running"] * 2
    gate.open()
    for run in runs:
        await run.wait()
    assert running[1] == 2


async def test_a_delayed_run_waits_for_its_time(engine: Engine) -> None:
    begun: list[datetime] = []
    run = await engine.start(
        sequence("later", node=lambda _: begun.append(datetime.now(UTC))), delay=timedelta(seconds=0.3)
    )
    assert run.status is RunStatus.PENDING
    assert run.waiting_on[0].startswith("start ")
    assert run.started_at is None
    await run.wait()
    assert begun[0] - run.created_at >= timedelta(seconds=0.3)


async def test_a_signal_does_not_start_a_delayed_run_early(engine: Engine) -> None:
    begun: list[datetime] = []
    run = await engine.start(sequence("later", node=lambda _: begun.append(datetime.now(UTC))), delay=0.4)
    await run.signal("hello", 1)
    await until(lambda: _took_the_signal(engine, run.id))
    await run.refresh()
    assert run.status is RunStatus.PENDING
    assert run.waiting_on[0].startswith("start ")
    await run.wait()
    assert begun[0] - run.created_at >= timedelta(seconds=0.4)


async def _took_the_signal(engine: Engine, run: str) -> bool:
    return "SignalReceived" in [fact["fact"] for fact in await engine.journal(run)]


async def test_a_delayed_run_is_cancelled_at_once(engine: Engine) -> None:
    run = await engine.start(sequence("later", node=nothing), delay=3600)
    await run.cancel()
    await run.wait(timeout=5)
    assert run.status is RunStatus.CANCELLED


async def test_a_delayed_run_that_is_paused_and_resumed_still_waits(engine: Engine) -> None:
    run = await engine.start(sequence("later", node=nothing), delay=0.4)
    await run.pause()
    await until(lambda: _is(engine, run.id, RunStatus.PAUSED))
    await run.resume()
    await until(lambda: _is(engine, run.id, RunStatus.PENDING, waits="start "))
    await run.wait()
    assert run.started_at is not None
    assert run.completed_at is not None
    assert (run.completed_at - run.created_at).total_seconds() >= 0.4


async def _is(engine: Engine, run: str, status: RunStatus, waits: str = "") -> bool:
    row = await engine.get(run)
    return row.status is status and "".join(row.waiting_on).startswith(waits)


# --- the engine itself


async def test_a_closed_engine_says_what_to_do(url: str) -> None:
    engine = Engine(url)
    with pytest.raises(StoreUnavailable, match="not open") as caught:
        await engine.start(sequence("double", node=nothing))
    assert "async with" in caught.value.fix
    async with engine:
        pass
    with pytest.raises(StoreError):
        await engine.get("x")
    await engine.close()


async def test_an_engine_opens_again_after_it_was_closed(url: str) -> None:
    engine = Engine(url, observers=(), registry=Registry())
    async with engine:
        await engine.execute(sequence("double", node=nothing), id="first")
    async with engine:
        await engine.open()
        assert (await engine.get("first")).status is RunStatus.COMPLETED
        await engine.execute(sequence("double", node=nothing), id="second")


@pytest.mark.parametrize("given", ["mysql://x", "sqlite:/x.db", "sqlite://x.db", "sqlite:///", "x.db"])
def test_a_url_that_means_no_store_is_refused_with_the_forms(given: str) -> None:
    with pytest.raises(RequestError) as caught:
        Engine(given)
    assert "sqlite:///" in caught.value.fix


def test_no_slots_are_refused() -> None:
    with pytest.raises(RequestError, match="concurrency=0"):
        Engine("sqlite:///:memory:", concurrency=0)


async def test_a_completed_run_is_not_resumed(engine: Engine) -> None:
    run = await engine.start(sequence("double", node=nothing))
    await run.wait()
    with pytest.raises(InvalidStatus, match="is completed"):
        await run.resume()


async def test_a_start_on_a_damaged_store_is_told_to_the_caller_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    def damaged(*_: object) -> NoReturn:
        raise StoreDamaged("the page is torn")

    with monkeypatch.context() as broken:
        broken.setattr(engine.store, "commit", damaged)
        broken.setattr(engine.store, "journal", damaged)
        with pytest.raises(StoreDamaged):
            await engine.start(sequence("torn", a=nothing))
        # What is done after the answer is lost meets it, too.
        await until(lambda: engine._open._late == set())
    gc.collect()
    assert told == []
