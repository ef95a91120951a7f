"""What a machine hears: events from outside, events that it raises itself, and failures of what it started."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from holdfast.model.facts import NOTHING
from holdfast.model.ids import StepId
from holdfast.model.values import decode

Kind = Literal["sent", "raised", "failure"]
"""Who says it: somebody outside, the machine itself (what it raises, its clocks, ends of states and of what it
invokes), or an action or invoked workflow that failed."""

ERROR: Final = "error.execution"
"""The event of an action that failed, and of a guard that raised."""


class Event(msgspec.Struct, frozen=True):
    """An event as actions, guards and `assign` get it: its name, and the data that came with it."""

    name: str
    data: Any = None
    kind: Kind = "sent"


class KeptEvent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An event of a durable machine, as a stored fold holds it.

    `key` is that of the signal that it was, `step` what failed or was waited for.
    """

    name: str
    kind: Kind = "sent"
    payload: msgspec.Raw = NOTHING
    key: str = ""
    step: StepId = ""

    @property
    def data(self) -> Any:
        """What came with it, decoded."""
        return decode(self.payload)

    @property
    def told(self) -> Event:
        """The event as the user's code gets it."""
        return Event(self.name, self.data, self.kind)


EXACTLY: Final = "="
"""Begins a descriptor of one event alone: the end of `order` is not that of `order.paid`."""


def done_of(state: str) -> str:
    """Return the event of a state whose final child was entered."""
    return f"done.state.{state}"


def done_invoke(name: str) -> str:
    """Return the event of an invoked workflow that completed."""
    return f"done.invoke.{name}"


def failed_invoke(name: str) -> str:
    """Return the event of an invoked workflow that did not complete."""
    return f"error.platform.{name}"


def is_about(descriptor: str, event: str) -> bool:
    """Tell whether a transition that names `descriptor` answers an event.

    `*` answers all; a name answers itself and what begins with it and a dot: `order` is about `order.paid`, not about
    `orders`. `order.*` says the same as `order`. (SCXML 3.12.1.) After `=` a name answers nothing but itself.
    """
    if descriptor.startswith(EXACTLY):
        return event == descriptor[1:]
    name = descriptor.removesuffix(".*")
    return name in ("*", event) or event.startswith(f"{name}.")
