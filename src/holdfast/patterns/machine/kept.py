"""What a durable machine keeps: the record of a turn in a decision, its waits, its context as encoded values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from holdfast.core.work import Blobs
from holdfast.model.facts import NOTHING, ErrorInfo
from holdfast.model.ids import StepId
from holdfast.model.state import State, split_large
from holdfast.model.values import encode, encode_map, pack
from holdfast.patterns.machine.actions import Cancel
from holdfast.patterns.machine.chart import Chart, Invoke
from holdfast.patterns.machine.events import Event, KeptEvent
from holdfast.patterns.machine.turn import Doing, Turn

Context = Mapping[str, msgspec.Raw]


class Draft(msgspec.Struct, gc=False, omit_defaults=True):
    """What actions of a microstep changed that has no effect yet: keys with their values, and keys that are gone."""

    changed: dict[str, msgspec.Raw] = {}
    gone: list[str] = []

    def take(self, changed: Context, gone: Iterable[str] = ()) -> None:
        """Add what one action changed."""
        gone = tuple(gone)
        if not gone and not self.gone:
            self.changed = {**self.changed, **changed}
            return
        self.gone = [key for key in self.gone if key not in changed] + [*gone]
        self.changed = {key: raw for key, raw in {**self.changed, **changed}.items() if key not in gone}

    def over(self, context: Context) -> Context:
        """Return the context with the draft over it."""
        if not self.changed and not self.gone:
            return context
        merged = {**context, **self.changed}
        return {key: raw for key, raw in merged.items() if key not in self.gone} if self.gone else merged


_NO_DRAFT: Final = Draft()
"""Nothing was changed; never changed itself."""


class Wait(msgspec.Struct, gc=False, omit_defaults=True):
    """What a machine waits for beside events: a timer that says `event`, or an invoked workflow of `state`.

    `step` is empty while it is to be scheduled.
    """

    key: str
    name: str
    kind: Literal["timer", "run"] = "timer"
    delay: int = 0
    event: str = ""
    sent: bool = False
    state: str = ""
    step: StepId = ""


class Decided(msgspec.Struct, gc=False, omit_defaults=True):
    """What a turn came to, as far as it got: the data of the decision that ends it, or that asks for an action.

    `ends` says what became of the microstep that was under way. The sender of the event reads `state`, `changed`,
    `refused` (the refusal's text) and `error` (of an action that failed, when nothing answers that).
    """

    took: bool = False
    deferred: bool = False
    recalled: bool = False
    ends: Literal["", "kept", "dropped"] = ""
    state: tuple[str, ...] = ()
    histories: dict[str, tuple[str, ...]] = {}
    context: msgspec.Raw = NOTHING
    draft: msgspec.Raw = NOTHING
    inner: list[KeptEvent] = []
    doing: Doing[KeptEvent] | None = None
    event: KeptEvent | None = None
    microsteps: int = 0
    changed: bool = False
    over: list[str] = []
    waits: list[Wait] = []
    refused: str = ""
    error: ErrorInfo | None = None


DECIDED: Final = msgspec.json.Decoder(Decided)


class Kept:
    """The context of a durable machine while it decides: encoded, with what this decision assigns beside it."""

    def __init__(self, context: Context, draft: Draft, blobs: Blobs) -> None:
        """`draft` is what actions of the microstep under way have changed."""
        self._context = context
        self._draft = draft
        self._blobs = blobs
        self.fresh: dict[str, msgspec.Raw] = {}
        """What was assigned in the microstep that is not done yet."""
        self.assigned: dict[str, msgspec.Raw] = {}
        """What was assigned in microsteps that took effect."""

    def view(self) -> State:
        """Return the context, as it is on each call: what one guard does to nested values no other sees."""
        return State.view(self._context, blobs=self._blobs)

    def draft(self) -> State:
        """Return the context with what the microstep has changed."""
        return State.view({**self._draft.over(self._context), **self.fresh}, blobs=self._blobs)

    def assign(self, changes: Mapping[str, Any]) -> None:
        """Encode the changes. Raises PayloadRejected naming the key."""
        self.fresh |= encode_map(changes, "assign")

    def keep(self) -> None:
        """Take the draft over."""
        self._context, self._draft = self._draft.over(self._context), _NO_DRAFT
        if self.fresh:
            self._context = {**self._context, **self.fresh}
            self.assigned |= self.fresh
            self.fresh = {}

    def drop(self) -> None:
        """Forget the draft."""
        self._draft, self.fresh = _NO_DRAFT, {}

    def event(self, name: str, kind: Any, data: Any = None) -> KeptEvent:
        """Return an event of the machine's own."""
        return KeptEvent(name, kind, NOTHING if data is None else encode(data, f"the data of {name!r}"))

    def told(self, event: KeptEvent) -> Event:
        """Return the event as the user's code gets it."""
        return event.told


def packed(values: Mapping[str, msgspec.Raw], blobs: Blobs) -> msgspec.Raw:
    """Return encoded values as one, the large ones put into `blobs`."""
    if not values:  # the usual case
        return NOTHING
    inline, large = split_large(dict(values))
    if large:
        blobs.add(large)
    return pack(inline)


def waits_of(chart: Chart, turn: Turn[Kept]) -> tuple[list[str], list[Wait]]:
    """Return which waits a turn ended, and which begin."""
    over = [wait.key for name in turn.left for wait in _waits_in(chart, name)]
    begun = [wait for name in turn.entered for wait in _waits_in(chart, name)]
    for send in turn.sends:
        key = f"send {send.id}"
        if isinstance(send, Cancel):
            over.append(key)
            begun = [wait for wait in begun if wait.key != key]
        else:
            begun.append(Wait(key, key, delay=send.delay, event=send.event, sent=True))
    return over, begun


def _waits_in(chart: Chart, name: str) -> list[Wait]:
    state = chart.states[name]
    timers = [Wait(clock.event, clock.event, delay=clock.delay, event=clock.event) for clock in state.clocks]
    return timers + [Wait(f"{name}/{invoke.id}", invoke.id, "run", state=name) for invoke in state.invokes]


def invoke_of(chart: Chart, wait: Wait) -> Invoke | None:
    """Return what a wait invokes; None when the chart has it no more."""
    state = chart.states.get(wait.state)
    return None if state is None else next((i for i in state.invokes if i.id == wait.name), None)
