"""What is recorded when a run comes to a new holder, or can go on with none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from holdfast.core.ledger import Ledger, OpenStep
from holdfast.core.program import START, Program
from holdfast.errors import NondeterminismError
from holdfast.model import facts
from holdfast.model.ids import Instant


def lost_attempts(ledger: Ledger, now: Instant) -> list[facts.StepRetried | facts.StepCancelled]:
    """Return what became of the steps that were running, or about to, when their worker was lost.

    They are tried again; those that had been asked to end have ended. One in a back-off keeps it and gets a new number,
    too: the last holder, cut off or with a clock ahead of ours, may still start the attempt that it knows.
    """
    return _given_up([s for s in ledger.open.values() if s.runs], now)


def dropped_attempts(ledger: Ledger, now: Instant) -> list[facts.StepRetried | facts.StepCancelled]:
    """Return what became of the steps of a paused run that were running when their worker closed without waiting.

    Those that may have begun before the pause: had they been waited for, they would have ended. What was recorded
    since then was never started.
    """
    paused = ledger.paused
    if paused is None:
        return []
    begun = [s for s in ledger.open.values() if s.runs and s.due <= paused.at and s.since <= paused.at]
    return _given_up(begun, now)


def _given_up(lost: Sequence[OpenStep], now: Instant) -> list[facts.StepRetried | facts.StepCancelled]:
    return [
        facts.StepCancelled(at=now, step=step.step, attempt=step.attempt)
        if step.cancelling
        else facts.StepRetried(
            at=now,
            step=step.step,
            attempt=step.attempt + 1,
            reason="worker lost",
            due=step.due if step.due > now else 0,
        )
        for step in lost
    ]


def parked(reason: str, code: str = "parked", at: Instant = 0) -> facts.RunPaused:
    """Return the fact that parks a run for a person to look at."""
    text = facts.readable(reason)
    return facts.RunPaused(at=at, reason=text, error=facts.ErrorInfo(code=code, message=text))


def tell_definition(recorded: Sequence[facts.Fact], ledger: Ledger, definition: str) -> None:
    """Have the first step or choice tell the definition, which whoever started the run did not know.

    Nobody has seen the fact.
    """
    for fact in recorded:
        if type(fact) in (facts.StepScheduled, facts.DecisionMade):
            msgspec.structs.force_setattr(fact, "hash", definition)
            ledger.hash = definition
            return


UNKNOWN: Final = "unknown"
"""Stands for a definition that the journal does not tell."""


def judged(program: Program[Any], progress: Any) -> list[facts.RunPaused | facts.DecisionMade]:
    """Return what a holder says of its definition: nothing when the run goes on with it already.

    One that cannot be built parks the run, unless its beginning shall say so. Another one that the journal fits is a
    decision. One that the journal does not fit is neither: the step that it does not know parks the run.
    """
    ledger: Ledger = progress.ledger
    steps = (*ledger.open.values(), *ledger.unresolved.values())
    if ledger.position <= 1:
        return []
    if program.problem is not None:
        if any(step.name == START for step in steps):
            return []
        why = f"{type(program.problem).__name__}: {program.problem}"
        return [parked(f"its definition cannot be built: {why}")]
    if program.hash == ledger.hash:
        return []
    try:
        for step in steps:
            if step.kind == "call" and not step.parent:
                program.work(progress, step)
            elif step.kind == "run":
                program.child(progress, step)
    except NondeterminismError:
        return []
    why = "changed; the journal fits" if ledger.hash else "the journal fits"
    edge = facts.EdgeTried(program.hash, "definition", reason=why)
    return [facts.DecisionMade(source=ledger.hash or UNKNOWN, edges=(edge,), hash=program.hash)]
