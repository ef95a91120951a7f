"""The only writing connection of a process, and group commit: all that waits goes into one transaction.

A flush is scheduled with `call_soon`, so that everything that became ready in this turn of the loop is in its group.
The statements run on the loop's thread: they hold Python's lock anyhow. COMMIT waits for the disk; while that is
short it is waited for here (a hop to a thread costs more), else on the writer's thread, and the next group gathers.
While another process holds the lock the flush is tried again by a timer; the loop goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from holdfast.errors import StoreError, StoreUnavailable
from holdfast.model.commit import Commit, Committed, Conflict
from holdfast.store.rows import StoreStats
from holdfast.store.sqlite.commits import write_commit
from holdfast.store.sqlite.failures import LOCK_PATIENCE, explained, is_busy, is_unavailable, jitter

T = TypeVar("T")

LARGEST_GROUP: Final = 256
"""Calls in one transaction; beyond that the loop would be held for longer than the disk gains."""

SHORT: Final = 0.0005
"""Seconds of a COMMIT that are rather waited for than handed to a thread, which costs about 0.1 ms and a wake-up."""

SINGLES: Final = 16
"""So many groups of one in a row, and the next one is not gathered but written at once."""

_OUTLIER: Final = 4 * SHORT
_WEIGHT: Final = 0.1


class _Call:
    """One caller's writes: all in one transaction with those of others, or none."""

    __slots__ = ("answer", "commits", "future", "write")

    def __init__(
        self,
        future: asyncio.Future[Any],
        commits: Sequence[Commit] = (),
        write: Callable[[sqlite3.Connection], Any] | None = None,
    ) -> None:
        self.future = future
        self.commits = commits
        self.write = write
        self.answer: Any = None

    def run(self, database: sqlite3.Connection) -> None:
        """Write; again when the transaction must be redone."""
        if self.write is None:
            self.answer = [write_commit(database, commit) for commit in self.commits]
        else:
            self.answer = self.write(database)


class _Group:
    """The calls of one transaction. `apart`: each is guarded by a savepoint, since one of them is in error."""

    __slots__ = ("apart", "calls", "deadline", "tries")

    def __init__(self, calls: list[_Call], deadline: float) -> None:
        self.calls = calls
        self.deadline = deadline
        self.apart = False
        self.tries = 0


class Writer:
    """Writes for all tasks of one event loop."""

    def __init__(self, connection: sqlite3.Connection, path: str, stats: StoreStats, *, hops: bool) -> None:
        """`hops` allows a COMMIT on a thread; a database in memory has nothing to wait for."""
        self.connection = connection
        self._path = path
        self._stats = stats
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "holdfast-commit") if hops else None
        self._gathering: list[_Call] = []
        self._flushing = False
        self._seconds = 0.0
        self._idle: asyncio.Future[None] | None = None
        self._closed = False
        self._alone = False
        """True when groups of one are the rule: then gathering until the next turn of the loop only costs time."""
        self._singles = 0
        self._turn_taken = False
        self.away = False
        """True while a thread commits on the connection."""
        self.guard = threading.Lock()
        """Held while the loop uses the connection, for those who share it with us."""

    def commit(self, commits: Sequence[Commit]) -> asyncio.Future[list[Committed | Conflict]]:
        """Return the future answers to these commits."""
        future: asyncio.Future[list[Committed | Conflict]] = self._loop.create_future()
        self._gather(_Call(future, commits))
        return future

    def submit(self, write: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Return the future answer of `write`, which runs in the next transaction, and again if that must be redone."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._gather(_Call(future, write=write))
        return future

    def _gather(self, call: _Call) -> None:
        if self._closed:
            raise StoreUnavailable(f"the store {self._path} is closed", fix="Open it again.")
        self._gathering.append(call)
        if not self._flushing:
            self._flushing = True
            if self._alone and not self._turn_taken:
                self._turn_taken = True
                self._loop.call_soon(self._end_turn)
                self._flush()
            else:
                self._alone = self._alone and not self._turn_taken
                self._loop.call_soon(self._flush)

    def _end_turn(self) -> None:
        self._turn_taken = False

    async def close(self) -> None:
        """Finish the writes under way, then close the connection."""
        self._closed = True
        if self._flushing:
            self._idle = self._loop.create_future()
            await self._idle
        if self._thread is not None:
            self._thread.shutdown()
        self.connection.close()

    def _flush(self) -> None:
        calls = self._gathering[:LARGEST_GROUP]
        del self._gathering[:LARGEST_GROUP]
        self._singles = self._singles + 1 if len(calls) == 1 else 0
        self._alone = self._alone or self._singles >= SINGLES
        self._transact(_Group(calls, time.monotonic() + LOCK_PATIENCE))

    def _transact(self, group: _Group) -> None:
        """Write a group and commit it."""
        with self.guard:
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                self._write(group)
            except Exception as error:  # noqa: BLE001 - what a caller's data raised goes to that caller
                self._rollback()
                self._failed(group, error)
            else:
                self._end(group)

    def _write(self, group: _Group) -> None:
        connection = self.connection
        for call in group.calls:
            if group.apart:
                self._write_apart(call)
            else:
                call.run(connection)

    def _write_apart(self, call: _Call) -> None:
        self.connection.execute("SAVEPOINT call")
        try:
            call.run(self.connection)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and is_unavailable(error):
                raise
            self.connection.execute("ROLLBACK TO call")
            call.answer = self._refusal(error)
        self.connection.execute("RELEASE call")

    def _failed(self, group: _Group, error: Exception) -> None:
        """Try again when a lock was in the way, or when one call alone may be to blame; else fail them all."""
        if isinstance(error, sqlite3.Error) and is_busy(error) and time.monotonic() < group.deadline:
            group.tries += 1
            self._loop.call_later(jitter(group.tries), self._transact, group)
        elif group.apart or (isinstance(error, sqlite3.Error) and is_unavailable(error)):
            self._finish(group, error)
        else:
            group.apart = True
            self._loop.call_soon(self._transact, group)

    def _refusal(self, error: Exception) -> StoreError:
        if isinstance(error, sqlite3.Error):
            return explained(error, self._path)
        return StoreError(f"the store {self._path} cannot write that: {error}")

    def _end(self, group: _Group) -> None:
        if self._thread is None or self._seconds < SHORT:
            self._committed(group, *_commit(self.connection))
        else:
            self.away = True
            self._thread.submit(self._commit_away, group)

    def _commit_away(self, group: _Group) -> None:
        outcome = _commit(self.connection)
        try:
            self._loop.call_soon_threadsafe(self._committed, group, *outcome)
        except RuntimeError:
            return  # the loop was closed without closing the store; nobody waits any more

    def _committed(self, group: _Group, seconds: float, error: sqlite3.Error | None) -> None:
        self.away = False
        self._seconds += _WEIGHT * (min(seconds, _OUTLIER) - self._seconds)
        if error is None:
            self._stats.transactions += 1
            self._finish(group)
        else:
            self._rollback()
            self._finish(group, error)

    def _finish(self, group: _Group, error: Exception | None = None) -> None:
        """Answer all callers in one turn of the loop, then take the next group: they may be in it."""
        for call in group.calls:
            answer = call.answer if error is None else self._refusal(error)
            future = call.future
            if isinstance(answer, Exception):
                if not future.done():  # else the caller was cancelled
                    future.set_exception(answer)
                continue
            if call.commits:
                self._count(answer)
            if not future.done():
                future.set_result(answer)
        if self._gathering:
            self._loop.call_soon(self._flush)
            return
        self._flushing = False
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _count(self, answers: Sequence[Committed | Conflict]) -> None:
        for answer in answers:
            if type(answer) is Committed:
                self._stats.commits += 1
                self._stats.bytes += answer.size

    def _rollback(self) -> None:
        # After some errors SQLite has rolled back by itself. A failing disk may fail here, too; the next group is told.
        if self.connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")


def _commit(connection: sqlite3.Connection) -> tuple[float, sqlite3.Error | None]:
    """Commit; return how long it took, and what went wrong."""
    started = time.perf_counter()
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        return time.perf_counter() - started, error
    return time.perf_counter() - started, None
