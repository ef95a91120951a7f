"""A machine in memory: the interpreter on a situation of this process, its actions called at once.

Where nothing but the event's name decides (no guard, no action, no clock, nothing to follow), what it comes to is
looked up: it was worked out by the same interpreter when it happened first.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from holdfast.core.locking import new_lock
from holdfast.errors import DefinitionError, PayloadRejected
from holdfast.patterns.machine.actions import Call, SendLater
from holdfast.patterns.machine.chart import Chart
from holdfast.patterns.machine.events import Event
from holdfast.patterns.machine.planning import beginning
from holdfast.patterns.machine.turn import Raised, Situation, Turn

if TYPE_CHECKING:
    from holdfast.patterns.machine.builder import StateMachine

logger: Final = logging.getLogger("holdfast.machines")

TRAIL: Final = 1_000
"""So many transitions of a machine in memory are remembered."""


class Taken(NamedTuple):
    """A transition that was taken; `event` is empty for one that waited for none."""

    source: str
    event: str
    target: str


class Move(NamedTuple):
    """What an event comes to where nothing but its name decides."""

    leaves: tuple[str, ...]
    taken: Taken


class Waiting(NamedTuple):
    """An event that comes at an instant of the machine's own time."""

    due: int
    number: int
    event: str


class Live:
    """The context of a machine in memory: actions change a draft, which counts when the transition does."""

    def __init__(self, context: dict[str, Any]) -> None:
        """Take the context as it is."""
        self.context: Final = context
        self.changed: dict[str, Any] | None = None
        self._view: Final = MappingProxyType(context)

    def __deepcopy__(self, memo: dict[int, Any]) -> Live:
        """Return the same with a context of its own."""
        return Live(deepcopy(self.context, memo))

    def view(self) -> Any:
        """Return the context for guards, to be read only."""
        return self._view

    def draft(self) -> Any:
        """Return the context with what this microstep has changed, to be read only."""
        return self._view if self.changed is None else MappingProxyType(self.changed)

    def working(self) -> dict[str, Any]:
        """Return the draft for an action to change."""
        if self.changed is None:
            self.changed = dict(self.context)
        return self.changed

    def assign(self, changes: Mapping[str, Any]) -> None:
        """Change keys of the draft."""
        self.working().update(changes)

    def keep(self) -> None:
        """Make the draft the context."""
        if self.changed is not None:
            self.restore(self.changed)
            self.changed = None

    def drop(self) -> None:
        """Forget the draft."""
        self.changed = None

    def restore(self, values: Mapping[str, Any]) -> None:
        """Make these the context, which stays the same object."""
        values = dict(values)
        self.context.clear()
        self.context.update(values)

    def event(self, name: str, kind: Any, data: Any = None) -> Event:
        """Return an event of the machine's own."""
        return Event(name, data, kind)

    def told(self, event: Any) -> Any:
        """Return the event: it is as the user's code gets it."""
        return event


class Memory:
    """See the module. Of several threads one at a time is in it; the others wait until its transition is done."""

    def __init__(self, machine: StateMachine) -> None:
        """Begin before the beginning: the machine is entered when somebody first looks at it."""
        self._machine: Final = machine
        self._data = Live(dict(machine.initial_context))
        self._now: Situation[Event] | None = None
        self._lock = new_lock()
        self._busy = False
        self._queue: deque[Event] = deque()
        self._deferred: list[Event] = []
        self._time = 0
        self._number = 0
        self._waiting: dict[str, Waiting] = {}
        self.trail: deque[Taken] = deque(maxlen=TRAIL)

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the lock, so that a machine can be copied."""
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was copied, with a lock of its own."""
        self.__dict__.update(state, _lock=new_lock())

    @property
    def context(self) -> dict[str, Any]:
        """The machine's own data."""
        return self._data.context

    @property
    def leaves(self) -> tuple[str, ...]:
        """The innermost active states."""
        return self._begun().leaves

    @property
    def has_begun(self) -> bool:
        """Tell whether somebody has looked at the machine since it was made."""
        return self._now is not None

    def _begun(self) -> Situation[Event]:
        """Return the situation; the machine is entered first, if nobody has looked at it yet."""
        if self._now is None:
            self._now = Situation(beginning(self._machine.chart).leaves)
            self._attempt(None)
        return self._now

    # --- events

    def trigger(self, event: str, data: Any = None) -> bool:
        """See `StateMachine.trigger`."""
        with self._lock:
            now, chart = self._now or self._begun(), self._machine.chart
            if type(event) is not str or event not in chart.checked:
                chart.check(event)
            if self._busy:
                self._queue.append(Event(event, data))
                return True
            move = chart.moves.get((now.leaves, event))
            if move is not None and not self._deferred:
                now.leaves = move.leaves
                self.trail.append(move.taken)
                if logger.isEnabledFor(logging.INFO):
                    self._log(move.taken)
                return True
            took = self._take(Event(event, data))
            while self._queue:
                self._take(self._queue.popleft())
            return took

    def _take(self, event: Event) -> bool:
        chart, now = self._machine.chart, self._begun()
        before = now.leaves
        if chart.is_over(before):
            raise chart.refusal(before, event.name)
        verdict, turn = self._attempt(event)
        if verdict == "unheard":
            if chart.unhandled == "refuse":
                raise chart.refusal(before, event.name)
            if chart.unhandled == "defer":
                self._deferred.append(event)
            return False
        if verdict == "taken" and turn is not None:
            _remember(chart, before, event, turn)
            self._recall(before)
        return verdict == "taken"

    def _recall(self, before: tuple[str, ...]) -> None:
        """Take up what no state listened to so far, now that another one is active."""
        if self._deferred and self._begun().leaves != before and not self._machine.is_ended:
            waiting, self._deferred = self._deferred, []
            for event in waiting:
                self._take(event)

    def _attempt(self, event: Event | None) -> tuple[str, Turn[Live] | None]:
        """Take an event, or the beginning, to its end; whatever raises leaves the machine as it was."""
        machine, data = self._machine, self._data
        now = self._now or Situation()
        turn = Turn(machine.chart, now.copy(), data)
        saved = dict(data.context)
        self._busy = True
        try:
            if event is None:
                turn.begin()
                verdict = "taken"
            else:
                verdict = turn.take(event)
            if verdict == "taken" or turn.now.inner:  # also a guard that raised says something
                self._run(turn)
        except BaseException:
            self._now = now if event is not None else None
            data.drop()
            data.restore(saved)
            self._queue.clear()
            raise
        finally:
            self._busy = False
        if turn.effects:
            self._settle(turn)
        return verdict, turn

    def _run(self, turn: Turn[Live]) -> None:
        while True:
            try:
                call = turn.go()
                if call is None:
                    return
                self._call(call, turn)
                turn.done()
            except Raised as failure:
                self._fail(turn, failure.__cause__ or failure, failure.name)

    def _call(self, call: Call, turn: Turn[Live]) -> None:
        if call.workflow is not None or call.is_async:
            what = "a workflow" if call.workflow is not None else "async"
            raise DefinitionError(
                f"the action {call.name!r} is {what}, and `trigger` runs in memory",
                fix="Run the machine under an engine: engine.start(machine), run.send(event).",
            )
        try:
            doing = turn.now.doing
            result = call(self._data.working() if call.takes else None, doing.event if doing else None)
        except Exception as error:
            raise Raised(call.name or "an action", error) from error
        if isinstance(result, Mapping):
            self._data.assign(result)

    def _fail(self, turn: Turn[Live], error: BaseException, name: str) -> None:
        if not turn.failed({"message": str(error), "type": type(error).__name__, "action": name}):
            raise error
        logger.warning("machine %s: %s failed: %s: %s", self._machine.name, name, type(error).__name__, error)

    def _settle(self, turn: Turn[Live]) -> None:
        """Be where the turn led to, with the clocks that are wound up there."""
        self._now = now = turn.now
        now.event = None
        chart = self._machine.chart
        if turn.left or turn.entered:
            for name in turn.left:
                for clock in chart.states[name].clocks:
                    self._waiting.pop(clock.event, None)
            for name in turn.entered:
                for clock in chart.states[name].clocks:
                    self._wait(clock.event, clock.event, clock.delay)
        for send in turn.sends:
            if isinstance(send, SendLater):
                self._wait(f"send {send.id}", send.event, send.delay)
            else:
                self._waiting.pop(f"send {send.id}", None)
        told = logger.isEnabledFor(logging.INFO)
        for source, event, target in turn.moved:
            taken = Taken(source, event, target)
            self.trail.append(taken)
            if told:
                self._log(taken)

    def _wait(self, key: str, event: str, delay: int) -> None:
        self._number += 1
        self._waiting[key] = Waiting(self._time + delay, self._number, event)

    def _log(self, taken: Taken) -> None:
        logger.info(
            "machine %s: %s -> %s%s",
            self._machine.name,
            taken.source,
            taken.target,
            f" ({taken.event})" * bool(taken.event),
        )

    # --- time

    def elapse(self, duration: int) -> None:
        """Take what is due within so many microseconds, in order."""
        with self._lock:
            self._elapse(duration)

    def _elapse(self, duration: int) -> None:
        self._begun()
        until = self._time + duration
        while self._waiting and not self._machine.is_ended:
            key = min(self._waiting, key=self._waiting.__getitem__)
            waiting = self._waiting[key]
            if waiting.due > until:
                break
            del self._waiting[key]
            self._time = max(self._time, waiting.due)
            self._hear(waiting.event, "sent" if key.startswith("send ") else "raised")
        self._time = until

    def _hear(self, name: str, kind: Any) -> None:
        """Take an event of the machine's own; nobody need listen."""
        before = self._begun().leaves
        self._attempt(Event(name, None, kind))
        self._recall(before)
        while self._queue:
            self._take(self._queue.popleft())

    # --- questions

    def can_trigger(self, event: str, data: Any) -> bool:
        """See `StateMachine.can_trigger`."""
        with self._lock:
            chart, now = self._machine.chart, self._begun()
            if chart.is_over(now.leaves):
                return False
            return Turn(chart, now.copy(), self._data).take(Event(event, data)) == "taken"

    def next_state(self, state: str, event: str, data: Any, context: Mapping[str, Any] | None) -> str:
        """See `StateMachine.next_state`."""
        chart = self._machine.chart
        if state not in chart.states:
            raise PayloadRejected(
                f"there is no state {state!r}",
                field="state",
                fix=f"The states are {', '.join(chart.states)}.",
            )
        given = Live(dict(self._machine.initial_context if context is None else context))
        turn = Turn(chart, Situation((state,)), given)
        if chart.is_over((state,)) or (verdict := turn.take(Event(event, data))) == "unheard":
            raise chart.refusal((state,), event)
        if verdict == "refused":
            return state
        assert turn.now.doing is not None  # noqa: S101 - it was taken
        return ", ".join(turn.now.doing.plan.leaves)

    # --- keeping

    def save(self) -> dict[str, Any]:
        """See `StateMachine.save`."""
        with self._lock:
            return self._saved()

    def _saved(self) -> dict[str, Any]:
        now = self._begun()
        if self._busy:
            raise DefinitionError(
                "the machine is within a transition", fix="Save it from outside of its actions."
            )
        waiting = {key: [each.due - self._time, each.event] for key, each in self._waiting.items()}
        return {
            "state": list(now.leaves),
            "history": {name: list(leaves) for name, leaves in now.histories.items()},
            "context": dict(self._data.context),
            "waiting": waiting,
            "deferred": [[event.name, event.data] for event in self._deferred],
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """See `StateMachine.load`."""
        chart = self._machine.chart
        leaves = tuple(saved.get("state", ()))
        histories = {name: tuple(names) for name, names in saved.get("history", {}).items()}
        for name in (*leaves, *histories, *(each for names in histories.values() for each in names)):
            if name not in chart.states:
                raise PayloadRejected(
                    f"there is no state {name!r}",
                    field="state",
                    fix=f"The states are {', '.join(chart.states)}.",
                )
        if not leaves:
            raise PayloadRejected("no state is active", field="state", fix="Give what `save` returned.")
        self._now = Situation(leaves, histories)
        self._data.restore(saved.get("context", {}))
        for key, (left, event) in saved.get("waiting", {}).items():
            self._wait(key, event, left)
        self._deferred = [Event(name, data) for name, data in saved.get("deferred", ())]


def _remember(chart: Chart, before: tuple[str, ...], event: Event, turn: Turn[Live]) -> None:
    """Keep what the event came to, if nothing but its name decided that."""
    if chart.has_always or chart.histories or turn.left or turn.entered or turn.sends or len(turn.moved) != 1:
        return
    heard = chart.hearing(before, event.name, event.kind)
    if len(heard) != 1 or not heard[0] or heard[0][0].guard is not None:
        return
    plan = chart.plans.get((before, heard[0][0].key))
    if plan is not None and not plan.items and plan.leaves == turn.now.leaves:
        chart.moves[before, event.name] = Move(plan.leaves, Taken(*turn.moved[0]))
