"""The public contract of graphs, observers, agents and profiles, as users write it: each name and each parameter."""

from __future__ import annotations

import asyncio
import logging
import operator
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, TypedDict

import pytest

from holdfast import (
    END,
    START,
    ChainConfig,
    CheckpointConfig,
    CheckpointStore,
    ConditionalConfig,
    DefinitionError,
    Engine,
    GraphConfig,
    HubConfig,
    MultiObserver,
    Observer,
    ParallelConfig,
    PayloadRejected,
    RetryPolicy,
    RunFailed,
    Runtime,
    Send,
    SignalTimeout,
    State,
    StateGraph,
    StepContext,
    StreamingObserver,
    WorkflowFactory,
    chain_node,
    conditional_node,
    get_checkpoint_store,
    get_observer,
    get_workflow,
    interrupt,
    list_workflows,
    parallel_node,
    predicates,
    process_chain,
    process_conditional,
    process_parallel,
    register,
    register_checkpoint_store,
    register_observer,
    registry,
    step_context,
    worker_pool,
    workflow_factory,
)
from holdfast.agents import AgentRequest, OpenAIAgent, Person, ScriptedAgent, ask, get_agent, register_agent
from holdfast.agents import registry as agents
from holdfast.core import checkpoints, observers
from holdfast.errors import ChainError, ConditionalError, ParallelError
from holdfast.profiles import Profile, StageProfile
from tests.graphs import until


@pytest.fixture(autouse=True)
def no_names_are_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is registered here is gone after each test."""
    monkeypatch.setattr(registry.default, "_workflows", {})
    monkeypatch.setattr(observers, "_registry", dict(observers._registry))
    monkeypatch.setattr(checkpoints, "_stores", dict(checkpoints._stores))
    known = dict(agents._agents)
    yield
    agents._agents.clear()
    agents._agents.update(known)


@pytest.fixture
def url(any_url: str) -> str:
    return any_url


# --- graphs


class Page:
    def __init__(self, number: int, legibility: float) -> None:
        self.number, self.legibility = number, legibility


class Documents:
    """A service that wants a token."""

    def __init__(self, *legibilities: float) -> None:
        self.legibilities = legibilities

    async def pages(self, document: str, token: str | None) -> list[Page]:
        assert (document, token) == ("memo.pdf", "t0p")
        return [Page(n, each) for n, each in enumerate(self.legibilities, 1)]


def detect_node(runtime: Runtime, threshold: float) -> Any:
    async def detect(state: State) -> State:
        pages = await runtime.documents.pages(state["document"], state.get_secret("token"))
        found = [{"page": p.number, "legibility": p.legibility} for p in pages]
        return state.set("detections", found).set("faded", any(p.legibility < threshold for p in pages))

    return detect


def marking(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
    graph.add_node("detect", detect_node(runtime, 0.4))
    graph.add_node("enhance", lambda s: {"enhanced": [d["page"] for d in s["detections"]]})
    graph.add_node("classify", lambda s: {"level": "SECRET" if "enhanced" in s else "OPEN"})
    graph.add_edge(START, "detect")
    graph.add_conditional_edge(
        "detect", lambda s: "enhance" if s["faded"] else "classify", ["enhance", "classify"]
    )
    graph.add_edge("enhance", "classify")
    graph.add_edge("classify", END)
    return State({"document": params["document"]})


@pytest.mark.parametrize("name", ["marking", "marking-v2"])
async def test_a_graph_is_built_by_a_factory_and_run_by_name(url: str, name: str) -> None:
    factory: WorkflowFactory = workflow_factory("marking", description="Finds the level of a document")(
        marking
    )
    register("marking-v2", factory, "the same under another name")
    assert [each.name for each in list_workflows()] == ["marking", "marking-v2"]
    assert get_workflow("marking").description == "Finds the level of a document"
    with pytest.raises(DefinitionError, match="registered already"):
        register("marking", marking)
    documents = Documents(0.9, 0.2)
    async with Engine(url, runtime=Runtime(documents=documents), observers=()) as engine:
        run = await engine.start(name, {"document": "memo.pdf"}, secrets={"token": "t0p"})
        types = [event.type async for event in run.events()]
        assert (types[0], types[-1]) == ("run.started", "run.completed")
        result = await run.result()
        assert (result["enhanced"], result["level"]) == ([1, 2], "SECRET")
        documents.legibilities = (0.9,)
        again = await engine.execute(name, {"document": "memo.pdf"}, secrets={"token": "t0p"})
        assert ("enhanced" in again, again["level"]) == (False, "OPEN")
        assert "t0p" not in str(await run.journal())


class Order(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    items: list[int]


async def test_a_factory_takes_schema_config_params_and_job_defaults(url: str) -> None:
    class Wanted(TypedDict):
        items: list[int]

    @workflow_factory(
        "order",
        "counts",
        schema=Order,
        config=GraphConfig(max_iterations=5, checkpoint=CheckpointConfig(interval=2)),
        params=Wanted,
        replace=True,
        version="7",
        queue="slow",
        priority=3,
        timeout=timedelta(minutes=1),
    )
    def order(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
        assert runtime.logger is not None
        graph.add_node("one", lambda _: {"log": ["one"]}).set_entry_point("one").set_exit_point("one")
        return State({"log": ["begin"], "items": params["items"]})

    async with Engine(url, observers=(), queues=["slow"]) as engine:
        run = await engine.start("order", {"items": [1]})
        assert await run.result() == {"log": ["begin", "one"], "items": [1]}
        assert (run.version, run.queue, run.priority) == ("7", "slow", 3)
        with pytest.raises(PayloadRejected, match="items"):
            await engine.start("order", {"items": "many"})


def test_state_is_a_mapping_that_never_changes() -> None:
    state = State({"a": 1})
    assert isinstance(state, Mapping)
    assert (state["a"], state.get("b"), state.get("b", 7), dict(state)) == (1, None, 7, {"a": 1})
    assert dict(state.set("b", 2)) == dict(state.merge({"b": 2})) == {"a": 1, "b": 2}
    assert dict(state.set("b", 2).delete("a")) == {"b": 2}
    secret = state.set_secret("token", "t0p")
    assert (secret.get_secret("token"), state.get_secret("token")) == ("t0p", None)
    assert secret.delete_secret("token").get_secret("token") is None
    assert dict(secret) == dict(state) == {"a": 1}
    assert (state.run_id, state.checkpoint_node, state.timestamp) == ("", "", None)  # until it is a run's


async def test_nodes_and_edges_of_every_kind(url: str) -> None:
    seen: list[StepContext] = []

    async def with_step(state: State, step: StepContext) -> None:
        seen.append(step)
        assert step_context().step_id == step.step_id
        assert state.run_id == step.run_id

    graph = StateGraph("kinds", Order, GraphConfig(), None, None)
    graph.add_node("returns state", lambda s: s.set("log", ["state"]))
    graph.add_node("nothing", with_step, retry=RetryPolicy(attempts=3), timeout=30)
    for name in ("left", "right", "joined", "item", "after"):
        graph.add_node(name, lambda _, name=name: {"log": [name]})
    graph.add_edge(START, "returns state")
    graph.add_sequence(["returns state", "nothing"])
    graph.add_edge("nothing", "left").add_edge("nothing", "right").add_edge(["left", "right"], "joined")
    graph.add_conditional_edge(
        "joined", lambda s: [Send("item", {"items": [n]}) for n in s["items"]] or "after", ["item", "after"]
    )
    graph.add_edge("item", "after", when=predicates.key_exists("log"), name="logged")
    graph.add_edge("item", END)
    graph.set_exit_point("after")
    graph.validate()
    async with Engine(url, observers=()) as engine:
        run = await engine.start(graph, {"items": [1, 2], "log": []})
        assert (await run.result())["log"] == ["state", "left", "right", "joined", "item", "item", "after"]
        edges = [(d.from_node, d.to_node, d.name) for d in await run.decisions()]
        assert ("item", "after", "logged") in edges
    (step,) = seen
    assert (step.name, step.attempt, step.run_id, step.cancelled) == ("nothing", 1, run.id, False)
    assert step.idempotency_key.startswith(run.id)
    for drawn in (graph.to_mermaid(), graph.to_dot()):
        assert "joined" in drawn
    assert set(graph.to_dict()["nodes"]) >= {"left", "right"} or "left" in str(graph.to_dict())


def test_two_defaults_are_refused() -> None:
    graph = StateGraph("defaults")
    for name in "abcd":
        graph.add_node(name, lambda _: None)
    graph.add_edge(START, "a").add_edge("a", "b", when=predicates.always).add_edge("a", "c")
    with pytest.raises(DefinitionError, match="node 'a' has two default edges: to 'c' and to 'd'"):
        graph.add_edge("a", "d")


@pytest.mark.parametrize(
    ("predicate", "holds"),
    [
        (predicates.always, True),
        (predicates.key_exists("none"), True),
        (predicates.key_exists("absent"), False),
        (predicates.key_equals("n", 1), True),
        (predicates.key_equals("absent", 1), False),
        (predicates.not_(predicates.key_exists("n")), False),
        (predicates.and_(), True),
        (predicates.or_(), False),
        (predicates.and_(predicates.key_exists("n"), predicates.key_equals("n", 2)), False),
        (predicates.or_(predicates.key_exists("absent"), predicates.key_equals("n", 1)), True),
    ],
    ids=lambda each: getattr(each, "__name__", str(each)),
)
def test_predicates(predicate: Any, holds: bool) -> None:
    assert predicate(State({"n": 1, "none": None})) is holds


async def test_a_node_asks_and_the_inbox_shows_it(url: str) -> None:
    charged: list[int] = []

    async def node(state: State, step: StepContext) -> dict[str, Any]:
        step.progress(50, "half")
        step.progress(60)
        step.heartbeat({"at": 1})
        step.stream("a chunk")
        step.logger.info("asks")
        receipt = await step.call(charged.append, 7)
        try:
            late = interrupt("late", timeout=0.05)
        except SignalTimeout:
            late = "nobody"
        return {
            "answer": interrupt("approve", {"cents": 7}, timeout=timedelta(days=1)),
            "late": late,
            "r": receipt,
        }

    graph = StateGraph("asks").add_node("node", node).set_entry_point("node").set_exit_point("node")
    async with Engine(url, observers=()) as engine:
        run = await engine.start(graph)

        async def asked() -> bool:
            return [each.name for each in await engine.interrupts()] == ["approve"]

        await until(asked)
        (question,) = await engine.interrupts(workflow="asks")
        assert (question.run_id, question.payload, question.node) == (run.id, {"cents": 7}, "node")
        assert question.deadline is not None
        assert question.since < question.deadline
        await engine.signal(run.id, "approve", {"yes": True})
        assert await run.result() == {"answer": {"yes": True}, "late": "nobody", "r": None}
    assert charged == [7]


def test_embedded_graphs_run_and_resume() -> None:
    broken = [True]

    def second(state: State) -> dict[str, Any]:
        if broken:
            raise OSError(broken.pop())
        return {"n": state["n"] + 1}

    graph = StateGraph("embedded").add_node("first", lambda s: {"n": s["n"] + 1}).add_node("second", second)
    graph.add_edge(START, "first").add_edge("first", "second").add_edge("second", END)
    with pytest.raises(RunFailed) as failed:
        graph.execute(State({"n": 1}))
    assert (failed.value.stage, failed.value.state) == ("second", {"n": 2})
    assert graph.resume(failed.value.run_id) == {"n": 3}


def test_checkpoint_stores_have_names() -> None:
    store: CheckpointStore = get_checkpoint_store("memory")
    register_checkpoint_store("mine", store)
    assert get_checkpoint_store("mine") is store
    with pytest.raises(DefinitionError, match="unknown checkpoint store: nowhere"):
        get_checkpoint_store("nowhere")


def test_configs_have_these_defaults_and_merge_what_was_given() -> None:
    graph = GraphConfig()
    assert (graph.name, graph.observer, graph.max_iterations) == (None, "logging", 1000)
    assert (graph.checkpoint.store, graph.checkpoint.interval, graph.checkpoint.preserve) == (None, 1, True)
    chain, parallel, choice, hub = ChainConfig(), ParallelConfig(), ConditionalConfig(), HubConfig()
    assert (chain.capture_intermediate_states, choice.observer) == (False, "logging")
    assert (parallel.max_workers, parallel.worker_cap, parallel.fail_fast) == (0, 16, True)
    assert (hub.name, hub.channel_buffer_size, hub.default_timeout, hub.logger) == ("default", 100, 30, None)
    merged = ParallelConfig(max_workers=3).merge(ParallelConfig(fail_fast=False, max_workers=0))
    assert (merged.max_workers, merged.fail_fast) == (0, False)
    with pytest.raises(AttributeError):
        merged.max_workers = 9


async def test_items_are_processed_in_this_process() -> None:
    told: list[int] = []
    done = await process_parallel([3, 1, 2], lambda n: n * 2, ParallelConfig(), lambda n, *_: told.append(n))
    assert (done.results, done.errors, told) == ([6, 2, 4], [], [1, 2, 3])
    some = await process_parallel([1, 0], lambda n: 1 / n, ParallelConfig(fail_fast=False))
    assert (some.results, [(e.index, e.item, type(e.error)) for e in some.errors]) == (
        [1],
        [(1, 0, ZeroDivisionError)],
    )
    with pytest.raises(ParallelError) as failed:
        await process_parallel([1, 0], lambda n: 1 / n, ParallelConfig(max_workers=1))
    assert failed.value.result.results == [1]
    capturing = ChainConfig(capture_intermediate_states=True)
    chain = await process_chain("abc", "", lambda item, text: text + item, capturing)
    assert (chain.final, list(chain.intermediate), chain.steps) == ("abc", ["", "a", "ab", "abc"], 3)
    with pytest.raises(ChainError):
        await process_chain([0], 1, lambda n, total: total // n)
    routes = {"big": lambda n: n * 10}
    assert await process_conditional(3, lambda n: "big" if n > 2 else "small", routes) == 30
    assert await process_conditional(1, lambda _: "small", routes, lambda n: -n) == -1
    with pytest.raises(ConditionalError):
        await process_conditional(1, lambda _: "small", routes)
    assert await worker_pool([3, 1], lambda n: n + 1) == [4, 2]


async def test_items_are_nodes_of_a_graph(url: str) -> None:
    graph = StateGraph("items")
    graph.add_node("each", parallel_node("pages", str.upper, lambda r, _: {"texts": r.results}))
    graph.add_node("fold", chain_node(["x", "y"], lambda item, s: s.set("texts", [*s["texts"], item])))
    graph.add_node(
        "route",
        conditional_node(
            lambda s: "many" if len(s["texts"]) > 2 else "few",
            {
                "many": lambda _: {"size": "many"},
                "few": lambda _: {"size": "few"},
            },
        ),
    )
    graph.add_edge(START, "each").add_sequence(["each", "fold", "route"]).add_edge("route", END)
    async with Engine(url, observers=()) as engine:
        result = await engine.execute(graph, {"pages": ["a", "b"]})
    assert (result["texts"], result["size"]) == (["A", "B", "x", "y"], "many")


# --- observers and events


class Audit(Observer):
    def __init__(self) -> None:
        self.events: list[Any] = []

    async def on_event(self, event: Any) -> None:
        self.events.append(event)


EVENTS: Mapping[str, set[str]] = {
    "run.started": {"workflow", "params"},
    "stage.scheduled": {"name", "iteration", "attempt"},
    "stage.progress": {"name", "percent", "message"},
    "stage.chunk": {"name", "chunk"},
    "stage.chunk_reset": {"name", "attempt"},
    "stage.retried": {"name", "attempt", "error", "next_at"},
    "stage.completed": {"name", "iteration", "attempt", "duration", "output"},
    "stage.failed": {"name", "attempt", "error"},
    "stage.cancelled": {"name"},
    "wait.started": {"kind", "name", "until"},
    "wait.ended": {"kind", "name"},
    "run.forked": {"source", "at"},
    "decision": {"from_node", "to_node", "name", "result", "reason"},
    "signal": {"name"},
    "run.paused": {"reason"},
    "run.resumed": set(),
    "run.completed": {"result"},
    "run.failed": {"error", "stage"},
    "run.cancelled": set(),
}


async def test_every_event_reaches_observers_with_its_fields(url: str) -> None:
    audit = Audit()
    begun, mended = asyncio.Event(), False

    async def first(state: State, step: StepContext) -> None:
        step.progress(1, "begins")
        step.stream(f"attempt {step.attempt}")
        if step.attempt == 1:
            raise OSError("once")

    def ask(state: State) -> dict[str, Any]:
        try:
            interrupt("nobody", timeout=0.01)
        except SignalTimeout:
            return {"answer": interrupt("approve")}
        return {}

    async def last(state: State) -> None:
        if not mended:
            raise OSError("not mended")
        begun.set()
        await asyncio.Event().wait()

    graph = StateGraph("all").add_node("first", first, retry=RetryPolicy(attempts=2, backoff=0))
    graph.add_node("ask", ask).add_node("last", last)
    graph.add_edge(START, "first").add_sequence(["first", "ask", "last"]).add_edge("last", END)
    small = (
        StateGraph("small").add_node("only", lambda _: None).set_entry_point("only").set_exit_point("only")
    )
    async with Engine(url, observers=[audit, MultiObserver(None, "noop"), "logging"]) as engine:
        run = await engine.start(graph)
        await until(lambda: _asks(engine, "approve"))
        await run.pause("lunch")
        await until(lambda: _paused(run))
        await run.resume()
        await run.signal("approve", 1)
        with pytest.raises(RunFailed):
            await run.result()
        mended = True
        await run.resume()
        await begun.wait()
        await run.cancel()
        await run.wait()
        one = await engine.start(small)
        await one.wait()
        await (await one.fork(at=1)).wait()
        await until(lambda: max(engine.lag().values()) == 0)
    seen: dict[str, set[str]] = {}
    for event in audit.events:
        assert isinstance(event.at, datetime)
        seen[event.type] = set(event.data)
    assert seen.keys() == EVENTS.keys()
    assert {name: fields - seen[name] for name, fields in EVENTS.items() if not fields <= seen[name]} == {}


async def _asks(engine: Engine, name: str) -> bool:
    return [each.name for each in await engine.interrupts()] == [name]


async def _paused(run: Any) -> bool:
    return bool((await run.refresh()).status == "paused")


async def test_observers_have_names_and_may_be_several(url: str, caplog: pytest.LogCaptureFixture) -> None:
    one, two = Audit(), Audit()
    register_observer("audit", one)
    assert get_observer("audit") is one
    with pytest.raises(DefinitionError, match="unknown observer: nobody"):
        get_observer("nobody")
    assert [type(get_observer(name)).__name__ for name in ("noop", "logging", "slog")]
    stream = StreamingObserver(buffer=100)
    graph = StateGraph("seen").add_node("only", lambda _: None).set_entry_point("only").set_exit_point("only")
    with caplog.at_level(logging.INFO, "holdfast.runs"):
        async with Engine(url, observers=[MultiObserver("audit", None, two), stream, "slog"]) as engine:
            await engine.execute(graph)
            assert set(engine.lag()) == {"MultiObserver", "StreamingObserver", "slog"}
            first = await anext(stream.events())
            stream.close()
    assert first.type == "run.started"
    assert [e.type for e in one.events] == [e.type for e in two.events] != []
    assert "run.completed" in caplog.text


# --- agents and profiles


async def test_agents_are_asked_by_the_name_in_the_profile(url: str) -> None:
    register_agent("eyes", ScriptedAgent({"detect": "two markings"}))
    register_agent("lawyer", Person("legal"))
    register_agent("model", OpenAIAgent("http://127.0.0.1:9/v1", "small"))

    async def detect(state: State, step: StepContext) -> dict[str, Any]:
        request = AgentRequest(task=step.name, instructions=step.profile.prompt or "", secrets=step.secrets)
        found = await ask(get_agent(step.profile.agent or ""), request)
        return {"found": found, "threshold": step.profile.options["threshold"]}

    graph = StateGraph("looks").add_node(
        "detect", detect, profile=StageProfile(agent="eyes", prompt="Look.", options={"threshold": 0.4})
    )
    graph.set_entry_point("detect").set_exit_point("detect")
    async with Engine(url, observers=()) as engine:
        assert await engine.execute(graph) == {"found": "two markings", "threshold": 0.4}
        aggressive = Profile(
            "aggressive", stages={"detect": StageProfile(agent="lawyer", options={"threshold": 0.6})}
        )
        await engine.save_profile("looks", aggressive)
        run = await engine.start("looks", profile="aggressive")
        await until(lambda: _asks(engine, "legal/detect"))
        await run.signal("legal/detect", "nothing")
        assert await run.result() == {"found": "nothing", "threshold": 0.6}
