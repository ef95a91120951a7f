"""The feed: what this process committed last, and who waits for more.

Every durable commit is published here, once, by the loop that made it, in order per run. Followers of one run wait
with `waiter`; readers of all runs walk the ring with a `Cursor`. Nothing can be missed between looking and waiting,
since both happen on one loop: take the future, look, then await. Publishing never waits and is on the hottest path:
half a microsecond, and no more for a reader who is slow. Who falls behind the ring goes on in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from typing import Final, Protocol, TypeVar

import msgspec

from holdfast.errors import StoreUnavailable
from holdfast.model.commit import Commit
from holdfast.model.facts import Fact, Journal
from holdfast.model.ids import RunId, WorkerId
from holdfast.store.rows import Chunk, JournalRow

T = TypeVar("T")
logger: Final = logging.getLogger("holdfast.observers")

Key = tuple[RunId, int]
"""A commit by its run and the position of its last fact."""

Woken = asyncio.Future[Commit | None]
"""Gives the commit that ended the wait, None when the wait was ended without one."""

CAUSES: Final = 100
"""How many exceptions are kept for who asks late: they hold frames, so few."""

BATCH: Final = 64
"""After so many commits a reader lets others have the loop, however fast it is."""

PAGE: Final = 1000
OVERLAP: Final = 1000
"""How many commits before its last one a reader begins to read the store: commits of different runs may be numbered
there in another order than they were published here."""

POLL: Final = 0.2
PATIENCE: Final = 60.0
"""How often and how long, in seconds, a store is asked that does not show the commits that the ring begins with."""

_ALL: Final = ""  # no run has this id


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A commit in the ring: what it recorded after `position` facts, and the large values it brought."""

    run: RunId
    position: int
    facts: tuple[Fact, ...]
    blobs: Mapping[str, bytes]
    size: int
    chunks: tuple[Chunk, ...] = ()
    """What steps sent to readers: then it is no commit, and has no place in the journal."""

    @property
    def key(self) -> Key:
        """How the commit is found in the journal."""
        return self.run, self.position + len(self.facts)


class Feed:
    """The last commits of this process, numbered from 0, within bounds of count and bytes."""

    def __init__(self, capacity: int = 1_000, max_bytes: int = 64 << 20) -> None:
        """Begin empty. Belongs to one event loop."""
        self.capacity = capacity
        self.head = 0
        """The number of the next commit."""
        self.readers = 0
        """How many cursors walk the ring; without any, nothing is kept."""
        self._max_bytes = max_bytes
        self._ring: deque[Entry] = deque()
        self._bytes = 0
        self._waiting: dict[RunId, list[Woken]] = {}
        self._causes: dict[RunId, BaseException] = {}

    @property
    def oldest(self) -> int:
        """The number of the oldest commit in the ring; `head` when it is empty."""
        return self.head - len(self._ring)

    def publish(self, commit: Commit, cause: BaseException | None = None) -> None:
        """Show a durable commit to who waits; `cause` is the exception that failed the run in this process.

        Call it in order per run. A commit without facts wakes its waiters and has no place in the ring.
        """
        if commit.facts:
            if self.readers:
                self._keep(commit)
            else:
                self.head += 1
        if cause is not None:
            self._remember(commit.run, cause)
        if self._waiting:
            self._wake(commit.run, commit)
            self._wake(_ALL, commit)

    def stream(self, chunks: Sequence[Chunk]) -> None:
        """Show chunks that are kept to who waits, in their place among the commits of this process."""
        if self.readers and chunks:
            self._append(Entry("", 0, (), {}, sum(len(chunk.data) for chunk in chunks), tuple(chunks)))
        for run in {chunk.run for chunk in chunks}:
            self._wake(run, None)
        self._wake(_ALL, None)

    def __getitem__(self, number: int) -> Entry:
        """Return the commit of that number; IndexError when it is gone from the ring or not yet there."""
        index = number - self.oldest
        if index < 0:
            raise IndexError(number)
        return self._ring[index]

    def keys(self) -> dict[Key, int]:
        """Return the numbers of all commits in the ring by how they are found in the journal. O(ring)."""
        return {entry.key: number for number, entry in enumerate(self._ring, self.oldest) if entry.facts}

    def cause(self, run: RunId) -> BaseException | None:
        """Return the exception that failed the run, if that was lately and in this process."""
        return self._causes.get(run)

    def waiter(self, run: RunId) -> Woken:
        """Return a future of the run's next commit. Cancelling it is the way to give up."""
        future: Woken = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run, []).append(future)
        future.add_done_callback(lambda done: self._forget(run, done))
        return future

    def changed(self) -> Woken:
        """Return a future of the next commit of any run."""
        return self.waiter(_ALL)

    def nudge(self) -> None:
        """Wake all who wait, without a commit: the engine closes."""
        for run in list(self._waiting):
            self._wake(run, None)

    def _keep(self, commit: Commit) -> None:
        size = 0
        for fact in commit.facts:
            if (data := getattr(fact, "data", None)) is not None:
                size += len(data)
        for value in commit.blobs.values():
            size += len(value)
        self._append(Entry(commit.run, commit.position, commit.facts, commit.blobs, size))

    def _append(self, entry: Entry) -> None:
        self._ring.append(entry)
        self.head += 1
        self._bytes += entry.size
        while len(self._ring) > self.capacity or (self._bytes > self._max_bytes and len(self._ring) > 1):
            self._bytes -= self._ring.popleft().size

    def _remember(self, run: RunId, cause: BaseException) -> None:
        self._causes.pop(run, None)
        self._causes[run] = cause
        if len(self._causes) > CAUSES:
            del self._causes[next(iter(self._causes))]

    def _wake(self, run: RunId, commit: Commit | None) -> None:
        for future in self._waiting.pop(run, ()):
            if not future.done():
                future.set_result(commit)

    def _forget(self, run: RunId, future: Woken) -> None:
        """Drop a future that was cancelled; one that was woken is gone already."""
        waiting = self._waiting.get(run)
        if waiting is not None and future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._waiting[run]


class Source(Protocol):
    """What a reader that fell behind needs of a store."""

    async def journal(self, run: RunId, after: int = 0, limit: int = 1000) -> Sequence[JournalRow]:
        """Return the commits of a run that hold facts at positions greater than `after`."""

    async def tail(self, worker: WorkerId, after: str, limit: int = 1000) -> Sequence[JournalRow]:
        """Return the commits that a worker made, after the one with that cursor."""

    async def blobs(self, run: RunId) -> Mapping[str, bytes]:
        """Return a run's large values."""


class Cursor:
    """One reader's way through all commits of this process: each once, in order per run, however slow the reader is.

    The ring knows a commit by its number, the store by run and position. A reader that fell behind the ring looks up
    where in the store its last commits are, reads on from there, leaves out what it has had, and is back when it
    meets the ring; from the ring's begin it then leaves out what the store gave already.
    """

    def __init__(self, feed: Feed, store: Source, worker: WorkerId, name: str) -> None:
        """Begin after what is in the feed. `worker` is who publishes there, and did so from its first commit on."""
        feed.readers += 1
        self.name = name
        self._feed = feed
        self._store = store
        self._worker = worker
        self._number = feed.head
        self._closing = False
        self._sleep: Woken | None = None
        # Long enough to know again in the ring what the store gave.
        self._recent: deque[Key] = deque(feed.keys(), maxlen=feed.capacity + OVERLAP)
        self._knows_all = feed.oldest == 0
        self._seen: AbstractSet[Key] = frozenset()
        self._seen_until = 0

    @property
    def lag(self) -> int:
        """How many commits the reader has not finished with."""
        return max(self._feed.head - self._number, 0)

    def stop(self) -> None:
        """Let the iteration end when nothing is left."""
        self._closing = True
        if self._sleep is not None and not self._sleep.done():
            self._sleep.set_result(None)

    async def commits(self) -> AsyncGenerator[Sequence[Entry], None]:
        """Iterate over the commits in batches. A batch counts as read when the next one is asked for."""
        feed = self._feed
        while True:
            if self._number < feed.oldest:
                async with aclosing(self._catch_up()) as batches:
                    async for batch in batches:
                        yield batch
            elif self._number < feed.head:
                first, batch = self._number, self._next()
                fresh = self._fresh(batch)
                if fresh:
                    yield fresh
                    self._pass(fresh)
                self._number = first + len(batch)
                await asyncio.sleep(0)
            elif self._closing:
                return
            else:
                self._sleep = feed.changed()
                await self._sleep

    def _next(self) -> Sequence[Entry]:
        feed, first = self._feed, self._number
        if first >= self._seen_until:
            self._seen = frozenset()
        return [feed[number] for number in range(first, min(feed.head, first + BATCH))]

    def _fresh(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        if not self._seen:
            return entries
        return [entry for entry in entries if entry.chunks or entry.key not in self._seen]

    def _pass(self, batch: Sequence[Entry]) -> None:
        self._recent.extend([entry.key for entry in batch if entry.facts])
        self._number += len(batch)

    async def _catch_up(self) -> AsyncGenerator[Sequence[Entry], None]:
        """Go on in the store until the ring is met again."""
        behind, self._seen = self.lag, frozenset(self._recent)
        after, last, waited = await self._anchor(), ("", 0), 0.0
        while after is not None and waited < PATIENCE:
            rows = await self._tail(after)
            entries = [_entry(row) for row in rows if row.count]
            fresh = self._fresh(entries)
            for start in range(0, len(fresh), BATCH):
                yield fresh[start : start + BATCH]
                self._pass(fresh[start : start + BATCH])
                await asyncio.sleep(0)
            if rows:
                after, waited = rows[-1].cursor, 0.0
            if entries:
                last = entries[-1].key
            if self._meets(last, exhausted=not rows):
                break
            if not rows:
                await asyncio.sleep(POLL)
                waited += POLL
        else:
            message = (
                "observer %s misses events: of the %s commits it was behind not all are in the store any more"
            )
            logger.error(message, self.name, behind, extra={"observer": self.name})
        self._number = self._feed.oldest
        self._seen = frozenset(self._recent)
        # The store may have given commits that are published only now; by then they will be.
        self._seen_until = self._feed.head + self._feed.capacity

    def _meets(self, last: Key, *, exhausted: bool) -> bool:
        """Tell whether `last` is in the ring: at its end, or so far from its begin that it is there for a while.

        A ring of chunks alone is met by who has read the store to its end.
        """
        keys = self._feed.keys()
        if not keys:
            return exhausted
        number = keys.get(last)
        return number is not None and (exhausted or number >= (self._feed.oldest + self._feed.head) // 2)

    async def _anchor(self) -> str | None:
        """Return a cursor up to which the reader has had everything; None when the store knows none any more."""
        if self._knows_all and len(self._recent) < OVERLAP:
            return ""
        for run, position in list(self._recent)[-OVERLAP:]:
            rows = await self._journal(run, position)
            if rows:
                return rows[0].cursor
        return None

    async def _journal(self, run: RunId, position: int) -> Sequence[JournalRow]:
        return await patiently(lambda: self._store.journal(run, position - 1, 1))

    async def _tail(self, after: str) -> Sequence[JournalRow]:
        return await patiently(lambda: self._store.tail(self._worker, after, PAGE))


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what the store answers, as soon as it can be reached."""
    while True:
        try:
            return await ask()
        except StoreUnavailable:
            await asyncio.sleep(POLL)


def _entry(row: JournalRow) -> Entry:
    return Entry(row.run, row.position - 1, Journal.decode(row.facts), {}, 0)
