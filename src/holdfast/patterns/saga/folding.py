"""What each fact makes of a saga's log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from holdfast.core.ledger import OpenStep
from holdfast.model import facts
from holdfast.model.ids import StepId, compensation_of, is_compensation
from holdfast.model.values import unpack
from holdfast.patterns.saga.definition import Definition
from holdfast.patterns.saga.log import Entry, Group, SagaProgress

UNKNOWN: Final = frozenset({"step_timed_out", "heartbeat_timed_out"})
"""Codes of failures that do not tell whether the step took effect."""

LOST: Final = "worker lost"

FOREACH: Final = "foreach"
"""The name of the decision for which items a step runs."""

SAVEPOINT: Final = "savepoint"
"""The name of the decision to go back no further than to a savepoint, and to begin there again."""

BACKWARD: Final = "backward"
"""The name of the decision to undo all."""


def absorb(definition: Definition, progress: SagaProgress, fact: facts.Fact) -> None:
    """Fold one fact in. What the ledger knew of the step before tells what the fact means."""
    fold = _FOLDS.get(type(fact))
    if fold is not None:
        fold(definition, progress, fact)
    progress.ledger.absorb(fact)


# --- forward


def _scheduled(definition: Definition, progress: SagaProgress, fact: facts.StepScheduled) -> None:
    if fact.parent:
        return
    if is_compensation(fact.step):
        _turn(progress)
        progress.compensated_by(fact.step).undo = "open"
        return
    group = _enter(definition, progress, fact.name)
    entry = Entry(fact.step, fact.name, progress.top)
    if fact.data != facts.NOTHING:
        told = unpack(fact.data)
        entry.registered, entry.item = "compensation" in told, told.get("item", facts.NOTHING)
        entry.index = len(group.steps) if "item" in told else 0
    progress.entries[fact.step] = entry
    progress.counts[fact.name] = fact.iteration
    group.steps.append(fact.step)
    group.open += 1


def _enter(definition: Definition, progress: SagaProgress, name: str) -> Group:
    """Return the group that a step is of: the one on top, or a new one."""
    number, top = definition.numbers.get(name, -1), progress.group
    if top is not None and top.number == number:
        return top
    following = 0 if top is None else top.number + 1
    if number < 0:
        found = ", ".join(definition.by_name)
        progress.misfit = f"the journal has a step {name!r}; the saga has only {found}"
    elif number != following:
        missing = definition.groups[following][0].name if number > following else name
        progress.misfit = f"the journal has step {name!r} where the saga has {missing!r}"
    group = Group(number, progress.top)
    progress.groups.append(group)
    progress.top = len(progress.groups) - 1
    return group


def _decided(definition: Definition, progress: SagaProgress, fact: facts.DecisionMade) -> None:
    for edge in fact.edges:
        if edge.name == FOREACH and edge.result:
            _enter(definition, progress, edge.target).lists.append(edge.target)
        elif edge.name == FOREACH:
            progress.failed, progress.reason = edge.target, edge.reason
            progress.error = facts.ErrorInfo(
                code="foreach_failed", message=edge.reason, type=edge.name, name=edge.target
            )
        elif edge.name == SAVEPOINT and edge.result:
            number = definition.numbers.get(edge.target, 0)
            progress.floor = number
            later = {n: tries for n, tries in progress.tries.items() if n < number}
            progress.tries = {**later, number: progress.tries.get(number, 1) + 1}
            _turn(progress)
        elif edge.name == BACKWARD:
            _turn(progress)


def _completed(_: Definition, progress: SagaProgress, fact: facts.StepCompleted) -> None:
    if is_compensation(fact.step):
        _compensated(progress, progress.compensated_by(fact.step), "done")
    elif (entry := progress.entries.get(fact.step)) is not None:
        entry.output = fact.data
        _ended(progress, entry, "done")


def _failed(definition: Definition, progress: SagaProgress, fact: facts.StepFailed) -> None:
    if is_compensation(fact.step):
        progress.broken[fact.step] = fact.error
        _compensated(progress, progress.compensated_by(fact.step), "failed")
    elif (entry := progress.entries.get(fact.step)) is not None:
        asked = progress.ledger.open[fact.step].cancelling
        unknown = entry.doubt or asked or fact.error.code in UNKNOWN
        if progress.ledger.open[fact.step].kind == "run":
            # A saga has undone itself, or what it could; any other run may have done a part of its work.
            unknown = fact.error.compensated is None
            progress.inherited += fact.error.failed_compensations
        _ended(progress, entry, "unknown" if unknown else "failed")
        if progress.undoing:
            progress.error = fact.error if entry.name == progress.failed else progress.error
        elif progress.error is None and not asked:  # what it raises then is no failure of the saga
            progress.failed, progress.error = entry.name, fact.error
            progress.reason = f"step {entry.name!r} failed: {fact.error.message}"
            defined = definition.by_name.get(entry.name)
            progress.undecided = unknown and defined is not None and defined.kind == "pivot"


def _cancelled(definition: Definition, progress: SagaProgress, fact: facts.StepCancelled) -> None:
    entry = progress.entries.get(fact.step)
    if is_compensation(fact.step):
        asked = facts.ErrorInfo(code="cancelled", message="it was asked to end", step=fact.step)
        progress.broken[fact.step] = asked
        _compensated(progress, progress.compensated_by(fact.step), "failed")
    elif entry is not None:
        idle = progress.ledger.open[fact.step].due > fact.at and not fact.started and not entry.doubt
        defined = definition.by_name.get(entry.name)
        undid_itself = defined is not None and getattr(defined.forward, "is_saga", False)
        _ended(progress, entry, "failed" if idle or undid_itself else "unknown")


def _retried(_: Definition, progress: SagaProgress, fact: facts.StepRetried) -> None:
    entry = progress.entries.get(fact.step)
    if entry is not None:
        unknown = fact.error is not None and fact.error.code in UNKNOWN
        entry.doubt = entry.doubt or unknown or fact.reason == LOST


def _ended(progress: SagaProgress, entry: Entry, state: str) -> None:
    entry.state = state
    group = progress.groups[entry.group]
    group.open -= 1
    group.due += entry.due
    if progress.undoing:  # a child was to undo what it could not at first
        _pop(progress)


# --- backward


def _turn(progress: SagaProgress) -> None:
    """Begin to go back: what failed is settled by what is undone now, and no resume tries it again.

    But for children that could not undo themselves: a resume has them try that again.
    """
    if progress.undoing:
        return
    progress.undoing = True
    if progress.error is None:
        progress.request = request = progress.ledger.cancelling
        progress.reason = (request.reason if request else "") or "cancelled"
    unresolved = progress.ledger.unresolved
    for step in [*unresolved.values()]:
        step.undoing = _is_stuck(step) and not is_compensation(step.step)
        if not step.undoing and not is_compensation(step.step):
            del unresolved[step.step]
    _pop(progress)


def _is_stuck(step: OpenStep) -> bool:
    """Tell whether a step is a child run that could not undo all that it had done."""
    return step.kind == "run" and step.error is not None and bool(step.error.failed_compensations)


def _compensated(progress: SagaProgress, entry: Entry, how: str) -> None:
    entry.undo = how
    if how != "failed":
        progress.broken.pop(compensation_of(entry.step), None)
    if how == "done" and entry.name not in progress.undone:
        progress.undone.append(entry.name)
    group = progress.groups[entry.group]
    group.due = max(0, group.due - 1)
    _pop(progress)


def _pop(progress: SagaProgress) -> None:
    """Pop the groups that are undone; at the savepoint that was the aim the saga goes forward again."""
    if progress.ledger.cancelling is not None or progress.broken:
        progress.floor = None
    floor = progress.floor
    while (group := progress.group) is not None and not group.due and group.number >= (floor or 0):
        progress.top = group.below
    if floor is not None and (group is None or group.number < floor):
        _go_on(progress)


def _go_on(progress: SagaProgress) -> None:
    """Go forward from where the saga stands."""
    progress.error, progress.request, progress.failed, progress.undecided = None, None, "", False
    progress.reason = ""
    progress.undoing, progress.floor, progress.undone, progress.inherited = False, None, [], []


def _resumed(_: Definition, progress: SagaProgress, fact: facts.RunResumed) -> None:
    for step, _attempt in fact.reopened:
        _reopen(progress, step)
    for step, how in fact.settled:
        _settle(progress, step, how)
    had_ended = progress.ledger.ended is not None or fact.error is not None
    left = progress.group or fact.reopened or fact.settled or progress.inherited
    if progress.undoing and (left or not had_ended):
        return
    # What failed is tried again; a saga that ended with nothing left to undo begins anew where it stands.
    _go_on(progress)


def _settle(progress: SagaProgress, step: StepId, how: str) -> None:
    """Take a person's word for a compensation that had failed."""
    entry = progress.compensated_by(step)
    entry.undo = how
    progress.broken.pop(step, None)
    if how == "done" and entry.name not in progress.undone:
        progress.undone.append(entry.name)


def _forked(_: Definition, progress: SagaProgress, fact: facts.RunForked) -> None:
    for unresolved in progress.ledger.unresolved.values():
        if not unresolved.undoing:
            _reopen(progress, unresolved.step)
    if not progress.undoing:
        _go_on(progress)
    changes = unpack(fact.data) if fact.data != facts.NOTHING else {}
    for group in progress.stack(progress.top):
        for step in group.steps:
            entry = progress.entries[step]
            entry.output = changes.get(entry.name, entry.output)


def _reopen(progress: SagaProgress, step: StepId) -> None:
    if is_compensation(step):
        progress.compensated_by(step).undo = "open"
        progress.broken.pop(step, None)
    elif (entry := progress.entries.get(step)) is not None:
        group = progress.groups[entry.group]
        group.due -= entry.due
        group.open += 1
        entry.state = "open"
        if (
            progress.undoing
        ):  # its group was popped; what its child cannot undo this time comes back with its end
            progress.top, progress.inherited = max(progress.top, entry.group), []


_FOLDS: Final[dict[type[facts.Fact], Callable[[Definition, SagaProgress, Any], None]]] = {
    facts.StepScheduled: _scheduled,
    facts.DecisionMade: _decided,
    facts.StepCompleted: _completed,
    facts.StepFailed: _failed,
    facts.StepCancelled: _cancelled,
    facts.StepRetried: _retried,
    facts.RunResumed: _resumed,
    facts.RunForked: _forked,
}
