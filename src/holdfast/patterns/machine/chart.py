"""The chart: a machine's definition, compiled once into what every transition looks up.

States form a tree under a root that has no name; the transitions from `"*"` belong to the root, so they cover every
state, have the lowest priority, and leave a machine that has ended alone. The order of definition, depth first, is the
document order of SCXML.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Final, Literal

import msgspec

from holdfast.core.nesting import runnable
from holdfast.core.retries import RetryPolicy
from holdfast.errors import InvalidTransition
from holdfast.model.checks import LABEL, argument
from holdfast.patterns.machine.actions import Action, Assign, Call, Guard
from holdfast.patterns.machine.events import EXACTLY, is_about

Shape = Literal["atomic", "compound", "parallel", "final", "shallow", "deep"]
"""What a state is; the last two are histories."""

ROOT: Final = ""

MOST_KEPT: Final = 10_000
"""So many questions are kept with their answers."""


class Clock(msgspec.Struct, frozen=True):
    """A delayed transition's clock: it starts when its state is entered, and ends when that is left."""

    event: str
    delay: int


class Invoke(msgspec.Struct, frozen=True):
    """A workflow that runs while a state is active."""

    id: str
    workflow: Any
    retry: RetryPolicy | None = None
    timeout: float | None = None


class Transition:
    """A way out of a state. `events` are descriptors; without any it is taken as soon as its guard lets it.

    `any` ones answer every event from outside that no transition from `"*"` names. `rescues` is set for those that
    answer failures which nothing else answers.
    """

    __slots__ = (
        "actions",
        "any",
        "events",
        "guard",
        "internal",
        "is_eventless",
        "key",
        "rescues",
        "source",
        "target",
        "targets",
    )

    def __init__(
        self,
        source: StateNode,
        targets: tuple[StateNode, ...],
        events: tuple[str, ...] = (),
        guard: Guard | None = None,
        actions: tuple[Action, ...] = (),
        *,
        internal: bool = False,
        any: bool = False,
        rescues: bool = False,
    ) -> None:
        """Keep the parts; `key` names the transition within its chart."""
        self.source: Final = source
        self.targets: Final = targets
        self.events: Final = events
        self.guard: Final = guard
        self.actions: Final = actions
        self.internal: Final = internal
        self.any: Final = any
        self.rescues: Final = rescues
        self.key: Final = f"{source.id or '*'}>{len(source.transitions)}"
        self.target: Final = ", ".join(state.id for state in targets) or source.id
        """The names of its targets; that of its source when it has none."""
        self.is_eventless: Final = not events and not any
        """It waits for no event."""

    def names(self, event: str) -> bool:
        """Tell whether one of its descriptors is about the event."""
        return any(is_about(descriptor, event) for descriptor in self.events)


class StateNode:
    """A state of the chart, with what is done on entry and exit."""

    __slots__ = (
        "ancestors",
        "children",
        "clocks",
        "data",
        "entry",
        "exit",
        "id",
        "initial",
        "initial_actions",
        "invokes",
        "order",
        "parent",
        "shape",
        "transitions",
    )

    def __init__(self, id: str, shape: Shape, parent: StateNode | None, order: int) -> None:
        """Make a state without children and transitions."""
        self.id: Final = id
        self.shape: Shape = shape
        self.parent: Final = parent
        self.order: Final = order
        self.ancestors: Final[tuple[StateNode, ...]] = () if parent is None else (parent, *parent.ancestors)
        self.children: list[StateNode] = []
        self.transitions: list[Transition] = []
        self.entry: tuple[Action, ...] = ()
        self.exit: tuple[Action, ...] = ()
        self.initial: tuple[StateNode, ...] = ()
        """Where a compound state begins, and a history that has nothing to remember."""
        self.initial_actions: tuple[Action, ...] = ()
        self.clocks: tuple[Clock, ...] = ()
        self.invokes: tuple[Invoke, ...] = ()
        self.data: Any = None
        """Of a final state: what the end of its parent says."""

    @property
    def is_history(self) -> bool:
        """Tell whether it stands for what was active before."""
        return self.shape in ("shallow", "deep")

    def is_within(self, other: StateNode) -> bool:
        """Tell whether it is a proper descendant of the other."""
        return other in self.ancestors

    def __repr__(self) -> str:
        """Show the name."""
        return f"StateNode({self.id!r})"


class Chart:
    """All states by name, in document order, and what is kept of questions that were asked before."""

    def __init__(self, name: str, root: StateNode, states: dict[str, StateNode], unhandled: str) -> None:
        """Keep the tree; `unhandled` says what becomes of an event that nobody listens to."""
        self.name: Final = name
        self.root: Final = root
        self.states: Final = states
        self.unhandled: Final = unhandled
        self.has_always: Final = any(t.is_eventless for s in self.all() for t in s.transitions)
        self.histories: Final = tuple(s for s in states.values() if s.is_history)
        self.actions: Final = dict(_actions(self))
        """Every action by its place, as a fold and the id of a step name it."""
        self._chains: dict[tuple[str, ...], tuple[tuple[StateNode, ...], ...]] = {}
        self._hearing: dict[tuple[tuple[str, ...], str, str], tuple[tuple[Transition, ...], ...]] = {}
        self._ends: Final = frozenset(node.id for node in root.children if node.shape == "final")
        self.checked: Final[set[str]] = set()
        """Names of events that were looked at before: what they may be need not be asked twice."""
        self._events: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.plans: Final[dict[Any, Any]] = {}
        """What transitions come to, kept by who plans them."""
        self.choices: Final[dict[tuple[tuple[str, ...], str, str], Any]] = {}
        """What events lead to where no guard is asked, kept by who chooses."""
        self.moves: Final[dict[tuple[tuple[str, ...], str], Any]] = {}
        """What an event comes to where nothing but its name decides."""

    def all(self) -> Iterator[StateNode]:
        """Yield the root and all states."""
        yield self.root
        yield from self.states.values()

    def chains(self, leaves: tuple[str, ...]) -> tuple[tuple[StateNode, ...], ...]:
        """Return for each active leaf the leaf and its ancestors, innermost first."""
        found = self._chains.get(leaves)
        if found is None:
            nodes = [self.states[leaf] for leaf in leaves]
            found = self._chains[leaves] = tuple((node, *node.ancestors) for node in nodes)
        return found

    def active(self, leaves: tuple[str, ...]) -> set[StateNode]:
        """Return all that is active with these leaves, but for the root."""
        return {node for chain in self.chains(leaves) for node in chain if node is not self.root}

    def hearing(self, leaves: tuple[str, ...], event: str, kind: str) -> tuple[tuple[Transition, ...], ...]:
        """Return for each active leaf the transitions that answer the event, in the order they are tried.

        An event without a name stands for none: then these are the transitions that wait for no event.
        """
        key = (leaves, event, kind)
        found = self._hearing.get(key)
        if found is None:
            if len(self._hearing) >= MOST_KEPT:  # names come from outside
                self._hearing.clear()
            found = self._hearing[key] = tuple(
                self._heard(chain, event, kind) for chain in self.chains(leaves)
            )
        return found

    def _heard(self, chain: Sequence[StateNode], event: str, kind: str) -> tuple[Transition, ...]:
        if not event:
            return tuple(t for node in chain for t in node.transitions if t.is_eventless)
        named = kind == "sent" and any(t.names(event) for t in self.root.transitions)
        answering = [
            t
            for node in chain
            for t in node.transitions
            if t.names(event) or (t.any and kind == "sent" and not named)
        ]
        if kind == "failure":
            answering += [t for t in self.root.transitions if t.rescues and t not in answering]
        return tuple(answering)

    def events(self, leaves: tuple[str, ...]) -> tuple[str, ...]:
        """Return the descriptors that are listened to, `*` for every event, in the order they are tried."""
        found = self._events.get(leaves)
        if found is None:
            found = self._events[leaves] = self._descriptors(leaves)
        return found

    def missing(self, leaves: tuple[str, ...]) -> str:
        """Return the first of the leaves that is no state of the chart (any more), empty when all are."""
        if leaves in self._events:
            return ""  # the usual case: they were looked at before
        return next((leaf for leaf in leaves if leaf not in self.states), "")

    def _descriptors(self, leaves: tuple[str, ...]) -> tuple[str, ...]:
        if self.is_over(leaves):
            return ()
        chains = self.chains(leaves)
        transitions = [t for chain in chains for node in chain for t in node.transitions]
        names = [name for t in transitions for name in ("*",) * t.any + t.events]
        own = ("after.", "done.", "error.")
        said = (name.removeprefix(EXACTLY) for name in dict.fromkeys(names))
        return tuple(name for name in said if not name.startswith(own))

    def check(self, event: str) -> None:
        """Raise PayloadRejected for what is no name of an event."""
        if len(self.checked) >= MOST_KEPT:
            self.checked.clear()
        self.checked.add(argument("event", event, LABEL))

    def is_over(self, leaves: tuple[str, ...]) -> bool:
        """Tell whether a final state of the machine itself is active."""
        return not self._ends.isdisjoint(leaves)

    def refusal(self, leaves: tuple[str, ...], event: str) -> InvalidTransition:
        """Return the refusal of an event that nobody listens to."""
        events = self.events(leaves)
        fix = f"There it takes {', '.join(events)}." if events else "No event leads on from there."
        return InvalidTransition(f"Invalid transition: {', '.join(leaves)} -> {event}", fix=fix)

    def label(self, item: str, action: Call) -> str:
        """Return how an action's step is called: as its function, else by its place."""
        if action.name:
            return action.name
        place = item.rpartition("/")[0]
        state, caret, what = place.rpartition("^")
        if caret:
            return f"{what} of {state}"
        transition = next(t for node in self.all() for t in node.transitions if t.key == place)
        return f"{transition.source.id or '*'} -> {transition.target}"

    def part(self, name: str) -> Any:
        """Return the workflow of the action or invoke of that name, None when it has none of its own."""
        given = [invoke.workflow for node in self.all() for invoke in node.invokes if invoke.id == name]
        calls = [
            (place, each) for place, each in self.actions.items() if isinstance(each, Call) and each.workflow
        ]
        given += [call.workflow for place, call in calls if self.label(place, call) == name]
        own = [workflow for workflow in given if not isinstance(workflow, str)]
        return runnable(own[0], name) if own else None

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the definition: names and structure, not the code of functions."""
        return hashlib.blake2b(repr(_outline(self)).encode(), digest_size=8).hexdigest()


def _actions(chart: Chart) -> Iterator[tuple[str, Action]]:
    for node in chart.all():
        groups = {
            f"{node.id}^entry": node.entry,
            f"{node.id}^exit": node.exit,
            f"{node.id}^initial": node.initial_actions,
        }
        groups |= {transition.key: transition.actions for transition in node.transitions}
        for place, actions in groups.items():
            for index, each in enumerate(actions):
                yield f"{place}/{index}", each


def _outline(chart: Chart) -> list[Any]:
    return [
        (
            *(node.id, node.shape, [child.id for child in node.children], [s.id for s in node.initial]),
            [(clock.event, clock.delay) for clock in node.clocks],
            [invoke.id for invoke in node.invokes],
            [
                (t.target, t.events, t.any, t.internal, t.guard.name if t.guard else None, _names(t.actions))
                for t in node.transitions
            ],
            *(_names(node.entry), _names(node.exit), _names(node.initial_actions)),
        )
        for node in chart.all()
    ]


def _names(actions: Sequence[Action]) -> list[str]:
    """Return how the actions are called; what has no name is the same in each process, whatever its address."""
    return [(each.name or "call") if isinstance(each, Call | Assign) else repr(each) for each in actions]
