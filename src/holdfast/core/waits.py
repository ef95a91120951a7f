"""Steps that wait for a person or another system: what becomes of them when the answer is there, or never comes."""

from __future__ import annotations

from typing import Final

from holdfast.core.ledger import Ledger
from holdfast.errors import SignalTimeout
from holdfast.model import facts
from holdfast.model.commit import Deliver

ANSWERED: Final = "answered"
"""The reason of an attempt that goes on with an answer: it uses up no try."""


def answered_attempts(ledger: Ledger) -> list[facts.Fact]:
    """Return the next attempts of suspended steps whose answers are there; each runs again from its first line."""
    steps = (ledger.open[step] for step in dict.fromkeys(ledger.answered) if step in ledger.open)
    return [facts.StepRetried(step=s.step, attempt=s.attempt + 1, reason=ANSWERED) for s in steps]


def lapse(wait: facts.StepScheduled) -> Deliver:
    """Return the inbox row that ends a wait for a signal when its time is over."""
    error = facts.ErrorInfo(
        code=SignalTimeout.code, message=f"nobody sent {wait.name!r} in time", step=wait.step, name=wait.name
    )
    over = facts.StepFailed(step=wait.step, attempt=1, error=error)
    return Deliver(key=f"due:{wait.step}", due=wait.due, fact=facts.Journal.encode_one(over))


def ring(timer: facts.StepScheduled) -> Deliver:
    """Return the inbox row that ends a timer when its time has come."""
    over = facts.StepCompleted(step=timer.step, attempt=1)
    return Deliver(key=f"due:{timer.step}", due=timer.due, fact=facts.Journal.encode_one(over))
