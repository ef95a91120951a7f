"""Any machine and any events: against a small model, and in memory against durable, saved and reloaded."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from holdfast import InvalidTransition, StateMachine
from holdfast.core.advance import advance
from holdfast.core.program import fold
from holdfast.core.work import Blobs
from holdfast.machines import Endless
from holdfast.model import facts
from holdfast.model.values import encode
from holdfast.patterns.machine.chart import StateNode
from holdfast.patterns.machine.program import MachineProgram

STATES = ["a", "b", "c", "d"]
EVENTS = ["x", "y", "z"]
DEEPEST = 3
Flat = list[tuple[str, str, str, bool]]

flat = st.lists(
    st.tuples(
        st.sampled_from([*STATES, "*"]), st.sampled_from(STATES), st.sampled_from(EVENTS), st.booleans()
    ),
    max_size=12,
)
events = st.lists(st.sampled_from(EVENTS), max_size=20)


def flat_machine(table: Flat) -> StateMachine:
    machine = StateMachine(initial="a")
    for name in STATES:
        machine.add_state(name)
    for source, target, event, open_ in table:
        machine.add_transition(source, target, event, guard=None if open_ else (lambda: False))
    return machine


def model(table: Flat, state: str, event: str) -> str | None:
    """What a flat machine does: the first transition of the state whose guard holds, then those from any state."""
    listening = [t for s in (state, "*") for t in table if t[0] == s and t[2] == event]
    if not listening:
        return None
    return next((target for _, target, _, open_ in listening if open_), state)


@settings(deadline=None, max_examples=100)
@for_all(flat, events)
def test_a_flat_machine_does_what_the_model_says(table: Flat, sent: list[str]) -> None:
    machine, state = flat_machine(table), "a"
    for event in sent:
        expected = model(table, state, event)
        try:
            machine.trigger(event)
        except InvalidTransition:
            assert expected is None
        else:
            assert expected is not None
            state = expected
        assert machine.state == state


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """A chart as a table: compound, parallel and final states and histories, up to three deep, and transitions."""
    names = iter(range(1000))
    found: list[str] = []

    def state(depth: int) -> dict[str, Any]:
        leaves = ["atomic", "atomic", "final"] if depth else ["atomic"]
        kind = draw(st.sampled_from(leaves + ["compound", "compound", "parallel"] * (depth < DEEPEST)))
        if kind in ("atomic", "final"):
            return {"type": kind}
        children = {}
        for _ in range(draw(st.integers(1, 3))):
            name = f"s{next(names)}"
            found.append(name)
            children[name] = {**state(depth + 1), "id": name}
        first = next(iter(children))
        made: dict[str, Any] = {"type": kind, "states": children}
        if kind == "compound":
            made["initial"] = first
            if draw(st.booleans()):
                name = f"h{next(names)}"
                found.append(name)
                deep = draw(st.sampled_from(["shallow", "deep"]))
                children[name] = {"type": "history", "history": deep, "target": first, "id": name}
        return made

    top = {}
    for _ in range(draw(st.integers(1, 3))):
        name = f"s{next(names)}"
        found.append(name)
        top[name] = {**state(0), "id": name}
    _connect(draw, top, found)
    return {"states": top}


def _connect(draw: st.DrawFn, states: dict[str, Any], found: list[str]) -> None:
    for state in states.values():
        if state["type"] not in ("final", "history"):
            for event in draw(st.lists(st.sampled_from(EVENTS), max_size=2, unique=True)):
                target = draw(st.sampled_from(found))
                raised = draw(
                    st.sampled_from([[], [{"type": "raise", "event": draw(st.sampled_from(EVENTS))}]])
                )
                state.setdefault("on", {})[event] = {"target": f"#{target}", "actions": raised}
        _connect(draw, state.get("states", {}), found)


def is_legal(machine: StateMachine) -> bool:
    """Tell whether of each active compound state one child is active, and of each parallel one all."""
    active = machine.configuration

    def holds(node: StateNode) -> bool:
        children = [child for child in node.children if not child.is_history]
        inside = [child for child in children if child.id in active]
        wanted = len(children) if node.shape == "parallel" else min(1, len(children))
        return len(inside) == wanted and all(map(holds, inside))

    return holds(machine.chart.root)


def step(machine: StateMachine, event: str) -> str:
    """Trigger; say what came of it."""
    try:
        return str(machine.trigger(event))
    except InvalidTransition:
        return "invalid"
    except Endless:
        return "endless"


@settings(deadline=None, max_examples=100)
@for_all(trees(), events)
def test_memory_reload_and_journal_agree_and_what_is_active_is_legal(
    table: dict[str, Any], sent: list[str]
) -> None:
    machine = StateMachine.from_dict(table, name="any")
    program = MachineProgram(machine.chart, {}, Blobs())
    journal: list[facts.Fact] = [facts.RunStarted(workflow="any")]
    progress = fold(program, program.start(), journal)
    progress, recorded = advance(program, progress, [], 1)
    journal += recorded
    saved = StateMachine.from_dict(table, name="any")
    assert is_legal(machine)
    for number, event in enumerate(sent):
        came = step(machine, event)
        saved = StateMachine.from_dict(table, name="any").load(json.loads(json.dumps(saved.save())))
        assert step(saved, event) == came
        assert saved.configuration == machine.configuration
        assert is_legal(machine)
        if isinstance(progress.ledger.ended, facts.RunCompleted):
            assert came == "invalid"
            continue
        arrival = facts.SignalReceived(name=event, key=str(number), data=encode(None))
        progress, recorded = advance(program, progress, [arrival], number + 2)
        journal += recorded
        if came == "endless":
            assert isinstance(progress.ledger.ended, facts.RunFailed)
            return
        assert progress.now.leaves == machine._memory.leaves
        again = fold(program, program.start(), journal)
        assert again == progress
        assert program.decode(program.encode(again)) == again
