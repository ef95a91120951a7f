"""New runs from any point of an old one, differences between runs, and the inbox of all that is asked."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

import pytest

from holdfast import (
    END,
    START,
    Engine,
    Observer,
    PayloadRejected,
    Run,
    RunFailed,
    RunNotFound,
    RunStatus,
    Send,
    State,
    StateGraph,
    StepContext,
    interrupt,
)
from holdfast.model.commit import Commit, Committed, Conflict
from holdfast.model.event import RunEvent
from holdfast.registry import Registry
from tests.conftest import OpenEngine
from tests.graphs import sequence, until


def counted(log: list[str], fails: str = "") -> StateGraph:
    """Three nodes in a row that each add 1 and note that they ran; one may fail while `broken` is set."""
    graph = StateGraph("counted")
    last = START
    for name in ("a", "b", "c"):

        def node(state: State, name: str = name) -> dict[str, Any]:
            log.append(name)
            if name == fails and state.get("broken"):
                raise ValueError("broken")
            return {"n": state["n"] + 1, name: state["n"]}

        graph.add_node(name, node).add_edge(last, name)
        last = name
    return graph.add_edge(last, END)


async def position_of(run: Run, fact: str, step: str) -> int:
    """The position of a fact of a step."""
    found: int = next(
        each["position"] for each in await run.journal() if (each["fact"], each.get("step")) == (fact, step)
    )
    return found


async def test_a_fork_goes_on_from_its_position_and_leaves_the_old_run_alone(engine: Engine) -> None:
    log: list[str] = []
    run = await engine.start(counted(log), {"n": 0})
    before = await run.result()
    journal = await run.journal()
    fork = await run.fork(at=await position_of(run, "StepCompleted", "a#1"))
    assert fork.id != run.id
    assert await fork.result(timeout=10) == before
    assert log == ["a", "b", "c", "b", "c"]
    assert await run.journal() == journal
    facts = [each["fact"] for each in await fork.journal()]
    assert facts.count("RunForked") == 1


async def test_changes_are_seen_from_there_on(engine: Engine) -> None:
    run = await engine.start(counted([]), {"n": 0})
    await run.result()
    fork = await engine.fork(run.id, at=await position_of(run, "StepCompleted", "a#1"), changes={"n": 10})
    assert await fork.result(timeout=10) == {"n": 12, "a": 0, "b": 10, "c": 11}
    (event,) = [event async for event in fork.events(types=["run.forked"])]
    assert event.data["source"] == run.id


@pytest.mark.parametrize("position", range(1, 15))
async def test_a_fork_from_any_position_comes_to_the_same(engine: Engine, position: int) -> None:
    run = await engine.start(counted([]), {"n": 0})
    result = await run.result()
    await run.refresh()
    assert run.position == 14
    fork = await run.fork(at=position)
    assert await fork.result(timeout=10) == result
    assert [stage.name for stage in await fork.stages()] == ["a", "b", "c"]


class Total(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    n: int


def branching() -> StateGraph:
    """Three branches at once, two of them joined, all before a deferred node; and items of a fan-out."""
    graph = StateGraph("branching", Total)

    def node(state: State, step: StepContext) -> dict[str, Any]:
        return {"log": [f"{step.name}{state.get('item', state.get('n', ''))}"]}

    for name in ("begin", "left", "right", "third", "item", "last"):
        graph.add_node(name, node, defer=name == "last")
    graph.add_edge(START, "begin")
    for name in ("left", "right", "third"):
        graph.add_edge("begin", name)
    graph.add_conditional_edge("third", lambda _: [Send("item", {"item": i}) for i in range(3)], ["item"])
    graph.add_edge(["left", "right"], "last").add_edge("item", "last")
    return graph.add_edge("last", END)


async def test_a_fork_in_the_midst_of_a_decision_loses_no_branch(engine: Engine) -> None:
    run = await engine.start(branching(), {"n": 1})
    result = await run.result()
    assert sorted(result["log"]) == [
        "begin1",
        "item0",
        "item1",
        "item2",
        "last1",
        "left1",
        "right1",
        "third1",
    ]
    await run.refresh()
    for position in range(1, run.position + 1):
        fork = await run.fork(at=position)
        assert await fork.result(timeout=10) == result, position
        again = await fork.fork(at=position)
        assert await again.result(timeout=10) == result, position


async def test_changes_in_the_midst_of_a_decision_reach_all_that_had_not_ended(engine: Engine) -> None:
    run = await engine.start(branching(), {"n": 1})
    await run.result()
    first = await position_of(run, "StepScheduled", "left#1")
    for position in (first - 1, first, first + 1, first + 2):
        fork = await run.fork(at=position, changes={"n": 7})
        log = (await fork.result(timeout=10))["log"]
        assert sorted(log) == ["begin1", "item0", "item1", "item2", "last7", "left7", "right7", "third7"]
        assert sorted(stage.name for stage in await fork.stages()) == sorted(
            each.rstrip("0127") for each in log
        )


async def test_a_failed_run_is_forked_with_the_cause_mended(engine: Engine) -> None:
    log: list[str] = []
    run = await engine.start(counted(log, fails="b"), {"n": 0, "broken": True})
    with pytest.raises(RunFailed):
        await run.result()
    fork = await run.fork(changes={"broken": False})
    assert (await fork.result(timeout=10))["n"] == 3
    assert log == ["a", "b", "b", "c"]
    assert (await run.refresh()).status is RunStatus.FAILED


async def test_forks_of_one_position_do_not_disturb_each_other(engine: Engine) -> None:
    run = await engine.start(counted([]), {"n": 0})
    await run.result()
    at = await position_of(run, "StepCompleted", "b#1")
    forks = [await run.fork(at=at, changes={"n": n}) for n in (100, 200)]
    assert [(await fork.result(timeout=10))["n"] for fork in forks] == [101, 201]
    twice = await forks[0].fork(at=at, changes={"n": 7})
    assert (await twice.result(timeout=10))["n"] == 8


async def test_a_fork_between_the_nodes_of_a_round_runs_only_what_had_not_ended(engine: Engine) -> None:
    class Log(TypedDict):
        log: Annotated[list[str], operator.add]

    ran: list[str] = []
    graph = StateGraph("round", schema=Log)
    for name in ("left", "right"):

        def node(state: State, name: str = name) -> dict[str, Any]:
            ran.append(name)
            return {"log": [name]}

        graph.add_node(name, node).add_edge(START, name).add_edge(name, END)
    run = await engine.start(graph)
    await run.result()
    first = next(
        each
        for each in await run.journal()
        if each.get("step") in ("left#1", "right#1") and "attempt" in each
    )
    ran.clear()
    fork = await run.fork(at=first["position"])
    assert await fork.result(timeout=10) == {"log": ["left", "right"]}
    assert [f"{name}#1" for name in ran] == list({"left#1", "right#1"} - {first["step"]})


async def test_a_fork_of_a_run_that_asks_asks_again(engine: Engine) -> None:
    def ask(state: State) -> dict[str, Any]:
        return {"answer": interrupt("approve", {"n": state["n"]})}

    run = await engine.start(sequence("asks", ask=ask), {"n": 1})

    async def asked() -> bool:
        return len(await run.interrupts()) == 1

    await until(asked)
    fork = await run.fork(changes={"n": 2})

    async def both() -> bool:
        return len(await engine.interrupts()) == 2

    await until(both)
    assert {each.run_id: each.payload for each in await engine.interrupts("asks")} == {
        run.id: {"n": 1},
        fork.id: {"n": 2},
    }
    await fork.signal("approve", "fork")
    assert (await fork.result(timeout=10))["answer"] == "fork"
    (left,) = await engine.interrupts()
    assert (left.run_id, left.name, left.node, left.workflow, left.deadline) == (
        run.id,
        "approve",
        "ask",
        "asks",
        None,
    )
    assert await fork.interrupts() == []


@pytest.mark.parametrize("at", [0, -1, "3", 1.5])
async def test_a_position_that_is_none_is_refused(engine: Engine, at: Any) -> None:
    run = await engine.start(counted([]), {"n": 0})
    with pytest.raises(PayloadRejected) as caught:
        await run.fork(at=at)
    assert caught.value.field == "at"


async def test_a_fork_beyond_the_end_is_refused(engine: Engine) -> None:
    run = await engine.start(counted([]), {"n": 0})
    await run.result()
    with pytest.raises(PayloadRejected, match="has no position 99") as caught:
        await run.fork(at=99)
    assert "1 to 14" in caught.value.fix
    with pytest.raises(RunNotFound):
        await engine.fork("nobody")


async def test_changes_that_do_not_fit_are_refused_and_no_run_is_made(engine: Engine) -> None:
    class Shape(TypedDict):
        n: int

    run = await engine.start(sequence("shaped", schema=Shape, node=lambda _: None), {"n": 1})
    await run.result()
    for changes in ({"n": "many"}, {"other": 1}, {"n": object()}):
        with pytest.raises(PayloadRejected):
            await run.fork(changes=changes)
    assert await engine.count() == 1


async def test_two_runs_are_compared(engine: Engine) -> None:
    run = await engine.start(counted([]), {"n": 0})
    await run.result()
    at = await position_of(run, "StepCompleted", "b#1")
    fork = await run.fork(at=at, changes={"n": 5, "note": "x"})
    await fork.result(timeout=10)
    diff = await run.diff(fork)
    assert diff.common == at
    assert (diff.left_path, diff.right_path) == (("c",), ("c",))
    assert [(each.key, each.left, each.right, each.in_left) for each in diff.state] == [
        ("c", 2, 5, True),
        ("n", 3, 6, True),
        ("note", None, "x", False),
    ]
    assert (await run.diff(run.id)).state == ()


async def test_without_the_workflow_only_the_ways_are_compared(url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(url)
    run = await engine.start(counted([]), {"n": 0})
    await run.result()
    client = await open_engine(url, workers=False, registry=Registry())
    fork = await client.fork(run.id, at=3)
    await engine.result(fork.id, timeout=10)
    diff = await client.diff(run.id, fork.id)
    assert (diff.states_known, diff.state, diff.right_path) == (False, (), ("a", "b", "c"))
    assert diff.to_dict()["common"] == 3


async def test_a_fork_whose_answer_was_lost_is_made_once(
    url: str, open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that tries again finds its own commit there, and by then another worker has gone on with the run."""
    seen: list[str] = []

    class Audit(Observer):
        async def on_event(self, event: RunEvent) -> None:
            seen.append(event.type)

    client = await open_engine(url, workers=False, observers=[Audit()])
    worker = await open_engine(url)
    run = await client.start(counted([]), {"n": 0})
    await run.result()
    commit = client._store.commit

    async def answer_lost(commits: Sequence[Commit]) -> Sequence[Committed | Conflict]:
        assert await commit(commits) is not None
        await worker.wait(commits[0].run)
        return await commit(commits)

    monkeypatch.setattr(client._store, "commit", answer_lost)
    fork = await client.fork(run.id)
    assert await client.count() == 2
    assert (await fork.result())["n"] == 3
    await client.close()
    assert "run.forked" in seen
