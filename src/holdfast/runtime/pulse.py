"""Notices writes of other processes, for everyone in this engine who waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from holdfast.errors import StoreError
from holdfast.store.port import Store

logger: Final = logging.getLogger("holdfast")

WATCH_SECONDS: Final = 5.0


class Pulse:
    """One task that waits on the store and calls `beat` whenever another process may have written."""

    def __init__(self, store: Store, beat: Callable[[], None]) -> None:
        """Prepare."""
        self._store = store
        self._beat = beat
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="holdfast-pulse")

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                if await self._store.wait(WATCH_SECONDS):
                    self._beat()
            except StoreError as error:
                logger.warning("the store cannot be watched: %s", error)
                await asyncio.sleep(1)
