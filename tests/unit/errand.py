"""The smallest program there is: some steps at once, then the end. For tests of what all programs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from holdfast.core.ledger import Ledger, OpenStep
from holdfast.core.work import Child, Work
from holdfast.model import commands, facts
from holdfast.model.ids import step_id


class ErrandProgress:
    def __init__(self) -> None:
        self.ledger = Ledger()
        self.scheduled: list[str] = []
        self.completed: set[str] = set()


class Errand:
    """Wants its steps at once, completes when all are, fails when one has."""

    checkpoints = False
    hash = "errand"
    problem: BaseException | None = None

    def __init__(self, *names: str, kind: str = "call", shielded: str = "") -> None:
        self.names = names
        self.kind = kind
        self.shielded = shielded

    def start(self) -> ErrandProgress:
        return ErrandProgress()

    def evolve(self, progress: ErrandProgress, fact: facts.Fact) -> ErrandProgress:
        progress.ledger.absorb(fact)
        match fact:
            case facts.StepScheduled(step=step):
                progress.scheduled.append(step)
            case facts.StepCompleted(step=step):
                progress.completed.add(step)
            case facts.SignalReceived() if self.kind == "signal":
                progress.completed |= set(progress.scheduled) - progress.ledger.open.keys()
        return progress

    def decide(self, progress: ErrandProgress) -> Sequence[commands.Command]:
        ledger = progress.ledger
        failed = next((step.error for step in ledger.unresolved.values() if step.failed), None)
        if failed is not None:
            return ledger.failing(failed)
        wanted = [step_id(name, 1) for name in self.names]
        missing = [step for step in wanted if step not in progress.scheduled]
        if missing:
            return [self._schedule(step) for step in missing]
        if progress.completed >= set(wanted):
            return (commands.CompleteRun(),)
        return ()

    def _schedule(self, step: str) -> commands.ScheduleStep:
        name = step.partition("#")[0]
        return commands.ScheduleStep(step, name, kind=self.kind, shielded=name == self.shielded)

    def work(self, progress: ErrandProgress, step: OpenStep) -> Work:
        raise LookupError(step)

    def child(self, progress: ErrandProgress, step: OpenStep) -> Child:
        raise LookupError(step)

    def changes(self, given: Mapping[str, Any]) -> msgspec.Raw:
        raise LookupError(given)

    def state(self, progress: ErrandProgress) -> dict[str, Any]:
        return {}

    def encode(self, progress: ErrandProgress) -> bytes:
        raise LookupError

    def decode(self, data: bytes) -> ErrandProgress:
        raise LookupError


STARTED = facts.RunStarted(workflow="errand")


def scheduled(name: str, **more: Any) -> facts.StepScheduled:
    return facts.StepScheduled(step=step_id(name, 1), name=name, **more)


def completed(name: str, attempt: int = 1) -> facts.StepCompleted:
    return facts.StepCompleted(step=step_id(name, 1), attempt=attempt)


def failed(name: str, attempt: int = 1) -> facts.StepFailed:
    return facts.StepFailed(step=step_id(name, 1), attempt=attempt, error=error_of(name))


def error_of(name: str) -> facts.ErrorInfo:
    return facts.ErrorInfo(code="step_failed", message=f"{name} failed", step=step_id(name, 1), name=name)


def retried(name: str, attempt: int, **more: Any) -> facts.StepRetried:
    return facts.StepRetried(step=step_id(name, 1), attempt=attempt, **more)


def cancelled(name: str, attempt: int = 1) -> facts.StepCancelled:
    return facts.StepCancelled(step=step_id(name, 1), attempt=attempt)


def asked(name: str) -> facts.StepCancelRequested:
    return facts.StepCancelRequested(step=step_id(name, 1))
