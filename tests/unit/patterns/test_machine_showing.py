"""What is said of a machine without running it: findings, tables, pictures."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import StateMachine
from holdfast.patterns.machine.actions import cancel_event, raise_event, send_event
from holdfast.patterns.machine.definition import ALWAYS
from tests.machines import assessment


def kinds(machine: StateMachine) -> list[tuple[str, str]]:
    return [(each.kind, each.where) for each in machine.findings()]


def test_a_sound_machine_has_no_findings() -> None:
    assert assessment().findings() == []


def test_states_nobody_reaches_and_traps() -> None:
    machine = StateMachine(initial="a")
    machine.add_state("end", final=True).add_transition("a", "stuck", "go").add_transition("a", "end", "stop")
    machine.add_transition("island", "a", "swim").add_transition("a", "loop", "run")
    machine.add_transition("loop", "loop2", "on").add_transition("loop2", "loop", "on")
    assert kinds(machine) == [
        ("unreachable", "island"),
        ("trap", "stuck"),
        ("endless", "loop"),
        ("endless", "loop2"),
    ]


def test_a_state_that_only_from_any_state_leads_to_is_reached() -> None:
    machine = StateMachine(initial="a").add_transition("*", "b", "x").add_transition("b", "a", "back")
    assert kinds(machine) == []


@pytest.mark.parametrize(
    ("first", "second", "shadowed"),
    [
        ("order", "order.paid", True),
        ("order.paid", "order", False),
        ("*", "x", True),
        ("x", "*", False),
        (None, "x", True),
        ("x", None, False),
        (ALWAYS, ALWAYS, True),
        (ALWAYS, "x", False),
    ],
)
def test_a_transition_behind_one_that_answers_all_it_does(first: Any, second: Any, shadowed: bool) -> None:
    machine = StateMachine(initial="a").add_transition("a", "b", first).add_transition("a", "c", second)
    assert (("shadowed", "a -> c") in kinds(machine)) is shadowed
    guarded = StateMachine(initial="a").add_transition("a", "b", first, guard=lambda: True)
    assert ("shadowed", "a -> c") not in kinds(guarded.add_transition("a", "c", second))


def go() -> None: ...


def full() -> StateMachine:
    machine = StateMachine("full", initial="a", context={"n": 1})
    machine.add_state("a", entry=go, exit=[raise_event("x"), send_event("y", 1.5), cancel_event("y")])
    machine.add_transition("a", "b", ["e", "f"], guard=bool).add_transition("a", "c", after=30, action=go)
    machine.add_transition("b", "c", ALWAYS, guard=bool).add_transition("b", "b.in", "inner", internal=True)
    machine.add_state("b.in", parent="b").add_state("b.end", parent="b", final=True, data={"k": 1})
    machine.add_state("b.h", parent="b", history="deep", initial="b.end")
    machine.add_state("c", parallel=True).add_state("c.1", parent="c").add_state("c.2", parent="c")
    machine.add_transition("c", "b.h", "done.state.c").add_transition("c", "over")
    machine.add_state("over", final=True)
    return machine.add_transition("*", "over", "stop").add_transition("*", "a")


def test_a_table_and_its_machine_are_the_same() -> None:
    machine = full()
    table = machine.to_dict()
    again = StateMachine.from_dict(table, guards={"bool": bool}, actions={"go": go})
    assert again.to_dict() == table
    assert set(again.chart.states) == set(machine.chart.states)
    assert assessment().to_dict()["states"]["DRAFT"] == {
        "on": {"SUBMIT": "PENDING_APPROVAL", "DELETE": "DELETED"}
    }


def test_a_mermaid_diagram_shows_what_is_active() -> None:
    machine = assessment()
    assert "class" not in machine.to_mermaid(), "nobody has looked at it yet"
    machine.trigger("SUBMIT")
    lines = machine.to_mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert '    state "PENDING_APPROVAL" as s1' in lines
    assert "    s0 --> s1 : SUBMIT" in lines
    assert "    [*] --> s0" in lines
    assert "    s3 --> [*]" in lines
    assert lines[-1] == "    class s1 active"


def test_other_pictures_have_all_states_and_what_leads_where() -> None:
    machine = full()
    picture = machine.picture()
    assert {"a", "b", "c", "b.in", "b.h", "*"} <= {box.key for box in picture.boxes}
    ways = {(way.source, way.target, way.label) for way in picture.ways}
    assert ("a", "b", "e f [bool]") in ways
    assert ("a", "c", "after.30s.a / go") in ways
    assert ("*", "over", "stop") in ways
    assert "PENDING_APPROVAL" in assessment().to_ascii()
    assert assessment().to_dot().startswith("digraph")
    assert assessment().to_svg().startswith("<svg")
