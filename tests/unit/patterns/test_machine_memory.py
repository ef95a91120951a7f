"""Machines in memory: what a trigger comes to, what is refused, and in which order things are done."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast import DefinitionError, InvalidTransition, PayloadRejected, StateMachine
from holdfast.patterns.machine.actions import assign, cancel_event, raise_event, send_event
from holdfast.patterns.machine.chart import MOST_KEPT
from holdfast.patterns.machine.definition import ALWAYS
from holdfast.patterns.machine.turn import Endless
from tests.machines import ASSESSMENT, assessment


def said(log: list[str], word: str) -> Callable[[], None]:
    return lambda: log.append(word)


def refused() -> None:
    raise ConnectionError("no answer")


# --- the contract


def test_transitions_without_events_answer_any_trigger() -> None:
    log: list[str] = []
    ready = False
    fsm = StateMachine(initial="idle")
    fsm.add_transition("idle", "running", guard=lambda: ready)
    fsm.add_transition("running", "completed", action=said(log, "cleanup"))
    fsm.add_transition("running", "failed", action=said(log, "rollback"))
    assert fsm.trigger("start") is False
    assert fsm.state == "idle"
    ready = True
    assert fsm.trigger("start") is True
    assert fsm.state == "running"
    assert fsm.trigger("whatever") is True
    assert (fsm.state, log) == ("completed", ["cleanup"])


def test_the_table_of_an_assessment() -> None:
    fsm = assessment()
    assert fsm.state == "DRAFT"
    with pytest.raises(InvalidTransition, match=r"^Invalid transition: DRAFT -> APPROVE$") as refusal:
        fsm.trigger("APPROVE")
    assert "SUBMIT, DELETE" in refusal.value.fix
    assert fsm.trigger("SUBMIT")
    assert fsm.trigger("REJECT")
    assert fsm.trigger("DELETE")
    assert fsm.is_ended
    assert fsm.available_events == []
    with pytest.raises(InvalidTransition, match="DELETED -> SUBMIT"):
        fsm.trigger("SUBMIT")
    assert [(t.source, t.event, t.target) for t in fsm.history] == [
        ("DRAFT", "SUBMIT", "PENDING_APPROVAL"),
        ("PENDING_APPROVAL", "REJECT", "DRAFT"),
        ("DRAFT", "DELETE", "DELETED"),
    ]
    fsm.reset()
    assert (fsm.state, fsm.history, fsm.is_ended) == ("DRAFT", [], False)


def test_the_pure_form_is_for_a_status_in_a_row_of_ones_own() -> None:
    fsm = assessment()
    assert fsm.next_state("DRAFT", "SUBMIT") == "PENDING_APPROVAL"
    with pytest.raises(InvalidTransition, match="Invalid transition: DRAFT -> APPROVE"):
        fsm.next_state("DRAFT", "APPROVE")
    with pytest.raises(InvalidTransition, match="CLOSED -> SUBMIT"):
        fsm.next_state("CLOSED", "SUBMIT")
    with pytest.raises(PayloadRejected, match="no state 'DARFT'"):
        fsm.next_state("DARFT", "SUBMIT")
    assert fsm.state == "DRAFT"


def test_what_can_be_triggered() -> None:
    fsm = StateMachine(initial="a", context={"n": 1})
    fsm.add_transition("a", "b", "go", guard=lambda context: context["n"] > 1)
    fsm.add_transition("*", "rollback")
    assert not fsm.can_trigger("go")
    assert not fsm.can_trigger("other")
    assert fsm.can_trigger("rollback")
    assert fsm.available_events == ["go", "rollback"]
    fsm.context["n"] = 2
    assert fsm.can_trigger("go")
    assert fsm.state == "a"


# --- from any state


def deployment() -> StateMachine:
    fsm = StateMachine(initial="pending")
    for source, target in (
        ("pending", "building"),
        ("building", "testing"),
        ("testing", "staging"),
        ("staging", "production"),
    ):
        fsm.add_transition(source, target)
    return fsm.add_transition("*", "rollback")


def test_a_misspelt_event_never_rolls_production_back() -> None:
    fsm = deployment()
    for _ in range(4):
        fsm.trigger("next")
    assert fsm.state == "production"
    with pytest.raises(InvalidTransition, match="production -> rolback"):
        fsm.trigger("rolback")
    assert fsm.trigger("rollback")
    assert fsm.state == "rollback"


def test_a_rollback_is_no_step_forward() -> None:
    fsm = deployment()
    fsm.trigger("next")
    assert fsm.trigger("rollback")
    assert fsm.state == "rollback"


def test_from_any_state_comes_last_and_covers_states_that_are_added_later() -> None:
    fsm = StateMachine(initial="a")
    fsm.add_transition("*", "stopped", "stop")
    fsm.add_transition("a", "b", "stop")
    fsm.add_transition("b", "c", "go")
    fsm.add_state("end", final=True).add_transition("stopped", "end", "end")
    fsm.trigger("stop")
    assert fsm.state == "b", "the transition of the state itself goes first"
    fsm.trigger("go")
    fsm.trigger("stop")
    assert fsm.state == "stopped"
    fsm.trigger("end")
    with pytest.raises(InvalidTransition, match="end -> stop"):
        fsm.trigger("stop")


def test_a_failed_action_takes_the_event_less_transition_from_any_state() -> None:
    log: list[str] = []
    fsm = StateMachine(initial="staging")
    fsm.add_transition("staging", "production", "deploy", action=refused)
    fsm.add_transition("*", "rollback", action=lambda _, event: log.append(event.data["message"]))
    assert fsm.trigger("deploy") is True
    assert (fsm.state, log) == ("rollback", ["no answer"])


# --- what actions get, and what becomes of what they do


def test_an_action_changes_the_context_in_place_or_by_what_it_returns() -> None:
    def count(context: dict[str, Any], event: Any) -> dict[str, Any]:
        context["n"] += event.data
        return {"last": event.name}

    fsm = StateMachine(initial="a", context={"n": 1})
    fsm.add_transition("a", "b", "add", action=[count, assign(lambda c: {"double": c["n"] * 2})])
    fsm.trigger("add", 4)
    assert fsm.context == {"n": 5, "last": "add", "double": 10}


def test_an_action_that_fails_leaves_all_as_it_was() -> None:
    def half(context: dict[str, Any]) -> None:
        context["n"] = 2

    fsm = StateMachine(initial="a", context={"n": 1})
    fsm.add_state("b", entry=[half, refused])
    fsm.add_transition("a", "b", "go", action=raise_event("later"))
    with pytest.raises(ConnectionError):
        fsm.trigger("go")
    assert (fsm.state, fsm.context, fsm.history) == ("a", {"n": 1}, [])
    assert fsm.can_trigger("go"), "it is not stuck within the transition"


def test_entry_and_exit_stand_around_the_action() -> None:
    log: list[str] = []
    fsm = StateMachine(initial="a")
    fsm.add_state("a", entry=said(log, "enter a"), exit=said(log, "exit a"))
    fsm.add_state("b", entry=said(log, "enter b"), exit=said(log, "exit b"))
    fsm.add_transition("a", "b", "go", action=said(log, "go"))
    fsm.add_transition("b", "b", "again", action=said(log, "again"))
    fsm.add_transition("b", None, "tell", action=said(log, "tell"))
    for event in ("go", "again", "tell"):
        fsm.trigger(event)
    assert log == ["enter a", "exit a", "go", "enter b", "exit b", "again", "enter b", "tell"]


def test_async_actions_and_workflows_need_an_engine() -> None:
    async def later() -> None: ...

    fsm = StateMachine(initial="a").add_transition("a", "b", "go", action=later)
    with pytest.raises(DefinitionError, match="'later' is async") as refusal:
        fsm.trigger("go")
    assert "engine" in refusal.value.fix
    assert fsm.state == "a"


# --- events


def test_an_event_from_an_action_is_taken_after_the_transition() -> None:
    log: list[str] = []
    fsm = StateMachine(initial="a")

    def enter() -> None:
        log.append(f"enter b, {fsm.trigger('next')}, {fsm.state}")

    fsm.add_state("b", entry=[enter, said(log, "entered b")])
    fsm.add_state("c", entry=said(log, "enter c"))
    fsm.add_transition("a", "b", "go").add_transition("b", "c", "next")
    fsm.trigger("go")
    assert (fsm.state, log) == ("c", ["enter b, True, a", "entered b", "enter c"])


def test_raised_events_come_before_those_from_outside_and_nobody_need_listen() -> None:
    fsm = StateMachine(initial="a")
    fsm.add_transition("a", "b", "go", action=[raise_event("inner"), raise_event("nobody")])
    fsm.add_transition("b", "c", "inner")
    fsm.trigger("go")
    assert fsm.state == "c"


def test_a_name_is_also_what_begins_with_it_and_a_dot() -> None:
    fsm = StateMachine(initial="a")
    fsm.add_transition("a", "b", "order").add_transition("b", "c", "error.*").add_transition("c", "d", "*")
    with pytest.raises(InvalidTransition):
        fsm.trigger("orders")
    fsm.trigger("order.paid")
    fsm.trigger("error.disk.full")
    fsm.trigger("anything")
    assert fsm.state == "d"


def test_transitions_that_wait_for_no_event_go_on_until_rest() -> None:
    fsm = StateMachine(initial="a", context={"n": 0})
    fsm.add_transition("a", "b", "go")
    fsm.add_transition(
        "b", "b", ALWAYS, guard=lambda c: c["n"] < 3, action=assign(lambda c: {"n": c["n"] + 1})
    )
    fsm.add_transition("b", "c", ALWAYS)
    fsm.trigger("go")
    assert (fsm.state, fsm.context) == ("c", {"n": 3})


def test_a_circle_without_events_ends_at_a_bound_and_changes_nothing() -> None:
    fsm = StateMachine(initial="a")
    fsm.add_transition("a", "b", "go").add_transition("b", "c", ALWAYS).add_transition("c", "b", ALWAYS)
    with pytest.raises(Endless, match=r"does not come to rest.*b -> c") as error:
        fsm.trigger("go")
    assert "guards" in error.value.fix
    assert fsm.state == "a"


def test_unheard_events_are_refused_ignored_or_kept_until_a_state_takes_them() -> None:
    def machine(unhandled: Any) -> StateMachine:
        fsm = StateMachine(initial="a", unhandled=unhandled)
        return fsm.add_transition("a", "b", "go").add_transition("b", "c", "finish")

    with pytest.raises(InvalidTransition):
        machine("refuse").trigger("finish")
    ignoring = machine("ignore")
    assert ignoring.trigger("finish") is False
    ignoring.trigger("go")
    assert ignoring.state == "b"
    keeping = machine("defer")
    assert keeping.trigger("finish") is False
    keeping.trigger("go")
    assert keeping.state == "c"


# --- guards


def test_guards_only_look() -> None:
    def change(context: Any) -> bool:
        context["n"] = 2
        return True

    fsm = StateMachine(initial="a", context={"n": 1})
    fsm.add_transition("a", "b", "go", guard=change)
    assert fsm.trigger("go") is False
    assert (fsm.state, fsm.context) == ("a", {"n": 1})


def test_a_guard_that_raises_does_not_hold_and_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> bool:
        raise ZeroDivisionError

    fsm = StateMachine(initial="a")
    fsm.add_transition("a", "b", "go", guard=broken).add_transition("a", "c", "error.execution")
    with caplog.at_level(logging.WARNING, "holdfast.machines"):
        assert fsm.trigger("go") is False
    assert "broken raised ZeroDivisionError" in caplog.text
    assert fsm.state == "c", "who listens to the error hears of it"


# --- time


def test_a_delayed_transition_is_taken_unless_its_state_was_left() -> None:
    fsm = StateMachine(initial="a")
    fsm.add_transition("a", "late", after=5).add_transition("a", "b", "go").add_transition("b", "a", "back")
    fsm.elapse(4.9)
    fsm.trigger("go")
    fsm.trigger("back")
    fsm.elapse(0.2)
    assert fsm.state == "a", "the first clock ended with its state"
    fsm.elapse(4.8)
    assert fsm.state == "late"


def test_an_event_sent_later_can_be_taken_back() -> None:
    fsm = StateMachine(initial="a")
    fsm.add_transition("a", "b", "go", action=send_event("ring", 10, id="alarm"))
    fsm.add_transition("b", "c", "calm", action=cancel_event("alarm"))
    fsm.add_transition("*", "awake", "ring")
    fsm.trigger("go")
    fsm.elapse(9)
    fsm.trigger("calm")
    fsm.elapse(9)
    assert fsm.state == "c"
    fsm.reset()
    fsm.trigger("go")
    fsm.elapse(10)
    assert fsm.state == "awake"


# --- hierarchy


def player() -> StateMachine:
    return StateMachine.from_dict(
        {
            "states": {
                "off": {"on": {"power": "on.last", "reset": "on"}},
                "on": {
                    "initial": "stopped",
                    "on": {"power": "off"},
                    "states": {
                        "stopped": {"on": {"play": "playing"}},
                        "playing": {
                            "initial": "normal",
                            "states": {"normal": {"on": {"fast": "double"}}, "double": {}},
                        },
                        "last": {"type": "history", "history": "deep", "target": "stopped"},
                    },
                },
            }
        }
    )


def test_a_deep_history_remembers_the_innermost_state() -> None:
    fsm = player()
    fsm.trigger("power")
    assert fsm.state == "on.stopped"
    fsm.trigger("play")
    fsm.trigger("fast")
    assert fsm.configuration == {"on", "on.playing", "on.playing.double"}
    fsm.trigger("power")
    fsm.trigger("power")
    assert fsm.state == "on.playing.double"


def test_a_saved_machine_goes_on_where_it_was() -> None:
    fsm = player()
    for event in ("power", "play", "fast", "power"):
        fsm.trigger(event)
    other = player().load(fsm.save())
    other.trigger("power")
    assert other.state == "on.playing.double"
    with pytest.raises(PayloadRejected, match="no state 'nowhere'"):
        other.load({"state": ["nowhere"]})


def test_a_parallel_state_is_done_when_all_its_regions_are() -> None:
    done: list[str] = []
    fsm = StateMachine.from_dict(
        {
            "states": {
                "check": {
                    "type": "parallel",
                    "states": {
                        "mail": {
                            "initial": "wait",
                            "states": {"wait": {"on": {"m": "ok"}}, "ok": {"type": "final"}},
                        },
                        "bank": {
                            "initial": "wait",
                            "states": {"wait": {"on": {"b": "ok"}}, "ok": {"type": "final"}},
                        },
                    },
                    "onDone": {"target": "done", "actions": "tell"},
                },
                "done": {"type": "final"},
            }
        },
        actions={"tell": said(done, "done")},
    )
    assert fsm.state == ("check.mail.wait", "check.bank.wait")
    fsm.trigger("b")
    assert fsm.state == ("check.mail.wait", "check.bank.ok")
    assert done == []
    fsm.trigger("m")
    assert fsm.configuration == {"done"}
    assert done == ["done"]


# --- definitions that cannot be


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({}, "no states"),
        ({"states": {"A": {"on": {"E": "B"}}}}, r"states.A.on.E: there is no state 'B'"),
        ({"states": {"A": {"onn": {}}}}, "states.A: unknown key 'onn'"),
        ({"states": {"A": {"on": {"E": {"target": "A", "when": "x"}}}}}, "unknown key 'when'"),
        ({"states": {"A": {"on": {"E": {"target": "A", "guard": "x"}}}}}, "no guard 'x'"),
        ({"states": {"A": {"entry": "x"}}}, "states.A.entry: there is no action 'x'"),
        ({"states": {"A": {"type": "finale"}}}, "type='finale'"),
        ({"states": {"A": {"after": {"soon": "A"}}}}, "'soon' is no delay"),
        ({"states": {"A": {"type": "final", "on": {"E": "A"}}}}, "'A' has transitions"),
        ({"initial": "B", "states": {"A": {}}}, "initial state 'B' is not there"),
        ({"states": []}, "states is no object but list"),
    ],
)
def test_a_table_with_a_mistake_is_refused_with_its_place(table: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        StateMachine.from_dict(table)


def test_malformed_json_is_refused_with_its_line() -> None:
    with pytest.raises(DefinitionError, match="line 2, column"):
        StateMachine.from_json('{"states":\n {"A": }}')
    with pytest.raises(DefinitionError, match="'A' is there twice"):
        StateMachine.from_json('{"states": {"A": {}, "A": {}}}')


@pytest.mark.parametrize("depth", [5_000, 100_000])
def test_a_table_that_is_nested_too_deep_is_refused(depth: int) -> None:
    text = '{"states":{"a":' * depth + "{}" + "}}" * depth
    with pytest.raises(DefinitionError, match="nested too deep"):
        StateMachine.from_json(text)
    table: dict[str, Any] = {}
    for level in range(depth):
        table = {"states": {f"s{level}": table}}
    with pytest.raises(DefinitionError, match="nested too deep"):
        StateMachine.from_dict(table)


def test_what_cannot_be_a_transition_is_refused() -> None:
    async def later() -> bool:
        return True

    fsm = StateMachine(initial="a")
    with pytest.raises(DefinitionError, match="'later' is async"):
        fsm.add_transition("a", "b", guard=later)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="cannot be called"):
        fsm.add_transition("a", "b", action=lambda *, a: a)
    with pytest.raises(DefinitionError, match="after=-1"):
        fsm.add_transition("a", "b", after=-1)
    with pytest.raises(DefinitionError, match="there already"):
        fsm.add_state("x").add_state("x")
    assert fsm.add_transition("a", "b", "go").trigger("go"), "what was refused left nothing behind"


def test_the_first_state_of_a_table_is_the_initial_one_unless_another_is_named() -> None:
    assert StateMachine.from_dict(ASSESSMENT, initial="ACTIVE").state == "ACTIVE"


# --- threads and copies


def test_of_several_threads_each_transition_counts_once() -> None:
    def count(context: dict[str, Any]) -> None:
        context["n"] = context["n"] + 1

    fsm = StateMachine(initial="a", context={"n": 0})
    fsm.add_transition("a", "b", "go", action=count).add_transition("b", "a", "go", action=count)
    fsm.add_transition("a", None, "fast").add_transition("b", None, "fast")

    def work() -> None:
        for _ in range(300):
            fsm.trigger("go")
            fsm.trigger("fast")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for _ in range(8)]:
            done.result()
    assert (fsm.context, fsm.state) == ({"n": 2400}, "a")


def test_a_copy_is_a_machine_of_its_own() -> None:
    fsm = assessment()
    fsm.trigger("SUBMIT")
    other = copy.deepcopy(fsm)
    other.trigger("APPROVE")
    assert (fsm.state, other.state) == ("PENDING_APPROVAL", "ACTIVE")


@pytest.mark.parametrize("event", ["", 7, None, ["go"], "x" * 201])
def test_what_is_no_name_of_an_event_is_refused(event: Any) -> None:
    with pytest.raises(PayloadRejected, match="event"):
        assessment().trigger(event)


def test_ever_new_names_of_events_take_no_memory_for_good() -> None:
    fsm = assessment()
    for number in range(MOST_KEPT + 10):
        with pytest.raises(InvalidTransition):
            fsm.trigger(f"event {number}")
    assert len(fsm.chart.checked) <= MOST_KEPT
    assert len(fsm.chart._hearing) <= MOST_KEPT
