"""What is taken back: failures by a resume or a fork, results by who clears a task; and what after them runs anew."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from holdfast.model import facts
from holdfast.model.ids import StepId, split_step
from holdfast.patterns.dag.progress import DagProgress
from holdfast.patterns.dag.standing import BLOCKED, RUNNING, SKIPPED, SUCCEEDED, WAITING

MAP_FAILED: Final = "map_failed"


class Changes(msgspec.Struct, omit_defaults=True):
    """What a fork changes: results that tasks are given, and tasks to begin anew, or one item of them (-1: all)."""

    results: dict[str, msgspec.Raw] = {}
    cleared: tuple[tuple[str, int], ...] = ()


def resumed(progress: DagProgress, fact: facts.RunResumed) -> None:
    """Reopen the steps that failed or were cancelled, and let what they kept from running be judged anew."""
    touched = {number for step, _ in fact.reopened if (number := _reopen(progress, step)) is not None}
    _begin_after(progress, touched)
    touched |= _unmapped(progress) | _clear(progress, fact.cleared)
    if touched:
        _restart_after(progress, touched)
        progress.rebuild()


def forked(progress: DagProgress, fact: facts.RunForked) -> None:
    """Begin anew from here: what had not ended well counts as never started."""
    changes = _CHANGES.decode(fact.data) if fact.data is not facts.NOTHING else None
    touched = {number for step in progress.ledger.open if (number := _reopen(progress, step)) is not None}
    _begin_after(progress, touched)
    touched |= _unmapped(progress)
    if changes is not None:
        touched |= _changed(progress, changes)
    _restart_after(progress, touched)
    progress.rebuild()


def _changed(progress: DagProgress, changes: Changes) -> set[int]:
    numbers = progress.plan.numbers
    touched = _clear(progress, changes.cleared)
    for name, result in changes.results.items():
        if name in numbers:
            number = numbers[name]
            _forget(progress, number)
            progress.results[number], progress.status[number] = result, SUCCEEDED
            touched.add(number)
    return touched


def _reopen(progress: DagProgress, step: StepId) -> int | None:
    """Have a step's task run again; returns it."""
    name, iteration = split_step(step)
    number = progress.plan.numbers.get(name)
    if number is None:
        return None
    mapped = progress.mapped.get(number)
    if mapped is not None:
        mapped.reopen(iteration)
    progress.errors.pop(number, None)
    progress.status[number] = RUNNING
    return number


def _begin_after(progress: DagProgress, reopened: Collection[int]) -> None:
    """Have what failed after another failure begin anew when that has ended: then it may get something else."""
    for number in progress.plan.downstream(reopened):
        if number in reopened:
            _forget(progress, number)
            progress.status[number] = WAITING


def _unmapped(progress: DagProgress) -> set[int]:
    """Have maps that had nothing to map over be tried again; returns them."""
    found = {number for number, error in progress.errors.items() if error.code == MAP_FAILED}
    for number in found:
        del progress.errors[number]
        progress.status[number] = WAITING
    return found


def _restart_after(progress: DagProgress, touched: Collection[int]) -> None:
    """Let the tasks after these that did not run be judged anew. What has run stays."""
    for number in progress.plan.downstream(touched):
        ran = number in progress.idle or number in progress.mapped
        if progress.status[number] in (SKIPPED, BLOCKED) and not ran:
            progress.status[number] = WAITING


def _clear(progress: DagProgress, cleared: Iterable[tuple[str, int]]) -> set[int]:
    """Have tasks, or one item of them, begin anew, whatever they came to; returns the tasks."""
    touched = set()
    for name, item in cleared:
        number = progress.plan.numbers.get(name)
        if number is None:
            continue
        if item < 0:
            _forget(progress, number)
            progress.status[number] = WAITING
            touched.add(number)
        elif (mapped := progress.mapped.get(number)) is not None and mapped.repeat(item):
            progress.status[number] = RUNNING
            touched.add(number)
    return touched


def _forget(progress: DagProgress, number: int) -> None:
    name = progress.plan.names[number]
    progress.results.pop(number, None)
    progress.mapped.pop(number, None)
    progress.items.pop(number, None)
    progress.errors.pop(number, None)
    progress.unseen.pop(number, None)
    progress.given_up.discard(number)
    progress.idle.discard(number)
    progress.derived.discard(number)
    ledger = progress.ledger
    progress.abandoned |= {s.step for s in ledger.open.values() if s.name == name and not s.parent}
    for step in [s.step for s in ledger.unresolved.values() if s.name == name]:
        del ledger.unresolved[step]


_CHANGES: Final = msgspec.json.Decoder(Changes)
