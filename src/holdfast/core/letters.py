"""Dead letters: what is told of a run that failed for good or killed its workers, reckoned from its row and journal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.core.ledger import Ledger
from holdfast.model import facts
from holdfast.model.ids import Instant, RunId, WorkerId, moment
from holdfast.model.run import RunRow, RunStatus

POISON: Final = "poison"
"""The code of a run that was parked because workers died of it."""

DISCARDED: Final = "discarded"
"""The code of a run that failed because a person put it away."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One try that came to nothing: when, of which step, with what code and message, and on which worker."""

    at: datetime
    step: str
    attempt: int
    code: str
    message: str
    worker: WorkerId = ""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A run that waits for a person, under the run's id: it failed for good, or killed its worker three times.

    `code` and `message` say why; `stage` and `attempt` where. `redrives` counts how often it was taken up again before,
    `history` has every try of every step that came to nothing, `input` what the step was given. A list leaves the last
    three out.
    """

    id: RunId
    workflow: str
    queue: str
    tags: tuple[str, ...]
    status: RunStatus
    code: str
    message: str
    stage: str
    attempt: int
    dead_at: datetime
    started_at: datetime | None
    redrives: int = 0
    history: tuple[Failure, ...] = ()
    input: Any = None

    def to_dict(self) -> dict[str, Any]:
        """Return the letter as JSON knows it."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields


def is_dead(row: RunRow) -> bool:
    """Tell whether a run waits for a person to redrive or discard it, unless it was put away."""
    if row.status is RunStatus.FAILED:
        return not row.parent and (row.error is None or row.error.code != DISCARDED)
    return row.status is RunStatus.PAUSED and row.error is not None and row.error.code == POISON


def letter_of(row: RunRow) -> DeadLetter:
    """Return what a row says of its dead letter."""
    error = row.error or facts.ErrorInfo(code="failed", message="")
    return DeadLetter(
        id=row.id,
        workflow=row.workflow,
        queue=row.queue,
        tags=row.tags,
        status=row.status,
        code=error.code,
        message=error.message,
        stage=error.name,
        attempt=error.attempt,
        dead_at=moment(row.completed_at or row.updated_at),
        started_at=moment(row.started_at) if row.started_at else None,
    )


def redrives_of(journal: Sequence[facts.Fact]) -> int:
    """Return how often somebody took a run up again."""
    return sum(isinstance(fact, facts.RunResumed) and fact.error is None for fact in journal)


def history_of(journal: Sequence[tuple[facts.Fact, WorkerId]]) -> tuple[Failure, ...]:
    """Return each try that came to nothing, in order; a try that was lost with its worker is one."""
    ledger, found = Ledger(), []
    for fact, worker in journal:
        step = getattr(fact, "step", "")
        opened = ledger.open.get(step)
        name = opened.name if opened is not None else step
        match fact:
            case facts.StepRetried(error=error) if error is not None or fact.reason == "worker lost":
                found.append(_failure(fact.at, name, fact.attempt - 1, error, worker, fact.reason))
            case facts.StepFailed():
                found.append(_failure(fact.at, name, fact.attempt, fact.error, worker))
            case facts.RunPaused(error=error) if error is not None:
                found.append(_failure(fact.at, "", 0, error, worker))
            case facts.RunFailed() if not fact.error.step:
                found.append(_failure(fact.at, "", 0, fact.error, worker))
            case _:
                pass
        ledger.absorb(fact)
    return tuple(found)


def _failure(
    at: Instant, step: str, attempt: int, error: facts.ErrorInfo | None, worker: WorkerId, reason: str = ""
) -> Failure:
    if error is None:
        error = facts.ErrorInfo(code=reason.replace(" ", "_"), message=reason)
    return Failure(
        at=moment(at), step=step, attempt=attempt, code=error.code, message=error.message, worker=worker
    )
