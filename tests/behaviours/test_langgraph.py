"""What users of LangGraph rely on, restated: one test for each behaviour of its own suite, on each store.

The numbers are those of the list that we keep of them. Left out are 12 (breakpoints are set by `interrupt` here), 16
(caching of results); those of graphs within graphs (13, 18, 20, 23) are in `test_langgraph_nested`. What is about
durability is shown with processes that are killed.
"""

from __future__ import annotations

import asyncio
import operator
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypedDict

import msgspec
import pytest

from holdfast import (
    END,
    START,
    DefinitionError,
    Engine,
    PayloadRejected,
    RetryPolicy,
    Run,
    RunFailed,
    RunStatus,
    Send,
    State,
    StateGraph,
    StepContext,
    StoreError,
    interrupt,
)
from holdfast.errors import StoreUnavailable
from holdfast.model import facts
from holdfast.model.values import decode
from holdfast.registry import Registry, as_workflow
from tests.conftest import OpenEngine
from tests.elsewhere import running_elsewhere
from tests.graphs import PATIENCE, Gate, parallel, sequence, until


class Log(TypedDict, total=False):
    """A state with a reduced list."""

    log: Annotated[list[str], operator.add]
    n: int
    broken: bool


def say(name: str) -> Any:
    return lambda _: {"log": [name]}


async def waits(run: Run, *names: str) -> None:
    """Wait until the run waits for exactly these answers."""

    async def so() -> bool:
        return sorted(each.name for each in await run.interrupts()) == sorted(names)

    await until(so)


async def position_of(run: Run, fact: str, step: str) -> int:
    journal = await run.journal()
    found: int = next(e["position"] for e in journal if (e["fact"], e.get("step")) == (fact, step))
    return found


# --- failures and what survives them


def one_of_two_fails(ran: list[str]) -> StateGraph:
    def good(state: State) -> dict[str, Any]:
        ran.append("good")
        return {"log": ["good"]}

    def bad(state: State, step: StepContext) -> dict[str, Any]:
        ran.append("bad")
        if step.attempt < 3:
            raise ConnectionError("not yet")
        return {"log": ["bad"]}

    return parallel("pending", schema=Log, good=good, bad=bad)


async def test_only_the_failed_sibling_runs_again(engine: Engine) -> None:
    """1: what succeeded beside a failure is kept; a second failure adds no result, and changes no state."""
    ran: list[str] = []
    run = await engine.start(one_of_two_fails(ran), {"log": ["begin"]})
    for _ in range(2):
        with pytest.raises(RunFailed) as failed:
            await run.result()
        assert failed.value.state == {"log": ["begin"]}
        await run.resume()
    assert await run.result() == {"log": ["begin", "good", "bad"]}
    assert sorted(ran) == ["bad", "bad", "bad", "good"]


async def half_done(url: str) -> None:
    """In a process that will be killed: one branch ends, the other never does."""
    async with Engine(url, registry=Registry(), observers=()) as engine:
        await engine.execute(halves(asyncio.Event()), id="halves")


def halves(release: asyncio.Event) -> StateGraph:
    async def endless(state: State) -> dict[str, Any]:
        await release.wait()
        return {"log": ["slow"]}

    return parallel("halves", schema=Log, quick=say("quick"), slow=endless)


async def test_what_succeeded_is_kept_also_when_the_process_is_killed(
    url: str, open_engine: OpenEngine
) -> None:
    """1 and 29: what ended is kept through SIGKILL, what was under way is run again as its next attempt."""
    client = await open_engine(url, workers=False)
    async with running_elsewhere(half_done, url) as process:

        async def quick_ended() -> bool:
            if not await client.count():
                return False
            return any(stage.status == "completed" for stage in await client.stages("halves"))

        await until(quick_ended)
        process.kill()
        await process.wait()
    release = asyncio.Event()
    release.set()
    registry = Registry()
    registry.add(as_workflow(halves(release)))
    engine = await open_engine(url, registry=registry)
    assert await engine.result("halves", timeout=PATIENCE) == {"log": ["quick", "slow"]}
    attempts = {stage.name: len(stage.attempts) for stage in await engine.stages("halves")}
    assert attempts == {"quick": 1, "slow": 2}


@pytest.mark.parametrize("verb", ["commit", "run", "journal", "blobs"])
async def test_what_the_store_cannot_do_is_told(engine: Engine, verb: str) -> None:
    """3: a store that fails is an error of who asked, never swallowed; and the run is as it was."""
    run = await engine.start(sequence("told", node=lambda _: {"n": 1}))
    await run.result()
    original = getattr(engine.store, verb)

    async def failing(*arguments: Any, **named: Any) -> Any:
        raise StoreUnavailable("the disk is gone")

    setattr(engine.store, verb, failing)
    asked = engine.start("told") if verb == "commit" else anext(run.events())
    with pytest.raises(StoreError, match="the disk is gone"):
        await asked
    setattr(engine.store, verb, original)
    assert [event.type async for event in run.events()][-1] == "run.completed"


async def test_who_handles_a_failure_runs_again_and_not_who_failed(url: str, open_engine: OpenEngine) -> None:
    """24: the failure that was routed to a handler is kept; a process that dies in the handler repeats the handler."""
    ran: list[str] = []
    gate = Gate()

    def risky(state: State) -> dict[str, Any]:
        ran.append("risky")
        return {"error": "out of paper"}

    async def handle(state: State, step: StepContext) -> dict[str, Any]:
        ran.append("handle")
        if step.attempt == 1:
            await gate.passed()
        return {"handled": state["error"]}

    graph = StateGraph("handled").add_node("risky", risky).add_node("handle", handle)
    graph.add_edge(START, "risky").add_edge("risky", "handle", when=lambda s: "error" in s)
    graph.add_edge("risky", END).add_edge("handle", END)
    first = await open_engine(url)
    run = await first.start(graph)
    await gate.until_reached()
    await first.close(grace=0)
    gate.open()
    second = await open_engine(url)
    assert await second.result(run.id, timeout=PATIENCE) == {
        "error": "out of paper",
        "handled": "out of paper",
    }
    assert ran == ["risky", "handle", "handle"]


async def test_what_an_attempt_gives_after_its_time_is_dropped(engine: Engine) -> None:
    """25: late results and chunks of an attempt that timed out count for nothing."""
    gate, late = Gate(), threading.Event()

    def slow_at_first(state: State, step: StepContext) -> dict[str, Any]:
        if step.attempt == 1:
            gate.wait()
            step.stream("late")
            late.set()
            return {"log": ["late"]}
        return {"log": ["in time"]}

    node = (slow_at_first, {"timeout": 0.05, "retry": RetryPolicy(attempts=2, backoff=0)})
    run = await engine.start(sequence("late", schema=Log, node=node))
    assert await run.result() == {"log": ["in time"]}
    gate.open()
    await until(late.is_set)
    assert await run.state() == {"log": ["in time"]}
    assert [event async for event in run.events(types=["stage.chunk"])] == []


async def test_a_cancel_that_a_node_raises_itself_is_a_failure(engine: Engine) -> None:
    """26: asyncio.CancelledError out of user code fails the run, and is not taken for silence."""

    async def gives_up(state: State) -> None:
        raise asyncio.CancelledError

    run = await (await engine.start(sequence("gives up", node=gives_up))).wait(timeout=PATIENCE)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error.type.endswith("CancelledError")


async def test_an_engine_that_drains_leaves_a_run_that_goes_on(url: str, open_engine: OpenEngine) -> None:
    """27: closing lets the running step end and keeps its result; who opens next goes on after it."""
    gate, ran = Gate(), list[str]()

    def slow(state: State) -> dict[str, Any]:
        ran.append("slow")
        gate.wait()
        return {"log": ["slow"]}

    def after(state: State) -> dict[str, Any]:
        ran.append("after")
        return {"log": ["after"]}

    first = await open_engine(url)
    run = await first.start(sequence("drained", schema=Log, slow=slow, after=after))
    await gate.until_reached()
    closing = asyncio.ensure_future(first.close(grace=PATIENCE))
    gate.open()
    await closing
    second = await open_engine(url)
    assert await second.result(run.id, timeout=PATIENCE) == {"log": ["slow", "after"]}
    assert ran == ["slow", "after"]


async def test_tries_that_were_used_up_stay_used_up(url: str, open_engine: OpenEngine) -> None:
    """29: the budget of a retry policy survives a restart; being interrupted takes nothing from it."""
    seen: list[int] = []
    gate = Gate()

    async def node(state: State, step: StepContext) -> None:
        seen.append(step.attempt)
        if step.attempt == 2:
            await gate.passed()
        raise ConnectionError(f"attempt {step.attempt}")

    graph = sequence("budget", node=(node, {"retry": RetryPolicy(attempts=3, backoff=0)}))
    first = await open_engine(url)
    run = await first.start(graph)
    await gate.until_reached()
    await first.close(grace=0)
    gate.open()
    second = await open_engine(url)
    with pytest.raises(RunFailed, match="attempt 4"):
        await second.result(run.id, timeout=PATIENCE)
    assert seen == [1, 2, 3, 4]


OLD = b"""[
{"fact":"RunStarted","at":1790000000000000,"workflow":"old","data":{"n":1}},
{"fact":"StepScheduled","at":1790000000000000,"step":"START#1","name":"START"},
{"fact":"StepCompleted","at":1790000000000000,"step":"START#1","attempt":1,"started":1790000000000000,"data":{"n":1}},
{"fact":"DecisionMade","at":1790000000000000,"source":"START","edges":[{"target":"a","result":true}]},
{"fact":"StepScheduled","at":1790000000000000,"step":"a#1","name":"a"},
{"fact":"StepCompleted","at":1790000000001000,"step":"a#1","attempt":1,"started":1790000000000000,"data":{"a":1}},
{"fact":"DecisionMade","at":1790000000001000,"source":"a","edges":[{"target":"b","result":true}]},
{"fact":"StepScheduled","at":1790000000001000,"step":"b#1","name":"b"}
]"""


async def test_a_journal_in_its_oldest_form_goes_on_today(engine: Engine) -> None:
    """30: what the first release wrote, without any later field, is read and resumed."""
    graph = sequence("old", a=lambda _: {"a": 2}, b=lambda s: {"b": s["a"] + 1})
    engine.registry.add(as_workflow(graph))
    started, *after = facts.Journal.decode(OLD)
    assert isinstance(started, facts.RunStarted)
    row = await engine._open.fork(
        "old-1", started, after, facts.RunForked(at=1790000000002000, source="old-0", at_position=8), {}
    )
    assert row is not None
    assert await engine.result("old-1", timeout=PATIENCE) == {"n": 1, "a": 1, "b": 2}


# --- merging


async def test_two_writers_of_a_key_in_one_round_are_an_error_that_names_them(engine: Engine) -> None:
    """4: a key without a reducer takes one writer per round."""
    with pytest.raises(RunFailed) as failed:
        await engine.execute(parallel("clash", left=lambda _: {"n": 1}, right=lambda _: {"n": 2}))
    assert failed.value.error.code == "write_conflict"
    for name in ("'n'", "left", "right"):
        assert name in failed.value.error.message


async def test_results_of_a_fan_out_are_merged_in_the_order_sent(engine: Engine) -> None:
    """5: whoever ends first."""
    turn = {number: asyncio.Event() for number in range(5)}

    async def item(state: State) -> dict[str, Any]:
        number = state["number"]
        if number < 4:
            await turn[number + 1].wait()  # each waits for the one after it
        turn[number].set()
        return {"log": [str(number)]}

    graph = StateGraph("sends", Log).add_node("item", item)
    graph.add_conditional_edge(START, lambda _: [Send("item", {"number": n}) for n in range(5)], ["item"])
    assert await engine.execute(graph.add_edge("item", END)) == {"log": [*"01234"]}


def unequal(*, joins: bool) -> StateGraph:
    """A short and a long branch that meet again."""
    graph = StateGraph("unequal", Log)
    for name in ("short", "long", "longer"):
        graph.add_node(name, say(name))
    graph.add_node("meet", say("meet"), defer=not joins)
    graph.add_edge(START, "short").add_edge(START, "long").add_edge("long", "longer").add_edge("meet", END)
    if joins:
        return graph.add_edge(["short", "longer"], "meet")
    return graph.add_edge("short", "meet").add_edge("longer", "meet")


async def test_an_edge_from_a_list_waits_for_all(engine: Engine) -> None:
    """6: and the target runs once, after the longest branch."""
    assert await engine.execute(unequal(joins=True)) == {"log": ["short", "long", "longer", "meet"]}


async def test_a_deferred_node_runs_once_after_unequal_branches(engine: Engine) -> None:
    """7: though two plain edges of different rounds lead to it."""
    assert await engine.execute(unequal(joins=False)) == {"log": ["short", "long", "longer", "meet"]}


async def test_who_replaces_and_who_adds_in_one_round_are_a_conflict(engine: Engine) -> None:
    """19: two that do not go together are refused, though the key has a reducer."""

    def replace(state: State) -> State:
        return state.delete("log")

    with pytest.raises(RunFailed) as failed:
        await engine.execute(parallel("both", schema=Log, add=say("x"), replace=replace), {"log": ["0"]})
    assert failed.value.error.code == "write_conflict"


async def test_what_did_not_change_is_not_written_again(engine: Engine) -> None:
    """28: a step's record holds what the step changed."""
    big = "x" * 10_000
    run = await engine.start(sequence("small", a=lambda _: {"a": 1}, b=lambda s: s.set("b", 2)), {"big": big})
    assert (await run.result())["big"] == big
    journal = [row.facts for row in await engine.store.journal(run.id)]
    told = [big.encode() in commit for commit in journal]
    assert (told[0], any(told[1:-1]), told[-1]) == (True, False, True)  # its begin and its result


# --- asking people


def asks(name: str) -> Any:
    return lambda _: {"log": [f"{name}: {interrupt(name)}"]}


async def test_parallel_nodes_ask_and_are_answered_in_any_order(engine: Engine) -> None:
    """8: each question has its name."""
    run = await engine.start(parallel("asks", schema=Log, one=asks("one"), two=asks("two")))
    await waits(run, "one", "two")
    await run.signal("two", "b")
    await waits(run, "one")
    await run.signal("one", "a")
    assert await run.result() == {"log": ["one: a", "two: b"]}


async def test_a_resume_without_an_answer_answers_nothing(engine: Engine) -> None:
    """9: which of several questions it would answer is never guessed."""
    run = await engine.start(parallel("asks", schema=Log, one=asks("one"), two=asks("two")))
    await waits(run, "one", "two")
    before = await run.journal()
    assert (await run.resume()).status is RunStatus.WAITING
    await waits(run, "one", "two")
    assert await run.journal() == before


async def test_a_loop_takes_each_answer_once_and_does_not_repeat_what_came_before(engine: Engine) -> None:
    """10: the node before the question runs once in each turn of the loop."""
    drafted: list[int] = []

    def draft(state: State) -> dict[str, Any]:
        drafted.append(state.get("n", 0))
        return {"n": state.get("n", 0) + 1}

    def review(state: State) -> dict[str, Any]:
        return {"log": [interrupt("review")]}

    graph = StateGraph("loop", Log).add_node("draft", draft).add_node("review", review)
    graph.add_edge(START, "draft").add_edge("draft", "review")
    graph.add_edge("review", "draft", when=lambda s: s["log"][-1] == "again").add_edge("review", END)
    run = await engine.start(graph)
    for answer in ("again", "again", "good"):
        await waits(run, "review")
        await run.signal("review", answer)
    assert await run.result() == {"n": 3, "log": ["again", "again", "good"]}
    assert drafted == [0, 1, 2]


async def test_the_state_survives_many_pauses_in_many_processes(url: str, open_engine: OpenEngine) -> None:
    """11: each answer is given to an engine that never saw the run."""
    names = [f"q{number}" for number in range(5)]
    graph = sequence("pauses", schema=Log, **{name: asks(name) for name in names})
    engine = await open_engine(url)
    run = await engine.start(graph, {"log": ["begin"]})
    for number, name in enumerate(names):
        await waits(await engine.get(run.id), name)
        assert len((await engine.state(run.id))["log"]) == number + 1
        await engine.close()
        engine = await open_engine(url)
        await engine.signal(run.id, name, number)
    result = await engine.result(run.id, timeout=PATIENCE)
    assert result == {"log": ["begin", *(f"q{number}: {number}" for number in range(5))]}


# --- time travel


async def test_going_on_from_an_old_position_branches(engine: Engine) -> None:
    """2: the run that is forked stays as it is, in journal and result."""
    run = await engine.start(sequence("old", schema=Log, a=say("a"), b=say("b")), {"log": ["0"]})
    result, journal = await run.result(), await run.journal()
    fork = await run.fork(at=await position_of(run, "StepCompleted", "a#1"), changes={"log": ["changed"]})
    assert await fork.result() == {"log": ["changed", "b"]}
    assert (await run.result(), await run.journal()) == (result, journal)


async def test_a_fork_has_no_result_that_came_later(engine: Engine) -> None:
    """14: of a round that was under way, only what had ended by then."""
    ran: list[str] = []
    run = await engine.start(one_of_two_fails(ran), {"log": ["begin"]})
    await run.wait()
    scheduled = await position_of(run, "StepScheduled", "bad#1")
    ran.clear()
    fork = await run.fork(at=scheduled)
    await fork.wait(timeout=PATIENCE)
    assert sorted(ran) == ["bad", "good"]
    assert await fork.state() == {"log": ["begin"]}


async def test_changes_by_hand_are_set_and_take_the_edges_from_there(engine: Engine) -> None:
    """15: a reduced key is set, not reduced; the schema is asked; and the edges see what was set."""
    graph = StateGraph("edited", Log)
    for name in ("a", "big", "small"):
        graph.add_node(name, say(name))
    graph.add_edge(START, "a").add_edge("a", "big", when=lambda s: s.get("n", 0) > 10).add_edge("a", "small")
    run = await engine.start(graph.add_edge("big", END).add_edge("small", END), {"n": 1})
    assert await run.result() == {"n": 1, "log": ["a", "small"]}
    at = await position_of(run, "StepCompleted", "a#1")
    fork = await run.fork(at=at, changes={"n": 11, "log": ["by hand"]})
    assert await fork.result() == {"n": 11, "log": ["by hand", "big"]}
    with pytest.raises(PayloadRejected, match="n: expected int"):
        await run.fork(at=at, changes={"n": "eleven"})


async def test_a_replay_from_before_a_question_asks_again_and_branches(engine: Engine) -> None:
    """21: the answer of the old run is not the fork's."""
    run = await engine.start(sequence("asks", schema=Log, a=say("a"), ask=asks("approve")))
    await waits(run, "approve")
    at = await position_of(run, "StepCompleted", "a#1")
    await run.signal("approve", "yes")
    assert await run.result() == {"log": ["a", "approve: yes"]}
    fork = await run.fork(at=at)
    await waits(fork, "approve")
    await fork.signal("approve", "no")
    assert await fork.result() == {"log": ["a", "approve: no"]}
    assert await run.result() == {"log": ["a", "approve: yes"]}


async def test_forks_of_one_position_are_independent(engine: Engine) -> None:
    """22: each goes its way, and may be forked again."""
    run = await engine.start(sequence("forks", schema=Log, a=say("a"), b=say("b")))
    await run.result()
    at = await position_of(run, "StepCompleted", "a#1")
    forks = [await run.fork(at=at, changes={"log": [str(number)]}) for number in range(3)]
    assert [await fork.result() for fork in forks] == [{"log": [str(number), "b"]} for number in range(3)]
    again = await forks[1].fork(at=at + 1)
    assert await again.result() == {"log": ["1", "b"]}


# --- one graph for many


def test_one_graph_serves_many_threads() -> None:
    """17: a graph object is shared by threads that run it at the same time."""
    met = threading.Barrier(8)

    def meet(state: State) -> dict[str, Any]:
        met.wait(PATIENCE)
        return {"log": [f"thread {state['n']}"]}

    graph = sequence("shared", schema=Log, meet=meet)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda n: graph.execute({"n": n}), range(8)))
    assert results == [{"n": n, "log": [f"thread {n}"]} for n in range(8)]


# --- what nobody else has


async def accept(url: str) -> None:
    """In a process that will be killed: a run is started, its id is told, and the process hangs."""
    async with Engine(url, registry=Registry(), observers=(), workers=False) as engine:
        run = await engine.start(sequence("accepted", node=lambda _: {"n": 1}), id="accepted")
        print(run.id, flush=True)
        await asyncio.Event().wait()


async def test_a_run_whose_id_was_told_is_there_whatever_happens(url: str, open_engine: OpenEngine) -> None:
    """d: it is durable before `start` returns, and runs without being started again."""
    async with running_elsewhere(accept, url) as process:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert await process.stdout.readline() == b"accepted\n"
        process.kill()
        await process.wait()
    registry = Registry()
    registry.add(as_workflow(sequence("accepted", node=lambda _: {"n": 1})))
    engine = await open_engine(url, registry=registry)
    assert await engine.result("accepted", timeout=PATIENCE) == {"n": 1}


async def test_what_arrives_while_a_run_is_busy_is_kept(engine: Engine) -> None:
    """c: an answer that comes too early waits for its question, and a second start of the id changes nothing."""
    gate = Gate()

    def busy(state: State) -> None:
        gate.wait()

    graph = sequence("busy", schema=Log, busy=busy, ask=asks("approve"))
    run = await engine.start(graph, id="busy")
    await gate.until_reached()
    await run.signal("approve", "early")
    assert (await engine.start(graph, id="busy")).id == run.id
    gate.open()
    assert await run.result() == {"log": ["approve: early"]}


@pytest.mark.parametrize("tag", ["$type", "$enum", "$object", "$reduce"])
def test_untrusted_bytes_in_the_store_construct_nothing(tag: str) -> None:
    """g: what names a type that nobody registered is refused, and nothing is imported or called."""
    with pytest.raises(DefinitionError):
        decode(msgspec.Raw(b'{"%b":["os.system",["exit 1"]]}' % tag.encode()))
