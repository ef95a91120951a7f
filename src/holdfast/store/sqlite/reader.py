"""What is read: runs, journals, arrivals, folds. Each function is one consistent view on a connection."""

from __future__ import annotations

import heapq
import itertools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from holdfast.model.cache import CacheEntry
from holdfast.model.ids import Instant, RunId, WorkerId
from holdfast.model.run import RunRow
from holdfast.store import codec
from holdfast.store.listing import choose, statuses
from holdfast.store.rows import (
    CacheListed,
    CacheQuery,
    ChunkRow,
    Fold,
    InboxRow,
    JournalRow,
    LimitRow,
    RunQuery,
    Stored,
    WorkerRow,
)
from holdfast.store.sqlite.queries import SQL

_ALL: Final = -1
"""As a LIMIT: no limit."""


@contextmanager
def snapshot(database: sqlite3.Connection) -> Iterator[None]:
    """Let several statements see one state of the database; inside a transaction they do so already."""
    if database.in_transaction:
        yield
        return
    database.execute("BEGIN")
    try:
        yield
    finally:
        database.execute("COMMIT")


def find_run(database: sqlite3.Connection, run: RunId) -> RunRow | None:
    """Return a run's row."""
    row = database.execute(SQL["run_select"], (run,)).fetchone()
    return None if row is None else codec.run_row(row)


def load(
    database: sqlite3.Connection, run: RunId, hash_: str, most_facts: int, most_bytes: int
) -> Stored | None:
    """Return all that is needed to take a run up. Raises TooLarge when that is more than the limits."""
    with snapshot(database):
        row = find_run(database, run)
        if row is None:
            return None
        fold = find_fold(database, run, hash_)
        after = fold.position if fold else 0
        (size,) = database.execute(SQL["blob_size"], (run,)).fetchone()
        if row.position - after > most_facts or size > most_bytes:
            raise TooLarge
        return Stored(
            row, fold, read_journal(database, run, after, _ALL), read_blobs(database, run) if size else {}
        )


class TooLarge(Exception):
    """More than the event loop should wait for."""


def find_fold(database: sqlite3.Connection, run: RunId, hash_: str) -> Fold | None:
    """Return the newest stored fold of a program."""
    row = database.execute(SQL["fold_select"], (run, hash_)).fetchone()
    return None if row is None else Fold(*row)


def read_fold(database: sqlite3.Connection, run: RunId, hash_: str, until: int) -> Fold | None:
    """Return the newest stored fold of a program up to a position."""
    row = database.execute(SQL["fold_until"], (run, hash_, until)).fetchone()
    return None if row is None else Fold(*row)


def read_journal(database: sqlite3.Connection, run: RunId, after: int, limit: int) -> list[JournalRow]:
    """Return the commits that hold facts after a position."""
    return [
        JournalRow(*row) for row in database.execute(SQL["journal_select"], (run, run, after, after, limit))
    ]


def read_chunks(database: sqlite3.Connection, run: RunId, after: int, limit: int) -> list[ChunkRow]:
    """Return the chunks of a run after one."""
    return [ChunkRow(*row) for row in database.execute(SQL["chunk_select"], (run, after, limit))]


def read_tail(database: sqlite3.Connection, worker: WorkerId, after: int, limit: int) -> list[JournalRow]:
    """Return the commits of a worker."""
    return [JournalRow(*row) for row in database.execute(SQL["journal_tail"], (worker, after, limit))]


def read_after(database: sqlite3.Connection, after: int, limit: int) -> list[JournalRow]:
    """Return the commits of all runs."""
    return [JournalRow(*row) for row in database.execute(SQL["journal_after"], (after, limit))]


def last_seq(database: sqlite3.Connection) -> int:
    """Return the number of the newest commit of all runs."""
    (seq,) = database.execute(SQL["journal_last"]).fetchone()
    return int(seq)


def read_blobs(database: sqlite3.Connection, run: RunId) -> Mapping[str, bytes]:
    """Return a run's large values."""
    return dict(database.execute(SQL["blob_select"], (run,)))


def read_inbox(database: sqlite3.Connection, run: RunId, now: Instant) -> list[InboxRow]:
    """Return a run's arrivals that may be taken."""
    return [InboxRow(*row) for row in database.execute(SQL["inbox_select"], (run, now))]


def read_held(database: sqlite3.Connection, worker: WorkerId) -> list[RunId]:
    """Return the runs that a worker holds."""
    return [run for (run,) in database.execute(SQL["job_held"], (worker,))]


def read_woken(database: sqlite3.Connection, worker: WorkerId, now: Instant) -> dict[RunId, int]:
    """Return the runs of a worker that have arrivals, with their jobs' wakes."""
    return dict(database.execute(SQL["job_woken"], (worker, now)))


def next_due(database: sqlite3.Connection) -> Instant | None:
    """Return the earliest instant that an arrival waits for."""
    (due,) = database.execute(SQL["inbox_due_next"]).fetchone()
    return None if due is None else int(due)


def read_workers(database: sqlite3.Connection) -> list[WorkerRow]:
    """Return all workers."""
    return [codec.worker_row(row) for row in database.execute(SQL["worker_select"])]


def read_limit(database: sqlite3.Connection, name: str) -> LimitRow | None:
    """Return a row that processes change together."""
    row = database.execute(SQL["limit_select"], (name,)).fetchone()
    return None if row is None else LimitRow(*row)


def read_limits(database: sqlite3.Connection, prefix: str) -> dict[str, LimitRow]:
    """Return the rows whose names begin so, by their names, in order."""
    found = sorted(database.execute(SQL["limits_select"], (prefix,)))
    return {name: LimitRow(version, body) for name, version, body in found}


def read_cached(database: sqlite3.Connection, keys: Sequence[str]) -> dict[str, CacheEntry]:
    """Return the results that are kept under these keys."""
    rows = database.execute(SQL["cache_select"], (codec.texts(keys),))
    return {row[0]: codec.cache_entry(row) for row in rows}


def read_cached_last(database: sqlite3.Connection, families: Sequence[str]) -> dict[str, CacheEntry]:
    """Return the entry that each family got last."""
    rows = (database.execute(SQL["cache_last"], (family,)).fetchone() for family in families)
    return {row[1]: codec.cache_entry(row) for row in rows if row is not None}


def read_cache(
    database: sqlite3.Connection, query: CacheQuery, limit: int, after: tuple[Instant, str] | None
) -> list[CacheListed]:
    """Return the results that match, from after one."""
    values = (query.workflow, query.step, query.scope, *(after or (None, None)), limit)
    return [CacheListed(*row) for row in database.execute(SQL["cache_list"], values)]


def read_profiles(database: sqlite3.Connection, workflow: str) -> dict[str, bytes]:
    """Return a workflow's profiles by name."""
    return dict(database.execute(SQL["profile_select"], (workflow,)))


def find_runs(database: sqlite3.Connection, query: RunQuery) -> list[RunRow]:
    """Return the runs that match, in order.

    Each status is read along its own index, so that the rows come sorted and no more than `limit` of each are touched.
    """
    way = "ASC" if query.ascending else "DESC"
    found = []
    with snapshot(database):
        for status in statuses(query):
            chosen = choose(query, status, "run_tags", paged=True)
            sql = f"{SQL['run_list']}{chosen.where} ORDER BY {chosen.at} {way}, {chosen.id} {way} LIMIT ?"
            rows = database.execute(sql, (*chosen.values, query.limit))
            found.append([codec.run_row(row) for row in rows])
    merged = heapq.merge(*found, key=lambda row: (row.created_at, row.id), reverse=not query.ascending)
    return list(itertools.islice(merged, query.limit))


def count_runs(database: sqlite3.Connection, query: RunQuery) -> int:
    """Return how many runs match."""
    total = 0
    with snapshot(database):
        for status in statuses(query):
            chosen = choose(query, status, "run_tags", paged=False)
            (count,) = database.execute(SQL["run_count"] + chosen.where, chosen.values).fetchone()
            total += count
    return total


def find_faults(database: sqlite3.Connection) -> list[str]:
    """Return what is wrong with the database."""
    faults = [text for (text,) in database.execute("PRAGMA integrity_check") if text != "ok"]
    faults += [
        f"{table}: row {row} belongs to no row of {parent}"
        for table, row, parent, _ in database.execute("PRAGMA foreign_key_check")
        if not _is_leaving(database, table, row)
    ]
    return faults + [
        f"run {run}: its journal has a gap" for (run,) in database.execute(SQL["journal_broken"])
    ]


def _is_leaving(database: sqlite3.Connection, table: str, row: int | None) -> bool:
    """Tell whether a row is of a run that is deleted, and goes soon."""
    of_row = f"SELECT 1 FROM leaving WHERE run = (SELECT run FROM {table} WHERE rowid = ?)"  # noqa: S608 - SQLite named it
    return row is not None and database.execute(of_row, (row,)).fetchone() is not None
