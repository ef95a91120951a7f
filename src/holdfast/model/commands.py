"""Commands: all that a program may want. Each is recorded as the fact of the same noun."""

from __future__ import annotations

import msgspec

from holdfast.model.facts import NOTHING, EdgeTried, ErrorInfo
from holdfast.model.ids import Instant, StepId


class Command(msgspec.Struct, frozen=True, gc=False):
    """One thing that is wanted and not yet recorded."""


class ScheduleStep(Command, frozen=True):
    """Run a step. `shielded` steps (compensations) pass a pause and a cancel."""

    step: StepId
    name: str
    kind: str = "call"
    iteration: int = 1
    due: Instant = 0
    parent: StepId = ""
    data: msgspec.Raw = NOTHING
    shielded: bool = False


class CancelStep(Command, frozen=True):
    """Ask an open step to end."""

    step: StepId


class RecordDecision(Command, frozen=True):
    """Keep a choice with every edge that was tried, the signal that it answers, and what it came to.

    A `shielded` one passes a pause and a cancel.
    """

    source: str
    edges: tuple[EdgeTried, ...]
    key: str = ""
    data: msgspec.Raw = NOTHING
    shielded: bool = False


class PublishEvent(Command, frozen=True):
    """Publish an event on the bus in the run's commit."""

    type: str
    stream: str = ""
    data: msgspec.Raw = NOTHING


class ContinueRun(Command, frozen=True):
    """Begin anew in the same journal."""

    data: msgspec.Raw = NOTHING


class PauseRun(Command, frozen=True):
    """Park the run with a reason; a person resumes it."""

    reason: str
    error: ErrorInfo | None = None


class ResumeRun(Command, frozen=True):
    """Take the failures of the `reopened` steps back instead of failing with `error`; they are tried again at `due`."""

    error: ErrorInfo
    due: Instant
    reopened: tuple[tuple[StepId, int], ...]
    key: str


class CompleteRun(Command, frozen=True):
    """End the run well."""

    data: msgspec.Raw = NOTHING


class FailRun(Command, frozen=True):
    """End the run with an error."""

    error: ErrorInfo


class CancelRun(Command, frozen=True):
    """End the run as cancelled."""

    reason: str = ""
