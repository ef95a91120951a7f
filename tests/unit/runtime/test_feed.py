"""The feed wakes who waits and never grows; a cursor over it gives each commit once, however slow its reader is."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing

import msgspec
import pytest

from holdfast.errors import StoreUnavailable
from holdfast.model import facts
from holdfast.model.commit import Commit
from holdfast.model.run import RunRow, RunStatus
from holdfast.model.values import encode
from holdfast.runtime import feed as feeds
from holdfast.runtime.feed import Cursor, Entry, Feed, Key
from holdfast.store.open import open_store
from holdfast.store.port import Store
from holdfast.store.rows import Chunk, JournalRow

RUNNING = RunStatus.RUNNING


def commit(run: str, position: int = 0, count: int = 1, value: object = None, **fields: object) -> Commit:
    if position == 0:
        fields.setdefault("opened", RunRow(id=run, workflow="w", epoch=1))
    recorded = tuple(
        facts.StepCompleted(at=1, step=f"s#{position + n}", attempt=1, data=encode(value))
        for n in range(1, count + 1)
    )
    made = Commit(
        id=f"{run}-{position}",
        run=run,
        position=position,
        epoch=1,
        at=1,
        worker="w1",
        facts=recorded,
        status=RUNNING,
        was=RUNNING,
    )
    return msgspec.structs.replace(made, **fields)


def keys(entries: Sequence[Entry]) -> list[Key]:
    return [entry.key for entry in entries]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# --- waiting


async def test_a_commit_wakes_the_waiters_of_its_run() -> None:
    feed = Feed()
    one, two, other = feed.waiter("r1"), feed.waiter("r1"), feed.waiter("r2")
    published = commit("r1")
    feed.publish(published)
    assert (one.result(), two.result(), other.done()) == (published, published, False)


async def test_a_commit_wakes_who_waits_for_any() -> None:
    feed = Feed()
    changed = feed.changed()
    feed.publish(commit("r1"))
    assert changed.done()


async def test_one_waiter_that_gives_up_leaves_the_others_and_nothing_behind() -> None:
    feed = Feed()
    gone, stays = feed.waiter("r1"), feed.waiter("r1")
    gone.cancel()
    await settled()
    feed.publish(commit("r1"))
    assert (await stays) is not None
    for _ in range(100):
        feed.waiter("r2").cancel()
    await settled()
    assert feed._waiting == {}


async def test_everyone_can_be_woken_without_a_commit() -> None:
    feed = Feed()
    waiting = [feed.waiter("r1"), feed.waiter("r2"), feed.changed()]
    feed.nudge()
    assert [future.result() for future in waiting] == [None, None, None]


async def test_a_commit_without_facts_wakes_and_has_no_number() -> None:
    feed = Feed()
    waiter = feed.waiter("r1")
    feed.publish(commit("r1", count=0))
    assert (waiter.done(), feed.head) == (True, 0)


def test_the_exception_that_failed_a_run_is_kept_for_a_while() -> None:
    feed = Feed()
    error = ValueError("no page")
    feed.publish(commit("r1"), error)
    assert (feed.cause("r1"), feed.cause("r2")) == (error, None)
    for number in range(feeds.CAUSES):
        feed.publish(commit(f"other-{number}"), error)
    assert feed.cause("r1") is None
    assert len(feed._causes) == feeds.CAUSES


# --- the ring


def test_the_ring_keeps_the_last_commits_by_number() -> None:
    feed = Feed(capacity=3)
    feed.readers = 1
    for number in range(5):
        feed.publish(commit("r1", number))
    assert (feed.oldest, feed.head) == (2, 5)
    assert keys([feed[number] for number in (2, 3, 4)]) == [("r1", 3), ("r1", 4), ("r1", 5)]
    assert feed.keys() == {("r1", 3): 2, ("r1", 4): 3, ("r1", 5): 4}
    for number in (1, 5):
        with pytest.raises(IndexError):
            feed[number]


def test_without_a_reader_nothing_is_kept() -> None:
    feed = Feed()
    feed.publish(commit("r1", 0))
    assert (feed.head, feed.oldest) == (1, 1)


def test_large_values_leave_the_ring_early() -> None:
    feed = Feed(max_bytes=1000)
    feed.readers = 1
    for number in range(5):
        feed.publish(commit("r1", number, blobs={"h": b"x" * 300}))
    assert (feed.oldest, feed.head) == (2, 5)
    feed.publish(commit("r1", 5, value="x" * 5000))
    assert (feed.oldest, feed.head) == (5, 6)
    for number in range(6, 9):
        feed.publish(commit("r1", number))
    assert (feed.oldest, feed.head) == (6, 9)


def test_nothing_is_kept_when_nobody_listens() -> None:
    feed = Feed()
    for number in range(5):
        feed.publish(commit("r1", number, value="x" * 100))
    assert (feed.oldest, feed.head, feed.keys()) == (5, 5, {})


# --- cursors


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    opened = open_store("sqlite:///:memory:")
    await opened.open()
    yield opened
    await opened.close()


class Publisher:
    """Commits and publishes, as an engine does."""

    def __init__(self, store: Store, feed: Feed) -> None:
        self.store = store
        self.feed = feed
        self.positions: Counter[str] = Counter()
        self.keys: list[Key] = []

    async def commit(self, run: str, count: int = 1, worker: str = "w1") -> None:
        made = commit(run, self.positions[run], count, worker=worker)
        await self.store.commit([made])
        self.positions[run] += count
        if worker == "w1":
            self.keys.append((run, self.positions[run]))
            self.feed.publish(made)


CHUNK = Chunk("r1", "talk#1", 1, 0, b'"word"')
NO_COMMIT = ("", 0)
"""The key of an entry of chunks."""


async def read(cursor: Cursor) -> list[Key]:
    """Return what the cursor gives until nothing is left."""
    cursor.stop()
    async with aclosing(cursor.commits()) as commits:
        return [key async for batch in commits for key in keys(batch)]


async def test_a_cursor_gives_what_is_published_after_it_was_made(store: Store) -> None:
    feed = Feed()
    publisher = Publisher(store, feed)
    await publisher.commit("r1")
    cursor = Cursor(feed, store, "w1", "audit")
    for run in ("r1", "r2", "r1"):
        await publisher.commit(run)
    assert cursor.lag == 3
    assert await read(cursor) == publisher.keys[1:]
    assert cursor.lag == 0


async def test_a_cursor_waits_for_more(store: Store) -> None:
    feed = Feed()
    publisher, cursor = Publisher(store, feed), Cursor(feed, store, "w1", "audit")
    commits = cursor.commits()
    first = asyncio.ensure_future(anext(commits))
    await settled()
    assert not first.done()
    await publisher.commit("r1")
    assert keys(await first) == [("r1", 1)]
    end = asyncio.ensure_future(anext(commits, None))
    await settled()
    cursor.stop()
    assert await end is None


async def test_who_fell_behind_the_ring_reads_the_store(store: Store) -> None:
    feed = Feed(capacity=4)
    publisher, cursor = Publisher(store, feed), Cursor(feed, store, "w1", "audit")
    for number in range(50):
        await publisher.commit(f"r{number % 7}", count=1 + number % 3)
    assert await read(cursor) == publisher.keys


async def test_commits_of_other_workers_are_theirs_to_show(store: Store) -> None:
    feed = Feed(capacity=4)
    publisher, cursor = Publisher(store, feed), Cursor(feed, store, "w1", "audit")
    for number in range(40):
        await publisher.commit("r1", worker="w2" if number % 4 == 1 else "w1")
    assert await read(cursor) == publisher.keys


async def test_who_fell_behind_a_ring_of_chunks_alone_reads_the_store(store: Store) -> None:
    feed = Feed(capacity=4)
    publisher, cursor = Publisher(store, feed), Cursor(feed, store, "w1", "audit")
    for _ in range(20):
        await publisher.commit("r1")
    for _ in range(10):
        feed.stream([CHUNK])
    assert [key for key in await read(cursor) if key != NO_COMMIT] == publisher.keys
    assert cursor.lag == 0


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("seed", range(20))
async def test_each_commit_is_given_once_at_any_pace(
    store: Store, seed: int, *, streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    for name, value in {"BATCH": 3, "PAGE": 10, "OVERLAP": chance.choice([2, 1000])}.items():
        monkeypatch.setattr(feeds, name, value)
    feed = Feed(capacity=chance.choice([1, 2, 10, 30]))
    publisher, cursor = Publisher(store, feed), Cursor(feed, store, "w1", "audit")
    given: list[Key] = []

    async def follow() -> None:
        async with aclosing(cursor.commits()) as commits:
            async for batch in commits:
                given.extend(key for key in keys(batch) if key != NO_COMMIT)
                for _ in range(chance.choice([0, 0, 1, 40])):
                    await asyncio.sleep(0)

    following = asyncio.create_task(follow())
    for _ in range(300):
        await publisher.commit(f"r{chance.randrange(5)}", count=chance.randrange(1, 4))
        for _ in range(chance.choice([0, 1, 20]) if streams else 0):
            feed.stream([CHUNK])
        for _ in range(chance.choice([0, 0, 0, 5])):
            await asyncio.sleep(0)
    cursor.stop()
    await following
    assert given == publisher.keys
    assert cursor.lag == 0


class Far:
    """A store whose numbers follow another order than the publishing did, and that shows commits late."""

    def __init__(self, published: Sequence[Key], chance: random.Random, distance: int) -> None:
        order = sorted(range(len(published)), key=lambda n: n + chance.uniform(0, distance))
        self.rows = [
            JournalRow(
                str(seq), run, end, 1, 1, f"c{end}", "w1", facts.Journal.encode(commit(run, end - 1).facts)
            )
            for seq, (run, end) in enumerate((published[n] for n in order), 1)
        ]
        self.shown = len(published) // 2
        self.failures = 3

    async def journal(self, run: str, after: int = 0, limit: int = 1000) -> Sequence[JournalRow]:
        return [row for row in self.rows if row.run == run and row.position > after][:limit]

    async def tail(self, worker: str, after: str, limit: int = 1000) -> Sequence[JournalRow]:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable
        self.shown = min(self.shown + 20, len(self.rows))
        return self.rows[int(after or 0) : self.shown][:limit]

    async def blobs(self, run: str) -> Mapping[str, bytes]:
        return {}


@pytest.mark.parametrize("seed", range(10))
async def test_a_store_that_numbers_otherwise_loses_and_repeats_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"BATCH": 3, "PAGE": 10, "OVERLAP": 30, "POLL": 0.0}.items():
        monkeypatch.setattr(feeds, name, value)
    published = [(f"r{number}", 1) for number in range(200)]
    store, feed = Far(published, random.Random(seed), distance=10), Feed(capacity=40)
    cursor = Cursor(feed, store, "w1", "audit")
    given: list[Key] = []
    commits = cursor.commits()
    for number, (run, _) in enumerate(published):
        feed.publish(commit(run))
        if number < 60 or number == 120:
            given.extend(keys(await anext(commits)))
    cursor.stop()
    given += [key async for batch in commits for key in keys(batch)]
    assert Counter(given) == Counter(published)


async def test_what_was_deleted_in_the_meantime_is_missed_aloud(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {"OVERLAP": 2, "POLL": 0.0, "PATIENCE": 0.0}.items():
        monkeypatch.setattr(feeds, name, value)
    feed = Feed(capacity=4)
    publisher, cursor = Publisher(store, feed), Cursor(feed, store, "w1", "audit")
    commits = cursor.commits()
    for _ in range(3):
        await publisher.commit("gone")
    given = keys(await anext(commits))
    done = commit("gone", 3, status=RunStatus.COMPLETED)
    await store.commit([done])
    await store.delete("gone")
    for _ in range(10):
        await publisher.commit("r1")
    cursor.stop()
    given += [key async for batch in commits for key in keys(batch)]
    assert given == [("gone", 1), ("gone", 2), ("gone", 3), ("r1", 7), ("r1", 8), ("r1", 9), ("r1", 10)]
    assert "observer audit misses events" in caplog.text
