"""A machine as a table in the style of XState, functions as their names: what `table.read` takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from holdfast.patterns.machine.actions import Action, Cancel, Log, Raise, SendLater
from holdfast.patterns.machine.chart import StateNode, Transition
from holdfast.patterns.machine.definition import Definition, invoke_name, shown_duration
from holdfast.patterns.machine.events import EXACTLY


def written(definition: Definition, context: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition as a table that `table.read` takes, with functions as their names."""
    chart = definition.compiled()
    table: dict[str, Any] = {"id": definition.name} if definition.name else {}
    table["initial"] = chart.root.initial[0].id
    if context:
        table["context"] = dict(context)
    table["states"] = {node.id: _written_state(node) for node in chart.root.children}
    if chart.root.transitions:
        table["states"]["*"] = {"on": _written_events(chart.root)}
    return table


def _written_state(node: StateNode) -> dict[str, Any]:
    kind = {"final": "final", "parallel": "parallel", "shallow": "history", "deep": "history"}.get(node.shape)
    state: dict[str, Any] = {"type": kind} if kind else {}
    if node.is_history:
        return {**state, "history": node.shape, "target": f"#{node.initial[0].id}"}
    if node.shape == "compound":
        state["initial"] = _local(node.initial[0])
    for key, actions in (("entry", node.entry), ("exit", node.exit)):
        if actions:
            state[key] = [_written_action(each) for each in actions]
    if node.invokes:
        state["invoke"] = [{"src": invoke_name(each.workflow), "id": each.id} for each in node.invokes]
    if node.data is not None:
        state["output"] = node.data
    state |= _written_transitions(node)
    if node.children:
        state["states"] = {_local(child): _written_state(child) for child in node.children}
    return state


def _local(node: StateNode) -> str:
    return node.id.rpartition(".")[2]


def _written_transitions(node: StateNode) -> dict[str, Any]:
    clocks = {EXACTLY + clock.event: shown_duration(clock.delay) for clock in node.clocks}
    parts: dict[str, Any] = {}
    if after := [(clocks[e], t) for t in node.transitions for e in t.events if e in clocks]:
        parts["after"] = _grouped(after)
    if always := [_written(t) for t in node.transitions if t.is_eventless]:
        parts["always"] = always
    if events := _written_events(node, clocks):
        parts["on"] = events
    return parts


def _written_events(node: StateNode, besides: Collection[str] = ()) -> dict[str, Any]:
    names = [
        (name.removeprefix(EXACTLY), t)
        for t in node.transitions
        for name in (("*",) if t.any else t.events)
        if name not in besides
    ]
    return _grouped(names)


def _grouped(given: list[tuple[str, Transition]]) -> dict[str, Any]:
    grouped: dict[str, Any] = {}
    for key, transition in given:
        grouped.setdefault(key, []).append(_written(transition))
    return {key: found[0] if len(found) == 1 else found for key, found in grouped.items()}


def _written(transition: Transition) -> Any:
    parts: dict[str, Any] = {}
    if transition.guard is not None:
        parts["guard"] = transition.guard.name or "guard"
    if transition.actions:
        parts["actions"] = [_written_action(each) for each in transition.actions]
    if transition.internal:
        parts["internal"] = True
    if transition.any or transition.rescues:
        parts["any"] = True
    targets = [f"#{node.id}" if "." in node.id else node.id for node in transition.targets]
    target = targets[0] if len(targets) == 1 else targets
    if not parts and targets:
        return target
    return {"target": target, **parts} if targets else parts


def _written_action(given: Action) -> Any:
    match given:
        case Raise(event, data):
            return {"type": "raise", "event": event} | ({} if data is None else {"data": data})
        case SendLater(event, delay, id_):
            return {"type": "raise", "event": event, "delay": shown_duration(delay), "id": id_}
        case Cancel(id_):
            return {"type": "cancel", "id": id_}
        case Log(message):
            return {"type": "log", "message": message}
        case _:
            return given.name or "action"
