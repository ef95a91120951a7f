"""Checkpoints of runs: listed from any journal, and fed to stores of the user's without touching a run."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from holdfast import (
    END,
    START,
    CheckpointConfig,
    Engine,
    GraphConfig,
    RunFailed,
    RunNotFound,
    RunStatus,
    Send,
    State,
    StateGraph,
    get_checkpoint_store,
)
from holdfast.blocking import Engine as BlockingEngine
from holdfast.core.checkpoints import MemoryCheckpointStore
from holdfast.registry import Registry, as_workflow
from tests.graphs import Gate, sequence, until


class Kept(MemoryCheckpointStore):
    """Keeps all that it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: list[tuple[str, dict[str, Any]]] = []

    def save(self, state: State) -> None:
        super().save(state)
        self.saved.append((state.checkpoint_node, dict(state)))


def add(key: str) -> Callable[[State], dict[str, Any]]:
    return lambda _: {key: True}


def steps(name: str, store: Any = None, **checkpoint: Any) -> StateGraph:
    graph = StateGraph(
        name, config=GraphConfig(checkpoint=CheckpointConfig(**checkpoint)), checkpoint_store=store
    )
    for each in "abc":
        graph.add_node(each, add(each))
    return graph.add_edge(START, "a").add_sequence(["a", "b", "c"]).add_edge("c", END)


@pytest.fixture
async def engine() -> Any:
    async with Engine("sqlite:///:memory:", registry=Registry()) as opened:
        yield opened


# --- listed


async def test_a_run_lists_its_checkpoints(engine: Engine) -> None:
    run = await engine.start(steps("listed"), {"n": 1})
    await run.wait()
    listed = await run.checkpoints()
    assert [(each.node, each.round) for each in listed] == [("START", 0), ("a", 1), ("b", 2), ("c", 3)]
    states = [await run.state(at=each.position) for each in listed]
    assert states == [
        {"n": 1},
        {"n": 1, "a": True},
        {"n": 1, "a": True, "b": True},
        {"n": 1, "a": True, "b": True, "c": True},
    ]
    assert listed[1].to_dict() == {
        "node": "a",
        "nodes": ["a"],
        "position": listed[1].position,
        "round": 1,
        "at": listed[1].at.isoformat().replace("+00:00", "Z"),
    }


@pytest.mark.parametrize(("interval", "nodes"), [(0, []), (2, ["START", "b"]), (5, ["START"])])
async def test_the_interval_counts_rounds(engine: Engine, interval: int, nodes: list[str]) -> None:
    run = await engine.start(steps("every", interval=interval))
    await run.wait()
    assert [each.node for each in await run.checkpoints()] == nodes


class Items(TypedDict, total=False):
    items: Annotated[list[int], operator.add]


async def test_a_round_of_many_is_one_checkpoint(engine: Engine) -> None:
    graph = (
        StateGraph("wide", Items)
        .add_node("item", lambda s: {"items": [s["n"]]})
        .add_node("end", lambda _: {"items": []})
    )
    graph.add_conditional_edge(START, lambda _: [Send("item", {"n": n}) for n in range(20)], ["item"])
    graph.add_edge("item", "end").add_edge("end", END)
    run = await engine.start(graph)
    await run.wait()
    assert [each.node for each in await run.checkpoints()] == ["START", "item", "end"]


async def test_a_failed_round_is_none_until_it_was_resumed(engine: Engine) -> None:
    broken = [True]

    def fail(state: State) -> dict[str, Any]:
        if broken:
            raise ValueError(broken.pop())
        return {"b": 1}

    run = await engine.start(sequence("failing", a=add("a"), b=fail))
    await run.wait()
    assert [each.node for each in await run.checkpoints()] == ["START", "a"]
    await run.resume()
    await run.wait()
    assert [each.node for each in await run.checkpoints()] == ["START", "a", "b"]


def test_the_blocking_engine_lists_them_too() -> None:
    with BlockingEngine("sqlite:///:memory:", registry=Registry()) as engine:
        run = engine.start(steps("blocking"))
        run.wait()
        assert [each.node for each in run.checkpoints()] == ["START", "a", "b", "c"]


# --- fed


async def test_a_store_is_fed_after_each_round(engine: Engine) -> None:
    store = Kept()
    run = await engine.start(steps("fed", store), {"n": 1})
    await run.wait()
    await engine.settle()
    assert [node for node, _ in store.saved] == ["START", "a", "b", "c"]
    kept = store.load(run.id)
    assert dict(kept) == await run.result()
    assert (kept.run_id, kept.checkpoint_node) == (run.id, "c")
    assert kept.timestamp == (await run.checkpoints())[-1].at
    assert store.saved[1] == ("a", {"n": 1, "a": True})


async def test_a_store_by_name_every_second_round_and_gone_at_the_end(engine: Engine) -> None:
    gate = Gate()
    config = GraphConfig(checkpoint=CheckpointConfig(store="memory", interval=2, preserve=False))
    nodes = {"a": add("a"), "b": add("b"), "c": lambda _: gate.wait()}
    run = await engine.start(sequence("named", config=config, **nodes), id="named-1")
    store = get_checkpoint_store("memory")
    await gate.until_reached()
    await engine.settle()
    state: Any = store.load("named-1")
    assert (state.checkpoint_node, dict(state)) == ("b", {"a": True, "b": True})
    gate.open()
    await run.result()
    await engine.settle()
    listed: Any = store.list()
    assert "named-1" not in listed


async def test_a_failed_run_keeps_its_checkpoint_and_goes_on_from_its_journal(engine: Engine) -> None:
    store = Kept()
    broken = [True]

    def fail(state: State) -> dict[str, Any]:
        if broken:
            raise ValueError(broken.pop())
        return {"b": True}

    graph = StateGraph(
        "resumed", config=GraphConfig(checkpoint=CheckpointConfig(preserve=False)), checkpoint_store=store
    )
    graph.add_sequence([("a", add("a")), ("b", fail)]).add_edge(START, "a").add_edge("b", END)
    run = await engine.start(graph)
    with pytest.raises(RunFailed):
        await run.result()
    await engine.settle()
    assert store.load(run.id).checkpoint_node == "a"
    await run.resume()
    await run.result()
    await engine.settle()
    assert [node for node, _ in store.saved] == ["START", "a", "b"]
    assert store.list() == ()


async def test_large_values_and_secrets(engine: Engine) -> None:
    store = Kept()
    large = "x" * 100_000
    graph = StateGraph("large", checkpoint_store=store).add_node("a", lambda _: {"large": large})
    graph.add_sequence(["a", ("b", add("b"))]).add_edge(START, "a").add_edge("b", END)
    run = await engine.start(graph, secrets={"token": "t0psecret"})
    await run.wait()
    await engine.settle()
    kept = store.load(run.id)
    assert kept["large"] == large
    assert kept.get_secret("token") is None


async def test_many_runs_at_once_do_not_mix(engine: Engine) -> None:
    store, other = Kept(), Kept()
    mine, theirs = steps("mine", store), steps("theirs", other)
    runs = [await engine.start((mine, theirs)[n % 2], {"n": n}) for n in range(40)]
    plain = await engine.start(steps("plain"), {"n": 99})
    for run in [*runs, plain]:
        await run.wait()
    await engine.settle()
    assert sorted(store.load(each)["n"] for each in store.list()) == list(range(0, 40, 2))
    assert sorted(other.load(each)["n"] for each in other.list()) == list(range(1, 40, 2))
    assert len(store.saved) == len(other.saved) == 20 * 4


async def test_async_stores(engine: Engine) -> None:
    class Remote:
        def __init__(self) -> None:
            self.states: dict[str, State] = {}

        async def save(self, state: State) -> None:
            await asyncio.sleep(0)
            self.states[state.run_id] = state

        async def load(self, run_id: str) -> State:
            return self.states[run_id]

        async def delete(self, run_id: str) -> None:
            del self.states[run_id]

        async def list(self) -> Sequence[str]:
            return list(self.states)

    store = Remote()
    run = await engine.start(steps("remote", store))
    await run.wait()
    await engine.settle()
    assert (await store.load(run.id)).checkpoint_node == "c"


async def test_a_store_that_raises_is_reported_and_harms_no_run(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(Kept):
        def save(self, state: State) -> None:
            if state.checkpoint_node == "a":
                raise OSError("disk full")
            super().save(state)

    store = Full()
    run = await engine.start(steps("full", store))
    assert len(await run.result()) == 3
    await engine.settle()
    assert [node for node, _ in store.saved] == ["START", "b", "c"]
    assert "checkpoints:Full raised OSError when asked to save run" in caplog.text


async def test_a_store_that_hangs_is_reported_and_holds_up_nobody(
    engine: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(Kept):
        async def save(self, state: State) -> None:  # type: ignore[override]  # both forms are allowed
            if state.checkpoint_node == "START":
                await asyncio.Event().wait()
            super().save(state)

    monkeypatch.setattr("holdfast.runtime.checkpoints.PATIENCE", 0.01)
    stuck, store = Stuck(), Kept()
    first, second = await engine.start(steps("stuck", stuck)), await engine.start(steps("moving", store))
    assert (await first.wait()).status is (await second.wait()).status is RunStatus.COMPLETED
    await engine.settle()
    assert len(store.saved) == 4
    assert [node for node, _ in stuck.saved] == ["a", "b", "c"]
    assert "checkpoints:Stuck did not save run" in caplog.text


async def test_closing_does_not_wait_for_a_store_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Kept):
        async def save(self, state: State) -> None:  # type: ignore[override]
            await asyncio.Event().wait()

    async with Engine("sqlite:///:memory:", registry=Registry()) as engine:
        run = await engine.start(steps("stuck", Stuck()))
        await run.result()
        assert engine.lag()["checkpoints:Stuck"] > 0
        await engine.settle(0.01)
        await engine.close(0.05)
    assert "checkpoints:Stuck did not get the last" in caplog.text


async def test_a_run_that_another_process_began_is_fed_from_where_it_is(tmp_path: Path) -> None:
    url, gate, store = f"sqlite:///{tmp_path}/runs.db", Gate(), Kept()

    async def held(state: State) -> dict[str, Any]:
        await gate.passed()
        return {"b": True}

    def graph(store: Any) -> StateGraph:
        made = StateGraph("moved", checkpoint_store=store)
        return made.add_sequence([("a", add("a")), ("b", held)]).add_edge(START, "a").add_edge("b", END)

    async with Engine(url, registry=Registry()) as first:
        run = await first.start(graph(None), id="moved-1")
        await gate.until_reached()
        await first.close(0)
    gate.open()
    registry = Registry()
    async with Engine(url, registry=registry) as second:
        await second.start(graph(store), id="moved-1")
        await second.result(run.id)
        await second.settle()
    assert [node for node, _ in store.saved] == ["b"]
    assert dict(store.load("moved-1")) == {"a": True, "b": True}


async def test_an_unknown_store_fails_the_run_and_says_so(engine: Engine) -> None:
    from holdfast.patterns.graph.factory import GraphWorkflow

    def build(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
        graph.add_node("a", add("a")).add_edge(START, "a").add_edge("a", END)
        return State()

    config = GraphConfig(checkpoint=CheckpointConfig(store="nowhere"))
    run = await engine.start(GraphWorkflow("lost", build, config=config))
    with pytest.raises(RunFailed, match="unknown checkpoint store: nowhere"):
        await run.result()


async def test_a_deleted_run_is_gone_from_the_store_too(engine: Engine) -> None:
    store = Kept()
    kept, gone = [await engine.start(steps("deleted", store)) for _ in range(2)]
    await kept.wait()
    await gone.wait()
    await engine.settle()
    assert set(store.list()) == {kept.id, gone.id}
    await gone.delete()
    assert store.list() == (kept.id,)
    with pytest.raises(RunNotFound):
        await gone.delete()


async def test_what_is_still_to_be_fed_does_not_bring_a_deleted_run_back(engine: Engine) -> None:
    gate, asked = asyncio.Event(), asyncio.Event()

    class Slow(Kept):
        async def save(self, state: State) -> None:  # type: ignore[override]  # both forms are allowed
            asked.set()
            await gate.wait()
            super().save(state)

    store = Slow()
    run = await engine.start(steps("slow", store))
    await run.wait()
    await asked.wait()
    deleting = asyncio.ensure_future(run.delete())
    while await engine.count():
        await asyncio.sleep(0)
    gate.set()
    await deleting
    await engine.settle()
    assert store.list() == ()
    assert [node for node, _ in store.saved] == ["START"]


async def test_an_engine_without_workers_deletes_in_the_store(url: str) -> None:
    store, registry = Kept(), Registry()
    async with Engine(url, registry=registry) as engine:
        run = await engine.start(steps("elsewhere", store))
        await run.wait()
    assert store.list() == (run.id,)
    async with Engine(url, registry=registry, workers=False) as client:
        await client.delete(run.id)
    assert store.list() == ()


async def test_a_store_that_does_not_delete_is_reported_and_the_run_is_deleted(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(Kept):
        def delete(self, run_id: str) -> None:
            raise PermissionError("read only")

    run = await engine.start(steps("stubborn", Stubborn()))
    await run.wait()
    await run.delete()
    assert await engine.count() == 0
    assert "checkpoints:Stubborn raised PermissionError when asked to delete run" in caplog.text


def test_an_embedded_graph_feeds_its_store_before_it_returns() -> None:
    store = Kept()
    assert steps("embedded", store).execute({"n": 1}) == {"n": 1, "a": True, "b": True, "c": True}
    (run,) = store.list()
    assert store.load(run).checkpoint_node == "c"


async def test_stores_of_workflows_that_are_gone_are_let_go(engine: Engine) -> None:
    first = steps("gone", Kept())
    await (await engine.start(first)).wait()
    engine.registry.remove("gone")
    await (await engine.start(steps("next", MemoryCheckpointStore()))).wait()
    assert set(engine.lag()) == {"logging", "checkpoints:MemoryCheckpointStore"}
    await until(lambda: not [t for t in asyncio.all_tasks() if t.get_name() == "holdfast-checkpoints:Kept"])


async def test_stores_of_children_are_told_too_when_their_family_is_deleted(engine: Engine) -> None:
    outer, registered = Kept(), Kept()
    engine.registry.add(as_workflow(steps("registered", registered)))
    graph = StateGraph("outer", checkpoint_store=outer)
    graph.add_node("one", "registered").add_edge(START, "one").add_edge("one", END)
    run = await engine.start(graph)
    await run.wait()
    (child,) = await run.children()
    await engine._open.settle(20)
    assert (outer.list(), registered.list()) == ((run.id,), (child.id,))
    await run.delete()
    assert (outer.list(), registered.list()) == ((), ())
