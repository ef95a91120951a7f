"""What a machine was told of itself, state by state and transition by transition, and the chart that follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from holdfast.core.nesting import workflow_in
from holdfast.errors import DefinitionError
from holdfast.model.ids import SECOND
from holdfast.patterns.machine.actions import Action, Guard
from holdfast.patterns.machine.chart import ROOT, Chart, Clock, Invoke, Shape, StateNode, Transition
from holdfast.patterns.machine.events import EXACTLY, done_invoke

ANY_STATE: Final = "*"
ALWAYS: Final = ""
"""The event of transitions that wait for none: they are taken as soon as their guards let them."""

History = Literal["", "shallow", "deep"]


class DeclaredState(msgspec.Struct):
    """A state as it was declared; one that only a transition names is `implied`."""

    id: str
    parent: str = ROOT
    entry: tuple[Action, ...] = ()
    exit: tuple[Action, ...] = ()
    final: bool = False
    parallel: bool = False
    history: History = ""
    initial: tuple[str, ...] = ()
    initial_actions: tuple[Action, ...] = ()
    invokes: tuple[Any, ...] = ()
    data: Any = None
    implied: bool = False


class DeclaredTransition(msgspec.Struct):
    """A transition as it was declared. `events` is None for one without an event, empty for one that waits for none."""

    source: str
    targets: tuple[str, ...]
    events: tuple[str, ...] | None = None
    guard: Guard | None = None
    actions: tuple[Action, ...] = ()
    after: int | None = None
    invoke: Any = None
    internal: bool = False

    def __str__(self) -> str:
        """Show source and targets."""
        return f"{self.source} -> {', '.join(self.targets) or self.source}"


class Definition:
    """All that was declared, in order."""

    def __init__(self, name: str, initial: tuple[str, ...]) -> None:
        """Begin without states but for the initial ones."""
        self.name = name
        self.initial: Final = initial
        self.initial_actions: tuple[Action, ...] = ()
        self.unhandled = "refuse"
        self.states: Final[dict[str, DeclaredState]] = {}
        self.transitions: Final[list[DeclaredTransition]] = []

    def imply(self, names: Sequence[str]) -> None:
        """Note states that are only named so far."""
        for name in names:
            if name != ANY_STATE and name not in self.states:
                self.states[name] = DeclaredState(name, implied=True)

    def compiled(self) -> Chart:
        """Return the chart. Raises DefinitionError naming the state or transition that cannot be."""
        self.imply(self.initial)
        root = StateNode(ROOT, "compound", None, -1)
        nodes = self._nodes(root)
        for state in self.states.values():
            self._finish(nodes[state.id], state, nodes)
        root.initial = tuple(nodes[name] for name in self.initial)
        root.initial_actions = self.initial_actions
        for declared in self.transitions:
            self._connect(declared, root, nodes)
        for node in (root, *nodes.values()):
            _check(node)
        return Chart(self.name, root, nodes, self.unhandled)

    def _nodes(self, root: StateNode) -> dict[str, StateNode]:
        """Return the nodes in document order: depth first, children in the order of their declaration."""
        children: dict[str, list[DeclaredState]] = {}
        for state in self.states.values():
            if state.parent and state.parent not in self.states:
                raise DefinitionError(
                    f"state {state.id!r}: there is no parent {state.parent!r}", fix="Add the parent, too."
                )
            children.setdefault(state.parent, []).append(state)
        nodes: dict[str, StateNode] = {}

        def add(parent: StateNode) -> None:
            for state in children.get(parent.id, ()):
                shape = _shape(state, has_children=state.id in children)
                node = nodes[state.id] = StateNode(state.id, shape, parent, len(nodes))
                parent.children.append(node)
                add(node)

        add(root)
        if missing := self.states.keys() - nodes.keys():
            raise DefinitionError(
                f"the states {', '.join(sorted(missing))} are within one another in a circle",
                fix="Give one of them another parent.",
            )
        return nodes

    def _finish(self, node: StateNode, state: DeclaredState, nodes: dict[str, StateNode]) -> None:
        node.entry, node.exit, node.data = state.entry, state.exit, state.data
        for name in state.initial:
            if name not in nodes:
                raise DefinitionError(f"state {node.id!r}: its initial state {name!r} is not there")
        begins = tuple(nodes[name] for name in state.initial)
        if not begins and node.shape == "compound":
            begins = tuple(child for child in node.children if not child.is_history)[:1]
        owner = node.parent if node.is_history else node
        for target in begins:
            if owner is None or not target.is_within(owner):
                raise DefinitionError(
                    f"state {node.id!r}: its initial state {target.id!r} is not within"
                    f" {'the same state' if node.is_history else 'it'}"
                )
        node.initial, node.initial_actions = begins, state.initial_actions
        node.invokes = tuple(self._invoke(node, given) for given in state.invokes)

    def _invoke(self, node: StateNode, given: Any) -> Invoke:
        if isinstance(given, Invoke):
            return given
        return Invoke(invoke_name(given), given)

    # --- transitions

    def _connect(self, declared: DeclaredTransition, root: StateNode, nodes: dict[str, StateNode]) -> None:
        for name in declared.targets:
            if name not in nodes:
                raise DefinitionError(
                    f"transition {declared}: there is no state {name!r}",
                    fix=f"The states are {', '.join(nodes)}.",
                )
        source = root if declared.source == ANY_STATE else nodes[declared.source]
        events, catches_all, rescues = self._listening(declared, source)
        source.transitions.append(
            Transition(
                source,
                tuple(nodes[name] for name in declared.targets),
                events,
                declared.guard,
                declared.actions,
                internal=declared.internal,
                any=catches_all,
                rescues=rescues,
            )
        )

    def _listening(
        self, declared: DeclaredTransition, source: StateNode
    ) -> tuple[tuple[str, ...], bool, bool]:
        """Return what a transition answers: events, whether any other, whether failures that nothing else answers."""
        events = list(declared.events or ())
        if declared.after is not None:
            events.append(EXACTLY + self._clock(source, declared.after))
        if declared.invoke is not None:
            events.append(EXACTLY + done_invoke(self._invoked(source, declared.invoke)))
        alone = declared.events is None and not events
        if alone and declared.source == ANY_STATE:
            return tuple(EXACTLY + name for name in declared.targets), False, True
        return tuple(events), alone, False

    def _clock(self, source: StateNode, delay: int) -> str:
        event = f"after.{shown_duration(delay)}.{source.id}"
        if all(clock.event != event for clock in source.clocks):
            source.clocks = (*source.clocks, Clock(event, delay))
        return event

    def _invoked(self, source: StateNode, workflow: Any) -> str:
        for invoke in source.invokes:
            if invoke.workflow is workflow:
                return invoke.id
        made = self._invoke(source, workflow)
        source.invokes = (*source.invokes, made)
        return made.id


def _shape(state: DeclaredState, *, has_children: bool) -> Shape:
    if state.history:
        return state.history
    if state.final:
        return "final"
    if state.parallel:
        return "parallel"
    return "compound" if has_children else "atomic"


def _check(node: StateNode) -> None:
    """Refuse what a state of its shape cannot have."""
    for holds, problem, fix in _problems(node):
        if holds:
            raise DefinitionError(f"state {node.id!r} {problem}", fix=fix)


def _problems(node: StateNode) -> list[tuple[bool, str, str]]:
    is_leaf = node.shape == "final" or node.is_history
    return [
        (is_leaf and bool(node.children), "has states within it", "Only other states have."),
        (
            is_leaf and bool(node.transitions),
            "has transitions",
            "A final state or a history is not left by one.",
        ),
        (is_leaf and bool(node.invokes), "invokes a workflow", "Let another state invoke it."),
        (node.is_history and bool(node.entry or node.exit), "has actions", "A history has none."),
        (
            node.is_history and (node.parent is None or node.parent.id == ROOT),
            "is a history of nothing",
            "Give it a parent.",
        ),
        (
            node.is_history and not node.initial,
            "has nothing to begin with",
            "Say where to go while nothing is remembered: initial=...",
        ),
        (
            node.shape == "parallel" and not node.children,
            "is parallel, without regions",
            "Add states within it.",
        ),
        (
            node.shape == "compound" and not node.initial,
            "has nothing to begin with",
            "Say which state is its initial one.",
        ),
    ]


def invoke_name(given: Any) -> str:
    """Return how an invoked workflow is called. Raises DefinitionError for what is no workflow."""
    if workflow_in(given) is None:
        raise DefinitionError(
            f"invoke={given!r:.80} is no workflow",
            fix="Give a workflow or its registered name; a function is an action.",
        )
    return given if isinstance(given, str) else getattr(given, "name", "") or "invoke"


_UNITS: Final = (
    ("d", 86_400 * SECOND),
    ("h", 3_600 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("ms", 1_000),
)


def shown_duration(microseconds: int) -> str:
    """Return a duration as people write it: `30s`, `1500ms`."""
    for unit, size in _UNITS:
        if microseconds and microseconds % size == 0:
            return f"{microseconds // size}{unit}"
    return f"{microseconds / 1_000:.3f}".rstrip("0").rstrip(".") + "ms"
