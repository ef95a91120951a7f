"""The interpreter: one turn of a machine, from an event until it is at rest again (run to completion).

A turn works on a situation of its own and never waits. `go` gives the next action that is a step, for whoever runs the
machine to do (a machine in memory at once, a durable one as a step of its run), and None when the machine is at rest.
What actions raise is taken, with the transitions that wait for no event, before the next event from outside. (SCXML
appendix D; a microstep is planned when it is chosen and takes effect when its last action is done.)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from holdfast.errors import HoldfastError, NondeterminismError
from holdfast.model.facts import EdgeTried
from holdfast.patterns.machine.actions import Action, Assign, Call, Cancel, Log, Raise, SendLater
from holdfast.patterns.machine.chart import MOST_KEPT, Chart, Transition
from holdfast.patterns.machine.events import ERROR
from holdfast.patterns.machine.planning import Item, Plan, beginning, plan, without_conflicts

logger: Final = logging.getLogger("holdfast.machines")

MOST_MICROSTEPS: Final = 1_000
"""Transitions of one turn; a machine that takes more never comes to rest."""

Verdict = Literal["taken", "refused", "unheard"]


class Endless(HoldfastError):
    """The machine does not come to rest."""

    code = "endless_transitions"
    default_fix = "Give the transitions that wait for no event guards that end their circle."


class Raised(Exception):
    """What a pure action raised is its `__cause__`; `name` is that of the action."""

    def __init__(self, name: str, cause: Exception) -> None:
        """Keep both."""
        super().__init__(f"{name}: {cause}")
        self.name = name
        self.__cause__ = cause


E = TypeVar("E")
"""An event, as the one who runs the machine keeps it."""


class Doing(msgspec.Struct, Generic[E], omit_defaults=True):
    """A microstep whose items are being done, up to the item number `at`; it takes effect at their end.

    `event` is what it answers, and what its actions get; `raised` are the events that its items raised, `sends` what it
    sends later, and takes back, in order.
    """

    plan: Plan
    at: int = 0
    event: E | None = None
    raised: list[E] = []
    sends: list[SendLater | Cancel] = []


class Situation(msgspec.Struct, Generic[E], omit_defaults=True):
    """What a machine is: active leaves, histories, and while a turn is under way what is still to do.

    `event` is the one that the turn began with, `changed` tells whether a transition was taken since.
    """

    leaves: tuple[str, ...] = ()
    histories: dict[str, tuple[str, ...]] = {}
    inner: list[E] = []
    doing: Doing[E] | None = None
    event: E | None = None
    microsteps: int = 0
    changed: bool = False

    def copy(self) -> Situation[E]:
        """Return one that can be changed without this one's knowing."""
        doing = self.doing
        if doing is not None:
            doing = Doing(doing.plan, doing.at, doing.event, [*doing.raised], [*doing.sends])
        return Situation(
            self.leaves,
            {**self.histories},
            [*self.inner],
            doing,
            self.event,
            self.microsteps,
            self.changed,
        )


class Data(Protocol):
    """The context of a machine and its events, wherever they are kept."""

    def view(self) -> Any:
        """Return the context for guards, to be read only."""

    def draft(self) -> Any:
        """Return the context with what the actions of this microstep have changed, to be read only."""

    def assign(self, changes: Mapping[str, Any]) -> None:
        """Change keys of the draft."""

    def keep(self) -> None:
        """Make the draft the context: the microstep takes effect."""

    def drop(self) -> None:
        """Forget the draft: the microstep is not taken."""

    def event(self, name: str, kind: str, data: Any = None) -> Any:
        """Return an event that the machine says itself."""

    def told(self, event: Any) -> Any:
        """Return an event as the user's code gets it."""


class Tried(NamedTuple):
    """What a state looked at when it was asked: every transition with its outcome."""

    source: str
    edges: tuple[EdgeTried, ...] = ()


class Choice(NamedTuple):
    """What an event leads to: whether anything listens to it, what was looked at, and the plan of what is taken.

    `moved` are the transitions that are taken: source, event, target.
    """

    heard: bool
    tried: Sequence[Tried] = ()
    plan: Plan | None = None
    moved: Sequence[tuple[str, str, str]] = ()


D = TypeVar("D", bound=Data)


class Turn(Generic[D]):
    """See the module. `tried` is what was looked at, in order, and `moves` counts what was taken."""

    __slots__ = ("_chart", "data", "effects", "entered", "left", "moved", "now", "sends", "tried")

    def __init__(self, chart: Chart, now: Situation[Any], data: D) -> None:
        """Go on from a situation, which changes."""
        self._chart = chart
        self.data: Final = data
        self.now = now
        self.effects = 0
        """How many microsteps have taken effect."""
        self.tried: list[Tried] = []
        self.moved: list[tuple[str, str, str]] = []
        """The transitions that were taken: source, event, target."""
        self.left: list[str] = []
        """States whose clocks and invokes ended, of those that had any when the turn began."""
        self.entered: list[str] = []
        """States whose clocks and invokes begin."""
        self.sends: list[SendLater | Cancel] = []

    # --- what comes from outside

    def begin(self) -> None:
        """Enter the machine."""
        first = beginning(self._chart)
        self.now.doing = Doing(first)
        self.tried.append(Tried("START", (EdgeTried(", ".join(first.leaves), reason="initial"),)))

    def take(self, event: Any) -> Verdict:
        """Choose the transitions that an event from outside leads to; `go` takes them."""
        now = self.now
        now.event, now.microsteps, now.changed = event, 0, False
        choice = self._choose(event)
        if self._begins(choice, event):
            return "taken"
        return "refused" if choice.heard else "unheard"

    def go(self) -> Call | None:
        """Do all that is pure, until the next action that is a step is to be done, or the machine is at rest.

        Raises Endless; NondeterminismError when an action of a microstep under way is there no more.
        """
        now = self.now
        while True:
            if now.doing is not None:
                step = self._items(now.doing)
                if step is not None:
                    return step
                self._take_effect(now.doing)
            if self._chart.is_over(now.leaves):
                now.inner = []
                return None
            if not self._next():
                return None

    def done(self) -> None:
        """Take note that the action which `go` gave is done."""
        assert self.now.doing is not None  # noqa: S101 - `go` gave an action of it
        self.now.doing.at += 1

    def failed(self, data: Any = None) -> bool:
        """Take no part of a microstep whose action failed; tells whether a transition answers the failure.

        What fails while a failure is answered is answered by nobody: else it would be for ever.
        """
        before, self.now.doing = self.now.doing, None
        self.data.drop()
        answering = before is not None and before.event is not None and before.event.kind == "failure"
        event = self.data.event(ERROR, "failure", data)
        return not answering and self._begins(self._choose(event), event)

    # --- choosing

    def _next(self) -> bool:
        """Plan the next microstep; False when there is none."""
        now = self.now
        if self._chart.has_always and self._begins(self._choose(None), None):
            return True
        while now.inner:
            event = now.inner.pop(0)
            if self._begins(self._choose(event), event):
                return True
        return False

    def _choose(self, event: Any) -> Choice:
        """Return what an event leads to, and tell of it. What it is without asking a guard is looked up."""
        choices, leaves = self._chart.choices, self.now.leaves
        key = (leaves, "", "") if event is None else (leaves, event.name, event.kind)
        choice: Choice | None = choices.get(key)
        if choice is None:
            choice, is_sure = self._asked(event, key)
            if is_sure:
                if len(choices) >= MOST_KEPT:  # names come from outside
                    choices.clear()
                choices[key] = choice
        self.tried += choice.tried
        return choice

    def _asked(self, event: Any, key: tuple[tuple[str, ...], str, str]) -> tuple[Choice, bool]:
        """Return what an event leads to, and whether it always does: no guard was asked, no history looked at."""
        chart, now, (leaves, name, kind) = self._chart, self.now, key
        chosen: list[Transition] = []
        asked: dict[Transition, str] = {}
        for answering in chart.hearing(*key):
            for transition in answering:
                if transition not in asked:
                    asked[transition] = self._holds(transition, event)
                if not asked[transition]:
                    chosen.append(transition)
                    break
        tried = self._tried(asked, name) if chosen or kind == "sent" else []
        is_sure = not chart.histories and all(transition.guard is None for transition in asked)
        if not chosen:
            return Choice(bool(asked), tried), is_sure
        if len(chosen) > 1:
            chosen = without_conflicts(chart, leaves, now.histories, chosen)
        moved = [(t.source.id or self._where, name, t.target) for t in chosen]
        return Choice(True, tried, plan(chart, leaves, now.histories, chosen), moved), is_sure

    def _holds(self, transition: Transition, event: Any) -> str:
        """Return why a transition is not taken; empty when it may be. A guard that raises does not hold."""
        guard = transition.guard
        if guard is None:
            return ""
        try:
            told = None if event is None or not guard.takes else self.data.told(event)
            held = guard.holds(self.data.view(), told, self._is_active)
        except Exception as error:  # noqa: BLE001 - user code
            reason = f"{guard.name or 'its guard'} raised {type(error).__name__}: {error}"
            logger.warning(
                "machine %s: %s -> %s: %s", self._chart.name, transition.source.id, transition.target, reason
            )
            if event is None or event.name != ERROR:  # else a listener that raises would be asked for ever
                self.now.inner.append(self.data.event(ERROR, "raised", {"message": str(error)}))
            return reason
        return "" if held else f"{guard.name or 'its guard'} refused"

    def _is_active(self, state: str) -> bool:
        node = self._chart.states.get(state)
        return node is not None and node in self._chart.active(self.now.leaves)

    def _tried(self, asked: Mapping[Transition, str], event: str) -> list[Tried]:
        by_source: dict[str, list[EdgeTried]] = {}
        for transition, verdict in asked.items():
            edge = EdgeTried(transition.target, event, result=not verdict, reason=verdict)
            by_source.setdefault(transition.source.id or self._where, []).append(edge)
        return [Tried(source, tuple(edges)) for source, edges in by_source.items()]

    @property
    def _where(self) -> str:
        return ", ".join(self.now.leaves)

    # --- taking

    def _begins(self, choice: Choice, event: Any) -> bool:
        """Begin the microstep that was chosen; False when none was."""
        if choice.plan is None:
            return False
        now = self.now
        now.microsteps += 1
        if now.microsteps > MOST_MICROSTEPS:
            circle = " -> ".join(f"{source}" for source, _, _ in self.moved[-4:])
            raise Endless(
                f"machine {self._chart.name!r} does not come to rest: {MOST_MICROSTEPS} transitions without an event,"
                f" the last ones {circle} -> {choice.moved[0][2]}"
            )
        self.moved += choice.moved
        now.doing = Doing(choice.plan, 0, now.event if event is None else event)
        return True

    def _items(self, doing: Doing[Any]) -> Call | None:
        """Do what is data, up to the next action that is a step."""
        items = doing.plan.items
        while doing.at < len(items):
            item = items[doing.at]
            if item.raised:
                state = self._chart.states.get(item.final)
                doing.raised.append(self.data.event(item.raised, "raised", state.data if state else None))
            elif (step := self._do(doing, self._action(item))) is not None:
                return step
            doing.at += 1
        return None

    def _action(self, item: Item) -> Action:
        action = self._chart.actions.get(item.place)
        if action is None:
            raise NondeterminismError(
                f"the machine {self._chart.name!r} has no action at {item.place!r} any more"
            )
        return action

    def _do(self, doing: Doing[Any], action: Action) -> Call | None:
        match action:
            case Call():
                return action
            case Assign():
                self._assign(action, doing.event)
            case Raise(event, data):
                doing.raised.append(self.data.event(event, "raised", data))
            case SendLater() | Cancel():
                doing.sends.append(action)
            case Log(message):
                logger.info("machine %s: %s", self._chart.name, message)
        return None

    def _assign(self, action: Assign, event: Any) -> None:
        try:
            told = None if event is None else self.data.told(event)
            self.data.assign(action(self.data.draft(), told))
        except Exception as error:
            raise Raised(action.name, error) from error

    def _take_effect(self, doing: Doing[Any]) -> None:
        now, planned = self.now, doing.plan
        self.data.keep()
        self.effects += 1
        now.leaves = planned.leaves
        if planned.histories:
            now.histories |= planned.histories
        now.inner += doing.raised
        now.doing = None
        now.changed = True
        self.sends += doing.sends
        if planned.left or planned.entered:
            self.left += planned.left
            self.entered = [name for name in self.entered if name not in planned.left]
            self.entered += planned.entered
