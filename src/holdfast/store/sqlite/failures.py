"""What SQLite's errors mean for us: whom they are about, what the operator can do, and which to try again."""

from __future__ import annotations

import itertools
import random
import sqlite3
import time
from collections.abc import Callable
from typing import Final, TypeVar

from holdfast.errors import StoreDamaged, StoreError, StoreUnavailable

T = TypeVar("T")

LOCK_PATIENCE: Final = 12.0
"""Seconds to try for a lock that another process holds."""

_PRIMARY: Final = 0xFF
"""The low byte of an extended result code is the plain one."""

_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_LOCKED: Final = "is locked by another process", "End the process that holds the lock, or wait for it."
_RIGHTS: Final = "Give this user the right to write the file and its directory."
_REASONS: Final = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_FULL: ("cannot grow: the disk is full", "Free some space; what was committed is safe."),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "Check the disk and its free space."),
    sqlite3.SQLITE_READONLY: ("is read-only", _RIGHTS),
    sqlite3.SQLITE_PERM: ("is not accessible", _RIGHTS),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", _RIGHTS),
    sqlite3.SQLITE_CORRUPT: (
        "is damaged",
        "Restore it from a backup; `holdfast db check` tells what is wrong.",
    ),
    sqlite3.SQLITE_NOTADB: ("is no SQLite database", "Give the path of another file."),
}


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether another connection's lock was in the way."""
    return _code_of(error) in _BUSY


def is_unavailable(error: sqlite3.Error) -> bool:
    """Tell whether the database is to blame, and not the data of one call."""
    return _code_of(error) in _REASONS


def explained(error: sqlite3.Error, path: str) -> StoreError:
    """Return the error as one of ours, with the path and what to do."""
    if (known := _REASONS.get(_code_of(error))) is None:
        return StoreError(f"the database {path} refused that: {error}")
    reason, fix = known
    kind = StoreDamaged if _code_of(error) == sqlite3.SQLITE_CORRUPT else StoreUnavailable
    return kind(f"the database {path} {reason} ({error})", fix=fix)


def jitter(tries: int) -> float:
    """Return how long to wait before the next try for a lock: at first as short as a commit, then longer."""
    return random.uniform(0.0002, 0.001 * 2 ** min(tries, 4))  # noqa: S311 - spreads tries, keeps no secret


def insist(action: Callable[[], T]) -> T:
    """Return what `action` returns, tried again while another process holds a lock. Blocks the calling thread."""
    deadline = time.monotonic() + LOCK_PATIENCE
    for tries in itertools.count():
        try:
            return action()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        time.sleep(jitter(tries))
    raise AssertionError


def _code_of(error: sqlite3.Error) -> int:
    """Return SQLite's plain result code of an error; 0 when Python itself raised it."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & _PRIMARY
