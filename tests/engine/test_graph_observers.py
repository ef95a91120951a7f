"""Observers that a graph brings along: they see the runs of that graph alone, and harm none."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from holdfast import (
    DefinitionError,
    Engine,
    GraphConfig,
    Observer,
    RunFailed,
    State,
    StateGraph,
    StepContext,
    StreamingObserver,
    register_observer,
)
from holdfast.core import observers as known
from holdfast.model.event import RunEvent
from holdfast.patterns.graph.factory import GraphWorkflow
from holdfast.registry import as_workflow
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, Gate, until


class Seen(Observer):
    """Keeps what it sees."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []

    async def on_event(self, event: RunEvent) -> None:
        self.events.append(event)

    def of(self, run: str) -> list[tuple[int, str]]:
        return [(event.position, event.type) for event in self.events if event.run_id == run]


def add(state: State) -> dict[str, int]:
    return {"n": state.get("n", 0) + 1}


def watched(
    name: str, observer: Any = None, config: GraphConfig | None = None, node: Any = add
) -> StateGraph:
    graph = StateGraph(name, config=config, observer=observer)
    return graph.add_node("add", node).set_entry_point("add").set_exit_point("add")


async def told(engine: Engine, run: str) -> list[tuple[int, str]]:
    return [(event.position, event.type) async for event in engine.events(run)]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are registered are gone after the test."""
    monkeypatch.setattr(known, "_registry", dict(known._registry))


async def test_it_sees_all_events_of_its_graphs_runs_and_no_others(engine: Engine) -> None:
    observer = Seen()
    ours = [await engine.start(watched("ours", observer)) for _ in range(3)]
    other = await engine.start(watched("other"))
    for run in (*ours, other):
        await run.wait()
    await engine.settle(PATIENCE)
    for run in ours:
        assert observer.of(run.id) == await told(engine, run.id)
    assert {event.run_id for event in observer.events} == {run.id for run in ours}


@pytest.mark.usefixtures("names")
async def test_it_is_given_by_name_as_a_class_or_as_it_is(engine: Engine) -> None:
    named, made = Seen(), []

    class Made(Seen):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    register_observer("audit", named)
    by_name = await engine.start(watched("by name", config=GraphConfig(observer="audit")))
    by_class = await engine.start(watched("by class", Made))
    await by_name.wait()
    await by_class.wait()
    await engine.settle(PATIENCE)
    assert named.of(by_name.id) == await told(engine, by_name.id)
    (instance,) = made
    assert instance.of(by_class.id) == await told(engine, by_class.id)


async def test_a_given_one_wins_over_the_name_in_the_config(engine: Engine) -> None:
    observer = Seen()
    run = await engine.start(watched("both", observer, GraphConfig(observer="noop")))
    await run.wait()
    await engine.settle(PATIENCE)
    assert observer.of(run.id) == await told(engine, run.id)


def test_an_unknown_name_is_refused_where_it_is_given() -> None:
    with pytest.raises(
        DefinitionError, match="failed to resolve observer: unknown observer: nobody"
    ) as caught:
        StateGraph("g", config=GraphConfig(observer="nobody"))
    assert "noop" in caught.value.fix
    with pytest.raises(DefinitionError, match="not an observer"):
        StateGraph("g", observer=print)  # type: ignore[arg-type]  # on purpose


async def test_a_factory_with_an_unknown_name_fails_its_runs_and_says_so(engine: Engine) -> None:
    def build(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
        graph.add_node("add", add).set_entry_point("add").set_exit_point("add")
        return State()

    run = await engine.start(GraphWorkflow("lost", build, config=GraphConfig(observer="nobody")))
    with pytest.raises(RunFailed, match="unknown observer: nobody"):
        await run.result()


@pytest.mark.usefixtures("names")
async def test_a_factory_names_its_observer_in_its_config(engine: Engine) -> None:
    observer = Seen()
    register_observer("audit", observer)

    def build(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
        graph.add_node("add", add).set_entry_point("add").set_exit_point("add")
        return State()

    run = await engine.start(GraphWorkflow("made", build, config=GraphConfig(observer="audit")))
    await run.wait()
    await engine.settle(PATIENCE)
    assert observer.of(run.id) == await told(engine, run.id)


async def test_what_is_the_engines_observer_too_sees_each_event_once(
    any_url: str, open_engine: OpenEngine
) -> None:
    observer = Seen()
    engine = await open_engine(any_url, observers=[observer])
    run = await engine.start(watched("twice", observer))
    await run.wait()
    expected = await told(engine, run.id)
    await until(lambda: len(observer.events) >= len(expected))
    await engine.settle(PATIENCE)
    assert observer.of(run.id) == expected


async def test_graphs_of_one_shape_have_each_their_own(engine: Engine) -> None:
    gate = Gate()

    async def held(state: State) -> None:
        await gate.passed()

    observers = [Seen() for _ in range(5)]
    runs = [await engine.start(watched("built anew", observer, node=held)) for observer in observers]
    gate.open()
    for run in runs:
        await run.wait()
    await engine.settle(PATIENCE)
    for run, observer in zip(runs, observers, strict=True):
        assert observer.of(run.id) == await told(engine, run.id)
        assert {event.run_id for event in observer.events} == {run.id}


async def test_those_that_nobody_brings_any_more_are_let_go(engine: Engine) -> None:
    for _ in range(20):
        await engine.execute(watched("built anew", Seen()))
    await engine.settle(PATIENCE)
    await until(lambda: len([t for t in asyncio.all_tasks() if "built anew:Seen" in t.get_name()]) == 1)
    assert [name for name in engine.lag() if name.startswith("built anew")] != []
    engine.registry.remove("built anew")
    await engine.execute(watched("next"))
    await until(lambda: not [t for t in asyncio.all_tasks() if "built anew:Seen" in t.get_name()])
    assert [name for name in engine.lag() if name.startswith("built anew")] == []


async def test_one_that_raises_is_reported_and_harms_no_run(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Seen):
        async def on_event(self, event: RunEvent) -> None:
            await super().on_event(event)
            raise OSError("no disk")

    observer = Broken()
    run = await engine.start(watched("raises", observer))
    assert await run.result() == {"n": 1}
    await engine.settle(PATIENCE)
    assert observer.of(run.id) == await told(engine, run.id)
    assert "observer raises:Broken raised OSError on run.started" in caplog.text


@pytest.mark.parametrize("plain", [False, True])
async def test_one_that_hangs_falls_behind_itself_alone(
    any_url: str, open_engine: OpenEngine, caplog: pytest.LogCaptureFixture, *, plain: bool
) -> None:
    stuck = Gate()

    class Hangs(Seen):
        async def on_event(self, event: RunEvent) -> None:
            await asyncio.Event().wait()

    class Blocks(Observer):
        def on_event(self, event: RunEvent) -> None:
            stuck.wait()

    other = Seen()
    engine = await open_engine(any_url)
    name = "hangs:Blocks" if plain else "hangs:Hangs"
    async with asyncio.timeout(PATIENCE):
        for _ in range(3):
            assert await engine.execute(watched("hangs", Blocks() if plain else Hangs())) == {"n": 1}
        run = await engine.start(watched("goes on", other))
        await run.wait()
        await until(lambda: any(event.type == "run.completed" for event in other.events))
        assert max(lag for each, lag in engine.lag().items() if each.startswith(name)) > 0
        with caplog.at_level(logging.WARNING):
            await engine.close(grace=0.05)
    stuck.open()
    assert f"observer {name}" in caplog.text


async def test_a_slow_one_sees_everything_in_the_end(engine: Engine) -> None:
    stream = StreamingObserver(buffer=1)
    run = await engine.start(watched("slow", stream))
    await run.wait()
    expected = await told(engine, run.id)
    seen = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream.events():
            seen.append((event.position, event.type))
            if event.type == "run.completed":
                stream.close()
    assert seen == expected


async def test_chunks_are_seen_by_the_observer_of_their_run_alone(engine: Engine) -> None:
    def talk(state: State, step: StepContext) -> None:
        for number in range(3):
            step.stream(f"{step.run_id} says {number}")

    observers = [Seen(), Seen()]
    runs = [await engine.start(watched(f"talks {n}", o, node=talk)) for n, o in enumerate(observers)]
    for run in runs:
        await run.wait()
    await engine.settle(PATIENCE)
    for run, observer in zip(runs, observers, strict=True):
        assert observer.of(run.id) == await told(engine, run.id)
        said = [event.data["chunk"] for event in observer.events if event.type == "stage.chunk"]
        assert said == [f"{run.id} says {number}" for number in range(3)]


async def test_a_run_that_another_process_began_is_seen_from_where_it_is(
    url: str, open_engine: OpenEngine
) -> None:
    gate = Gate()

    async def held(state: State) -> dict[str, int]:
        await gate.passed()
        return {"n": 1}

    first = await open_engine(url)
    run = await first.start(watched("moved", Seen(), node=held))
    await gate.until_reached()
    await first.close(grace=0)
    gate.open()
    first.registry.remove("moved")
    observer = Seen()
    first.registry.add(as_workflow(watched("moved", observer, node=held)))
    second = await open_engine(url)
    assert await second.result(run.id) == {"n": 1}
    await second.settle(PATIENCE)
    whole = await told(second, run.id)
    assert observer.of(run.id) == [each for each in whole if each[0] >= observer.events[0].position]
    assert observer.of(run.id)[-1][1] == "run.completed"
    assert observer.of(run.id)[0][1] != "run.started"


def test_an_embedded_graph_is_seen_whole_before_it_returns() -> None:
    observer = Seen()
    assert watched("embedded", observer).execute({"n": 1}) == {"n": 2}
    types = [event.type for event in observer.events]
    assert types == [
        "run.started",
        "decision",
        "stage.scheduled",
        "stage.completed",
        "decision",
        "run.completed",
    ]


def test_an_embedded_graph_does_not_wait_long_for_one_that_hangs() -> None:
    class Hangs(Observer):
        async def on_event(self, event: RunEvent) -> None:
            await asyncio.Event().wait()

    assert watched("embedded", Hangs()).execute({"n": 1}) == {"n": 2}
