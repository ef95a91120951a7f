"""The public API as a user writes it: engine, state graphs, observers, errors. Checked, never run.

A comment `type: ignore` marks a misuse; both checkers report it when it stops being an error.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, TypedDict

from holdfast import (
    END,
    START,
    ChainConfig,
    CheckpointConfig,
    CheckpointStore,
    Engine,
    GraphConfig,
    MultiObserver,
    Observer,
    ParallelConfig,
    RetryPolicy,
    Run,
    Runtime,
    Saga,
    SagaOrchestrator,
    Send,
    State,
    StateGraph,
    StateMachine,
    StreamingObserver,
    chain_node,
    conditional_node,
    get_checkpoint_store,
    get_observer,
    get_workflow,
    list_workflows,
    parallel_node,
    process_chain,
    process_conditional,
    process_parallel,
    register,
    register_checkpoint_store,
    register_observer,
    step_context,
    worker_pool,
    workflow_factory,
)
from holdfast.blocking import Engine as BlockingEngine
from holdfast.errors import (
    ConflictError,
    DefinitionError,
    HoldfastError,
    InvalidStatus,
    InvalidTransition,
    NondeterminismError,
    ParallelError,
    PayloadRejected,
    RequestError,
    RunCancelled,
    RunConflict,
    RunError,
    RunFailed,
    RunNotFound,
    RunTimedOut,
    SchemaTooNew,
    SchemaTooOld,
    SecretsNeedWorker,
    SignalTimeout,
    StoreError,
    StoreUnavailable,
    WorkflowNotFound,
)
from holdfast.machines import Outcome, action
from holdfast.predicates import and_, key_equals, key_exists, not_

# State graphs -----------------------------------------------------------------------------------------------


class Review(TypedDict):
    document: str
    findings: Annotated[list[str], operator.add]


@dataclass
class Params:
    document: str
    strict: bool = False


def detect_node(runtime: Runtime, threshold: float) -> Any:
    async def detect(state: State) -> State:
        token: str | None = state.get_secret("token")
        pages = await runtime.documents.pages(state["document"], token)
        runtime.logger.info("%d pages", len(pages))
        return state.set("detections", [page for page in pages if page.legibility > threshold])

    return detect


def mapped(state: State) -> Mapping[str, Any]:
    return {"findings": [f"{key}={state[key]}" for key in state]}


def silent(_: State) -> None:
    step = step_context()
    step.progress(50, "half")
    step.logger.info("attempt %d of %s", step.attempt, step.name)
    key: str = step.idempotency_key
    print(key, step.cancelled)


async def asking(state: State) -> State:
    return state.merge({"answer": True}).delete("draft")


def fan_out(state: State) -> list[Send]:
    return [Send("mapped", State({"document": part})) for part in state["parts"]]


@workflow_factory("review", description="Review a document", schema=Review, params=Params)
def review(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
    retry = RetryPolicy(attempts=3, backoff=0.5, jitter="equal", retry_on=(OSError,))
    graph.add_node("detect", detect_node(runtime, 0.4), retry=retry, timeout=30)
    graph.add_node("mapped", mapped)
    graph.add_node("silent", silent, timeout=timedelta(seconds=5))
    graph.add_node("asking", asking)
    graph.add_edge(START, "detect")
    graph.add_conditional_edge("detect", fan_out, ["mapped"])
    graph.add_edge("mapped", "silent", when=lambda state: "findings" in state, name="found")
    graph.add_edge("mapped", "asking")
    graph.add_edge(["silent", "asking"], END)
    graph.validate()
    return State({"document": params["document"], "findings": []})


def embedded() -> dict[str, Any]:
    config = GraphConfig(max_iterations=10, checkpoint=CheckpointConfig(interval=5))
    graph = StateGraph("small", config=config.merge(GraphConfig(name="small")))
    graph.add_node("only", silent)
    graph.set_entry_point("only")
    graph.set_exit_point("only")
    text: str = graph.to_mermaid() + graph.to_dot()
    table: Mapping[str, Any] = graph.to_dict()
    print(text, table)
    return graph.execute(State({"n": 1}))


def drawn_and_checkpointed(store: CheckpointStore) -> str:
    register_checkpoint_store("mine", store)
    same: CheckpointStore = get_checkpoint_store("mine")
    graph = StateGraph("named", checkpoint_store=same)
    graph.add_sequence([("first", mapped), silent, asking])
    graph.add_edge("asking", END, when=and_(key_exists("answer"), not_(key_equals("answer", None))))
    return graph.to_svg() + graph.to_ascii()


async def checkpointed(run: Run) -> tuple[int, str, str]:
    first = (await run.checkpoints())[0]
    return first.position, first.node, await run.to_mermaid() + await run.to_svg()


# Items ------------------------------------------------------------------------------------------------------


async def halved(number: int) -> float:
    return number / 2


async def processed() -> tuple[list[float], list[str], int, str]:
    config = ParallelConfig(fail_fast=False).merge(ParallelConfig(max_workers=2))
    try:
        halves: list[float] = (await process_parallel([1, 2], halved, config)).results
    except ParallelError as error:
        raise error.errors[0] from error
    texts: list[str] = await worker_pool([1, 2], str)
    total: int = (await process_chain([1, 2], 0, lambda item, state: item + state, ChainConfig())).final
    way: str = await process_conditional("x", lambda _: "up", {"up": str.upper})
    await process_parallel(5, halved)  # type: ignore[call-overload]
    return halves, texts, total, way


def item_nodes(graph: StateGraph) -> None:
    graph.add_node("each", parallel_node("numbers", halved, lambda result, _: {"halves": result.results}))
    graph.add_node("chain", chain_node(lambda state: state["numbers"], lambda n, state: state.set("last", n)))
    graph.add_node("way", conditional_node(lambda _: "up", {"up": lambda _: None}))
    parallel_node("numbers", halved)  # type: ignore[call-arg]
    conditional_node(lambda _: "up", [])  # type: ignore[arg-type]


def states(state: State) -> tuple[str | None, str | None, datetime | None]:
    fresh = State({"n": 1}).set("m", 2).set_secret("token", "t0p").delete_secret("token")
    as_mapping: Mapping[str, Any] = fresh
    print(as_mapping.get("m"), "n" in fresh, len(fresh))
    return state.run_id, state.checkpoint_node, state.timestamp


register("review-v2", review, "the same without the decorator")
register("review-v2", get_workflow("review"), replace=True)
print(list_workflows())


# Engine -----------------------------------------------------------------------------------------------------


class Audit(Observer):
    async def on_event(self, event: Any) -> None:
        print(event.position, event.type, event.data)


def secret(run: Run, name: str) -> str:
    return f"{run.id}:{name}"


async def engine_life() -> Mapping[str, Any] | None:
    register_observer("audit", Audit())
    streaming = StreamingObserver(buffer=100)
    observers: list[str | Observer] = [MultiObserver(get_observer("audit"), None), "logging", streaming]
    runtime = Runtime(documents=object())
    async with Engine("sqlite:///:memory:", runtime=runtime, observers=observers, secrets=secret) as engine:
        params = {"document": "memo.pdf"}
        run = await engine.start("review", params, secrets={"token": "t0p"}, timeout=timedelta(hours=1))
        async for event in run.events(after=0):
            position: int = event.position
            kind: str = event.type
            print(position, kind, event.data)
        result: Any = await run.result(timeout=10)
        ended: Run = await run.wait()
        status: str = ended.status
        workflow: str = ended.workflow
        created: datetime = ended.created_at
        completed: datetime | None = ended.completed_at
        print(result, status, workflow, created, completed)
        return await audited(engine, run)


async def audited(engine: Engine, run: Run) -> Mapping[str, Any] | None:
    for stage in await run.stages(inputs=True):
        attempt: tuple[str, int, int] = (stage.name, stage.iteration, stage.attempt)
        print(attempt, stage.status, stage.input, stage.output, stage.duration, stage.error, stage.worker)
    for decision in await run.decisions():
        edge: tuple[str, str | None] = (decision.from_node, decision.to_node)
        print(edge, decision.name, decision.result, decision.reason, decision.at)
    await run.signal("approve", {"by": "me"})
    await run.cancel()
    again: Run = await engine.resume(run.id, secrets={"token": "t0p"})
    page = await engine.runs(workflow="review", limit=10)
    for item in page.items:
        listed: Run = item
        print(listed.id)
    await engine.delete(again.id)
    outcome: Any = await engine.execute(review, {"document": "memo.pdf"})
    return {"outcome": outcome, "total": page.total, "count": await engine.count(workflow="review")}


# Sagas ------------------------------------------------------------------------------------------------------


def refund(output: dict[str, Any], reason: str, idempotency_key: str) -> None: ...


async def ship(results: dict[str, Any]) -> None: ...


async def sagas() -> dict[str, Any]:
    small = StateGraph("small")
    saga: Saga = Saga("shop", "savepoint", on_compensation_failure="stop", queue="orders", timeout=60)
    saga.add_step("charge", forward=lambda: {"payment": 7}, compensate=refund, retry=RetryPolicy(attempts=3))
    saga.savepoint(attempts=2).add_step("pack", forward=small, compensate="unpack", foreach="lines")
    saga.add_step("ship", forward=ship, kind="pivot", parallel=None)
    result: dict[str, Any] = saga.execute({"lines": [1]})
    drawn: str = saga.to_mermaid() + saga.to_ascii()
    return {**result, "drawn": drawn, **await SagaOrchestrator("trip").execute([object()])}


async def machines(engine: Engine) -> tuple[str | tuple[str, ...], bool]:
    door = StateMachine("door", initial="closed", context={"opened": 0}, queue="doors")
    door.add_state("open", entry=lambda: None).add_transition("closed", "open", "push", guard=bool)
    door.add_transition(
        "open", "closed", "pull", action=action(print, retry=RetryPolicy(attempts=2)), after=30
    )
    table: StateMachine = StateMachine.from_dict({"states": {"A": {}}}, name="table")
    pushed: bool = door.trigger("push", {"by": "me"})
    last: tuple[str, str, str] = door.history[-1]
    where: str | tuple[str, ...] = table.state
    print(
        pushed, last, where, door.can_trigger("pull"), door.available_events, door.next_state("open", "pull")
    )
    run: Run = await engine.start(door, id="door-7")
    outcome: Outcome = await run.send("push", {"by": "me"}, id="mail-7", timeout=5)
    return outcome.state, outcome.changed


def blocking() -> Any:
    with BlockingEngine("sqlite:///:memory:") as engine:
        run = engine.start("review", {"document": "memo.pdf"})
        for event in run.events():
            print(event.position, event.type)
        return run.result()


# Errors -----------------------------------------------------------------------------------------------------


async def outcome(run: Run) -> str:
    try:
        await run.result()
    except RunFailed as error:
        failed: tuple[str | None, int | None, str, str] = (error.stage, error.attempt, error.code, error.fix)
        return f"{failed} {error.error} {error.state} {error.path}"
    except (RunCancelled, RunTimedOut, SignalTimeout) as error:
        return error.code
    return "done"


AUTHOR: tuple[type[DefinitionError], ...] = (DefinitionError, NondeterminismError)
CALLER: tuple[type[RequestError], ...] = (
    WorkflowNotFound,
    RunNotFound,
    RunConflict,
    InvalidStatus,
    InvalidTransition,
    PayloadRejected,
    SecretsNeedWorker,
)
OUTCOME: tuple[type[RunError], ...] = (RunFailed, RunCancelled, RunTimedOut, SignalTimeout)
OPERATOR: tuple[type[StoreError], ...] = (StoreUnavailable, SchemaTooNew, SchemaTooOld)
EVERY: tuple[type[HoldfastError], ...] = (*AUTHOR, *CALLER, *OUTCOME, *OPERATOR, ConflictError)


# Misuse -----------------------------------------------------------------------------------------------------

RetryPolicy(attempts="three")  # type: ignore[arg-type]
State({"n": 1}).set(1, 2)  # type: ignore[arg-type]
StateGraph("small").add_node(silent, "silent")  # type: ignore[arg-type]
Engine("sqlite:///:memory:", concurrency="many")  # type: ignore[arg-type]
