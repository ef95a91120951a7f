"""Durable machines: events from any process, actions as steps, clocks, and what a kill leaves."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from holdfast import (
    DefinitionError,
    Engine,
    InvalidStatus,
    InvalidTransition,
    RequestError,
    RunFailed,
    RunNotFound,
    RunStatus,
    StateMachine,
    WorkflowNotFound,
)
from holdfast.errors import ActionFailed
from holdfast.patterns.machine.actions import action, assign
from holdfast.patterns.machine.definition import ALWAYS
from holdfast.registry import Registry, as_workflow
from holdfast.run import Run
from tests.conftest import OpenEngine
from tests.elsewhere import running_elsewhere
from tests.graphs import Gate, nothing, sequence, until
from tests.machines import assessment


async def kinds(run: Run) -> list[str]:
    return [fact["fact"] for fact in await run.journal()]


async def resting(run: Run) -> None:
    """Wait until the run waits for an event."""

    async def waits() -> bool:
        return (await run.refresh()).status is RunStatus.WAITING

    await until(waits)


async def test_an_assessment_is_driven_by_events(engine: Engine) -> None:
    run = await engine.start(assessment(), id="period-2026-Q3")
    outcome = await run.send("SUBMIT")
    assert (outcome.state, outcome.changed) == ("PENDING_APPROVAL", True)
    with pytest.raises(InvalidTransition, match=r"^Invalid transition: PENDING_APPROVAL -> DELETE$"):
        await run.send("DELETE")
    await run.send("APPROVE")
    assert (await run.send("CLOSE")).state == "CLOSED"
    assert await run.result() == {"state": "CLOSED", "context": {}}
    with pytest.raises(InvalidTransition, match="Invalid transition: CLOSED -> SUBMIT"):
        await run.send("SUBMIT")
    taken = [(d.from_node, d.to_node, d.name) for d in await run.decisions() if d.result]
    assert taken == [
        ("START", "DRAFT", ""),
        ("DRAFT", "PENDING_APPROVAL", "SUBMIT"),
        ("PENDING_APPROVAL", "ACTIVE", "APPROVE"),
        ("ACTIVE", "CLOSED", "CLOSE"),
    ]


async def test_one_event_is_one_commit_and_a_waiting_run_has_no_job(engine: Engine) -> None:
    run = await engine.start(assessment())
    await resting(run)
    before = await engine.store.journal(run.id)
    await run.send("SUBMIT")
    after = await engine.store.journal(run.id)
    assert len(after) - len(before) == 1
    await resting(run)
    assert run.waiting_on == ("event APPROVE", "event REJECT")
    worker = engine._open.worker
    assert worker is not None
    await until(lambda: run.id not in worker.held)


async def test_a_hundred_sends_of_one_event_are_one_transition_and_99_refusals(
    url: str, open_engine: OpenEngine
) -> None:
    engine = await open_engine(url)
    client = await open_engine(url, workers=False, registry=Registry())
    run = await engine.start(assessment())
    far = await client.get(run.id)
    sends = [(far if n % 2 else run).send("SUBMIT") for n in range(100)]
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert sum(not isinstance(each, BaseException) for each in outcomes) == 1
    refused = {str(each) for each in outcomes if isinstance(each, BaseException)}
    assert refused == {"Invalid transition: PENDING_APPROVAL -> SUBMIT"}
    moved = [d for d in await run.decisions() if d.result and d.name == "SUBMIT"]
    assert len(moved) == 1


async def test_the_same_id_again_sends_nothing_and_has_the_same_outcome(engine: Engine) -> None:
    run = await engine.start(assessment())
    first = await run.send("SUBMIT", id="mail-7")
    await run.send("REJECT")
    assert await run.send("SUBMIT", id="mail-7") == first
    assert (await run.state())["state"] == "DRAFT"


async def test_who_cannot_be_sent_an_event(engine: Engine) -> None:
    with pytest.raises(RunNotFound):
        await engine.send("nobody", "SUBMIT")
    graph = await engine.start(sequence("graph", node=nothing))
    with pytest.raises(RequestError, match="is no machine"):
        await graph.send("SUBMIT")
    run = await engine.start(assessment())
    await run.cancel()
    await run.wait()
    with pytest.raises(InvalidStatus, match="is cancelled"):
        await run.send("SUBMIT")
    await run.resume()
    assert (await run.send("SUBMIT")).state == "PENDING_APPROVAL"


async def test_a_machine_without_a_name_and_two_with_one(engine: Engine) -> None:
    with pytest.raises(WorkflowNotFound, match="has no name"):
        await engine.start(StateMachine(initial="a"))
    await engine.start(assessment())
    await engine.start(assessment())  # of the same shape: built anew
    with pytest.raises(DefinitionError, match="'assessment' is registered already"):
        await engine.start(StateMachine("assessment", initial="other"))


# --- actions


async def test_actions_are_steps_in_order_and_the_transition_takes_effect_with_the_last(
    engine: Engine,
) -> None:
    gate = Gate()

    async def pack(context: dict[str, Any], event: Any) -> dict[str, Any]:
        await gate.passed()
        return {"parcel": f"{event.name} {event.data}"}

    def leave(context: dict[str, Any]) -> None:
        context["left"] = True

    machine = StateMachine("shop", initial="paid", context={"n": 1})
    machine.add_state("paid", exit=leave).add_state(
        "sent", entry=lambda c: {"n": c["n"] + len(c["parcel"])}, final=True
    )
    machine.add_transition("paid", "sent", "ship", action=[pack, assign(lambda c: {"n": c["n"] + 100})])
    run = await engine.start(machine)
    sending = asyncio.create_task(run.send("ship", 7))
    await gate.until_reached()
    assert (await run.state())["state"] == "paid"
    assert (await run.state())["context"] == {"n": 1}
    gate.open()
    assert (await sending).state == "sent"
    assert await run.result() == {"state": "sent", "context": {"n": 107, "left": True, "parcel": "ship 7"}}
    assert [stage.name for stage in await run.stages()] == ["leave", "pack", "entry of sent"]


async def test_n_actions_are_n_plus_one_commits_of_an_event(engine: Engine) -> None:
    machine = StateMachine("steps", initial="a")
    machine.add_transition("a", "b", "go", action=[action(lambda: None, f"step {n}") for n in range(5)])
    run = await engine.start(machine)
    await resting(run)
    before = len(await engine.store.journal(run.id))
    await run.send("go")
    assert len(await engine.store.journal(run.id)) - before == 6


async def test_events_wait_while_an_action_goes_on(engine: Engine) -> None:
    gate = Gate()
    machine = StateMachine("queue", initial="a")
    machine.add_transition("a", "b", "go", action=gate.passed).add_transition("b", "c", "go")
    run = await engine.start(machine)
    first = asyncio.create_task(run.send("go"))
    await gate.until_reached()
    second = asyncio.create_task(run.send("go"))

    async def both_are_in() -> bool:
        return (await kinds(run)).count("SignalReceived") == 2

    await until(both_are_in)
    gate.open()
    assert (await first).state == "b"
    assert (await second).state == "c"


async def test_a_failed_action_leaves_the_state_and_tells_the_sender(engine: Engine) -> None:
    tries: list[int] = []

    def charge(context: dict[str, Any]) -> None:
        context["paid"] = True
        tries.append(len(tries))
        if len(tries) == 1:
            raise ConnectionError("no answer")

    machine = StateMachine("shop", initial="open", context={"paid": False})
    machine.add_transition("open", "paid", "pay", action=[assign({"asked": True}), charge])
    run = await engine.start(machine)
    with pytest.raises(ActionFailed, match="charge failed: ConnectionError: no answer") as failure:
        await run.send("pay")
    assert failure.value.state == "open"
    assert await run.state() == {"state": "open", "context": {"paid": False}}
    assert (await run.send("pay")).state == "paid"
    assert (await run.state())["context"] == {"paid": True, "asked": True}


async def test_a_failed_action_takes_the_transition_from_any_state(engine: Engine) -> None:
    def deploy() -> None:
        raise ConnectionError("no answer")

    machine = StateMachine("deploy", initial="staging")
    machine.add_transition("staging", "production", "deploy", action=deploy)
    machine.add_transition("*", "rollback", action=lambda _, event: {"why": event.data["message"]})
    run = await engine.start(machine)
    outcome = await run.send("deploy")
    assert (outcome.state, outcome.changed) == ("rollback", True)
    assert (await run.state())["context"] == {"why": "no answer"}


async def test_a_failure_that_nobody_hears_of_fails_the_run_and_a_resume_goes_on(engine: Engine) -> None:
    tries: list[int] = []

    def warm_up() -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise ConnectionError("cold")

    machine = StateMachine("warm", initial="a")
    machine.add_state("a", entry=warm_up).add_state("b", final=True).add_transition("a", "b", ALWAYS)
    run = await engine.start(machine)
    with pytest.raises(RunFailed, match="cold"):
        await run.result()
    await run.resume()
    assert (await run.result())["state"] == "b"


async def test_a_circle_without_events_fails_the_run_by_name(engine: Engine) -> None:
    machine = StateMachine("circle", initial="a")
    machine.add_transition("a", "b", ALWAYS).add_transition("b", "a", ALWAYS)
    run = await engine.start(machine)
    with pytest.raises(RunFailed, match="does not come to rest") as failure:
        await run.result()
    assert failure.value.error.code == "endless_transitions"
    other = await engine.start(assessment())
    assert (await other.send("SUBMIT")).changed, "the worker goes on"


# --- clocks


async def test_a_delayed_transition_is_a_timer_that_ends_with_its_state(engine: Engine) -> None:
    machine = StateMachine("clock", initial="a")
    machine.add_state("late", final=True)
    machine.add_transition("a", "late", after=1).add_transition("a", "b", "go")
    machine.add_transition("b", "a", "back")
    run = await engine.start(machine)
    await run.send("go")
    await resting(run)
    assert run.waiting_on == ("event back",), "the timer went with its state"
    assert await engine.store.inbox(run.id) == []
    await run.send("back")
    assert (await run.result())["state"] == "late"
    completed = [f["step"] for f in await run.journal() if f["fact"] == "StepCompleted"]
    assert completed == ["timer:after.1s.a#2"]


async def test_timers_begin_anew_when_a_cancelled_run_is_resumed(engine: Engine) -> None:
    machine = StateMachine("clock", initial="a")
    machine.add_state("late", final=True).add_transition("a", "late", after=0.05)
    run = await engine.start(machine, id="clock")
    await run.cancel()
    await run.wait()
    if run.status is RunStatus.CANCELLED:  # it may have been faster
        await run.resume()
    assert (await run.result())["state"] == "late"


async def test_a_fork_has_timers_of_its_own(engine: Engine) -> None:
    machine = StateMachine("clock", initial="a", context={"n": 1})
    machine.add_state("late", final=True).add_transition("a", "late", after=0.3)
    run = await engine.start(machine)
    await resting(run)
    fork = await run.fork(changes={"n": 2})
    assert await fork.result() == {"state": "late", "context": {"n": 2}}
    assert await run.result() == {"state": "late", "context": {"n": 1}}


# --- invoked workflows


async def test_an_invoked_workflow_leads_on_and_its_failure_rolls_back(engine: Engine) -> None:
    def build(state: Any) -> dict[str, Any]:
        if state["broken"]:
            raise ValueError("does not compile")
        return {"image": "v1"}

    engine.registry.add(as_workflow(sequence("build", build=build)))
    machine = StateMachine("pipeline", initial="building")
    machine.add_state("ready", final=True).add_state("rollback", final=True)
    machine.add_transition(
        "building", "ready", invoke="build", action=assign(lambda _, event: {"image": event.data["image"]})
    )
    machine.add_transition("*", "rollback", action=assign(lambda _, event: {"why": event.data["message"]}))
    good = await engine.execute(machine, {"broken": False})
    assert good == {"state": "ready", "context": {"broken": False, "image": "v1"}}
    bad = await engine.execute(machine, {"broken": True})
    assert bad["state"] == "rollback"
    assert "does not compile" in bad["context"]["why"]


async def test_leaving_a_state_cancels_what_it_invoked(engine: Engine) -> None:
    gate = Gate()
    engine.registry.add(as_workflow(sequence("slow", wait=lambda _: gate.passed())))
    machine = StateMachine("pipeline", initial="busy")
    machine.add_state("stopped", final=True)
    machine.add_transition("busy", "done", invoke="slow").add_transition("busy", "stopped", "stop")
    run = await engine.start(machine)
    await gate.until_reached()
    await run.send("stop")
    assert (await run.result())["state"] == "stopped"
    (child,) = await run.children()
    assert child.status is RunStatus.CANCELLED


# --- other processes


def shop(path: str) -> StateMachine:
    def ship(context: dict[str, Any]) -> dict[str, Any]:
        with Path(path).open("a") as log:
            log.write("ship\n")
        if not Path(f"{path}.go").exists():
            threading.Event().wait(60)  # until it is killed
        return {"shipped": context["n"]}

    machine = StateMachine("shop", initial="open", context={"n": 7})
    machine.add_state("sent", final=True)
    machine.add_transition("open", "paid", "pay")
    machine.add_transition("paid", "sent", "ship", action=ship)
    return machine


async def dies(url: str, path: str) -> None:
    async with Engine(url, observers=(), registry=Registry()) as engine:
        run = await engine.start(shop(path), id="order")
        await run.send("pay")
        await run.send("ship")


async def test_a_killed_worker_is_followed_by_one_that_finishes_the_transition(
    url: str, open_engine: OpenEngine, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    path.touch()
    async with running_elsewhere(dies, url, str(path)) as process:
        await until(lambda: path.read_text() == "ship\n")
        process.kill()
        await process.wait()
    Path(f"{path}.go").touch()
    client = await open_engine(url, workers=False)
    assert (await client.get("order")).status is RunStatus.RUNNING
    registry = Registry()
    registry.add(as_workflow(shop(str(path))))
    engine = await open_engine(url, registry=registry)
    assert await engine.result("order") == {"state": "sent", "context": {"n": 7, "shipped": 7}}
    (stage,) = await engine.stages("order")
    assert (stage.name, stage.attempt) == ("ship", 2)


async def test_of_many_that_end_a_machine_one_does_and_the_others_are_refused(engine: Engine) -> None:
    run = await engine.start(assessment())
    outcomes = await asyncio.gather(*(run.send("DELETE") for _ in range(30)), return_exceptions=True)
    assert sum(not isinstance(each, BaseException) for each in outcomes) == 1
    refused = {repr(each) for each in outcomes if isinstance(each, BaseException)}
    assert refused == {"InvalidTransition('Invalid transition: DELETED -> DELETE')"}
