"""The ends of an attempt as facts, each stamped when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.core.context import Suspended
from holdfast.core.work import Outcome
from holdfast.model import facts
from holdfast.runtime.caching import why_unkept

if TYPE_CHECKING:
    from holdfast.runtime.attempt import Attempt


KNOWN: Final = frozenset({facts.StepCompleted, facts.StepRetried, facts.StepFailed})
"""Ends that say what the code came to."""


def completed(attempt: Attempt, outcome: Outcome, instead_of: facts.ErrorInfo | None) -> facts.StepCompleted:
    """Return that the attempt gave an outcome, or what stands in for it."""
    step = attempt.step
    return facts.StepCompleted(
        at=attempt.clock.now(),
        step=step.step,
        attempt=step.attempt,
        started=attempt.began,
        error=instead_of,
        gone=outcome.gone,
        secrets=() if outcome.secrets is None else outcome.secrets.names,
        unkept="" if attempt.work.cache is None else why_unkept(attempt, outcome),
        data=outcome.data,
    )


def suspended(attempt: Attempt, asked: Suspended) -> facts.StepSuspended:
    """Return that the attempt waits for an answer."""
    return facts.StepSuspended(
        at=attempt.clock.now(),
        step=attempt.step.step,
        attempt=attempt.step.attempt,
        name=asked.name,
        due=asked.due,
        started=attempt.began,
        data=asked.payload,
    )


def retried(attempt: Attempt, wait: int, reason: str, error: facts.ErrorInfo | None) -> facts.StepRetried:
    """Return that another attempt follows after `wait` microseconds; without an error no try is lost."""
    step, now = attempt.step, attempt.clock.now()
    return facts.StepRetried(
        at=now,
        step=step.step,
        attempt=step.attempt + 1,
        reason=reason,
        due=now + wait,
        started=attempt.began,
        error=error,
    )


def failed(attempt: Attempt, error: facts.ErrorInfo) -> facts.StepFailed:
    """Return that the step failed for good."""
    step = attempt.step
    return facts.StepFailed(
        at=attempt.clock.now(), step=step.step, attempt=step.attempt, started=attempt.began, error=error
    )


def cancelled(attempt: Attempt) -> facts.StepCancelled:
    """Return that the step ended because it was asked to."""
    step = attempt.step
    return facts.StepCancelled(
        at=attempt.clock.now(), step=step.step, attempt=step.attempt, started=attempt.began
    )


def overdue(attempt: Attempt, code: str, error: TimeoutError) -> facts.ErrorInfo:
    """Return an attempt's failure to end, or to give a sign of life, in time."""
    step = attempt.step
    return facts.ErrorInfo(
        code=code,
        message=str(error),
        type="TimeoutError",
        step=step.step,
        name=step.name,
        attempt=step.attempt,
    )
