"""The audit of a run, folded from its journal: stages with every attempt, decisions with every edge tried.

Pure, and of the whole journal: what a resume or a new beginning hides from the program stays here for people.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from holdfast.core.events import Decode, Row, duration_of, kind_of, positioned, reader
from holdfast.core.ledger import Ledger, OpenStep
from holdfast.model import facts
from holdfast.model.audit import Attempt, Decision, Stage
from holdfast.model.ids import Instant, StepId, WorkerId, moment
from holdfast.model.run import StepStatus


class _Try(msgspec.Struct):
    """An attempt while the journal is folded. `begun` is when it could start at the earliest."""

    number: int
    begun: Instant
    worker: WorkerId
    status: StepStatus | None = None
    started: Instant = 0
    ended: Instant = 0
    error: facts.ErrorInfo | None = None
    reason: str = ""


class _Stage(msgspec.Struct):
    """A stage while the journal is folded."""

    step: StepId
    name: str
    iteration: int
    position: int
    input: msgspec.Raw
    tries: list[_Try]
    output: msgspec.Raw = facts.NOTHING
    cached: str = ""
    missed: str = ""
    unkept: str = ""


class _Audit:
    """The fold: all stages in the order of their scheduling, those that facts speak of now by id, and the ledger."""

    def __init__(self) -> None:
        self.stages: list[_Stage] = []
        self.current: dict[StepId, _Stage] = {}
        self.ledger = Ledger()

    def absorb(self, position: int, fact: facts.AnyFact, worker: WorkerId) -> None:
        self.ledger.absorb(fact)
        match fact:
            case facts.StepScheduled() if kind_of(fact.step) == "stage":
                self._schedule(position, fact, worker)
            case facts.RunResumed():
                for step, how in fact.settled:
                    if step in self.current:
                        _settle(self.current[step], fact.at, how)
                for step, attempt in fact.reopened:
                    if step in self.current:
                        self.current[step].tries.append(_Try(attempt, max(fact.at, fact.due), worker))
            case facts.RunForked():
                for stage in self.current.values():
                    _begin_anew(stage, fact.at, worker)
            case facts.RunContinued():
                self.current, self.ledger = {}, Ledger()
            case _:
                self._end(fact, worker)

    def _end(self, fact: facts.AnyFact, worker: WorkerId) -> None:
        stage = self.current.get(getattr(fact, "step", ""))
        if stage is not None and isinstance(fact, facts.StepSuspended):
            _suspend(stage.tries[-1], fact, worker)
        elif stage is not None and type(fact) in _ENDS:
            _end(stage, fact, worker)

    def _schedule(self, position: int, fact: facts.StepScheduled, worker: WorkerId) -> None:
        first = _Try(1, max(fact.at, fact.due), worker)
        stage = self.current.get(fact.step)
        if stage is not None:  # a function that was rewound asks for its step once more
            stage.tries.append(first)
            stage.output = facts.NOTHING
            return
        self.current[fact.step] = _Stage(
            fact.step, fact.name, fact.iteration, position, fact.data, [first], missed=fact.missed
        )
        self.stages.append(self.current[fact.step])


def _settle(stage: _Stage, at: Instant, how: str) -> None:
    """A person's word stands for what the stage did not come to."""
    status = StepStatus.COMPLETED if how == "done" else StepStatus.SKIPPED
    stage.tries[-1].reason = f"{how} by a person at {moment(at):%Y-%m-%d %H:%M:%S} UTC"
    stage.tries[-1].status = status


def _begin_anew(stage: _Stage, at: Instant, worker: WorkerId) -> None:
    """In a fork what had not ended well counts as never started: its tries were those of another run."""
    if stage.tries[-1].status is not StepStatus.COMPLETED:
        stage.tries = [_Try(1, at, worker)]


def _suspend(last: _Try, fact: facts.StepSuspended, worker: WorkerId) -> None:
    last.status, last.started, last.ended = StepStatus.SUSPENDED, fact.started, fact.at
    last.reason, last.worker = f"waits for {fact.name}", worker


def _end(stage: _Stage, fact: Any, worker: WorkerId) -> None:
    last = stage.tries[-1]
    if last.status is StepStatus.SUSPENDED and isinstance(fact, facts.StepRetried):
        stage.tries.append(_Try(fact.attempt, fact.at, worker))
        return
    last.status, last.started, last.ended = _ENDS[type(fact)], fact.started, fact.at
    last.error = getattr(fact, "error", None)
    if isinstance(fact, facts.StepRetried):
        last.reason = fact.reason
        stage.tries.append(_Try(fact.attempt, max(fact.at, fact.due), worker))
    if not isinstance(fact, facts.StepRetried) or last.error is not None:
        last.worker = worker  # who says that a worker was lost is another one
    if isinstance(fact, facts.StepCompleted):
        stage.output, stage.cached, stage.unkept = fact.data, fact.cached, fact.unkept


_ENDS: Final[dict[type[facts.Fact], StepStatus]] = {
    facts.StepRetried: StepStatus.FAILED,
    facts.StepCompleted: StepStatus.COMPLETED,
    facts.StepFailed: StepStatus.FAILED,
    facts.StepCancelled: StepStatus.CANCELLED,
}


def stages(
    rows: Iterable[Row], *, held: bool = False, now: Instant = 0, decode: Decode | None = None
) -> list[Stage]:
    """Return the stages of a whole journal, in the order in which they were scheduled.

    `held` tells whether somebody drives the run: then an open stage is running, unless it is suspended or its next
    attempt is due after `now`.
    """
    decode = reader() if decode is None else decode
    audit = _Audit()
    for row in rows:
        for position, fact in positioned(row):
            audit.absorb(position, fact, row.worker)
    for stage in audit.current.values():
        last, step = stage.tries[-1], audit.ledger.open.get(stage.step)
        if last.status is None:
            last.status = _open_status(last, step, held=held, now=now)
    return [_shown(stage, decode) for stage in audit.stages]


def _open_status(last: _Try, step: OpenStep | None, *, held: bool, now: Instant) -> StepStatus:
    if step is not None and step.suspended:
        return StepStatus.SUSPENDED
    if step is not None and step.kind == "run" and last.begun <= now:
        return StepStatus.RUNNING
    if step is not None and held and last.begun <= now:
        return StepStatus.RUNNING
    return StepStatus.RETRYING if last.number > 1 else StepStatus.SCHEDULED


def _shown(stage: _Stage, decode: Decode) -> Stage:
    attempts = tuple(_attempt(one) for one in stage.tries)
    last = attempts[-1]
    errors = [one.error for one in attempts if one.error is not None]
    resolved = last.status in (StepStatus.COMPLETED, StepStatus.CANCELLED)
    return Stage(
        name=stage.name,
        iteration=stage.iteration,
        attempt=last.number,
        status=last.status,
        input=decode(stage.input),
        output=decode(stage.output),
        started_at=last.started_at,
        completed_at=last.completed_at,
        duration=last.duration,
        error=errors[-1] if errors and not resolved else None,
        worker=last.worker,
        attempts=attempts,
        position=stage.position,
        cached=stage.cached,
        missed=stage.missed,
        unkept=stage.unkept,
    )


def _attempt(one: _Try) -> Attempt:
    # A running attempt has no fact of its start; it began when it could.
    started = one.begun if one.status is StepStatus.RUNNING else one.started
    return Attempt(
        number=one.number,
        status=one.status or StepStatus.CANCELLED,  # a new beginning took its end away
        error=one.error,
        reason=one.reason,
        started_at=moment(started) if started else None,
        completed_at=moment(one.ended) if one.ended else None,
        duration=duration_of(one.started, one.ended) if one.ended else None,
        worker=one.worker,
    )


def decisions(rows: Iterable[Row]) -> list[Decision]:
    """Return every edge that every choice of a whole journal looked at, in order; those not taken, too."""
    found: list[Decision] = []
    for row in rows:
        for position, fact in positioned(row):
            if isinstance(fact, facts.DecisionMade):
                found += _edges(position, fact)
    return found


def _edges(position: int, fact: facts.DecisionMade) -> Iterable[Decision]:
    common: dict[str, Any] = {"from_node": fact.source, "at": moment(fact.at), "position": position}
    if not fact.edges and fact.data is facts.NOTHING:
        yield Decision(to_node=None, result=False, count=0, **common)
    for edge in fact.edges:
        yield Decision(
            to_node=edge.target or None,
            name=edge.name,
            result=edge.result,
            reason=edge.reason,
            count=edge.count if edge.result else 0,
            **common,
        )
