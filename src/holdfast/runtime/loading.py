"""Taking a run up from the store: the newest stored fold, and the journal after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.core.ending import Ending
from holdfast.core.nesting import definition_of, params_in
from holdfast.core.program import Program, Workflow, fold, fold_key
from holdfast.core.supervision import Supervision
from holdfast.core.work import Blobs
from holdfast.errors import NondeterminismError, RunNotFound
from holdfast.model import facts
from holdfast.model.audit import Stage
from holdfast.model.ids import RunId, step_id
from holdfast.model.run import RunRow
from holdfast.runtime.opening import opened
from holdfast.store.port import Store
from holdfast.store.rows import Claimed, JournalRow, Stored


class Loaded(msgspec.Struct):
    """A run's program with its progress after all the facts there are."""

    row: RunRow
    program: Program[Any]
    progress: Any
    blobs: Blobs
    facts: int
    """So many since the stored fold, of `size` bytes."""
    size: int
    fold_size: int


def params_of(row: RunRow) -> dict[str, Any]:
    """Return the params a run was started with."""
    return params_in(row.params)


async def load_run(
    store: Store, run: RunId, workflow: Workflow, services: Any, at: int | None = None
) -> Loaded:
    """Return the run folded with today's code, whole or up to position `at`.

    Raises RunNotFound; NondeterminismError when the journal does not fit the code.
    """
    row = await store.run(run)
    if row is None:
        raise RunNotFound(f"run {run!r} not found")
    return await load_row(store, row, workflow, services, at)


async def load_row(
    store: Store, row: RunRow, workflow: Workflow, services: Any, at: int | None = None
) -> Loaded:
    """Return what `load_run` does, for a run whose row is known; its params are taken from there."""
    run = row.id
    blobs = Blobs()
    if row.parent:
        workflow = await own_definition(store, row, workflow, services)
    program = opened(workflow, services, params_of(row), blobs)
    key = fold_key(program) if program.checkpoints else ""
    stored = await (store.load(run, key) if at is None else _load_prefix(store, row, key, at))
    if stored is None:
        raise RunNotFound(f"run {run!r} not found")
    blobs.update(stored.blobs)
    progress = program.start() if stored.fold is None else program.decode(stored.fold.data)
    size = count = 0
    for each in stored.rows:
        size += len(each.facts)
        count += each.count
        progress = _folded(program, progress, run, facts_of(each, at))
    fold_size = len(stored.fold.data) if stored.fold is not None else 0
    return Loaded(stored.run, program, progress, blobs, count, size, fold_size)


async def load_inputs(
    store: Store, row: RunRow, workflow: Workflow, services: Any, stages: Sequence[Stage]
) -> list[Any]:
    """Return what each of a run's stages was given: what the pattern says of it, else its own, else the run's state.

    Folds the journal once. Raises what `load_row` raises.
    """
    blobs = Blobs(await store.blobs(row.id))
    if row.parent:
        workflow = await own_definition(store, row, workflow, services)
    program = opened(workflow, services, params_of(row), blobs)
    progress, found, waiting = program.start(), list[Any](), iter(stages)
    stage = next(waiting, None)
    for each in await store.journal(row.id, limit=row.position + 1):
        for position, fact in enumerate(facts_of(each), each.position):
            progress = _folded(program, progress, row.id, (fact,))
            while stage is not None and stage.position == position:
                found.append(_given(program, progress, stage))
                stage = next(waiting, None)
    return found


def _given(program: Any, progress: Any, stage: Stage) -> Any:
    if isinstance(program, Supervision):
        program, progress = program.pattern, progress.inner
    told = None
    if hasattr(program, "given"):
        told = program.given(progress, step_id(stage.name, stage.iteration))
    if told is None:
        told = stage.input
    return program.state(progress) if told is None else told


async def load_ending(store: Store, run: RunId) -> Loaded:
    """Return the run folded without its code, with a program that wants nothing but the end. Raises RunNotFound."""
    stored = await store.load(run, "")
    if stored is None:
        raise RunNotFound(f"run {run!r} not found")
    program = Ending()
    progress = program.start()
    for each in stored.rows:
        progress = fold(program, progress, facts_of(each))
    size = sum(len(each.facts) for each in stored.rows)
    return Loaded(stored.run, program, progress, Blobs(stored.blobs), stored.run.position, size, 0)


async def _load_prefix(store: Store, row: RunRow, key: str, at: int) -> Stored:
    """Return what there is of a run up to a position: what was committed does not change between the readings."""
    stored = await store.fold(row.id, key, at)
    after = 0 if stored is None else stored.position
    rows = await store.journal(row.id, after, at - after) if at > after else ()
    return Stored(row, stored, rows, await store.blobs(row.id))


def load_beginning(claimed: Claimed, workflow: Workflow, services: Any) -> Loaded:
    """Return what `load_row` does, for a run that only began and whose claim brought its facts."""
    row, blobs = claimed.run, Blobs()
    began = facts.Journal.decode(claimed.began)
    if row.parent and isinstance(began[0], facts.RunStarted):
        workflow = definition_of(workflow, began[0], services)
    program = opened(workflow, services, params_of(row), blobs)
    progress = _folded(program, program.start(), row.id, began)
    return Loaded(row, program, progress, blobs, len(began), len(claimed.began), 0)


def _folded(program: Program[Any], progress: Any, run: RunId, journal: Sequence[facts.Fact]) -> Any:
    try:
        return fold(program, progress, journal)
    except Exception as error:
        raise NondeterminismError(
            f"run {run!r}: its journal does not fit the code: {type(error).__name__}: {error}"
        ) from error


async def own_definition(store: Store, row: RunRow, workflow: Workflow, services: Any) -> Workflow:
    """Return the definition of a child run whose registered workflow this is; it may be of a part of that."""
    first = await store.journal(row.id, limit=1)
    started = facts.Journal.decode(first[0].facts)[0] if first else None
    return definition_of(workflow, started, services) if isinstance(started, facts.RunStarted) else workflow


def facts_of(row: JournalRow, at: int | None = None) -> tuple[facts.Fact, ...]:
    """Return a commit's facts, those up to position `at` when given."""
    journal = facts.Journal.decode(row.facts)
    return journal if at is None else journal[: max(0, at - row.position + 1)]
