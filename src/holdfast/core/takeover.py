"""What is recorded when a run comes to a new holder, or can go on with none."""

from __future__ import annotations

from holdfast.core.ledger import Ledger
from holdfast.model import facts
from holdfast.model.ids import Instant


def lost_attempts(ledger: Ledger, now: Instant) -> list[facts.Fact]:
    """Return what became of the steps that were running, or about to, when their worker was lost.

    They are tried again; those that had been asked to end have ended.
    """
    lost = [step for step in ledger.open.values() if step.runs and step.due <= now]
    return [
        facts.StepCancelled(at=now, step=step.step, attempt=step.attempt)
        if step.cancelling
        else facts.StepRetried(at=now, step=step.step, attempt=step.attempt + 1, reason="worker lost")
        for step in lost
    ]


def parked(reason: str, code: str = "parked", at: Instant = 0) -> facts.RunPaused:
    """Return the fact that parks a run for a person to look at."""
    text = facts.readable(reason)
    return facts.RunPaused(at=at, reason=text, error=facts.ErrorInfo(code=code, message=text))
