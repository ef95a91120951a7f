"""Arguments of a wrong type or value: each is refused where it is given, naming it and saying what to give."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from holdfast import (
    END,
    START,
    CheckpointConfig,
    DefinitionError,
    Engine,
    GraphConfig,
    HoldfastError,
    PayloadRejected,
    RetryPolicy,
    RunFailed,
    State,
    StateGraph,
    blocking,
    workflow_factory,
)
from holdfast.core.context import StepContext
from tests.graphs import nothing, sequence

Refusal = Callable[[], object]

GRAPH = sequence("subject", a=nothing)
ANY: Any = object()


def spare() -> StateGraph:
    return StateGraph("spare").add_node("a", nothing)


AUTHOR: list[tuple[str, Refusal]] = [
    ("timeout", lambda: StateGraph().add_node("a", nothing, timeout=ANY)),
    ("timeout", lambda: StateGraph().add_node("a", nothing, timeout=0)),
    ("timeout", lambda: StateGraph().add_node("a", nothing, timeout=True)),
    ("timeout", lambda: StateGraph().add_node("a", nothing, timeout=float("inf"))),
    ("retry", lambda: StateGraph().add_node("a", nothing, retry=ANY)),
    ("name", lambda: StateGraph().add_node(["a"], nothing)),  # type: ignore[arg-type]
    ("callable", lambda: StateGraph().add_node("a", ANY)),
    ("config", lambda: StateGraph(config=ANY)),
    ("name", lambda: StateGraph(5)),  # type: ignore[arg-type]
    ("version", lambda: StateGraph(version=ANY)),
    ("description", lambda: StateGraph(description=ANY)),
    ("schema", lambda: StateGraph(schema=5)),
    ("dst", lambda: spare().add_edge("a", ["a"])),  # type: ignore[arg-type]
    ("src", lambda: spare().add_edge(5, "a")),  # type: ignore[arg-type]
    ("src", lambda: spare().add_edge([["a"]], "a")),  # type: ignore[list-item]
    ("name", lambda: spare().add_edge("a", END, name=5)),  # type: ignore[arg-type]
    ("when", lambda: spare().add_edge("a", END, when=ANY)),
    ("src", lambda: spare().add_conditional_edge(["a"], lambda _: END, [END])),  # type: ignore[arg-type]
    ("targets", lambda: spare().add_conditional_edge("a", lambda _: END, [["a"]])),  # type: ignore[list-item]
    ("targets", lambda: spare().add_conditional_edge("a", lambda _: END, {"x": 5})),
    ("targets", lambda: spare().add_conditional_edge("a", lambda _: END, 5)),  # type: ignore[arg-type]
    ("name", lambda: spare().set_entry_point(["a"])),  # type: ignore[arg-type]
    ("name", lambda: spare().set_exit_point(["a"])),  # type: ignore[arg-type]
    ("backoff", lambda: RetryPolicy(backoff="x")),  # type: ignore[arg-type]
    ("max_backoff", lambda: RetryPolicy(max_backoff=None)),  # type: ignore[arg-type]
    ("factor", lambda: RetryPolicy(factor="2")),  # type: ignore[arg-type]
    ("jitter", lambda: RetryPolicy(jitter=[])),  # type: ignore[arg-type]
    ("attempts", lambda: RetryPolicy(attempts="3")),  # type: ignore[arg-type]
    ("retry_on", lambda: RetryPolicy(retry_on=ValueError)),  # type: ignore[arg-type]
    ("max_iterations", lambda: GraphConfig(max_iterations="x")),
    ("max_iterations", lambda: GraphConfig(max_iterations=-1)),
    ("checkpoint", lambda: GraphConfig(checkpoint=5)),
    ("name", lambda: GraphConfig(name=5)),
    ("observer", lambda: GraphConfig(observer=5)),
    ("interval", lambda: CheckpointConfig(interval=1.5)),
    ("preserve", lambda: CheckpointConfig(preserve="no")),
    ("store", lambda: CheckpointConfig(store=5)),
    ("timeout", lambda: workflow_factory("w", timeout="x")(ANY_FACTORY)),  # type: ignore[arg-type]
    ("priority", lambda: workflow_factory("w", priority="x")(ANY_FACTORY)),  # type: ignore[arg-type]
    ("queue", lambda: workflow_factory("w", queue="")(ANY_FACTORY)),
    ("config", lambda: workflow_factory("w", config=ANY)(ANY_FACTORY)),
    ("version", lambda: workflow_factory("w", version=2)(ANY_FACTORY)),  # type: ignore[arg-type]
]


def ANY_FACTORY(graph: StateGraph, runtime: Any, params: Any) -> None:  # noqa: N802 - stands for any
    raise AssertionError


CALLER: list[tuple[str, Refusal]] = [
    ("data", lambda: State(5)),  # type: ignore[arg-type]
    ("other", lambda: State().merge(5)),  # type: ignore[arg-type]
    ("state", lambda: GRAPH.execute(5)),  # type: ignore[arg-type]
    ("state", lambda: GRAPH.execute({1: 2})),  # type: ignore[dict-item]
    ("id", lambda: GRAPH.resume(5)),  # type: ignore[arg-type]
    ("secrets", lambda: State().set_secret(5, "x")),  # type: ignore[arg-type]
    *[
        (field, lambda kind=kind, given=given: kind(**given))
        for kind in (Engine, blocking.Engine)
        for field, given in (
            ("url", {"url": 5}),
            ("concurrency", {"concurrency": "x"}),
            ("concurrency", {"concurrency": 0}),
            ("observers", {"observers": "logging"}),
            ("observers", {"observers": 5}),
            ("runtime", {"runtime": 5}),
            ("registry", {"registry": {}}),
            ("secrets", {"secrets": {"token": "t"}}),
            ("workers", {"workers": "no"}),
        )
    ],
]

REQUESTS: list[tuple[str, Callable[[blocking.Engine, blocking.Run], object]]] = [
    ("params", lambda engine, _: engine.start(GRAPH, {1: 2})),  # type: ignore[dict-item]
    ("params", lambda engine, _: engine.start(GRAPH, [1])),  # type: ignore[arg-type]
    ("id", lambda engine, _: engine.start(GRAPH, id=5)),  # type: ignore[arg-type]
    ("secrets", lambda engine, _: engine.start(GRAPH, secrets={5: "x"})),  # type: ignore[dict-item]
    ("queue", lambda engine, _: engine.start(GRAPH, queue=5)),  # type: ignore[arg-type]
    ("priority", lambda engine, _: engine.start(GRAPH, priority="x")),  # type: ignore[arg-type]
    ("tags", lambda engine, _: engine.start(GRAPH, tags="abc")),
    ("tags", lambda engine, _: engine.start(GRAPH, tags=[5])),  # type: ignore[list-item]
    ("delay", lambda engine, _: engine.start(GRAPH, delay="x")),  # type: ignore[arg-type]
    ("delay", lambda engine, _: engine.start(GRAPH, delay=timedelta(-1))),
    ("timeout", lambda engine, _: engine.start(GRAPH, timeout=float("nan"))),
    ("on_conflict", lambda engine, _: engine.start(GRAPH, on_conflict=[])),  # type: ignore[arg-type]
    ("workflow", lambda engine, _: engine.runs(workflow=5)),  # type: ignore[arg-type]
    ("status", lambda engine, _: engine.runs(status=5)),  # type: ignore[arg-type]
    ("status", lambda engine, _: engine.count(status=["no status"])),
    ("tags", lambda engine, _: engine.runs(tags="abc")),
    ("since", lambda engine, _: engine.runs(since=datetime(2026, 1, 1))),  # noqa: DTZ001 - that is the mistake
    ("order", lambda engine, _: engine.runs(order=[])),  # type: ignore[arg-type]
    ("limit", lambda engine, _: engine.runs(limit="x")),  # type: ignore[arg-type]
    ("after", lambda engine, _: engine.runs(after=5)),  # type: ignore[arg-type]
    ("timeout", lambda engine, run: engine.wait(run.id, timeout="x")),  # type: ignore[arg-type]
    ("timeout", lambda _, run: run.result(timeout="x")),  # type: ignore[arg-type]
    ("at", lambda _, run: run.state(at="x")),  # type: ignore[arg-type]
    ("after", lambda _, run: run.events(after="x")),  # type: ignore[arg-type]
    ("after", lambda _, run: run.events(after=-1)),
    ("types", lambda _, run: run.events(types=[5])),  # type: ignore[list-item]
    ("name", lambda _, run: run.signal(5)),  # type: ignore[arg-type]
    ("key", lambda _, run: run.signal("s", key=5)),  # type: ignore[arg-type]
    ("reason", lambda engine, run: engine.cancel(run.id, reason=5)),  # type: ignore[arg-type]
    ("reason", lambda engine, run: engine.pause(run.id, reason=5)),  # type: ignore[arg-type]
    ("secrets", lambda _, run: run.resume(secrets=5)),  # type: ignore[arg-type]
    ("grace", lambda engine, _: engine.close(grace="x")),  # type: ignore[arg-type]
]


def numbered(cases: list[tuple[str, Any]]) -> list[str]:
    return [f"{number}-{field}" for number, (field, _) in enumerate(cases)]


def judge(error: HoldfastError, field: str) -> None:
    assert field in error.message
    assert error.fix.endswith((".", "…."))


@pytest.mark.parametrize(("field", "call"), AUTHOR, ids=numbered(AUTHOR))
def test_what_an_author_gives_is_refused_by_name(field: str, call: Refusal) -> None:
    with pytest.raises(DefinitionError) as caught:
        call()
    if field != "schema":
        judge(caught.value, field)


@pytest.mark.parametrize(("field", "call"), CALLER, ids=numbered(CALLER))
def test_what_a_caller_gives_is_refused_by_name(field: str, call: Refusal) -> None:
    with pytest.raises(PayloadRejected) as caught:
        call()
    assert caught.value.field == field
    judge(caught.value, field)


@pytest.fixture(scope="module")
def engine() -> Any:
    with blocking.Engine("sqlite:///:memory:", observers=()) as engine:
        yield engine


@pytest.fixture(scope="module")
def run(engine: blocking.Engine) -> blocking.Run:
    failing = sequence("failing", a=lambda _: 1 / 0)
    with pytest.raises(RunFailed):
        engine.execute(failing, id="r-1")
    return engine.get("r-1")


@pytest.mark.parametrize(("field", "call"), REQUESTS, ids=numbered(REQUESTS))
def test_what_is_asked_of_an_engine_is_refused_by_name(
    engine: blocking.Engine, run: blocking.Run, field: str, call: Callable[..., object]
) -> None:
    before = engine.count()
    with pytest.raises(PayloadRejected) as caught:
        call(engine, run)
    assert caught.value.field == field
    judge(caught.value, field)
    assert engine.count() == before
    assert run.refresh().position == run.position


def test_one_type_of_events_may_be_given_as_it_is(engine: blocking.Engine, run: blocking.Run) -> None:
    assert [event.type for event in run.events(types="run.started")] == ["run.started"]


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("percent", ("x",)),
        ("percent", (101,)),
        ("percent", (True,)),
        ("message", (5, 7)),
        ("percent", (None,)),
    ],
    ids=str,
)
def test_progress_is_refused_where_it_is_told(field: str, given: tuple[Any, ...]) -> None:
    errors: list[PayloadRejected] = []

    def node(state: State, step: StepContext) -> None:
        with pytest.raises(PayloadRejected) as caught:
            step.progress(*given)
        errors.append(caught.value)

    sequence("progress", node=node).execute()
    assert [error.field for error in errors] == [field]


def test_what_a_caller_gives_is_not_shown_when_it_may_hold_much() -> None:
    with pytest.raises(PayloadRejected) as caught:
        State(["my password"])  # type: ignore[arg-type]
    assert "password" not in str(caught.value)


def test_a_join_on_itself_is_reported() -> None:
    graph = StateGraph("looped").add_node("a", nothing).add_node("b", nothing)
    graph.add_edge(START, "a").add_edge("a", "b").add_edge(["a", "b"], "b").add_edge("b", END)
    with pytest.raises(DefinitionError, match="the join into 'b' waits for 'b' itself"):
        graph.validate()
