"""What pictures of a machine show: its states and transitions; as a Mermaid state diagram also what is within what."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from holdfast.core.picture.shape import Box, Picture, Way
from holdfast.core.picture.texts import FILLS
from holdfast.core.program import END, START
from holdfast.patterns.machine.chart import Chart, StateNode, Transition
from holdfast.patterns.machine.events import EXACTLY

ANY: Final = "*"


def picture(chart: Chart) -> Picture:
    """Return the states as boxes, side by side, with the transitions between them; `*` stands for any state."""
    states = [node for node in chart.states.values() if node.shape != "parallel" or node.transitions]
    boxes = [Box(node.id, label_of(node), is_state=True) for node in states]
    if chart.root.transitions:
        boxes.append(Box(ANY, "any state", is_state=True))
    finals = any(node.shape == "final" and node.parent is chart.root for node in states)
    ends = [Box(END, END, is_end=True)] if finals else []
    return Picture(chart.name, (Box(START, START, is_end=True), *boxes, *ends), tuple(_ways(chart)))


def _ways(chart: Chart) -> Iterator[Way]:
    for node in _entered(chart.root):
        yield Way(START, node.id)
    for node in chart.all():
        for transition in node.transitions:
            for target in transition.targets or (node,):
                guarded = transition.guard is not None
                yield Way(node.id or ANY, target.id, text_of(transition), conditional=guarded)
    for node in chart.states.values():
        if node.shape == "compound" or (node.shape == "parallel" and node.transitions):
            for child in _entered(node):
                yield Way(node.id, child.id, "within", conditional=True)
        if node.shape == "final" and node.parent is chart.root:
            yield Way(node.id, END)


def _entered(node: StateNode) -> list[StateNode]:
    """Return what is drawn for entering a state: its initial ones, of parallel ones the regions."""
    inner = node.children if node.shape == "parallel" else list(node.initial)
    return [
        each
        for one in inner
        for each in ([one] if one.shape != "parallel" or one.transitions else _entered(one))
    ]


def label_of(node: StateNode) -> str:
    """Return what a state's box says."""
    return {"shallow": f"{node.id} (H)", "deep": f"{node.id} (H*)"}.get(node.shape, node.id)


def text_of(transition: Transition) -> str:
    """Return what stands at a transition: event, guard and actions, as in UML."""
    events = " ".join(name.removeprefix(EXACTLY) for name in transition.events) or (
        "any" if transition.any else ""
    )
    guard = "" if transition.guard is None else f"[{transition.guard.name or 'guard'}]"
    names = [name for each in transition.actions if (name := getattr(each, "name", ""))]
    return " ".join(filter(None, (events, guard, f"/ {', '.join(names)}" if names else "")))


def state_diagram(chart: Chart, active: Collection[str] = ()) -> str:
    """Return a Mermaid state diagram, with the active states in colour."""
    ids = {node.id: f"s{node.order}" for node in chart.states.values()}
    lines = ["stateDiagram-v2", *_within(chart.root, ids, 1)]
    if chart.root.transitions:
        lines.append('    state "any state" as any')
    for node in chart.all():
        source = ids.get(node.id, "any")
        for transition in node.transitions:
            text = f" : {_plain(text_of(transition))}" if text_of(transition) else ""
            lines += [
                f"    {source} --> {ids[t.id]}{text}" for t in transition.targets or (node,) if t.id in ids
            ]
    shown = [ids[name] for name in active if name in ids]
    if shown:
        fill, stroke = FILLS["running"]
        lines.append(f"    classDef active fill:{fill},stroke:{stroke},color:#18181b")
        lines.append(f"    class {','.join(shown)} active")
    return "\n".join(lines) + "\n"


def _within(node: StateNode, ids: dict[str, str], depth: int) -> Iterator[str]:
    indent = "    " * depth
    for number, child in enumerate(node.children):
        if node.shape == "parallel" and number and not child.is_history:
            yield f"{indent}--"
        yield f'{indent}state "{_plain(label_of(child))}" as {ids[child.id]}'
        if child.children:
            yield f"{indent}state {ids[child.id]} {{"
            yield from _within(child, ids, depth + 1)
            yield f"{indent}}}"
        if child.shape == "final":
            yield f"{indent}{ids[child.id]} --> [*]"
    yield from (f"{indent}[*] --> {ids[each.id]}" for each in node.initial if each.parent is node)


def _plain(text: str) -> str:
    """Return a text without what Mermaid takes for its own."""
    return text.translate(_OWN)


_OWN: Final = str.maketrans('";#:\n{}', "',   ()")
