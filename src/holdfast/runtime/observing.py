"""Feeding observers: a task for each, with a cursor of its own, that turns commits into events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from itertools import count
from typing import Final

from holdfast.core.events import chunk_event, chunk_type, event_of, payload_of, reader, references, type_of
from holdfast.core.observers import Observer, ObserverLike, resolve
from holdfast.model.event import RunEvent
from holdfast.model.facts import Fact
from holdfast.model.ids import WorkerId
from holdfast.runtime.feed import Cursor, Entry, Feed, Source, patiently
from holdfast.runtime.observers import CLOSING, Caller
from holdfast.runtime.threads import Threads

logger: Final = logging.getLogger("holdfast.observers")


Pick = Callable[["Reader", Entry], Awaitable[Entry | None]]
"""Gives what of an entry is for a reader."""


class Reader:
    """Turns commits into events for one observer."""

    def __init__(self, cursor: Cursor, caller: Caller, store: Source, pick: Pick | None = None) -> None:
        """Read on from the cursor; with `pick`, what it picks."""
        self.caller = caller
        self.cursor = cursor
        self.moved = asyncio.Event()
        self._store = store
        self._pick = pick
        self._done = 0  # of the cursor's batch

    @property
    def lag(self) -> int:
        """How many commits the observer has not finished with."""
        return max(self.cursor.lag - self._done, 0)

    async def run(self) -> None:
        """Hand commits over until the cursor is stopped."""
        async with aclosing(self.cursor.commits()) as commits:
            async for batch in commits:
                await self._hand_over(batch)
                self._done = 0
                self.moved.set()

    async def _hand_over(self, batch: Sequence[Entry]) -> None:
        """Call the observer for commit after commit, or with all at once when each call costs a change of threads."""
        wanted: dict[str, bool] = {}
        together: list[RunEvent] = []
        for entry in batch:
            events = await self._events(entry, wanted)
            if self.caller.blocks:
                together += events
                continue
            if events:
                await self.caller.call(events)
            self._done += 1
        if together:
            await self.caller.call(together)

    def _chosen(self, entry: Entry, wanted: dict[str, bool]) -> list[tuple[int, Fact]]:
        """Return the (position, fact) of the events to make; `wanted` keeps the observer's answers by type."""
        chosen = []
        for index, fact in enumerate(entry.facts, 1):
            kind = type_of(fact)
            if kind is not None and self._wants(kind, wanted):
                chosen.append((entry.position + index, fact))
        return chosen

    def _wants(self, kind: str, wanted: dict[str, bool]) -> bool:
        want = wanted.get(kind)
        if want is None:
            want = wanted[kind] = self.caller.observer.wants(kind)
        return want

    async def _events(self, entry: Entry, wanted: dict[str, bool]) -> list[RunEvent]:
        try:
            if self._pick is not None:
                picked = await self._pick(self, entry)
                if picked is None:
                    return []
                entry = picked
            if entry.chunks:
                return [
                    chunk_event(chunk) for chunk in entry.chunks if self._wants(chunk_type(chunk), wanted)
                ]
            chosen = self._chosen(entry, wanted)
            if not chosen:
                return []
            decode = reader(await self._blobs(entry, [fact for _, fact in chosen]))
            made = (event_of(entry.run, position, fact, decode) for position, fact in chosen)
            return [event for event in made if event is not None]
        except Exception:
            place = (entry.position, entry.run, self.caller.name)
            logger.exception("a commit after position %s of run %s cannot be shown to observer %s", *place)
            return []

    async def _blobs(self, entry: Entry, shown: Sequence[Fact]) -> Mapping[str, bytes]:
        """Return the large values to show; those that an earlier commit brought are in the store alone."""
        if self.caller.observer.reads_values:
            hashes = {hash_ for fact in shown for hash_ in references(payload_of(fact))}
            if not hashes <= entry.blobs.keys():
                return await patiently(lambda: self._store.blobs(entry.run))
        return entry.blobs


class Observers:
    """The observers of one engine: a task for each, so with none it costs nothing."""

    def __init__(
        self,
        feed: Feed,
        store: Source,
        worker_id: WorkerId,
        observers: Iterable[ObserverLike | None],
        threads: Threads | None = None,
    ) -> None:
        """Take the observers; they see what is committed from now on."""
        self._feed = feed
        self._store = store
        self._worker_id = worker_id
        self._threads = threads or Threads("holdfast-observer")
        self._readers = [self._reader(name, observer) for name, observer in resolve(observers)]
        self._tasks: dict[asyncio.Task[None], Reader] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def _reader(self, name: str, observer: Observer, pick: Pick | None = None) -> Reader:
        cursor = Cursor(self._feed, self._store, self._worker_id, name)
        return Reader(cursor, Caller(name, observer, self._threads), self._store, pick)

    def start(self) -> None:
        """Begin to hand events over. Called on the loop of the feed."""
        for each in self._readers:
            self._run(each)

    def _run(self, each: Reader) -> None:
        task = asyncio.create_task(_driven(each), name=f"holdfast-observer-{each.caller.name}")
        self._tasks[task] = each

    @property
    def names(self) -> dict[str, Observer]:
        """The observers by their names, which are unique."""
        return {each.caller.name: each.caller.observer for each in self._readers}

    def add(self, name: str, observer: Observer, pick: Pick) -> Reader:
        """Begin to hand what is picked, of what is committed from now on, to one more observer."""
        numbered = (f"{name}-{number}" if number > 1 else name for number in count(1))
        each = self._reader(next(free for free in numbered if free not in self.names), observer, pick)
        self._readers.append(each)
        self._run(each)
        return each

    def drop(self, each: Reader) -> None:
        """Hand nothing more to an observer that was added; it is not closed."""
        each.cursor.stop()
        self._readers.remove(each)
        task = next(task for task, reader in self._tasks.items() if reader is each)
        del self._tasks[task]
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def lag(self) -> dict[str, int]:
        """Return by observer how many commits it has not finished with."""
        return {each.caller.name: each.lag for each in self._readers}

    async def close(self, grace: float) -> None:
        """Hand over what is committed, for up to `grace` seconds, and let the observers close. Idempotent."""
        tasks, self._tasks = self._tasks, {}
        for each in tasks.values():
            each.cursor.stop()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            await _abandon({task: tasks[task] for task in late})
        for task in self._leaving:
            task.cancel()
        for each in tasks.values():
            await each.caller.close()
        self._threads.close()


async def _driven(each: Reader) -> None:
    try:
        await each.run()
    except Exception:
        logger.exception("observer %s gets no more events", each.caller.name)
    finally:
        each.moved.set()


async def _abandon(late: Mapping[asyncio.Task[None], Reader]) -> None:
    for task, each in late.items():
        name = each.caller.name
        message = "observer %s did not see the last %s commits before the engine closed"
        logger.warning(message, name, each.lag, extra={"observer": name})
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=CLOSING)
