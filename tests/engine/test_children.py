"""Graphs in graphs: a node that is a workflow runs as a child run of its own."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest

from holdfast import (
    END,
    START,
    DefinitionError,
    Engine,
    InvalidStatus,
    PayloadRejected,
    RetryPolicy,
    RunFailed,
    RunStatus,
    Send,
    State,
    StateGraph,
    interrupt,
)
from holdfast.model import facts
from holdfast.model.values import encode
from holdfast.patterns.graph.factory import GraphWorkflow
from holdfast.registry import Registry, as_workflow
from holdfast.store.rows import Delivery
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, nothing, sequence, until


def add(amount: int) -> Callable[[State], dict[str, Any]]:
    return lambda state: {"n": state["n"] + amount}


class Fuse:
    """A node that fails until it is mended, and counts how often it ran."""

    def __init__(self) -> None:
        self.mended = False
        self.times = 0

    def __call__(self, state: State) -> dict[str, Any]:
        self.times += 1
        if not self.mended:
            raise ValueError("blown")
        return {"n": state["n"] + 10}


class Counted:
    """A node that adds 1 and counts how often it ran."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, state: State) -> dict[str, Any]:
        self.times += 1
        return {"n": state["n"] + 1}


async def test_a_node_that_is_a_graph_is_a_run_of_its_own(engine: Engine) -> None:
    inner = sequence("inner", up=add(1), large=lambda _: {"large": "x" * 70_000})
    run = await engine.start(sequence("outer", a=add(1), review=inner, b=add(1)), {"n": 1}, id="order-7")
    assert await run.result(timeout=PATIENCE) == {"n": 4, "large": "x" * 70_000}
    child = await engine.get("order-7/review~1")
    assert (child.status, child.params) == (RunStatus.COMPLETED, {"n": 2})
    assert [stage.name for stage in await child.stages()] == ["up", "large"]
    stages = await run.stages()
    assert [(stage.name, stage.status.value) for stage in stages] == [
        *(("a", "completed"), ("review", "completed"), ("b", "completed")),
    ]
    assert stages[1].output == {"n": 3, "large": "x" * 70_000}
    assert await child.result() == {"n": 3, "large": "x" * 70_000}


async def test_a_node_may_be_a_registered_workflow(open_engine: OpenEngine, any_url: str) -> None:
    registry = Registry()

    def priced(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
        graph.add_node("price", lambda state: {"price": state["pages"] * params["each"]})
        graph.add_edge(START, "price").add_edge("price", END)
        return State({"pages": params["pages"]})

    class Params(TypedDict):
        pages: int
        each: int

    workflow = GraphWorkflow("priced", priced, params=Params, queue="money")
    registry.add(workflow)
    engine = await open_engine(any_url, registry=registry, queues=["default", "money"])
    for node in ("priced", workflow):
        outer = sequence(f"outer-{type(node).__name__}", bill=node)
        run = await engine.start(outer, {"pages": 3, "each": 7, "title": "x"}, priority=4)
        assert await run.result(timeout=PATIENCE) == {"pages": 3, "each": 7, "title": "x", "price": 21}
        child = await engine.get(f"{run.id}/bill~1")
        assert (child.workflow, child.queue, child.priority) == ("priced", "money", 4)
        assert child.params == {"pages": 3, "each": 7}


class Inner(TypedDict, total=False):
    n: int
    trail: Annotated[list[str], operator.add]
    draft: str


class Outer(TypedDict, total=False):
    n: int
    m: int
    trail: Annotated[list[str], operator.add]


async def test_keys_that_both_know_are_shared(engine: Engine) -> None:
    """What the child does not know does not reach it, what the parent does not know stays there; a list grows once."""
    inner = sequence(
        "inner",
        schema=Inner,
        see=lambda state: {"draft": ",".join(sorted(state)), "trail": ["inner"]},
        up=add(1),
    )
    outer = sequence("outer", schema=Outer, a=lambda _: {"trail": ["a"]}, review=inner)
    run = await engine.start(outer, {"n": 1, "m": 5})
    assert await run.result(timeout=PATIENCE) == {"n": 2, "m": 5, "trail": ["a", "inner"]}
    assert (await engine.result(f"{run.id}/review~1"))["draft"] == "n,trail"


async def test_children_of_one_round_write_what_they_changed(engine: Engine) -> None:
    """A key that each of them got and neither changed is no conflict; one that both changed is."""
    outer = StateGraph("outer")
    for name in "ab":
        outer.add_node(name, sequence(f"inner-{name}", up=lambda _, name=name: {name: 1}))
        outer.add_edge(START, name).add_edge(name, END)
    result = await engine.execute(outer, {"document": {"pages": [1, 2]}, "x" * 3: "x" * 70_000})
    assert result == {"document": {"pages": [1, 2]}, "xxx": "x" * 70_000, "a": 1, "b": 1}
    outer = StateGraph("both")
    for name in "ab":
        outer.add_node(name, sequence(f"inner-{name}", up=add(1)))
        outer.add_edge(START, name).add_edge(name, END)
    with pytest.raises(RunFailed, match="a#1 and b#1 both wrote 'n'"):
        await engine.execute(outer, {"n": 1})


async def test_items_are_sent_to_children(engine: Engine) -> None:
    class Sum(TypedDict, total=False):
        n: int
        squares: Annotated[list[int], operator.add]

    inner = sequence("square", square=lambda state: {"squares": [state["n"] ** 2]})
    outer = StateGraph("fan", schema=Sum)
    outer.add_node("square", inner)
    outer.add_conditional_edge(START, lambda s: [Send("square", {"n": n}) for n in range(s["n"])], ["square"])
    outer.add_edge("square", END)
    run = await engine.start(outer, {"n": 20})
    result = await run.result(timeout=PATIENCE)
    assert result["squares"] == [n**2 for n in range(20)]
    assert (await engine.get(f"{run.id}/square~20")).params == {"n": 19}


async def test_children_have_children(engine: Engine) -> None:
    graph = sequence("g0", up=add(1))
    for depth in range(1, 5):
        graph = sequence(f"g{depth}", up=add(1), inner=graph)
    run = await engine.start(graph, {"n": 0}, id="r")
    assert await run.result(timeout=PATIENCE) == {"n": 5}
    assert (await engine.get("r/inner~1/inner~1/inner~1/inner~1")).params == {"n": 4}


async def test_a_failed_child_fails_its_parent_and_is_taken_up_by_a_resume(engine: Engine) -> None:
    """What had finished is not run again, in neither; the result is as if nothing had happened."""
    fuse, counted = Fuse(), Counted()
    inner = sequence("inner", up=counted, fuse=fuse)
    run = await engine.start(sequence("outer", a=add(1), review=inner, b=add(1)), {"n": 0})
    with pytest.raises(RunFailed, match=r"review~1 failed at fuse: blown") as failed:
        await run.result(timeout=PATIENCE)
    assert (failed.value.stage, failed.value.error.type) == ("review", "ValueError")
    assert (await engine.get(f"{run.id}/review~1")).status is RunStatus.FAILED
    fuse.mended = True
    await run.resume()
    assert await run.result(timeout=PATIENCE) == {"n": 13}
    assert (fuse.times, counted.times) == (2, 1)
    assert [run.id for run in (await engine.runs()).items] == [f"{run.id}/review~1", run.id]
    assert [(a.number, a.status.value) for a in (await run.stages())[1].attempts] == [
        *((1, "failed"), (2, "completed")),
    ]


async def test_a_child_that_was_resumed_by_itself_counts(engine: Engine) -> None:
    fuse = Fuse()
    run = await engine.start(sequence("outer", review=sequence("inner", fuse=fuse)), {"n": 0})
    assert (await run.wait(PATIENCE)).status is RunStatus.FAILED
    fuse.mended = True
    await engine.resume(f"{run.id}/review~1")
    assert await engine.result(f"{run.id}/review~1", PATIENCE) == {"n": 10}
    assert (await run.refresh()).status is RunStatus.FAILED
    await run.resume()
    assert await run.result(timeout=PATIENCE) == {"n": 10}
    assert fuse.times == 2


async def test_a_retry_takes_the_child_up_where_it_failed(engine: Engine) -> None:
    times: list[int] = []

    def fragile(state: State) -> dict[str, Any]:
        times.append(1)
        if len(times) < 4:
            raise ConnectionError(f"time {len(times)}")
        return {"n": state["n"] + 1}

    counted = Counted()
    inner = sequence("inner", up=counted, fragile=fragile)
    again = RetryPolicy(attempts=5, backoff=0.05, jitter="none", factor=1)
    run = await engine.start(sequence("outer", review=(inner, {"retry": again})), {"n": 0})
    assert await run.result(timeout=PATIENCE) == {"n": 2}
    assert (counted.times, len(times)) == (1, 4)
    (stage,) = await run.stages()
    assert [attempt.number for attempt in stage.attempts] == [1, 2, 3, 4]
    child = await engine.get(f"{run.id}/review~1")
    resumed = [fact for fact in await child.journal() if fact["fact"] == "RunResumed"]
    assert len(resumed) == 3
    assert all(fact["due"] > fact["at"] - 50_000 for fact in resumed)


async def test_a_retry_gives_up(engine: Engine) -> None:
    fuse = Fuse()
    again = RetryPolicy(attempts=3, backoff=0)
    outer = sequence("outer", review=(sequence("inner", fuse=fuse), {"retry": again}))
    with pytest.raises(RunFailed, match="blown"):
        await engine.execute(outer, {"n": 0})
    assert fuse.times == 3


async def test_a_cancel_reaches_the_children_and_a_resume_takes_them_up(engine: Engine) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def slow(state: State) -> dict[str, Any]:
        begun.set()
        await gate.wait()
        return {"n": state["n"] + 1}

    deep = sequence("deep", up=add(1), slow=slow)
    run = await engine.start(sequence("outer", review=sequence("inner", deep=deep)), {"n": 0}, id="r")
    await asyncio.wait_for(begun.wait(), PATIENCE)
    await run.cancel()
    assert (await run.wait(PATIENCE)).status is RunStatus.CANCELLED
    family = [await engine.get(id_) for id_ in ("r/review~1", "r/review~1/deep~1")]
    assert [each.status for each in family] == [RunStatus.CANCELLED] * 2
    gate.set()
    await run.resume()
    assert await run.result(timeout=PATIENCE) == {"n": 2}


async def test_a_cancelled_child_fails_its_step(engine: Engine) -> None:
    async def slow(_: State) -> None:
        await asyncio.sleep(PATIENCE * 2)

    run = await engine.start(sequence("outer", review=sequence("inner", slow=slow)), id="r")
    await until(lambda: started(engine, "r/review~1"))
    await engine.cancel("r/review~1")
    with pytest.raises(RunFailed, match="run r/review~1 was cancelled") as failed:
        await run.result(timeout=PATIENCE)
    assert failed.value.error.code == "child_cancelled"


async def started(engine: Engine, run: str) -> bool:
    """Tell whether a run is there and a step of it began."""
    row = await engine.store.run(run)
    return row is not None and row.position > 2


async def test_a_timeout_ends_the_child(engine: Engine) -> None:
    patience: list[float] = [PATIENCE * 2, 0.0]

    async def slow(_: State) -> None:
        await asyncio.sleep(patience.pop(0))

    outer = sequence("outer", review=(sequence("inner", slow=slow), {"timeout": 0.2}))
    run = await engine.start(outer, id="r")
    with pytest.raises(RunFailed, match="took longer") as failed:
        await run.result(timeout=PATIENCE)
    assert (failed.value.stage, failed.value.error.code) == ("review", "step_timed_out")
    await run.resume()
    assert await run.result(timeout=PATIENCE) == {}


async def test_a_pause_reaches_the_children_and_a_resume_too(engine: Engine) -> None:
    begun, gate, after = asyncio.Event(), asyncio.Event(), Counted()

    async def slow(_: State) -> None:
        begun.set()
        await gate.wait()

    inner = sequence("inner", slow=slow, after=after)
    run = await engine.start(sequence("outer", review=inner), {"n": 0}, id="r")
    await asyncio.wait_for(begun.wait(), PATIENCE)
    await run.pause()

    async def paused() -> bool:
        return (await engine.get("r/review~1")).status is RunStatus.PAUSED

    await until(paused)
    gate.set()
    assert (await engine.get("r/review~1")).waiting_on == ("resume: its parent is paused",)
    await run.resume()
    assert await run.result(timeout=PATIENCE) == {"n": 1}


async def test_a_question_of_a_child_is_asked_and_answered(engine: Engine) -> None:
    inner = sequence("inner", ask=lambda s: {"answer": interrupt("approve", {"n": s["n"]})})
    run = await engine.start(sequence("outer", review=inner), {"n": 3}, id="r")

    async def asked() -> bool:
        return bool(await engine.interrupts())

    await until(asked)
    (question,) = await engine.interrupts()
    assert (question.run_id, question.name, question.payload) == ("r/review~1", "approve", {"n": 3})
    assert (await run.refresh()).waiting_on == ("run r/review~1",)
    await engine.signal(question.run_id, "approve", "yes")
    assert await run.result(timeout=PATIENCE) == {"n": 3, "answer": "yes"}


async def test_secrets_reach_the_children(engine: Engine) -> None:
    def see(state: State) -> dict[str, Any]:
        return {"length": len(state.get_secret("token") or "")}

    deep = sequence("deep", see=see)
    inner = sequence("inner", deep=deep, more=lambda s: {"same": len(s.get_secret("token") or "")})
    run = await engine.start(sequence("outer", review=inner), secrets={"token": "t0psecret"})
    assert await run.result(timeout=PATIENCE) == {"length": 9, "same": 9}
    assert "t0psecret" not in str([await each.journal() for each in (await engine.runs()).items])


async def test_a_fork_gets_children_of_its_own(engine: Engine) -> None:
    """Those that had completed are kept as results; one that had not begins anew under the fork's id."""
    fuse, counted = Fuse(), Counted()
    once = sequence("once", up=counted)
    outer = sequence("outer", once=once, review=sequence("inner", fuse=fuse))
    run = await engine.start(outer, {"n": 0})
    assert (await run.wait(PATIENCE)).status is RunStatus.FAILED
    fuse.mended = True
    fork = await run.fork()
    assert await fork.result(timeout=PATIENCE) == {"n": 11}
    assert counted.times == 1
    assert (await engine.get(f"{fork.id}/review~1")).params == {"n": 1}
    assert (await run.refresh()).status is RunStatus.FAILED
    lone = await engine.fork(f"{run.id}/review~1")
    assert await lone.result(timeout=PATIENCE) == {"n": 11}
    assert await engine.store.inbox(run.id) == []
    assert (await run.refresh()).status is RunStatus.FAILED
    again = await engine.fork(lone.id, at=3, changes={"n": 100})
    assert await again.result(timeout=PATIENCE) == {"n": 110}


async def test_children_go_with_their_parents(engine: Engine) -> None:
    run = await engine.start(sequence("outer", review=sequence("inner", up=add(1))), {"n": 0}, id="r")
    await run.result(timeout=PATIENCE)
    (child,) = await run.children()
    assert (child.id, child.parent, run.parent) == ("r/review~1", "r", None)
    assert await child.children() == []
    with pytest.raises(InvalidStatus, match="r/review~1' is a child of run 'r'"):
        await child.delete()
    await run.delete()
    assert (await engine.runs()).items == []


async def test_a_new_process_that_knows_the_parent_goes_on_with_the_child(
    open_engine: OpenEngine, url: str
) -> None:
    """Also of a factory whose inner graph is made of its params: the parent's definition has its parts."""

    def build(gate: bool) -> Registry:
        def factory(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
            deep = sequence("deep", ask=lambda _: None if gate else interrupt("go"), up=add(params["amount"]))
            graph.add_node("review", sequence("inner", deep=deep))
            graph.add_edge(START, "review").add_edge("review", END)
            return State({"n": 1})

        registry = Registry()
        registry.add(GraphWorkflow("made", factory))
        return registry

    first = await open_engine(url, registry=build(gate=False))
    run = await first.start("made", {"amount": 5}, id="r")

    async def waits() -> bool:
        row = await first.store.run("r/review~1/deep~1")
        return row is not None and bool(row.waiting_on)

    await until(waits)
    assert (await first.get("r/review~1/deep~1")).workflow == "made"
    await first.close()
    second = await open_engine(url, registry=build(gate=True))
    await second.signal("r/review~1/deep~1", "go")
    assert await second.result(run.id, PATIENCE) == {"n": 6}
    assert await second.state("r/review~1") == {"n": 6}


async def test_what_cannot_be_started_fails_the_step_and_a_resume_tries_again(engine: Engine) -> None:
    engine.registry.remove("later")
    run = await engine.start(sequence("outer-later", review="later"), {"n": 1})
    with pytest.raises(RunFailed, match="workflow 'later' is not registered") as failed:
        await run.result(timeout=PATIENCE)
    assert (failed.value.stage, failed.value.error.code) == ("review", "workflow_not_found")
    engine.registry.add(as_workflow(sequence("later", up=add(1))))
    await run.resume()
    assert await run.result(timeout=PATIENCE) == {"n": 2}
    engine.registry.remove("later")


async def test_a_workflow_that_starts_itself_for_ever_is_stopped(engine: Engine) -> None:
    engine.registry.add(as_workflow(sequence("ouroboros", bite="ouroboros")), replace=True)
    with pytest.raises(RunFailed, match="nested 32 runs deep"):
        await (await engine.start("ouroboros", id="o")).result(timeout=PATIENCE)
    engine.registry.remove("ouroboros")


async def test_bad_input_is_refused_by_name(engine: Engine) -> None:
    graph = sequence("outer", a=nothing)
    inner = StateGraph("inner").add_node("outer", graph)
    with pytest.raises(DefinitionError, match="'self': the graph would contain itself"):
        graph.add_node("self", graph)
    with pytest.raises(DefinitionError, match="'inner': the graph would contain itself"):
        graph.add_node("inner", inner)
    with pytest.raises(DefinitionError, match="node 'b' is a workflow, which has no heartbeat_timeout"):
        graph.add_node("b", sequence("c", a=nothing), heartbeat_timeout=1)
    bad = StateGraph("bad").add_node("in", StateGraph("hollow")).add_edge(START, "in").add_edge("in", END)
    with pytest.raises(DefinitionError, match="the graph of node 'in': it has no nodes"):
        await engine.start(bad)
    with pytest.raises(DefinitionError, match="a registered workflow"):
        graph.add_node("nameless", " " * 300)
    for taken in ("r/review~1", "~"):
        with pytest.raises(PayloadRejected, match="malformed run id"):
            await engine.start(sequence("plain", a=nothing), id=taken)


async def test_of_two_ends_of_a_child_that_come_together_the_last_counts(engine: Engine) -> None:
    """It failed, and completed when somebody resumed it by itself, before its parent had heard of either."""
    inner = sequence("inner", ask=lambda _: {"n": interrupt("go")})
    outer = StateGraph("outer").add_node("review", inner, retry=RetryPolicy(attempts=3, backoff=0))
    run = await engine.start(outer.add_edge(START, "review").add_edge("review", END), {"n": 1})

    async def asked() -> bool:
        return bool(await engine.interrupts())

    await until(asked)
    error = facts.ErrorInfo(code="step_failed", message="no")
    ends = (
        facts.StepFailed(step="review#1", attempt=0, error=error),
        facts.StepCompleted(step="review#1", attempt=0, data=encode({"n": 7})),
    )
    waiting = frozenset({RunStatus.RUNNING, RunStatus.WAITING})
    await engine._store.deliver(
        [
            Delivery(
                run=run.id,
                key=f"child:{number}",
                fact=facts.Journal.encode_one(end),
                allowed=waiting,
                wakes=waiting,
            )
            for number, end in enumerate(ends)
        ]
    )
    engine._open.hint()
    assert await run.result(timeout=PATIENCE) == {"n": 7}


async def test_a_child_goes_on_after_its_parent_killed_its_workers_while_it_was_resumed(
    file_url: str, open_engine: OpenEngine, registry: Registry
) -> None:
    """Who parked it could not tell the child of the resume: that is left to the next one."""
    fuse = Fuse()
    inner = sequence("inner", fuse=fuse)
    registry.add(as_workflow(sequence("outer", review=inner)))
    engine = await open_engine(file_url)
    run = await engine.start("outer", {"n": 1}, id="r")
    with pytest.raises(RunFailed):
        await run.result(timeout=PATIENCE)
    await engine.close()

    people = await open_engine(file_url, workers=False)
    await people.resume("r")
    for _ in range(3):
        assert await people.store.claim_run("doomed", "r") is not None
        await people.store.reclaim(["doomed"], "died")

    engine = await open_engine(file_url)

    async def parked() -> bool:
        return (await engine.get("r")).status is RunStatus.PAUSED

    await until(parked)
    fuse.mended = True
    run = await engine.resume("r")
    assert await run.result(timeout=PATIENCE) == {"n": 11}
