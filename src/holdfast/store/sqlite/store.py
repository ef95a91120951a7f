"""The SQLite store: one file, one writing connection per process, reads beside it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, TypeVar

from holdfast.errors import StoreError, StoreUnavailable
from holdfast.model.cache import CacheEntry
from holdfast.model.commit import Commit, Committed, Conflict
from holdfast.model.ids import Instant, RunId, WorkerId
from holdfast.model.run import RunRow
from holdfast.store.rows import (
    CacheListed,
    CacheQuery,
    Chunk,
    ChunkRow,
    Claimed,
    Delivered,
    Delivery,
    Fold,
    InboxRow,
    JournalRow,
    LimitRow,
    RunQuery,
    Stored,
    StoreStats,
    WorkerRow,
)
from holdfast.store.sqlite import changes, leaving, reader
from holdfast.store.sqlite.connection import MEMORY, connect, connect_reader, prepare
from holdfast.store.sqlite.failures import explained, insist
from holdfast.store.sqlite.queries import SQL
from holdfast.store.sqlite.writer import Writer

T = TypeVar("T")

MOST_FACTS: Final = 2000
MOST_BYTES: Final = 1_000_000
MOST_ROWS: Final = 1000
"""Reads beyond these would hold the event loop for more than a few milliseconds; they go to the reader's thread."""

FIRST_POLL: Final = 0.01
LAST_POLL: Final = 0.25


def system_clock() -> Instant:
    """Return the time of day in microseconds."""
    return time.time_ns() // 1000


class SqliteStore:
    """Keeps runs in a SQLite file, or in memory."""

    def __init__(self, path: str | Path, clock: Callable[[], Instant] = system_clock) -> None:
        """`path` may be `:memory:`; a relative one is taken from today's working directory."""
        self._in_memory = str(path) == MEMORY
        self._path = MEMORY if self._in_memory else str(Path(path).absolute())
        self.now: Final = clock
        self.url = f"sqlite:///{self._path}"
        self.stats = StoreStats()
        self._writer: Writer | None = None
        self._reader: sqlite3.Connection | None = None
        self._leases: sqlite3.Connection | None = None
        self._leases_lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._far_reader: sqlite3.Connection | None = None
        self._seen = 0

    async def open(self) -> None:
        """Open the file, make or upgrade its schema."""
        if self._writer is not None:
            return
        connection = await asyncio.to_thread(prepare, self._path, self.now)
        try:
            self._reader = connection if self._in_memory else connect_reader(self._path)
        except sqlite3.Error as error:
            connection.close()
            raise explained(error, self._path) from error
        self._pool = None if self._in_memory else ThreadPoolExecutor(1, "holdfast-reader")
        self._writer = Writer(connection, self._path, self.stats, hops=not self._in_memory)
        self._seen = self._data_version(self._writer)

    async def close(self) -> None:
        """Finish what is under way, then close the file."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        if self._pool is not None:
            self._pool.shutdown()
        with self._leases_lock:
            for connection in (self._reader, self._far_reader, self._leases):
                if connection is not None and connection is not writer.connection:
                    connection.close()
            self._reader = self._far_reader = self._leases = None
        await writer.close()

    def commit(self, commits: Sequence[Commit]) -> asyncio.Future[list[Committed | Conflict]]:
        """Write commits in the next transaction."""
        return self._open_writer().commit(commits)

    async def deliver(self, deliveries: Sequence[Delivery]) -> Sequence[Delivered]:
        """Put arrivals into inboxes."""
        return await self._write(lambda database: changes.deliver(database, deliveries, self.now()))

    async def claim(
        self,
        worker: WorkerId,
        lanes: Sequence[tuple[str, str]],
        limit: int,
        *,
        suspects: bool = False,
    ) -> Sequence[Claimed]:
        """Take ready jobs. Nothing is locked when there are none."""
        if not await self.ready(lanes, 1, suspects=suspects):
            return []
        return await self._write(
            lambda database: changes.claim(database, worker, lanes, limit, self.now(), suspects=suspects)
        )

    async def ready(
        self, lanes: Sequence[tuple[str, str]], limit: int, *, suspects: bool = False
    ) -> Sequence[RunId]:
        """Look for ready jobs."""
        jobs = self._read(lambda database: changes.ready(database, lanes, limit, suspects=suspects))
        return [run for _, _, run in jobs]

    async def claim_run(self, worker: WorkerId, run: RunId) -> Claimed | None:
        """Take the job of one run."""
        return await self._write(lambda database: changes.claim_run(database, worker, run))

    async def release(self, worker: WorkerId, runs: Sequence[RunId]) -> None:
        """Give jobs back."""
        await self._write(lambda database: changes.release(database, worker, runs))

    async def enlist(self, worker: WorkerRow) -> None:
        """Keep a worker's row."""
        await self._write(lambda database: changes.enlist(database, worker))

    async def dismiss(self, workers: Sequence[WorkerId]) -> None:
        """Forget stopped workers."""
        await self._write(lambda database: changes.dismiss(database, workers))

    async def reclaim(
        self, workers: Sequence[WorkerId], reason: Literal["died", "expired"]
    ) -> Sequence[RunId]:
        """Free the jobs of dead workers."""
        return await self._write(lambda database: changes.reclaim(database, workers, reason, self.now()))

    async def move_due(self, limit: int = 1000) -> int:
        """Make the runs of due arrivals ready. Nothing is locked when none is due."""
        due = self._read(reader.next_due)
        if due is None or due > self.now():
            return 0
        return await self._write(lambda database: changes.move_due(database, self.now(), limit))

    async def delete(self, run: RunId, *, tombstone: bool = True) -> Delivered:
        """Delete an ended run with its descendants. Very many rows go a few at a time, after the run is gone."""
        if not self._in_memory and tombstone and self._family_size(run) >= leaving.LARGE:
            return await self._delete_large(run)
        return await self._write(
            lambda database: changes.delete(database, run, self.now(), tombstone=tombstone)
        )

    def _family_size(self, run: RunId) -> int:
        return int(self._read(lambda database: database.execute(SQL["family_size"], (run,)).fetchone()[0]))

    async def _delete_large(self, run: RunId) -> Delivered:
        self._open_writer()
        try:
            answer = await asyncio.to_thread(leaving.detach, self._path, run, self.now())
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        with contextlib.suppress(StoreError):  # it is gone; what is left is swept later
            await self._sweep()
        return answer

    async def _sweep(self) -> None:
        """Delete what is left of runs that are gone."""
        while True:
            if not await self._write(leaving.sweep):
                return
            await asyncio.sleep(leaving.REST)

    def renew(self, worker: WorkerId, until: Instant) -> bool:
        """Extend a lease, from any thread, whatever the loop does."""
        with self._leases_lock:
            writer = self._open_writer()
            try:
                if self._in_memory:
                    with writer.guard:
                        return _renew(writer.connection, worker, until)
                if self._leases is None:
                    self._leases = connect(self._path)
                leases = self._leases
                return insist(lambda: _renew(leases, worker, until))
            except sqlite3.Error as error:
                raise explained(error, self._path) from error

    async def load(self, run: RunId, hash_: str = "") -> Stored | None:
        """Return all that is needed to take a run up."""
        try:
            return self._read(lambda database: reader.load(database, run, hash_, MOST_FACTS, MOST_BYTES))
        except reader.TooLarge:
            pass
        unlimited = 1 << 60
        return await self._read_far(lambda database: reader.load(database, run, hash_, unlimited, unlimited))

    async def fold(self, run: RunId, hash_: str, until: int) -> Fold | None:
        """Return the newest fold up to a position."""
        return self._read(lambda database: reader.read_fold(database, run, hash_, until))

    async def inbox(self, run: RunId) -> Sequence[InboxRow]:
        """Return a run's arrivals that are due."""
        return self._read(lambda database: reader.read_inbox(database, run, self.now()))

    async def woken(self, worker: WorkerId) -> Mapping[RunId, int]:
        """Return a worker's runs that have due arrivals."""
        return self._read(lambda database: reader.read_woken(database, worker, self.now()))

    async def held(self, worker: WorkerId) -> Sequence[RunId]:
        """Return a worker's runs."""
        return self._read(lambda database: reader.read_held(database, worker))

    async def workers(self) -> Sequence[WorkerRow]:
        """Return all workers."""
        return self._read(reader.read_workers)

    async def save_profile(self, workflow: str, name: str, body: bytes | None) -> None:
        """Keep a profile, or forget it."""
        await self._write(lambda database: changes.save_profile(database, workflow, name, body))

    async def profiles(self, workflow: str) -> Mapping[str, bytes]:
        """Return a workflow's profiles."""
        return self._read(lambda database: reader.read_profiles(database, workflow))

    async def limit(self, name: str) -> LimitRow | None:
        """Return a row that processes change together."""
        return self._read(lambda database: reader.read_limit(database, name))

    async def limits(self, prefix: str) -> dict[str, LimitRow]:
        """Return the rows whose names begin so."""
        return self._read(lambda database: reader.read_limits(database, prefix))

    async def set_limit(self, name: str, version: int, body: bytes) -> bool:
        """Write such a row."""
        return await self._write(lambda database: changes.set_limit(database, name, version, body))

    async def discard(self, run: RunId, position: int) -> bool:
        """Put a failed run away."""
        return await self._write(lambda database: changes.discard(database, run, position, self.now()))

    async def forget(self, before: Instant, limit: int = 1000) -> int:
        """Set ids of deleted runs free, and delete what a crash left of them."""
        if self._read(lambda database: database.execute(SQL["leaving_next"]).fetchone()) is not None:
            await self._sweep()
        return await self._write(lambda database: changes.forget(database, before, limit))

    async def cached(self, keys: Sequence[str]) -> Mapping[str, CacheEntry]:
        """Return the results that are kept under these keys."""
        return await self._read_far(lambda database: reader.read_cached(database, keys))

    async def cached_last(self, families: Sequence[str]) -> Mapping[str, CacheEntry]:
        """Return the entry that each family got last."""
        return self._read(lambda database: reader.read_cached_last(database, families))

    async def cache(
        self, query: CacheQuery, limit: int = 100, after: tuple[Instant, str] | None = None
    ) -> Sequence[CacheListed]:
        """Return the results that match."""
        return await self._read_far(lambda database: reader.read_cache(database, query, limit, after))

    async def clear_cache(self, query: CacheQuery, limit: int = 1000) -> int:
        """Forget results that match."""
        return await self._write(lambda database: changes.clear_cache(database, query, limit))

    async def forget_cached(self, before: Instant, limit: int = 1000) -> int:
        """Forget results that expired."""
        return await self._write(lambda database: changes.forget_cached(database, before, limit))

    async def next_due(self) -> Instant | None:
        """Return the earliest instant that an arrival waits for."""
        return self._read(reader.next_due)

    async def run(self, run: RunId) -> RunRow | None:
        """Return a run's row."""
        return self._read(lambda database: reader.find_run(database, run))

    async def runs(self, query: RunQuery) -> Sequence[RunRow]:
        """Return the runs that match."""
        if query.limit > MOST_ROWS or query.tags or query.waits_for:
            return await self._read_far(lambda database: reader.find_runs(database, query))
        return self._read(lambda database: reader.find_runs(database, query))

    async def count(self, query: RunQuery) -> int:
        """Return how many runs match."""
        return await self._read_far(lambda database: reader.count_runs(database, query))

    async def journal(self, run: RunId, after: int = 0, limit: int = 1000) -> Sequence[JournalRow]:
        """Return the commits of a run."""
        if limit > MOST_ROWS:
            return await self._read_far(lambda database: reader.read_journal(database, run, after, limit))
        return self._read(lambda database: reader.read_journal(database, run, after, limit))

    async def tail(self, worker: WorkerId, after: str, limit: int = 1000) -> Sequence[JournalRow]:
        """Return the commits of a worker."""
        seq = int(after or 0)
        if self._read(reader.last_seq) - seq > 10 * MOST_ROWS or limit > MOST_ROWS:
            return await self._read_far(lambda database: reader.read_tail(database, worker, seq, limit))
        return self._read(lambda database: reader.read_tail(database, worker, seq, limit))

    async def commits_after(self, after: str, limit: int = 1000) -> Sequence[JournalRow]:
        """Return the commits of all runs."""
        seq = int(after or 0)
        if limit > MOST_ROWS:
            return await self._read_far(lambda database: reader.read_after(database, seq, limit))
        return self._read(lambda database: reader.read_after(database, seq, limit))

    async def stream(self, chunks: Sequence[Chunk]) -> Mapping[RunId, int]:
        """Keep chunks, in the next transaction."""
        return await self._write(lambda database: changes.stream(database, chunks))

    async def chunks(self, run: RunId, after: int = 0, limit: int = 1000) -> Sequence[ChunkRow]:
        """Return the chunks of a run."""
        return self._read(lambda database: reader.read_chunks(database, run, after, limit))

    async def blobs(self, run: RunId) -> Mapping[str, bytes]:
        """Return a run's large values."""
        return await self._read_far(lambda database: reader.read_blobs(database, run))

    async def check(self) -> Sequence[str]:
        """Return what is wrong with the file."""
        return await self._read_far(reader.find_faults)

    async def wait(self, timeout: float) -> bool:
        """Watch for writes of other processes. The renewal of our own lease counts as one."""
        deadline = time.monotonic() + timeout
        pause = FIRST_POLL
        while (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(left, pause * random.uniform(0.8, 1.2)))  # noqa: S311 - jitter
            pause = min(pause * 1.5, LAST_POLL)
            if self._changed():
                return True
        return False

    def _changed(self) -> bool:
        """Tell whether another connection wrote since this was last asked."""
        writer = self._writer
        if self._in_memory or writer is None or writer.away:
            return False
        seen, self._seen = self._seen, self._data_version(writer)
        return seen != self._seen

    def _data_version(self, writer: Writer) -> int:
        """Return a number that changes with each commit of another connection, asked on the one that writes ours."""
        try:
            (version,) = writer.connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            raise explained(error, self._path) from error
        return int(version)

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise StoreUnavailable(f"the store {self._path} is not open", fix="Call `open()` first.")
        return self._writer

    def _write(self, change: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        return self._open_writer().submit(change)

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Read on the loop's thread: short reads only."""
        if self._reader is None:
            raise StoreUnavailable(f"the store {self._path} is not open", fix="Call `open()` first.")
        try:
            return read(self._reader)
        except sqlite3.Error as error:
            raise explained(error, self._path) from error

    async def _read_far(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Read on a thread with a connection of its own."""
        if self._pool is None:
            return self._read(read)

        def far() -> T:
            if self._far_reader is None:
                self._far_reader = connect_reader(self._path)
            return read(self._far_reader)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, far)
        except sqlite3.Error as error:
            raise explained(error, self._path) from error


def _renew(connection: sqlite3.Connection, worker: WorkerId, until: Instant) -> bool:
    return connection.execute(SQL["worker_renew"], (until, worker)).rowcount == 1
