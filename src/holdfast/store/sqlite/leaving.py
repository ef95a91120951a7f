"""Deleting a run of very many rows: at once it is gone for everybody, and its rows go a few at a time after that.

`detach` takes the run out of every list in one short transaction. Its connection knows no foreign keys, which would
take all its rows along. `sweep` deletes some of the rows that were left; whoever deletes goes on with it until there
are none, and what a crash leaves is swept by the next round of retention.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from holdfast.model.ids import Instant, RunId
from holdfast.store.rows import Delivered
from holdfast.store.sqlite.changes import family_refusing
from holdfast.store.sqlite.failures import LOCK_PATIENCE
from holdfast.store.sqlite.queries import SQL

LARGE: Final = 5_000
"""From so many facts on a run's rows go a few at a time."""

ROWS: Final = 500
"""Rows that are deleted in one transaction."""

REST: Final = 0.002
"""Seconds between two, for the commits of others."""

_FEW: Final = ("job_drop", "tags_drop", "letter_drop", "cache_drop", "run_delete")
_MANY: Final = ("journal_sweep", "payload_sweep", "checkpoint_sweep", "chunk_sweep", "inbox_sweep")


def detach(path: str, run: RunId, now: Instant) -> Delivered:
    """Delete an ended run and its descendants but for the rows of which there may be many; waits for locks."""
    database = sqlite3.connect(path, timeout=LOCK_PATIENCE, isolation_level=None)
    try:
        database.execute("PRAGMA synchronous = FULL")
        database.execute("BEGIN IMMEDIATE")
        family, answer = family_refusing(database, run)
        for id_ in family:
            database.execute(SQL["tombstone_insert"], (id_, now))
            database.execute(SQL["leaving_insert"], (id_,))
            for name in _FEW:
                database.execute(SQL[name], (id_,))
        database.execute("COMMIT")
    finally:
        database.close()  # what is not committed is rolled back
    return answer


def sweep(database: sqlite3.Connection, rows: int = ROWS) -> bool:
    """Delete some rows of runs that are leaving; False when there are none."""
    found = database.execute(SQL["leaving_next"]).fetchone()
    if found is None:
        return False
    left = rows
    for name in _MANY:
        left -= database.execute(SQL[name], (found[0], left)).rowcount
        if left <= 0:
            return True
    database.execute(SQL["leaving_delete"], found)
    return True
