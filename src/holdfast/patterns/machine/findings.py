"""What can be said of a machine without running it: states nobody reaches, traps, transitions that are never taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from holdfast.patterns.machine.chart import Chart, StateNode, Transition
from holdfast.patterns.machine.events import EXACTLY, is_about


class Finding(NamedTuple):
    """Something that is probably a mistake: which, where, and in words."""

    kind: Literal["unreachable", "trap", "endless", "shadowed"]
    where: str
    text: str

    def __str__(self) -> str:
        """Say it in words."""
        return self.text


def findings(chart: Chart) -> list[Finding]:
    """Return all that is found, in document order; guards and actions are not run."""
    reached = _reached(chart, chart.root.initial)
    found = [
        Finding("unreachable", node.id, f"state {node.id!r} is never entered")
        for node in chart.states.values()
        if node not in reached and not node.is_history
    ]
    found += _stuck(chart, reached)
    for node in chart.all():
        found += _shadowed(node)
    return found


def _reached(chart: Chart, begins: Iterable[StateNode]) -> set[StateNode]:
    """Return the states that can be entered from these on."""
    reached: set[StateNode] = set()
    pending = list(begins)
    while pending:
        node = pending.pop()
        if node in reached or node is chart.root:
            continue
        reached.add(node)
        pending += [*node.ancestors, *node.initial]
        if node.shape == "parallel":
            pending += [child for child in node.children if not child.is_history]
        if node.is_history and node.parent is not None:
            pending += node.parent.children
        for source in (node, *node.ancestors):
            pending += [target for t in source.transitions for target in t.targets]
    return reached


def _stuck(chart: Chart, reached: set[StateNode]) -> Iterator[Finding]:
    """Yield states without a way on, and, where the machine has an end, those that it is not reached from."""
    ends = {node for node in chart.root.children if node.shape == "final"}
    for node in chart.states.values():
        if node not in reached or node.shape != "atomic":
            continue
        ways = [t for source in (node, *node.ancestors) for t in source.transitions]
        if all(target is node for t in ways for target in t.targets):
            yield Finding(
                "trap", node.id, f"state {node.id!r} is not final, and no transition leads on from it"
            )
        elif ends and not ends & _reached(chart, [node]):
            yield Finding("endless", node.id, f"no final state is reached from {node.id!r}")


def _shadowed(node: StateNode) -> Iterator[Finding]:
    for number, later in enumerate(node.transitions):
        for earlier in node.transitions[:number]:
            if earlier.guard is None and _covers(earlier, later):
                where = f"{node.id or '*'} -> {later.target}"
                yield Finding(
                    "shadowed",
                    where,
                    f"transition {where} is never taken: {node.id or '*'} -> {earlier.target} comes first",
                )
                break


def _covers(earlier: Transition, later: Transition) -> bool:
    """Tell whether the first answers whatever the second does."""
    if earlier.is_eventless or later.is_eventless:
        return earlier.is_eventless and later.is_eventless
    if later.any:
        return earlier.any or "*" in earlier.events
    if earlier.any:
        return not any(name.startswith(EXACTLY) for name in later.events)
    return all(any(_is_within(descriptor, name) for descriptor in earlier.events) for name in later.events)


def _is_within(descriptor: str, other: str) -> bool:
    """Tell whether one descriptor answers all that another does."""
    if other.startswith(EXACTLY):
        return is_about(descriptor, other[1:])
    return not descriptor.startswith(EXACTLY) and is_about(descriptor, other.removesuffix(".*"))
