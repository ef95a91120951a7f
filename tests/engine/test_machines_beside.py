"""Machines with what every run can have: questions, secrets, retries, hooks, cancels, pauses, forks, nesting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast import (
    END,
    START,
    Engine,
    InvalidTransition,
    RetryPolicy,
    RunStatus,
    StateGraph,
    StateMachine,
    interrupt,
    step_context,
)
from holdfast.machines import ALWAYS, action, assign
from holdfast.registry import as_workflow
from holdfast.run import Run
from holdfast.runtime import committer, rested
from tests.graphs import Gate, until


async def reaches(run: Run, status: RunStatus) -> None:
    async def is_there() -> bool:
        return (await run.refresh()).status is status

    await until(is_there)


async def test_an_action_asks_a_person(engine: Engine) -> None:
    def ask() -> dict[str, Any]:
        return {"said": interrupt("approve", {"sum": 7})}

    machine = StateMachine("asks", initial="a").add_transition("a", "b", "go", action=ask)
    run = await engine.start(machine)
    sending = asyncio.create_task(run.send("go"))

    async def asked() -> bool:
        return bool(await engine.interrupts())

    await until(asked)
    (question,) = await engine.interrupts()
    assert (question.name, question.payload, question.node) == ("approve", {"sum": 7}, "ask")
    await run.signal("approve", "yes")
    assert (await sending).state == "b"
    assert (await run.state())["context"] == {"said": "yes"}


async def test_an_action_knows_the_secrets_and_cannot_keep_them(engine: Engine) -> None:
    def use(context: dict[str, Any]) -> None:
        context["length"] = len(step_context().secrets["token"])

    def leak(context: dict[str, Any]) -> None:
        context["token"] = step_context().secrets["token"]

    machine = StateMachine("secret", initial="a")
    machine.add_transition("a", "b", "use", action=use).add_transition("b", "c", "leak", action=leak)
    run = await engine.start(machine, secrets={"token": "t0p-s3cret"})
    assert (await run.send("use")).changed
    assert (await run.state())["context"] == {"length": 10}
    with pytest.raises(Exception, match="action 'leak'") as failure:
        await run.send("leak")
    assert "t0p-s3cret" not in str(failure.value)
    assert "t0p-s3cret" not in str(await run.journal())


async def test_an_action_is_tried_again_by_its_own_policy(engine: Engine) -> None:
    tries: list[int] = []

    def flaky() -> None:
        tries.append(len(tries))
        if len(tries) < 3:
            raise ConnectionError("no answer")

    machine = StateMachine("tries", initial="a")
    machine.add_transition("a", "b", "go", action=action(flaky, retry=RetryPolicy(attempts=3, backoff=0)))
    run = await engine.start(machine)
    assert (await run.send("go")).state == "b"
    (stage,) = await run.stages()
    assert (stage.name, stage.attempt) == ("flaky", 3)


async def test_a_run_that_fails_is_tried_again_and_its_end_has_hooks(engine: Engine) -> None:
    tries: list[int] = []
    told: list[Any] = []

    def cold() -> None:
        tries.append(len(tries))
        if len(tries) < 3:
            raise ConnectionError("cold")

    machine = StateMachine(
        "warm",
        initial="a",
        retry=RetryPolicy(attempts=3, backoff=0),
        on_success=lambda _, result: told.append(result["state"]),
    )
    machine.add_state("a", entry=cold).add_state("b", final=True).add_transition("a", "b", ALWAYS)
    assert (await engine.execute(machine))["state"] == "b"
    assert (len(tries), told) == (3, ["b"])


async def test_a_cancel_ends_the_action_and_a_resume_goes_on_with_it(engine: Engine) -> None:
    gate = Gate()
    machine = StateMachine("stop", initial="a").add_transition("a", "b", "go", action=gate.passed)
    run = await engine.start(machine)
    sending = asyncio.create_task(run.send("go", id="once"))
    await gate.until_reached()
    await run.cancel()
    await run.wait()
    assert run.status is RunStatus.CANCELLED
    with pytest.raises(Exception, match="is cancelled"):
        await sending
    gate.open()
    await run.resume()
    assert (await run.send("go", id="once")).state == "b"


async def test_events_wait_while_a_run_is_paused(engine: Engine) -> None:
    machine = StateMachine("rest", initial="a").add_transition("a", "b", "go")
    run = await engine.start(machine)
    await reaches(run, RunStatus.WAITING)
    await run.pause()
    await reaches(run, RunStatus.PAUSED)
    with pytest.raises(TimeoutError):
        await run.send("go", id="once", timeout=0.05)
    await run.resume()
    assert (await run.send("go", id="once")).state == "b"


async def test_a_fork_begins_where_the_machine_was(engine: Engine) -> None:
    machine = StateMachine("forks", initial="a", context={"n": 1})
    machine.add_transition("a", "b", "go", action=assign(lambda c: {"n": c["n"] + 1})).add_transition(
        "b", "a", "back"
    )
    run = await engine.start(machine)
    await run.send("go")
    position = (await run.refresh()).position
    await run.send("back")
    fork = await run.fork(at=position, changes={"n": 40})
    assert (await fork.send("back")).state == "a"
    assert (await fork.send("go")).changed
    assert (await fork.state())["context"] == {"n": 41}
    assert (await run.state(at=position)) == {"state": "b", "context": {"n": 2}}


def counter() -> StateMachine:
    machine = StateMachine("counter", initial="count", context={"n": 0})
    machine.add_state("done", final=True)
    machine.add_transition(
        "count", "count", ALWAYS, guard=lambda c: c["n"] < c["to"], action=assign(lambda c: {"n": c["n"] + 1})
    )
    return machine.add_transition("count", "done", ALWAYS)


async def test_a_machine_is_a_node_of_a_graph(engine: Engine) -> None:
    graph = StateGraph("around")
    graph.add_node("count", counter()).add_edge(START, "count").add_edge("count", END)
    result = await engine.execute(graph, {"to": 3})
    assert (result["state"], result["context"]["n"]) == ("done", 3)


async def test_a_machine_invokes_a_machine_and_does_a_graph(engine: Engine) -> None:
    graph = StateGraph("double").add_node("double", lambda state: {"to": state["to"] * 2})
    graph.add_edge(START, "double").add_edge("double", END)
    outer = StateMachine("outer", initial="a", context={"to": 2})
    outer.add_state("end", final=True).add_transition("a", "counting", ALWAYS, action=graph)
    outer.add_transition(
        "counting", "end", invoke=counter(), action=assign(lambda _, e: {"n": e.data["context"]["n"]})
    )
    run = await engine.start(outer)
    assert await run.result() == {"state": "end", "context": {"to": 4, "n": 4}}
    assert [child.workflow for child in await run.children()] == ["outer", "outer"]


async def test_large_values_of_the_context_are_kept_apart_and_come_back(engine: Engine) -> None:
    text = "kelp " * 30_000
    machine = StateMachine("large", initial="a", context={"n": 1})
    machine.add_transition("a", "b", "go", action=lambda _, event: {"text": event.data * 30_000})
    machine.add_transition("b", "c", "set", action=assign(lambda c: {"other": c["text"]}))
    machine.add_state("end", final=True).add_transition(
        "c", "end", "end", guard=lambda c: c["other"] == c["text"]
    )
    run = await engine.start(machine)
    await run.send("go", "kelp ")
    await run.send("set")
    assert (await run.send("end")).state == "end"
    assert (await run.result())["context"] == {"n": 1, "text": text, "other": text}
    assert max(len(row.facts) for row in await engine.store.journal(run.id)) < 2_000


async def test_a_run_of_many_events_is_taken_up_from_a_stored_fold(engine: Engine) -> None:
    machine = StateMachine("long", initial="a", context={"n": 0})
    machine.add_transition("a", "b", "go", action=assign(lambda c: {"n": c["n"] + 1})).add_transition(
        "b", "a", "go"
    )
    run = await engine.start(machine)
    for _ in range(40):
        await asyncio.gather(*(run.send("go") for _ in range(10)))
    assert await run.state() == {"state": "a", "context": {"n": 200}}
    stored = await engine.store.load(run.id, f"{machine.chart.fingerprint}/{_folds()}")
    assert stored is not None
    assert stored.fold is not None
    with pytest.raises(InvalidTransition):
        await run.send("stop")


@pytest.mark.parametrize("kept", [0, rested.MOST_BYTES])
async def test_a_machine_that_rests_after_each_event_is_folded_again_and_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(rested, "MOST_BYTES", kept)
    monkeypatch.setattr(committer, "FOLD_AFTER", 20)
    machine = StateMachine("resting", initial="a", context={"n": 0})
    machine.add_transition("a", "a", "go", action=assign(lambda c: {"n": c["n"] + 1}))
    run = await engine.start(machine)
    folds: set[int] = set()
    for sent in range(1, 61):
        assert (await run.send("go")).changed
        stored = await engine.store.load(run.id, f"{machine.chart.fingerprint}/{_folds()}")
        assert stored is not None
        if stored.fold is not None:
            folds.add(stored.fold.position)
        assert await run.state() == {"state": "a", "context": {"n": sent}}
    assert len(folds) > 2


async def test_a_machine_that_was_registered_anew_is_taken_up_with_the_new_code(engine: Engine) -> None:
    def counting(step: int) -> StateMachine:
        machine = StateMachine("count", initial="a", context={"n": 0})
        return machine.add_transition("a", "a", "go", action=assign(lambda c: {"n": c["n"] + step}))

    run = await engine.start(counting(1))
    await run.send("go")
    await run.send("go")
    engine.registry.add(as_workflow(counting(100)), replace=True)
    await run.send("go")
    assert (await run.state())["context"] == {"n": 102}


def _folds() -> int:
    from holdfast.core.program import FOLDS

    return FOLDS
