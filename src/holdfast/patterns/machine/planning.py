"""What transitions come to: which states are left and entered, and all that is done on the way, in order.

The algorithm is that of SCXML, appendix D. It looks at nothing but the chart, the active leaves and the histories: a
plan is made when the transitions are chosen, whatever their actions come to, and takes effect when these are done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from holdfast.patterns.machine.chart import Chart, StateNode, Transition
from holdfast.patterns.machine.events import done_of


class Item(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One thing to do: the action at a place of the chart, or an event to raise, with the data of a final state."""

    place: str = ""
    raised: str = ""
    final: str = ""


class Plan(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What takes effect when all items are done. `left` and `entered` tell whose clocks and invokes end and begin."""

    leaves: tuple[str, ...]
    items: tuple[Item, ...] = ()
    histories: dict[str, tuple[str, ...]] = {}
    left: tuple[str, ...] = ()
    entered: tuple[str, ...] = ()


Histories = Mapping[str, tuple[str, ...]]


def plan(chart: Chart, leaves: tuple[str, ...], histories: Histories, taken: Sequence[Transition]) -> Plan:
    """Return what the transitions come to from where the machine is."""
    if chart.histories:
        return _planned(chart, leaves, histories, taken)
    key = (leaves, taken[0].key) if len(taken) == 1 else (leaves, *(t.key for t in taken))
    found: Plan | None = chart.plans.get(key)
    if found is None:
        found = chart.plans[key] = _planned(chart, leaves, histories, taken)
    return found


def beginning(chart: Chart) -> Plan:
    """Return what entering the machine comes to."""
    found: Plan | None = chart.plans.get(())
    if found is None:
        found = chart.plans[()] = _beginning(chart)
    return found


def _beginning(chart: Chart) -> Plan:
    way = _Way(chart, {})
    way.enter(chart.root.initial, chart.root)
    first = [Item(f"{chart.root.id}^initial/{n}") for n in range(len(chart.root.initial_actions))]
    items, active = _entering(chart, way, set())
    return Plan(_leaves(active), (*first, *items), {}, (), _busy(way.ordered()))


def without_conflicts(
    chart: Chart, leaves: tuple[str, ...], histories: Histories, enabled: Iterable[Transition]
) -> list[Transition]:
    """Return the transitions that are taken together: of two that leave the same state, that of the inner source.

    Of two that are not within one another the first stands.
    """
    enabled = list(dict.fromkeys(enabled))
    if len(enabled) < 2:  # noqa: PLR2004
        return enabled
    active = chart.active(leaves)
    kept: list[Transition] = []
    for one in enabled:
        exits = _exits(chart, active, histories, one)
        beaten = [other for other in kept if exits & _exits(chart, active, histories, other)]
        if all(one.source.is_within(other.source) for other in beaten):
            kept = [other for other in kept if other not in beaten]
            kept.append(one)
    return kept


def _planned(
    chart: Chart, leaves: tuple[str, ...], histories: Histories, taken: Sequence[Transition]
) -> Plan:
    active = chart.active(leaves)
    exits: set[StateNode] = set().union(*(_exits(chart, active, histories, t) for t in taken))
    leaving = sorted(exits, key=lambda node: -node.order)
    remembered = _remembered(chart, exits, active)
    items = [Item(f"{node.id}^exit/{n}") for node in leaving for n in range(len(node.exit))]
    items += [Item(f"{t.key}/{n}") for t in taken for n in range(len(t.actions))]
    way = _Way(chart, {**histories, **remembered})
    for transition in taken:
        way.enter(transition.targets, _domain(chart, way.histories, transition))
    entering, active = _entering(chart, way, active - exits)
    return Plan(_leaves(active), (*items, *entering), remembered, _busy(leaving), _busy(way.ordered()))


def _busy(nodes: Iterable[StateNode]) -> tuple[str, ...]:
    """Return the names of those states that have something going on while they are active."""
    return tuple(node.id for node in nodes if node.clocks or node.invokes)


def _leaves(active: set[StateNode]) -> tuple[str, ...]:
    inner = {node.parent for node in active}
    return tuple(node.id for node in sorted(active - inner, key=lambda node: node.order))


def _remembered(chart: Chart, exits: set[StateNode], active: set[StateNode]) -> dict[str, tuple[str, ...]]:
    found = {}
    for history in chart.histories:
        owner = history.parent
        if owner is None or owner not in exits:
            continue
        if history.shape == "deep":
            within = [n for n in active if n.is_within(owner) and not any(m.is_within(n) for m in active)]
        else:
            within = [n for n in active if n.parent is owner]
        found[history.id] = tuple(n.id for n in sorted(within, key=lambda node: node.order))
    return found


def _targets(chart: Chart, histories: Histories, targets: Iterable[StateNode]) -> list[StateNode]:
    """Return the targets, in place of a history what it remembers."""
    found: list[StateNode] = []
    pending = list(targets)
    while pending:
        node = pending.pop(0)
        if not node.is_history:
            found.append(node)
        elif node.id in histories:
            found += [chart.states[name] for name in histories[node.id]]
        else:
            pending = [*node.initial, *pending]
    return found


def _domain(chart: Chart, histories: Histories, transition: Transition) -> StateNode | None:
    """Return the state within which the transition happens; None when nothing is left or entered."""
    targets = _targets(chart, histories, transition.targets)
    if not targets:
        return None
    source = transition.source
    inside = all(target.is_within(source) for target in targets)
    if transition.internal and source.shape == "compound" and inside:
        return source
    return _shared(chart, [source, *targets])


def _shared(chart: Chart, nodes: Sequence[StateNode]) -> StateNode:
    for ancestor in nodes[0].ancestors:
        if ancestor.shape == "compound" and all(node.is_within(ancestor) for node in nodes[1:]):
            return ancestor
    return chart.root


def _exits(
    chart: Chart, active: set[StateNode], histories: Histories, transition: Transition
) -> set[StateNode]:
    domain = _domain(chart, histories, transition)
    return set() if domain is None else {node for node in active if node.is_within(domain)}


class _Way:
    """The states that are entered, and why: by default, or in place of a history."""

    def __init__(self, chart: Chart, histories: Histories) -> None:
        self.histories: Histories = histories
        self.nodes: dict[StateNode, None] = {}
        self.by_default: set[StateNode] = set()
        self.defaults: dict[StateNode, StateNode] = {}
        self._chart = chart

    def ordered(self) -> list[StateNode]:
        return sorted(self.nodes, key=lambda node: node.order)

    def enter(self, targets: Iterable[StateNode], domain: StateNode | None) -> None:
        if domain is None:
            return
        targets = list(targets)
        for target in targets:
            self._down(target)
        for target in _targets(self._chart, self.histories, targets):
            self._up(target, domain)

    def _down(self, node: StateNode) -> None:
        """Enter a state with what is active in it at first."""
        if node.is_history:
            self._restore(node)
            return
        self.nodes[node] = None
        if node.shape == "compound":
            self.by_default.add(node)
            for target in node.initial:
                self._down(target)
            for target in node.initial:
                self._up(target, node)
        elif node.shape == "parallel":
            self._regions(node)

    def _restore(self, history: StateNode) -> None:
        remembered = self.histories.get(history.id)
        if remembered is None:
            targets: Sequence[StateNode] = history.initial
            if history.parent is not None:
                self.defaults[history.parent] = history
        else:
            targets = [self._chart.states[name] for name in remembered]
        for target in targets:
            self._down(target)
        if history.parent is not None:
            for target in targets:
                self._up(target, history.parent)

    def _up(self, node: StateNode, domain: StateNode) -> None:
        """Enter what lies between a state and the domain, with the other regions of what is parallel there."""
        for ancestor in node.ancestors:
            if ancestor is domain:
                return
            self.nodes[ancestor] = None
            if ancestor.shape == "parallel":
                self._regions(ancestor)

    def _regions(self, node: StateNode) -> None:
        for child in node.children:
            if not child.is_history and not any(m is child or m.is_within(child) for m in self.nodes):
                self._down(child)


def _entering(chart: Chart, way: _Way, active: set[StateNode]) -> tuple[list[Item], set[StateNode]]:
    """Return what entering comes to, and what is active then."""
    items: list[Item] = []
    active = set(active)
    for node in way.ordered():
        active.add(node)
        items += [Item(f"{node.id}^entry/{n}") for n in range(len(node.entry))]
        if node in way.by_default:
            items += [Item(f"{node.id}^initial/{n}") for n in range(len(node.initial_actions))]
        if (history := way.defaults.get(node)) is not None:
            items += [Item(f"{history.id}^initial/{n}") for n in range(len(history.initial_actions))]
        if node.shape == "final":
            items += _ended(chart, node, active)
    return items, active


def _ended(chart: Chart, final: StateNode, active: set[StateNode]) -> list[Item]:
    owner = final.parent
    if owner is None or owner is chart.root:
        return []
    ends = [Item(raised=done_of(owner.id), final=final.id)]
    outer = owner.parent
    if outer is not None and outer.shape == "parallel" and all(_is_done(c, active) for c in outer.children):
        ends.append(Item(raised=done_of(outer.id)))
    return ends


def _is_done(node: StateNode, active: set[StateNode]) -> bool:
    if node.is_history:
        return True
    if node.shape == "compound":
        return any(child.shape == "final" and child in active for child in node.children)
    if node.shape == "parallel":
        return all(_is_done(child, active) for child in node.children)
    return node.shape == "final" and node in active
