"""Facts: all that can ever be said about a run. The ordered facts of a run are its journal, the only truth about it.

A fact is an envelope of plain fields; user values stand in `data` and `error` alone, so that these can be encrypted
without touching the envelope. `at` is the instant of recording in microseconds. Facts carry what cannot be derived,
and they only ever gain fields: an old journal stays readable.
"""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from holdfast.model.ids import Instant, RunId, StepId

NOTHING: Final = msgspec.Raw(b"null")
"""The encoded value of a fact that carries none; left out of the journal."""

FORMAT: Final = 1
"""The newest fact format this code writes and reads; `workflow_runs.format` is the highest in a journal."""


class ErrorInfo(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An error as it is kept; of a saga also what was `compensated`, and what could not be, in which child `run`."""

    code: str
    message: str
    type: str = ""
    traceback: str = ""
    step: StepId = ""
    name: str = ""
    attempt: int = 0
    fix: str = ""
    compensated: tuple[str, ...] | None = None
    failed_compensations: tuple[ErrorInfo, ...] = ()
    run: RunId = ""


def readable(text: str) -> str:
    """Return text that can be stored: what is no Unicode, as in the name of a file that is no UTF-8, is escaped."""
    return text.encode(errors="backslashreplace").decode()


class EdgeTried(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One edge that a decision looked at; `count` is how many items of a fan-out went along it."""

    target: str
    name: str = ""
    result: bool = True
    reason: str = ""
    count: int = 1


class Fact(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True, tag_field="fact"):
    """One thing that is so, once and for all."""

    at: Instant = 0


class RunStarted(Fact, frozen=True):
    """The run exists. First fact of every journal; all columns of the run's row derive from it.

    A child has a `parent`, and `depth` ancestors. One of a node's own graph is a `part` of the workflow: the nodes that
    lead to it, with the params of the run around each.
    """

    workflow: str
    version: str = ""
    hash: str = ""
    queue: str = "default"
    priority: int = 0
    tags: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    deadline: Instant = 0
    not_before: Instant = 0
    profile: msgspec.Raw = NOTHING
    data: msgspec.Raw = NOTHING
    parent: str = ""
    parent_step: StepId = ""
    depth: int = 0
    part: tuple[str, ...] = ()
    origins: tuple[msgspec.Raw, ...] = ()


class StepScheduled(Fact, frozen=True):
    """The step is wanted and its first attempt may start. `data` is set for fan-out items and call arguments only.

    `hash` is the run's definition when `RunStarted` could not tell: who started the run did not know it.
    `missed` says why the cache had no result for it, where it was asked.
    """

    step: StepId
    name: str
    kind: str = "call"
    iteration: int = 1
    due: Instant = 0
    parent: StepId = ""
    shielded: bool = False
    hash: str = ""
    missed: str = ""
    data: msgspec.Raw = NOTHING


class StepProgressed(Fact, frozen=True):
    """The running attempt tells how far it is, if it says `percent`, and in `data` what the next one shall know."""

    step: StepId
    attempt: int
    percent: float | None = None
    message: str = ""
    data: msgspec.Raw = NOTHING


class StepRetried(Fact, frozen=True):
    """The last attempt came to nothing; attempt number `attempt` may start at `due` (0: at once)."""

    step: StepId
    attempt: int
    reason: str = ""
    due: Instant = 0
    started: Instant = 0
    error: ErrorInfo | None = None


class StepSuspended(Fact, frozen=True):
    """The attempt ended to wait for a signal `name`, until `due` (0: for ever); `data` is what it asks.

    The step runs again from its first line when the answer is there.
    """

    step: StepId
    attempt: int
    name: str = ""
    due: Instant = 0
    started: Instant = 0
    data: msgspec.Raw = NOTHING


class StepCancelRequested(Fact, frozen=True):
    """The step shall end; its code is told."""

    step: StepId


class StepCompleted(Fact, frozen=True):
    """The step ended well. `data` is what the user's code returned, `gone` the keys it removed.

    `secrets` are the names of all secrets that the run knows from here on, when the step changed them.
    `error` is what the last try came to, when `data` stands in for its result. `cached` is the run that made a result
    which came from the cache, `unkept` says why one did not go there.
    """

    step: StepId
    attempt: int
    started: Instant = 0
    error: ErrorInfo | None = None
    gone: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    cached: str = ""
    unkept: str = ""
    data: msgspec.Raw = NOTHING


class StepFailed(Fact, frozen=True):
    """The step ended for good with an error."""

    step: StepId
    attempt: int
    error: ErrorInfo
    started: Instant = 0


class StepCancelled(Fact, frozen=True):
    """The step ended because it was asked to."""

    step: StepId
    attempt: int
    started: Instant = 0


class SignalReceived(Fact, frozen=True):
    """A named value was sent to the run. It goes to the oldest open wait of that name, else it is kept."""

    name: str
    key: str = ""
    data: msgspec.Raw = NOTHING


class DecisionMade(Fact, frozen=True):
    """A choice: from where, and every edge that was tried with its outcome.

    `hash` is set when it is to go on with that definition, `key` with the signal that it answers, `data` with what it
    came to, where that follows from the user's code.
    """

    source: str
    edges: tuple[EdgeTried, ...] = ()
    hash: str = ""
    key: str = ""
    data: msgspec.Raw = NOTHING


class EventPublished(Fact, frozen=True):
    """The run published an event on the bus."""

    type: str
    stream: str = ""
    data: msgspec.Raw = NOTHING


class CancelRequested(Fact, frozen=True):
    """Somebody wants the run to end. With `code` the run ends as failed with that code, else as cancelled."""

    reason: str = ""
    code: str = ""
    key: str = ""


class RunPaused(Fact, frozen=True):
    """Nothing new starts until somebody resumes the run."""

    reason: str = ""
    error: ErrorInfo | None = None
    key: str = ""


class RunResumed(Fact, frozen=True):
    """The run goes on. `reopened` are the steps whose failure or cancel is taken back, with their next attempt.

    A parent says from when (`due`) until when (`deadline`), or that it only takes a pause back (`unpauses`).
    With `error` the run goes on by itself, at `due`, after that failure.
    `cleared` are steps by name that begin anew whatever they came to, each with the number of one item or -1 for all.
    `settled` are compensations that a person has "done" or "skipped", each with which of both; none is tried again.
    """

    key: str = ""
    due: Instant = 0
    deadline: Instant = 0
    unpauses: bool = False
    reopened: tuple[tuple[StepId, int], ...] = ()
    error: ErrorInfo | None = None
    cleared: tuple[tuple[str, int], ...] = ()
    settled: tuple[tuple[StepId, str], ...] = ()


class RunForked(Fact, frozen=True):
    """The facts before this one were copied from `source` up to position `at_position`; `data` holds the changes."""

    source: str
    at_position: int
    data: msgspec.Raw = NOTHING


class RunContinued(Fact, frozen=True):
    """A new beginning in the same journal: folds start here."""

    data: msgspec.Raw = NOTHING


class RunCompleted(Fact, frozen=True):
    """The run ended well with the result `data`."""

    data: msgspec.Raw = NOTHING


class RunFailed(Fact, frozen=True):
    """The run ended with an error."""

    error: ErrorInfo


class RunCancelled(Fact, frozen=True):
    """The run ended because it was asked to."""

    reason: str = ""


AnyFact = (
    RunStarted
    | StepScheduled
    | StepProgressed
    | StepRetried
    | StepSuspended
    | StepCancelRequested
    | StepCompleted
    | StepFailed
    | StepCancelled
    | SignalReceived
    | DecisionMade
    | EventPublished
    | CancelRequested
    | RunPaused
    | RunResumed
    | RunForked
    | RunContinued
    | RunCompleted
    | RunFailed
    | RunCancelled
)

TERMINAL: Final = (RunCompleted, RunFailed, RunCancelled)
STEP_ENDS: Final = (StepCompleted, StepFailed, StepCancelled)


class Journal:
    """The codec of a journal row: the facts of one commit as one JSON array that any SQL client can read."""

    _encoder: ClassVar[msgspec.json.Encoder] = msgspec.json.Encoder()
    _rows: ClassVar[msgspec.json.Decoder[tuple[AnyFact, ...]]] = msgspec.json.Decoder(tuple[AnyFact, ...])
    _single: ClassVar[msgspec.json.Decoder[AnyFact]] = msgspec.json.Decoder(AnyFact)

    @classmethod
    def encode(cls, facts: tuple[Fact, ...]) -> bytes:
        """Return the JSON array of `facts`."""
        return cls._encoder.encode(facts)

    @classmethod
    def decode(cls, row: bytes | str) -> tuple[AnyFact, ...]:
        """Return the facts of a row. `data` of a fact is a view on `row`."""
        return cls._rows.decode(row)

    @classmethod
    def encode_one(cls, fact: Fact) -> bytes:
        """Return the JSON object of a single fact, as an inbox row holds it."""
        return cls._encoder.encode(fact)

    @classmethod
    def decode_one(cls, text: bytes | str) -> AnyFact:
        """Return the fact of an inbox row."""
        return cls._single.decode(text)
