"""The PostgreSQL store: one connection that commits for all tasks of the loop, what may wait and reads beside it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import psycopg

from holdfast.errors import StoreUnavailable
from holdfast.model.cache import CacheEntry
from holdfast.model.commit import Commit, Committed, Conflict, Deliver, Enqueue
from holdfast.model.ids import Instant, RunId, WorkerId
from holdfast.model.run import RunRow
from holdfast.store.postgres import changes, schema
from holdfast.store.postgres.bell import Bell
from holdfast.store.postgres.clock import ServerClock
from holdfast.store.postgres.failures import explained
from holdfast.store.postgres.lines import Line
from holdfast.store.postgres.link import Link, Statement
from holdfast.store.postgres.place import Place
from holdfast.store.postgres.queries import SQL
from holdfast.store.postgres.reader import Reader
from holdfast.store.postgres.wire import rows
from holdfast.store.postgres.writer import Writer
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

MOST_ROWS: Final = 1000
"""Lists longer than this are read on a connection of their own, since answers come in order."""

MOST_KEYS: Final = 20
"""More results of the cache than this are read there, too."""

FIRST_POLL: Final = 0.025
BUSY_POLL: Final = 0.05
LAST_POLL: Final = 0.5
"""Seconds between two looks at what others wrote: at first, while they write, and in the end."""

MOST_TOLD: Final = 300
"""So many transactions since the last look, and others' are among them or will be."""


class PostgresStore:
    """Keeps runs in the schema `holdfast` of a PostgreSQL database."""

    def __init__(self, url: str, shown: str, clock: Callable[[], Instant] | None = None) -> None:
        """`shown` is what of the URL people may see. `clock`: instead of the server's."""
        self._place: Final = Place(url, shown)
        self._server_clock = ServerClock()
        self._own_clock = clock
        self.now: Final[Callable[[], Instant]] = clock or self._server_clock
        self.url = shown
        self.stats = StoreStats()
        self._lines: list[Line] = []
        self._writer: Writer | None = None
        self._aside: Writer | None = None
        """Writes what is neither a commit nor an arrival: a claim or a deletion may wait for locks, and none else."""
        self._near: Reader | None = None
        self._far: Reader | None = None
        self._leases: schema.Connection | None = None
        self._leases_lock = threading.Lock()
        self._closed = True
        self._bell: Bell | None = None
        self._seen: str | None = None
        self._pause = FIRST_POLL

    async def open(self) -> None:
        """Connect, make or upgrade the schema."""
        if self._writer is not None:
            return
        era = await asyncio.to_thread(schema.prepare, self._place)
        writing, aside, near, far = self._lines = [
            Line(self._place),
            Line(self._place),
            Line(self._place, self._greet),
            Line(self._place),
        ]
        self._near, self._far = Reader(near, self.url, era), Reader(far, self.url, era)
        self._bell = Bell(near)
        self._writer = Writer(writing, self._bell, self.url, self.stats, self._at)
        self._aside = Writer(aside, self._bell, self.url, self.stats, self._at)
        self._closed = False
        try:
            await writing.link()
            await self._look()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what is under way, then disconnect."""
        writers = self._writer, self._aside
        self._writer = self._aside = None
        for writer in writers:
            if writer is None:
                return
            await writer.close()
        if self._bell is not None:
            await self._bell.close()
        self._closed = True
        self._near = self._far = None
        for line in self._lines:
            line.close()
        with self._leases_lock:
            self._drop_leases()

    def commit(self, commits: Sequence[Commit]) -> asyncio.Future[list[Committed | Conflict]]:
        """Write commits in the next transaction."""
        rings = any(commit.effects and _makes_work(commit) for commit in commits)
        if rings:
            self._pause = FIRST_POLL
        return self._open_writer().commit(commits, rings=rings)

    async def deliver(self, deliveries: Sequence[Delivery]) -> Sequence[Delivered]:
        """Put arrivals into inboxes."""
        answers = await self._open_writer().deliver(deliveries)
        self._ring()
        return answers

    async def claim(
        self,
        worker: WorkerId,
        lanes: Sequence[tuple[str, str]],
        limit: int,
        *,
        suspects: bool = False,
    ) -> Sequence[Claimed]:
        """Take ready jobs. Nothing is written when there are none."""
        statement = changes.claim(worker, lanes, limit, self._at(), suspects=suspects)
        return await self._open_aside().submit(statement, changes.claimed)

    async def ready(
        self, lanes: Sequence[tuple[str, str]], limit: int, *, suspects: bool = False
    ) -> Sequence[RunId]:
        """Look for ready jobs."""
        return await self._reader().ready(changes.ready(lanes, limit, suspects=suspects))

    async def claim_run(self, worker: WorkerId, run: RunId) -> Claimed | None:
        """Take the job of one run."""
        found = await self._open_aside().submit(changes.claim_run(worker, run), changes.claimed)
        return found[0] if found else None

    async def release(self, worker: WorkerId, runs: Sequence[RunId]) -> None:
        """Give jobs back."""
        await self._open_aside().submit(changes.release(worker, runs), _nothing)
        if runs:
            self._ring()

    async def enlist(self, worker: WorkerRow) -> None:
        """Keep a worker's row."""
        await self._open_aside().submit(changes.enlist(worker), _nothing)

    async def dismiss(self, workers: Sequence[WorkerId]) -> None:
        """Forget stopped workers."""
        await self._open_aside().submit(changes.dismiss(workers), _nothing)

    async def reclaim(
        self, workers: Sequence[WorkerId], reason: Literal["died", "expired"]
    ) -> Sequence[RunId]:
        """Free the jobs of dead workers."""
        statement = changes.reclaim(workers, reason, self._at())
        freed = await self._open_aside().submit(statement, lambda result: [run for (run,) in rows(result)])
        if freed:
            self._ring()
        return freed

    async def move_due(self, limit: int = 1000) -> int:
        """Make the runs of due arrivals ready. Nothing is written when none is due."""
        return await self._open_aside().submit(
            changes.move_due(limit, self._at()), lambda result: int(rows(result)[0][0])
        )

    async def delete(self, run: RunId, *, tombstone: bool = True) -> Delivered:
        """Delete an ended run with its descendants."""
        statement = changes.delete(run, self._at(), tombstone=tombstone)
        return await self._open_aside().submit(statement, lambda result: changes.delivered(result)[0])

    def renew(self, worker: WorkerId, until: Instant) -> bool:
        """Extend a lease, from any thread, whatever the loop does."""
        with self._leases_lock:
            if self._closed:
                raise self._not_open()
            try:
                if self._leases is not None and not self._leases.closed:
                    with contextlib.suppress(
                        psycopg.OperationalError
                    ):  # lost meanwhile: once more on a fresh one
                        return self._renew(self._leases, worker, until)
                self._drop_leases()
                self._leases = schema.connect(self._place)
                return self._renew(self._leases, worker, until)
            except psycopg.Error as error:
                self._drop_leases()
                raise explained(error, self.url) from error

    def _renew(self, connection: schema.Connection, worker: WorkerId, until: Instant) -> bool:
        return connection.execute(SQL["worker_renew"], (until, worker)).rowcount == 1

    def _drop_leases(self) -> None:
        if self._leases is not None:
            self._leases.close()
            self._leases = None

    async def load(self, run: RunId, hash_: str = "") -> Stored | None:
        """Return all that is needed to take a run up."""
        return await self._reader().load(run, hash_)

    async def fold(self, run: RunId, hash_: str, until: int) -> Fold | None:
        """Return the newest fold up to a position."""
        return await self._reader().fold(run, hash_, until)

    async def inbox(self, run: RunId) -> Sequence[InboxRow]:
        """Return a run's arrivals that are due."""
        return await self._reader().inbox(run, self._at())

    async def woken(self, worker: WorkerId) -> Mapping[RunId, int]:
        """Return a worker's runs that have due arrivals."""
        return await self._reader().woken(worker, self._at())

    async def held(self, worker: WorkerId) -> Sequence[RunId]:
        """Return a worker's runs."""
        return await self._reader().held(worker)

    async def workers(self) -> Sequence[WorkerRow]:
        """Return all workers."""
        return await self._reader().workers()

    async def save_profile(self, workflow: str, name: str, body: bytes | None) -> None:
        """Keep a profile, or forget it."""
        await self._open_aside().submit(changes.save_profile(workflow, name, body), _nothing)

    async def profiles(self, workflow: str) -> Mapping[str, bytes]:
        """Return a workflow's profiles."""
        return await self._reader().profiles(workflow)

    async def limit(self, name: str) -> LimitRow | None:
        """Return a row that processes change together."""
        return await self._reader().limit(name)

    async def limits(self, prefix: str) -> dict[str, LimitRow]:
        """Return the rows whose names begin so."""
        return await self._reader().limits(prefix)

    async def set_limit(self, name: str, version: int, body: bytes) -> bool:
        """Write such a row, in a transaction of its own: nobody waits for its lock longer than for a moment."""
        statement = changes.set_limit(name, version, body)
        return await self._open_writer().submit(statement, lambda result: bool(rows(result)))

    async def discard(self, run: RunId, position: int) -> bool:
        """Put a failed run away."""
        statement = changes.discard(run, position, self.now())
        return await self._open_aside().submit(statement, lambda result: bool(rows(result)))

    async def forget(self, before: Instant, limit: int = 1000) -> int:
        """Set ids of deleted runs free."""
        return await self._forgotten(changes.forget(before, limit))

    async def cached(self, keys: Sequence[str]) -> Mapping[str, CacheEntry]:
        """Return the results that are kept under these keys."""
        return await (self._far_reader() if len(keys) > MOST_KEYS else self._reader()).cached(keys)

    async def cached_last(self, families: Sequence[str]) -> Mapping[str, CacheEntry]:
        """Return the entry that each family got last."""
        return await self._reader().cached_last(families)

    async def cache(
        self, query: CacheQuery, limit: int = 100, after: tuple[Instant, str] | None = None
    ) -> Sequence[CacheListed]:
        """Return the results that match."""
        return await self._far_reader().cache(query, limit, after)

    async def clear_cache(self, query: CacheQuery, limit: int = 1000) -> int:
        """Forget results that match."""
        return await self._forgotten(changes.clear_cache(query, limit))

    async def forget_cached(self, before: Instant, limit: int = 1000) -> int:
        """Forget results that expired."""
        return await self._forgotten(changes.forget_cached(before, limit))

    async def _forgotten(self, statement: Statement) -> int:
        return await self._open_aside().submit(statement, lambda result: len(rows(result)))

    async def next_due(self) -> Instant | None:
        """Return the earliest instant that an arrival waits for."""
        return await self._reader().next_due()

    async def run(self, run: RunId) -> RunRow | None:
        """Return a run's row."""
        return await self._reader().find_run(run)

    async def runs(self, query: RunQuery) -> Sequence[RunRow]:
        """Return the runs that match."""
        is_long = query.limit > MOST_ROWS or query.tags or query.waits_for
        return await (self._far_reader() if is_long else self._reader()).runs(query)

    async def count(self, query: RunQuery) -> int:
        """Return how many runs match."""
        return await self._far_reader().count(query)

    async def journal(self, run: RunId, after: int = 0, limit: int = 1000) -> Sequence[JournalRow]:
        """Return the commits of a run."""
        return await self._reader().journal(run, after, limit)

    async def tail(self, worker: WorkerId, after: str, limit: int = 1000) -> Sequence[JournalRow]:
        """Return the commits of a worker."""
        return await self._far_reader().tail(worker, after, limit)

    async def commits_after(self, after: str, limit: int = 1000) -> Sequence[JournalRow]:
        """Return the commits of all runs."""
        return await self._far_reader().commits_after(after, limit)

    async def stream(self, chunks: Sequence[Chunk]) -> Mapping[RunId, int]:
        """Keep chunks, in a transaction of their own before the next commits."""
        return await self._open_writer().submit(changes.stream(chunks), lambda result: dict(rows(result)))

    async def chunks(self, run: RunId, after: int = 0, limit: int = 1000) -> Sequence[ChunkRow]:
        """Return the chunks of a run."""
        return await self._reader().chunks(run, after, limit)

    async def blobs(self, run: RunId) -> Mapping[str, bytes]:
        """Return a run's large values."""
        return await self._far_reader().blobs(run)

    async def check(self) -> Sequence[str]:
        """Return what is wrong with the database."""
        return await self._far_reader().faults()

    async def wait(self, timeout: float) -> bool:
        """Look whether other processes wrote: often while they do, then less, at once when one rings."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            pause = min(left, self._pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            if await self._open_bell().rest(pause) or await self._look():
                self._pause = BUSY_POLL
                return True
            self._pause = min(self._pause * 1.5, LAST_POLL)
        return False

    async def _look(self) -> bool:
        """Tell whether others wrote since the last look; reads the server's clock by the way."""
        asked = self._server_clock.ticks()
        self._seen, told, written = await self._reader().pulse(self._seen, MOST_TOLD)
        self._server_clock.observe(asked, told)
        ours, aside = self._open_writer().ours, self._open_aside().ours
        return len(written) == MOST_TOLD or any(tx not in ours and tx not in aside for tx in written)

    def _greet(self, link: Link) -> None:
        self._open_bell().attend(link)

    def _ring(self) -> None:
        """Tell other processes that we made work, and look soon for what they make of it."""
        self._pause = FIRST_POLL
        if self._writer is not None:
            self._open_bell().ring()

    def _at(self) -> Instant | None:
        """Return the instant of the clock that was given; None leaves it to the server."""
        return None if self._own_clock is None else self._own_clock()

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise self._not_open()
        return self._writer

    def _open_bell(self) -> Bell:
        if self._bell is None:
            raise self._not_open()
        return self._bell

    def _open_aside(self) -> Writer:
        if self._aside is None:
            raise self._not_open()
        return self._aside

    def _reader(self) -> Reader:
        if self._near is None:
            raise self._not_open()
        return self._near

    def _far_reader(self) -> Reader:
        if self._far is None:
            raise self._not_open()
        return self._far

    def _not_open(self) -> StoreUnavailable:
        return StoreUnavailable(f"the store {self.url} is not open", fix="Call `open()` first.")


def _makes_work(commit: Commit) -> bool:
    """Tell whether others may have to act: on a ready job, or on an arrival for another run."""
    return any(
        (type(effect) is Enqueue and not effect.worker) or (type(effect) is Deliver and effect.run != "")
        for effect in commit.effects
    )


def _nothing(_: object) -> None:
    """Read an answer that says nothing."""
