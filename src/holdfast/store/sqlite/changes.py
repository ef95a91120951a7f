"""What everyone but a run's holder writes: arrivals, claims, leases, deaths, deletions.

Each function runs inside a transaction of the writer, which may hold others' writes, too.
"""

from __future__ import annotations

import heapq
import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from holdfast.model.facts import FORMAT
from holdfast.model.ids import Instant, RunId, WorkerId
from holdfast.model.run import ENDED, RESUMABLE, RunRow
from holdfast.store import codec
from holdfast.store.rows import CacheQuery, Chunk, Claimed, Delivered, Delivery, WorkerRow
from holdfast.store.sqlite.queries import SQL

SUSPECT_DEATHS: Final = 2
"""From so many deaths on a run is claimed alone, so that it takes no others with it."""

_Ready = tuple[int, int, RunId]


def deliver(database: sqlite3.Connection, deliveries: Sequence[Delivery], now: Instant) -> list[Delivered]:
    """Put arrivals into inboxes, in order, and see to it that somebody looks at them."""
    return [_deliver(database, delivery, now) for delivery in deliveries]


def _deliver(database: sqlite3.Connection, delivery: Delivery, now: Instant) -> Delivered:
    run = delivery.run
    target = database.execute(SQL["run_target"], (run,)).fetchone()
    if target is None:
        return Delivered("unknown")
    status, worker = codec.status_named(target[0]), target[1]
    if status not in delivery.allowed:
        return Delivered("refused", status, worker)
    arrival = (run, delivery.key or None, 0, now, delivery.fact)
    if not database.execute(SQL["inbox_insert"], arrival).rowcount:
        return Delivered("repeated", status, worker)
    if delivery.reopens and not worker and status in RESUMABLE:
        database.execute(SQL["run_reopen"], (now, run))
    if status in delivery.wakes:
        database.execute(SQL["job_wake"], (run,))
    return Delivered("delivered", status, worker)


def stream(database: sqlite3.Connection, chunks: Sequence[Chunk]) -> dict[RunId, int]:
    """Keep chunks of runs that are there; return the positions of these."""
    runs = dict.fromkeys(each.run for each in chunks)
    found = {run: database.execute(SQL["run_position"], (run,)).fetchone() for run in runs}
    positions = {run: row[0] for run, row in found.items() if row is not None}
    database.executemany(
        SQL["chunk_insert"],
        [
            (each.run, positions[each.run], each.step, each.attempt, each.at, each.data or None)
            for each in chunks
            if each.run in positions
        ],
    )
    return positions


def ready(
    database: sqlite3.Connection, lanes: Sequence[tuple[str, str]], limit: int, *, suspects: bool
) -> list[_Ready]:
    """Return the jobs to claim: larger priority first, then the older."""
    query = SQL["job_suspect" if suspects else "job_ready"]

    def lane_jobs(queue: str, workflow: str) -> Iterator[_Ready]:
        yield from database.execute(query, (queue, workflow, SUSPECT_DEATHS, FORMAT, limit))

    jobs = heapq.merge(
        *(lane_jobs(*lane) for lane in dict.fromkeys(lanes)), key=lambda job: (-job[1], job[0])
    )
    return list(itertools.islice(jobs, limit))


def claim(
    database: sqlite3.Connection,
    worker: WorkerId,
    lanes: Sequence[tuple[str, str]],
    limit: int,
    now: Instant,
    *,
    suspects: bool,
) -> list[Claimed]:
    """Take jobs for a worker; from here on no earlier holder of their runs can commit."""
    claimed: list[Claimed] = []
    if _is_stopped(database, worker):
        return claimed
    for job, _, run in ready(database, lanes, limit, suspects=suspects):
        ((deaths, wakes),) = database.execute(SQL["job_hold"], (worker, job)).fetchall()
        row = _fenced(database, run)
        began = b"" if wakes or row.position > 1 else _began(database, run, now)
        claimed.append(Claimed(row, deaths, wakes, began))
    return claimed


def claim_run(database: sqlite3.Connection, worker: WorkerId, run: RunId) -> Claimed | None:
    """Take the job of one run, unless somebody holds it or nothing is left to do."""
    if _is_stopped(database, worker):
        return None
    for deaths, wakes in database.execute(SQL["job_hold_run"], (worker, run, FORMAT)).fetchall():
        return Claimed(_fenced(database, run), deaths, wakes)
    return None


def _began(database: sqlite3.Connection, run: RunId, now: Instant) -> bytes:
    """Return the facts of a run that only began; nothing if something came for it since."""
    found = database.execute(SQL["journal_began"], (run, now)).fetchone()
    return b"" if found is None else bytes(found[0])


def _is_stopped(database: sqlite3.Connection, worker: WorkerId) -> bool:
    """Tell whether the worker was reclaimed and has not enlisted anew since: it does not know yet."""
    return database.execute(SQL["worker_stopped"], (worker,)).fetchone() is not None


def _fenced(database: sqlite3.Connection, run: RunId) -> RunRow:
    """Raise a run's epoch and return its row."""
    database.execute(SQL["run_fence"], (run,))
    return codec.run_row(database.execute(SQL["run_select"], (run,)).fetchone())


def release(database: sqlite3.Connection, worker: WorkerId, runs: Sequence[RunId]) -> None:
    """Make jobs of a worker ready again."""
    for run in runs:
        database.execute(SQL["job_release"], (run, worker))


def enlist(database: sqlite3.Connection, row: WorkerRow) -> None:
    """Insert or replace a worker's row."""
    database.execute(SQL["worker_upsert"], codec.worker_columns(row))


def dismiss(database: sqlite3.Connection, workers: Sequence[WorkerId]) -> None:
    """Forget workers that have stopped."""
    for worker in workers:
        database.execute(SQL["worker_delete"], (worker,))


def save_profile(database: sqlite3.Connection, workflow: str, name: str, body: bytes | None) -> None:
    """Keep a profile, or forget it."""
    if body is None:
        database.execute(SQL["profile_delete"], (workflow, name))
    else:
        database.execute(SQL["profile_upsert"], (workflow, name, body))


def set_limit(database: sqlite3.Connection, name: str, version: int, body: bytes) -> bool:
    """Write a row that nobody else wrote."""
    if version:
        return database.execute(SQL["limit_update"], (body, name, version)).rowcount == 1
    return database.execute(SQL["limit_insert"], (name, body)).rowcount == 1


def discard(database: sqlite3.Connection, run: RunId, position: int, now: Instant) -> bool:
    """Put a failed run away."""
    return database.execute(SQL["letter_discard"], (now, run, position)).rowcount == 1


def forget(database: sqlite3.Connection, before: Instant, limit: int) -> int:
    """Set ids of deleted runs free."""
    return database.execute(SQL["tombstone_delete"], (before, limit)).rowcount


def clear_cache(database: sqlite3.Connection, query: CacheQuery, limit: int) -> int:
    """Forget results that match."""
    return database.execute(SQL["cache_clear"], (query.workflow, query.step, query.scope, limit)).rowcount


def forget_cached(database: sqlite3.Connection, before: Instant, limit: int) -> int:
    """Forget results that expired."""
    return database.execute(SQL["cache_forget"], (before, limit)).rowcount


def reclaim(
    database: sqlite3.Connection,
    workers: Sequence[WorkerId],
    reason: Literal["died", "expired"],
    now: Instant,
) -> list[RunId]:
    """Free the jobs of dead workers and shut these out: one that comes back can neither renew nor commit."""
    freed: list[RunId] = []
    for worker in workers:
        if reason == "expired" and not database.execute(SQL["worker_expired"], (worker, now)).fetchone():
            continue
        database.execute(SQL["worker_stop"], (now, worker))
        runs = [run for (run,) in database.execute(SQL["job_reclaim"], (worker,)).fetchall()]
        for run in runs:
            database.execute(SQL["run_fence"], (run,))
        freed += runs
    return freed


def move_due(database: sqlite3.Connection, now: Instant, limit: int) -> int:
    """Make the runs of due arrivals ready."""
    rows = database.execute(SQL["inbox_due"], (now, limit)).fetchall()
    for id_, run in rows:
        database.execute(SQL["inbox_move"], (id_,))
        database.execute(SQL["job_wake"], (run,))
    return len(rows)


def family_refusing(database: sqlite3.Connection, run: RunId) -> tuple[list[RunId], Delivered]:
    """Return a run with its descendants, children first, and what a delete answers; none when it must not be."""
    family = database.execute(SQL["run_family"], (run,)).fetchall()
    if not family:
        return [], Delivered("unknown")
    statuses = [(codec.status_named(status), worker) for _, status, worker in family]
    for status, worker in statuses:
        if status not in ENDED:
            return [], Delivered("refused", status, worker)
    return [id_ for id_, _, _ in reversed(family)], Delivered("delivered", *statuses[0])


def delete(database: sqlite3.Connection, run: RunId, now: Instant, *, tombstone: bool) -> Delivered:
    """Delete an ended run and its descendants; with a tombstone their ids stay taken."""
    family, answer = family_refusing(database, run)
    for id_ in family:
        if tombstone:
            database.execute(SQL["tombstone_insert"], (id_, now))
        database.execute(SQL["run_delete"], (id_,))
    return answer
