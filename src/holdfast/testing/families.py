"""The laws of runs and their children, once the world is quiet. They return the violations they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from holdfast.core.children import child_id
from holdfast.model import facts
from holdfast.model.ids import RunId
from holdfast.model.run import ENDED, RunRow

Journals = Callable[[RunId], Sequence[facts.Fact]]

_FITS = {
    facts.StepCompleted: (facts.RunCompleted,),
    facts.StepFailed: (facts.RunFailed, facts.RunCancelled, facts.RunCompleted),
    facts.StepCancelled: facts.TERMINAL,
}
"""How a child may have ended when its step ended so. One that completed may have given what does not fit its parent;
what it came to does not count where the parent is ended without its code."""


def last_fork(journal: Sequence[facts.Fact]) -> int:
    """Return how many facts of a journal were copied from another run."""
    return max((n for n, fact in enumerate(journal) if isinstance(fact, facts.RunForked)), default=0)


def family_laws(family: Sequence[RunRow], journal_of: Journals) -> list[str]:
    """Return what is wrong between parents and children of a family that nobody drives any more."""
    rows = {row.id: row for row in family}
    found = [text for row in family for text in _steps(row.id, rows, journal_of)]
    for row in family:
        parent = rows.get(row.parent)
        if parent is None and row.parent:
            found.append(f"run {row.id} has no parent")
        elif parent is not None and parent.status in ENDED and row.status not in ENDED:
            found.append(f"run {row.id} is {row.status}, its parent {parent.status}")
    return found


def _steps(run: RunId, rows: dict[RunId, RunRow], journal_of: Journals) -> Iterator[str]:
    """Each step that is a child run has one, which says so, and ends as it did; the chronicle knows the order."""
    nested: dict[str, RunId] = {}
    journal = journal_of(run)
    forked = last_fork(journal)
    for position, fact in enumerate(journal):
        if isinstance(fact, facts.StepScheduled) and fact.kind == "run":
            nested[fact.step] = child_id(run, fact.step)
        elif position >= forked and isinstance(fact, facts.STEP_ENDS) and fact.step in nested:
            child = nested[fact.step]
            if child in rows:
                ends = [each for each in journal_of(child) if isinstance(each, facts.TERMINAL)]
                if not any(isinstance(each, _FITS[type(fact)]) for each in ends):
                    yield f"{run}: {fact.step} ended as {type(fact).__name__}, its child as {ends!r:.200}"
            elif not isinstance(fact, facts.StepFailed):
                yield f"{run}: {fact.step} ended without a child"
    for step, child in nested.items():
        row = rows.get(child)
        if row is not None:
            begun = journal_of(child)[0]
            if not isinstance(begun, facts.RunStarted) or (begun.parent, begun.parent_step) != (run, step):
                yield f"run {child} does not say that it is {step} of {run}"
