"""What one commit of a run writes. The hottest statements of the engine: an UPDATE that is lock and fence, an INSERT.

Everything here runs inside a transaction of the writer. Nothing is read before it is written: the UPDATE's row count
tells whether the run is where the commit expects it.
"""

from __future__ import annotations

import sqlite3
from typing import Final, assert_never

from holdfast.model.cache import CacheEntry
from holdfast.model.commit import (
    Commit,
    Committed,
    Conflict,
    Deliver,
    Dequeue,
    Enqueue,
    Keep,
    StartRun,
    Withdraw,
)
from holdfast.model.facts import FORMAT, Journal
from holdfast.model.run import ENDED, RunRow, RunStatus
from holdfast.store import codec
from holdfast.store.sqlite.queries import SQL

_RUN_ADVANCE: Final = SQL["run_advance"]
_JOURNAL_INSERT: Final = SQL["journal_insert"]


def write_commit(database: sqlite3.Connection, commit: Commit) -> Committed | Conflict:
    """Write all that a commit says, or nothing when the run is elsewhere."""
    released, wakes = False, 0
    position = commit.position + len(commit.facts)
    if commit.opened is not None:
        if not _open_run(database, commit, commit.opened):
            return Conflict(commit.run)
        released = _dequeue_of(commit) is not None
    else:
        status, waiting_on = commit.status, commit.waiting_on
        if commit.effects and (dequeue := _dequeue_of(commit)) is not None:
            woken = _release(database, commit, dequeue)
            released = woken is None
            if woken is not None:
                status, waiting_on, wakes = RunStatus.RUNNING, (), woken
        if not _move_run(database, commit, position, status, waiting_on):
            return Conflict(commit.run)
    size = _append(database, commit) if commit.facts else 0
    if commit.effects or commit.consumed or commit.blobs or commit.checkpoint is not None:
        _write_rest(database, commit, position)
    return Committed(commit.run, position, released, wakes, size)


def _open_run(database: sqlite3.Connection, commit: Commit, row: RunRow) -> bool:
    params = bytes(row.params)
    small = len(params) <= codec.SMALL_PARAMS
    columns = codec.opening_columns(commit, row, params if small else None)
    if not database.execute(SQL["run_insert"], (*columns, commit.run)).rowcount:
        return False
    if not small:
        database.execute(SQL["blob_insert"], (commit.run, codec.PARAMS_HASH, params))
    for tag in row.tags:
        database.execute(SQL["run_tag_insert"], (tag, row.created_at or commit.at, commit.run))
    return True


def _move_run(
    database: sqlite3.Connection,
    commit: Commit,
    position: int,
    status: RunStatus,
    waiting_on: tuple[str, ...],
) -> bool:
    waits = codec.texts(waiting_on) if waiting_on else codec.EMPTY
    progress = None if commit.progress is None else codec.optional(commit.progress)
    if status is commit.was:
        keys = (
            position,
            commit.id,
            waits,
            progress,
            FORMAT,
            commit.at,
            commit.run,
            commit.position,
            commit.epoch,
        )
        return database.execute(_RUN_ADVANCE, keys).rowcount == 1
    ended = commit.at if status in ENDED else 0
    started = 0 if status is RunStatus.PENDING else commit.at
    columns = (
        *(position, commit.id, waits, progress, FORMAT, commit.at),
        *(status.value, codec.optional(commit.error), ended, started),
        *(commit.run, commit.position, commit.epoch),
    )
    return database.execute(SQL["run_change"], columns).rowcount == 1


def _append(database: sqlite3.Connection, commit: Commit) -> int:
    facts = Journal.encode(commit.facts)
    database.execute(
        _JOURNAL_INSERT,
        (
            commit.run,
            commit.position + 1,
            len(commit.facts),
            commit.at,
            commit.id,
            commit.epoch,
            commit.worker,
            facts,
        ),
    )
    return len(facts)


def _dequeue_of(commit: Commit) -> Dequeue | None:
    for effect in commit.effects:
        if type(effect) is Dequeue:
            return effect
    return None


def _release(database: sqlite3.Connection, commit: Commit, dequeue: Dequeue) -> int | None:
    """Delete the run's job before anything else, since the status hangs on it; how often it was woken if it stays.

    A commit that will conflict must leave the job, so the statement looks at the fence by itself. A job that is the
    worker's no more was given up before: the same commit comes again when its answer was lost.
    """
    if dequeue.wakes is None:
        database.execute(SQL["job_delete"], (commit.run, commit.run, commit.position, commit.epoch))
        return None
    keys = (commit.run, commit.worker, dequeue.wakes, commit.run, commit.position, commit.epoch)
    if database.execute(SQL["job_delete_unwoken"], keys).rowcount:
        return None
    row = database.execute(SQL["job_wakes"], (commit.run, commit.worker)).fetchone()
    return int(row[0]) if row else None


def _write_rest(database: sqlite3.Connection, commit: Commit, position: int) -> None:
    run = commit.run
    if commit.consumed:
        database.executemany(SQL["inbox_consume"], [(id_, run) for id_ in commit.consumed])
    if commit.effects:
        _write_effects(database, commit, position)
    for hash_, data in commit.blobs.items():
        database.execute(SQL["blob_insert"], (run, hash_, data))
    if commit.checkpoint is not None:
        database.execute(
            SQL["fold_insert"], (run, position, commit.checkpoint_hash, commit.at, commit.checkpoint)
        )


def _write_effects(database: sqlite3.Connection, commit: Commit, position: int) -> None:
    run = commit.run
    for effect in commit.effects:
        match effect:
            case Enqueue(queue, workflow, priority, worker):
                database.execute(SQL["job_upsert"], (run, queue, workflow, priority, worker, worker))
            case Deliver():
                _deliver(database, commit, effect)
            case StartRun(first):
                write_commit(database, first)  # one that has begun before is left as it is
            case Keep(entry):
                _keep(database, entry)
            case Withdraw(key):
                _withdraw(database, run, key)
            case Dequeue():
                if commit.opened is not None:  # else it was done first
                    database.execute(SQL["job_delete"], (run, run, position, commit.epoch))
            case _:
                assert_never(effect)


def _keep(database: sqlite3.Connection, entry: CacheEntry) -> None:
    database.execute(SQL["cache_keep"], codec.cache_columns(entry))


def _deliver(database: sqlite3.Connection, commit: Commit, effect: Deliver) -> None:
    """Put an arrival into an inbox, and wake the run if it may be taken at once."""
    run = effect.run or commit.run
    arrival = (effect.key or None, effect.due, effect.due or commit.at, effect.fact)
    if run == commit.run:
        inserted = database.execute(SQL["inbox_insert"], (run, *arrival)).rowcount
    else:
        inserted = database.execute(SQL["inbox_insert_other"], (*arrival, run)).rowcount
        if inserted and effect.reopens:
            database.execute(SQL["run_reopen_unheld"], (commit.at, run))
    if inserted and not effect.due:
        database.execute(SQL["job_wake"], (run,))


def _withdraw(database: sqlite3.Connection, run: str, key: str) -> None:
    if not key or key.endswith("*"):
        database.execute(SQL["inbox_withdraw_prefix"], (run, len(key[:-1]), key[:-1]))
    else:
        database.execute(SQL["inbox_withdraw"], (run, key))
