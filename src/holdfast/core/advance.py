"""The one loop of every run: absorb arrivals, then decide and record until nothing more is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from holdfast.core.ledger import Ledger, admit, is_shielded
from holdfast.core.program import Program, Progress
from holdfast.errors import DefinitionError
from holdfast.model import commands, facts
from holdfast.model.ids import Instant

P = TypeVar("P", bound=Progress)

BOUND: Final = 10_000
"""Rounds of deciding in one advance; a program that wants more never settles."""


def advance(
    program: Program[P], progress: P, arrivals: Sequence[facts.Fact], now: Instant
) -> tuple[P, list[facts.Fact]]:
    """Admit and absorb arrivals, then decide and record (stamped `now`) until nothing more is wanted.

    Pure; costs what it returns. The returned facts start with the admitted arrivals, in order.
    """
    recorded: list[facts.Fact] = []
    evolve = program.evolve
    for arrival in arrivals:
        fact = admit(progress.ledger, arrival, now)
        if fact is not None:
            progress = evolve(progress, fact)
            recorded.append(fact)
    for _ in range(BOUND):
        commanded = wanted(program, progress, now)
        if not commanded:
            return progress, recorded
        for command in commanded:
            fact = record(command, now)
            progress = evolve(progress, fact)
            recorded.append(fact)
    raise DefinitionError(f"the program still wants something after {BOUND} decisions: {commanded[0]!r:.200}")


def wanted(program: Program[P], progress: P, now: Instant) -> Sequence[commands.Command]:
    """Return the program's commands as far as a delay, a pause, a cancel or the end lets them pass.

    What was earned counts first: a completion that is decided in the same advance as a cancel wins, and so does the
    failure of a step that nobody had asked to end.
    """
    ledger: Ledger = progress.ledger
    if ledger.ended is not None:
        return ()
    if ledger.cancelling is not None:
        return ledger.passing(program.decide(progress)) or ledger.stopping()
    if ledger.paused is not None:
        return [*ledger.sheltered(), *(c for c in program.decide(progress) if is_shielded(c))]
    if ledger.begins > now:
        return ()
    if ledger.asking:
        return [*ledger.wanted(ledger.asking), *program.decide(progress)]
    return program.decide(progress)


def record(command: Any, now: Instant) -> facts.Fact:  # noqa: C901 - one case for each command
    """Return the fact that a command becomes."""
    match command:
        case commands.ScheduleStep():
            return facts.StepScheduled(
                at=now,
                step=command.step,
                name=command.name,
                kind=command.kind,
                iteration=command.iteration,
                due=command.due,
                parent=command.parent,
                shielded=command.shielded,
                data=command.data,
            )
        case commands.RecordDecision():
            source, edges, key, data = command.source, command.edges, command.key, command.data
            return facts.DecisionMade(at=now, source=source, edges=edges, key=key, data=data)
        case commands.CancelStep():
            return facts.StepCancelRequested(at=now, step=command.step)
        case commands.CompleteRun():
            return facts.RunCompleted(at=now, data=command.data)
        case commands.FailRun():
            return facts.RunFailed(at=now, error=command.error)
        case commands.CancelRun():
            return facts.RunCancelled(at=now, reason=command.reason)
        case commands.PauseRun():
            return facts.RunPaused(at=now, reason=command.reason, error=command.error)
        case commands.ResumeRun(error=error, due=due, reopened=steps, key=key):
            return facts.RunResumed(at=now, key=key, due=due, reopened=steps, error=error)
        case commands.PublishEvent():
            return facts.EventPublished(at=now, type=command.type, stream=command.stream, data=command.data)
        case commands.ContinueRun():
            return facts.RunContinued(at=now, data=command.data)
        case _:
            raise TypeError(f"not a command: {command!r}")
