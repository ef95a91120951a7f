"""What follows from the facts of a commit: the rows beside the journal, the run's status and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from holdfast.core.children import asked_of_children, child_id, told_parent
from holdfast.core.ledger import Ledger, OpenStep
from holdfast.core.waits import lapse, ring
from holdfast.model import facts
from holdfast.model.commit import AnyEffect, Deliver, Dequeue, Enqueue, Withdraw
from holdfast.model.ids import SECOND, Instant, RunId, WorkerId, moment
from holdfast.model.run import Progress, RunRow, RunStatus

SHORT_WAIT: Final = SECOND
"""A wait up to this long is sat out by the holder; a longer one releases the run."""

MOST_NAMED: Final = 10
"""So many children that a run waits for are named."""

_TIMER: Final = "timer:"
"""How the ids of timers begin."""

_DEADLINE: Final = "due:deadline"
_START: Final = "due:start"


class Holding(msgspec.Struct):
    """What a commit must know of the run's job: its lane, who holds it (empty: nobody), and the deaths it had."""

    queue: str
    workflow: str
    priority: int
    worker: WorkerId
    deaths: int = 0
    run: RunId = ""


def derive(
    recorded: Sequence[facts.Fact],
    ledger: Ledger,
    holding: Holding,
    release: int | None,
    now: Instant,
    blobs: Mapping[str, bytes] = {},
) -> tuple[AnyEffect, ...]:
    """Return the rows that go with these facts. `release`: give the job up unless it was woken more often than that."""
    effects: list[AnyEffect] = []
    for fact in recorded:
        if type(fact) in _WITH_ROWS:
            effects += _rows_of(fact, ledger, holding, blobs)
        elif type(fact) is facts.StepScheduled and fact.kind in _CLOCKS:
            effects += _CLOCKS[fact.kind](fact)
    if ledger.ended is None or not recorded:
        if release is not None:
            effects.append(Dequeue(release))
            # The row may have been taken already, a little early. Of a paused run it is not wanted before its resume.
            if ledger.begins > now and ledger.paused is None:
                effects.append(Deliver(key=_START, due=ledger.begins))
        elif holding.deaths and any(isinstance(fact, facts.STEP_ENDS) for fact in recorded):
            effects.append(_job(holding))
    return tuple(effects)


_CLOCKS: Final[Mapping[str, Callable[[facts.StepScheduled], Sequence[Deliver]]]] = {
    "signal": lambda wait: (lapse(wait),) if wait.due else (),
    "timer": lambda timer: (ring(timer),),
}
"""Rows of steps that end by themselves at an instant, by kind."""

_WITH_ROWS: Final = frozenset(
    {
        *(facts.RunStarted, facts.StepRetried, facts.StepCancelRequested),
        *(facts.RunPaused, facts.RunResumed, facts.RunCompleted, facts.RunFailed, facts.RunCancelled),
    }
)


def _rows_of(
    fact: facts.Fact, ledger: Ledger, holding: Holding, blobs: Mapping[str, bytes]
) -> Sequence[AnyEffect]:
    match fact:
        case facts.StepRetried() if fact.due - fact.at > SHORT_WAIT:
            step = ledger.open.get(fact.step)
            if step is not None and step.kind == "run":
                return ()  # the child waits by itself
            return (Deliver(key=f"due:{fact.step}:{fact.attempt}", due=fact.due),)
        case facts.RunStarted():
            return _opening(fact, ledger, holding)
        case facts.RunCompleted():
            return (Dequeue(), Withdraw("*"), *told_parent(fact, ledger, blobs))
        case facts.RunFailed() | facts.RunCancelled():
            # What was sent and not yet taken stays for a resume; only the clocks stop.
            return (Dequeue(), Withdraw("due:*"), *told_parent(fact, ledger, blobs))
        case facts.RunResumed():
            return (*_resumed(fact, ledger), *asked_of_children(fact, ledger, holding.run))
        case facts.StepCancelRequested() if fact.step.startswith(_TIMER):
            return (Withdraw(f"due:{fact.step}"),)
        case facts.StepCancelRequested() | facts.RunPaused():
            return asked_of_children(fact, ledger, holding.run)
        case _:
            return ()


def _opening(fact: facts.RunStarted, ledger: Ledger, holding: Holding) -> list[AnyEffect]:
    if ledger.ended is not None:
        return []
    effects: list[AnyEffect] = []
    if fact.not_before:
        effects.append(Deliver(key=_START, due=fact.not_before))
    else:
        effects.append(_job(holding))
    if fact.deadline:
        effects.append(_end_at(fact.deadline, _DEADLINE))
    return effects


def _end_at(deadline: Instant, key: str) -> Deliver:
    request = facts.CancelRequested(
        reason="the run took longer than its timeout", code="run_timed_out", key=key
    )
    return Deliver(key=key, due=deadline, fact=facts.Journal.encode_one(request))


def _resumed(fact: facts.RunResumed, ledger: Ledger) -> list[AnyEffect]:
    """Return the clocks of a run that goes on for its parent."""
    if ledger.ended is not None:
        return []
    effects: list[AnyEffect] = []
    if fact.due - fact.at > SHORT_WAIT:
        effects.append(Deliver(key=f"due:resume:{ledger.position}", due=fact.due))
    if fact.deadline:
        effects.append(_end_at(fact.deadline, f"{_DEADLINE}:{ledger.position}"))
    return effects


def _job(holding: Holding) -> Enqueue:
    return Enqueue(holding.queue, holding.workflow, holding.priority, holding.worker)


_ENDS: Final = {
    facts.RunCompleted: RunStatus.COMPLETED,
    facts.RunFailed: RunStatus.FAILED,
    facts.RunCancelled: RunStatus.CANCELLED,
}


def status_of(ledger: Ledger, *, held: bool, releasing: bool) -> RunStatus:
    """Return the run's status. `waiting` is written only by a commit that releases, so `running` means held or lost."""
    if ledger.ended is not None:
        return _ENDS[type(ledger.ended)]
    if ledger.paused is not None:
        return RunStatus.PAUSED
    if ledger.begins:
        return RunStatus.PENDING
    if releasing:
        return RunStatus.WAITING
    return RunStatus.RUNNING if held else RunStatus.PENDING


def waiting_on(ledger: Ledger, secrets: Sequence[str] = (), run: RunId = "") -> tuple[str, ...]:
    """Return for people what the run waits for, in the order of its steps; of children the first ones."""
    if ledger.ended is not None:
        return ()
    if ledger.paused is not None:
        return (f"resume: {ledger.paused.reason}" if ledger.paused.reason else "resume",)
    if ledger.begins:
        return (_start_of(ledger.begins),)
    waits = [text for step in ledger.open.values() if (text := _wait_of(step, ledger.now))]
    children = [step for step in ledger.open.values() if step.kind == "run" and step.due <= ledger.now]
    waits += [f"run {child_id(run, step.step)}" for step in children[:MOST_NAMED]]
    if len(children) > MOST_NAMED:
        waits.append(f"{len(children) - MOST_NAMED} more runs")
    waits += [f"event {name}" for name in ledger.hears]
    return (*waits, *(f"secret {name}" for name in secrets))


def _wait_of(step: OpenStep, now: Instant) -> str:
    if step.kind == "signal":
        return f"signal {step.name}"
    if step.due > now:
        what = "timer" if step.kind == "timer" else f"retry of {step.name}"
        return f"{what} {moment(step.due):%Y-%m-%dT%H:%M:%SZ}"
    return ""


def _start_of(begins: Instant) -> str:
    return f"start {moment(begins):%Y-%m-%dT%H:%M:%SZ}"


def opening_row(run: RunId, started: facts.RunStarted) -> RunRow:
    """Return the row of a new run; every column derives from its first fact."""
    return RunRow(
        id=run,
        workflow=started.workflow,
        version=started.version,
        hash=started.hash,
        queue=started.queue,
        priority=started.priority,
        tags=started.tags,
        params=started.data,
        secrets=started.secrets,
        parent=started.parent,
        waiting_on=(_start_of(started.not_before),) if started.not_before else (),
        created_at=started.at,
        updated_at=started.at,
        epoch=1,
        format=facts.FORMAT,
    )


def error_of(ledger: Ledger) -> facts.ErrorInfo | None:
    """Return what failed or parked the run, for its row."""
    if type(ledger.ended) is facts.RunFailed:
        return ledger.ended.error
    return ledger.paused.error if ledger.paused is not None else None


def progress_of(recorded: Sequence[facts.Fact]) -> Progress | None:
    """Return how far the run is, when these facts tell."""
    for fact in reversed(recorded):
        if type(fact) is facts.StepProgressed and fact.percent is not None:
            return Progress(percent=fact.percent, message=fact.message, step=fact.step)
    return None
