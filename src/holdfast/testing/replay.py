"""Replay: does today's code still decide what a journal says was decided?

A journal holds two sorts of facts: what arrived (results, failures, signals, requests) and what the program decided
upon it. Replay absorbs the first and compares the second with what the program wants now. A released version's
journals, kept as files, show that a change of code leaves running runs as they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from holdfast import registry as registries
from holdfast.core.advance import record, wanted
from holdfast.core.nesting import definition_of
from holdfast.core.program import Program, Progress
from holdfast.core.work import Blobs
from holdfast.errors import NondeterminismError, PayloadRejected
from holdfast.model import facts
from holdfast.model.values import decode
from holdfast.runtime.opening import opened
from holdfast.services import Runtime
from holdfast.testing.given import shown

P = TypeVar("P", bound=Progress)
Journal = Sequence[facts.Fact] | Sequence[Mapping[str, Any]]

DECIDED: Final = (
    facts.StepScheduled,
    facts.StepCancelRequested,
    facts.DecisionMade,
    facts.EventPublished,
    facts.RunContinued,
    facts.RunCompleted,
    facts.RunFailed,
    facts.RunCancelled,
)
"""The facts that only a program's decision can make."""


def replay(
    journals: Iterable[Journal | str | Path],
    *,
    registry: registries.Registry | None = None,
    runtime: Runtime | None = None,
) -> int:
    """Replay journals with today's workflows and return how many there were.

    A journal is what `Run.journal()` returns, a sequence of facts, or a JSON file of either. Raises NondeterminismError
    that names position, expected and found; WorkflowNotFound for a workflow that is not registered.
    """
    count = 0
    for journal in journals:
        recorded = _facts_of(journal)
        if not recorded or not isinstance(recorded[0], facts.RunStarted):
            raise PayloadRejected(
                "a journal begins with RunStarted", field="journals", fix="Give whole journals."
            )
        workflow = (registry or registries.default).get(recorded[0].workflow)
        workflow = definition_of(workflow, recorded[0], runtime or Runtime())
        params = decode(recorded[0].data)
        program = opened(workflow, runtime or Runtime(), params if isinstance(params, dict) else {}, Blobs())
        difference = first_difference(program, recorded)
        if difference is not None:
            raise NondeterminismError(f"run of {workflow.name!r}: {difference}")
        count += 1
    return count


def first_difference(program: Program[P], recorded: Sequence[facts.Fact]) -> str | None:
    """Return where the program decides otherwise than the journal says, with expected and found; None if nowhere."""
    progress = program.start()
    pending: list[facts.Fact] = []
    for position, fact in enumerate(recorded, 1):
        if isinstance(fact, facts.RunForked):
            pending = []  # the fork may have been cut off between two decisions
        if _is_decided(fact):
            pending = pending or [record(command, fact.at) for command in wanted(program, progress, fact.at)]
            expected = pending.pop(0) if pending else None
            if expected != _decided(fact):
                if not _without_code(progress, fact):
                    return f"position {position}: the journal has {shown(fact)}, today's code wants {_shown(expected)}"
                pending = []
        elif pending:
            return (
                f"position {position}: the journal has {shown(fact)}, today's code wants {shown(pending[0])}"
            )
        progress = program.evolve(progress, fact)
    return None


def _is_decided(fact: facts.Fact) -> bool:
    """Tell whether a program decided it, not the driver.

    Calls that a node made are recorded when they have ended; a new definition, and most resumes, come from outside.
    """
    match fact:
        case facts.DecisionMade():
            return not fact.hash
        case facts.StepScheduled():
            return fact.kind != "call" or not fact.parent or fact.shielded
        case facts.RunResumed():
            return fact.error is not None
        case _:
            return isinstance(fact, DECIDED)


def _without_code(progress: Progress, fact: facts.Fact) -> bool:
    """Tell whether it is what ends a run that was asked to end and that nobody's code could drive any more."""
    ledger = progress.ledger
    return ledger.ended is None and fact in [record(command, fact.at) for command in ledger.stopping()]


def _decided(fact: facts.Fact) -> facts.Fact:
    """Return a fact as its program decided it, whatever definition it was of, and whatever the cache said."""
    if isinstance(fact, facts.StepScheduled) and fact.missed:
        return msgspec.structs.replace(fact, hash="", missed="")
    return msgspec.structs.replace(fact, hash="") if getattr(fact, "hash", "") else fact


def _facts_of(journal: Journal | str | Path) -> Sequence[facts.Fact]:
    if isinstance(journal, str | Path):
        given: list[Any] = json.loads(Path(journal).read_text("utf-8"))
    else:
        given = list(journal)
    if all(isinstance(each, facts.Fact) for each in given):
        return given
    plain = [{key: value for key, value in each.items() if key != "position"} for each in given]
    return facts.Journal.decode(msgspec.json.encode(plain))


def _shown(fact: facts.Fact | None) -> str:
    return "nothing" if fact is None else shown(fact)
