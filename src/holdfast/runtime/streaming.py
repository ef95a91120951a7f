"""Chunks on their way from running steps to readers: kept in batches beside the journal, then shown in this process.

A reader may miss the last ones of a process that dies, or those that the store could not take; no run ever does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from msgspec.structs import replace

from holdfast.errors import StoreError
from holdfast.runtime.feed import Feed
from holdfast.store.port import Store
from holdfast.store.rows import Chunk

logger: Final = logging.getLogger("holdfast")

PAUSE: Final = 0.05
"""Seconds between two batches at least."""


class Streams:
    """The chunks of all steps of a process. Belongs to one event loop."""

    def __init__(self, store: Store, feed: Feed) -> None:
        """Begin without chunks."""
        self._store = store
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Chunk] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writes: set[asyncio.Task[None]] = set()

    def take(self, chunk: Chunk) -> None:
        """Keep a chunk: at once when none was lately, else with those of the next moment."""
        self._waiting.append(chunk)
        if self._timer is None:
            self.flush()

    def flush(self) -> None:
        """Write what waits, before any commit that is written from now on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            chunks, self._waiting = self._waiting, []
            task = self._loop.create_task(self._write(chunks), name="holdfast-stream")
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)
            self._timer = self._loop.call_later(PAUSE, self.flush)

    async def _write(self, chunks: list[Chunk]) -> None:
        try:
            positions = await self._store.stream(chunks)
        except StoreError as error:
            logger.warning(
                "%s chunks of run %s are lost to its readers: %s", len(chunks), chunks[0].run, error
            )
        else:
            kept = [replace(each, position=positions[each.run]) for each in chunks if each.run in positions]
            self._feed.stream(kept)

    async def close(self) -> None:
        """Write what waits."""
        self.flush()
        if self._timer is not None:
            self._timer.cancel()
        if self._writes:
            await asyncio.wait(self._writes)
