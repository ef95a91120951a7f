"""The program of a machine: given some facts, when these arrive, then this is recorded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast import StateMachine
from holdfast.core.ledger import OpenStep
from holdfast.core.program import fold
from holdfast.core.work import Blobs
from holdfast.errors import NondeterminismError
from holdfast.model import facts
from holdfast.model.values import encode, encode_map, pack
from holdfast.patterns.machine.actions import assign
from holdfast.patterns.machine.program import MachineProgram
from tests.machines import assessment
from tests.unit.given import NOON, SECOND, Given, given, kinds

STARTED = facts.RunStarted(workflow="machine")


def program(machine: StateMachine, **context: Any) -> MachineProgram:
    return MachineProgram(machine.chart, {**machine.initial_context, **context}, Blobs())


def begun(machine: StateMachine, **context: Any) -> Given:
    return given(program(machine, **context), [STARTED]).when()


def sent(name: str, key: str = "", data: Any = None) -> facts.SignalReceived:
    return facts.SignalReceived(name=name, key=key or name, data=encode(data))


def said(after: Given) -> dict[str, Any]:
    """What the last decision says."""
    last = [fact for fact in after.recorded if isinstance(fact, facts.DecisionMade)][-1]
    return {"key": last.key, **msgspec.json.decode(last.data)}


def nothing() -> None: ...


def test_a_machine_begins_with_a_decision() -> None:
    after = begun(assessment()).then(facts.DecisionMade)
    assert said(after) == {"key": "", "state": ["DRAFT"], "changed": True}


def test_an_event_is_answered_in_the_advance_that_takes_it() -> None:
    after = begun(assessment()).when(sent("SUBMIT", "k1")).then(facts.SignalReceived, facts.DecisionMade)
    assert said(after) == {"key": "k1", "took": True, "state": ["PENDING_APPROVAL"], "changed": True}


def test_of_two_of_one_event_the_second_is_refused() -> None:
    after = begun(assessment()).when(sent("SUBMIT", "k1"), sent("SUBMIT", "k2"))
    assert kinds(after.recorded) == ["SignalReceived", "SignalReceived", "DecisionMade", "DecisionMade"]
    assert said(after)["refused"] == "Invalid transition: PENDING_APPROVAL -> SUBMIT"


def test_events_after_the_end_are_refused_before_the_run_completes() -> None:
    after = begun(assessment()).when(sent("DELETE"), sent("SUBMIT"))
    after.then(
        facts.SignalReceived, facts.SignalReceived, facts.DecisionMade, facts.DecisionMade, facts.RunCompleted
    )
    assert said(after)["refused"] == "Invalid transition: DELETED -> SUBMIT"


def test_an_action_is_scheduled_with_the_decision_and_takes_effect_with_its_result() -> None:
    machine = StateMachine(initial="a").add_transition("a", "b", "go", action=nothing)
    step = facts.StepScheduled(step="nothing#1", name="nothing")
    deciding = begun(machine).when(sent("go", "k")).then(facts.SignalReceived, facts.DecisionMade, step)
    assert "state" not in said(deciding)
    assert said(deciding)["key"] == ""
    done = facts.StepCompleted(step="nothing#1", attempt=1, data=pack(encode_map({"x": 1})))
    after = deciding.when(done).then(facts.StepCompleted, facts.DecisionMade)
    assert said(after) == {"key": "k", "ends": "kept", "state": ["b"], "changed": True}
    assert after.program.state(after.progress) == {"state": "b", "context": {"x": 1}}


def test_guards_and_assign_are_asked_once_and_never_on_reload() -> None:
    asked: list[str] = []

    def may() -> bool:
        asked.append("guard")
        return True

    def count(context: Any) -> dict[str, Any]:
        asked.append("assign")
        return {"n": context["n"] + 1}

    machine = StateMachine(initial="a", context={"n": 1})
    machine.add_transition("a", "b", "go", guard=may, action=assign(count))
    first = begun(machine)
    journal = [STARTED, *first.recorded]
    after = first.when(sent("go"))
    journal += after.recorded
    assert asked == ["guard", "assign"]
    reloaded = program(machine)
    progress = fold(reloaded, reloaded.start(), journal)
    assert asked == ["guard", "assign"]
    assert reloaded.state(progress) == {"state": "b", "context": {"n": 2}}
    assert reloaded.decide(progress) == ()


def test_a_prefix_and_a_fact_are_the_fold_and_a_stored_fold_is_the_progress() -> None:
    machine = StateMachine(initial="a", context={"n": 1})
    machine.add_transition("a", "b", "go", action=[nothing, assign({"m": 2}), nothing], after=5)
    machine.add_transition("b", "a", after=7)
    walk = begun(machine)
    journal = [STARTED, *walk.recorded]
    for arrival in (sent("go"), done("nothing#1"), done("nothing#2", y=1), done("timer:after.7s.b#1")):
        walk = walk.when(arrival)
        journal += walk.recorded
        other = program(machine)
        progress = other.decode(other.encode(fold(other, other.start(), journal)))
        assert other.encode(progress) == walk.program.encode(walk.progress)
        assert other.decide(progress) == ()
    assert walk.program.state(walk.progress) == {"state": "a", "context": {"n": 1, "m": 2, "y": 1}}


def done(step: str, **changes: Any) -> facts.StepCompleted:
    return facts.StepCompleted(step=step, attempt=1, data=pack(encode_map(changes)))


def test_a_clock_starts_on_entry_and_is_cancelled_in_the_decision_that_leaves() -> None:
    machine = StateMachine(initial="a").add_transition("a", "b", after=5).add_transition("a", "c", "go")
    first = begun(machine).then(facts.DecisionMade, facts.StepScheduled)
    timer = first.recorded[1]
    assert isinstance(timer, facts.StepScheduled)
    assert (timer.step, timer.kind, timer.due) == ("timer:after.5s.a#1", "timer", NOON + 6 * SECOND)
    left = first.when(sent("go"))
    left.then(facts.SignalReceived, facts.DecisionMade, facts.StepCancelRequested)


def test_a_state_that_is_gone_parks_the_run() -> None:
    first = begun(assessment())
    journal = [STARTED, *first.recorded]
    changed = program(StateMachine(initial="OTHER"))
    after = given(changed, journal).when(sent("SUBMIT"))
    (_, parked) = after.recorded
    assert isinstance(parked, facts.RunPaused)
    assert "is in state 'DRAFT'" in parked.reason
    assert "only OTHER" in parked.reason


def test_an_action_that_is_gone_is_no_work() -> None:
    machine = StateMachine(initial="a").add_transition("a", "b", "go", action=nothing)
    first = begun(machine)
    journal = [STARTED, *first.recorded, *first.when(sent("go")).recorded]
    changed = program(StateMachine(initial="a").add_transition("a", "b", "go"))
    progress = fold(changed, changed.start(), journal)
    with pytest.raises(NondeterminismError, match="the action 'nothing' under way"):
        changed.work(progress, OpenStep("nothing#1", "nothing"))
