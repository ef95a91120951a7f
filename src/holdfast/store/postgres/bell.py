"""Hints between processes: who makes work for others rings, outside of any commit; who listens looks at once.

A hint may be lost, and a pooler gives none at all. So nobody waits for one: looking now and then is what finds work.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from psycopg.pq.abc import PGresult

from holdfast.errors import StoreError
from holdfast.store.postgres.link import Link, Statement
from holdfast.store.postgres.queries import SQL
from holdfast.store.postgres.wire import text


class Bell:
    """Rings for others, and is heard here. Belongs to one event loop."""

    def __init__(self, ask: Callable[[Statement], Awaitable[Sequence[PGresult]]]) -> None:
        """`ask` runs a statement on a line that is not the one of the commits: NOTIFY takes a lock of the cluster."""
        self._ask = ask
        self._name: Final = uuid.uuid4().hex
        self._notify = Statement(SQL["notify"], (text(self._name),))
        self._heard = asyncio.Event()
        self._ringing: asyncio.Task[None] | None = None
        self._again = False

    def attend(self, link: Link) -> None:
        """Listen on a fresh link. A pooler may refuse that, or agree and never say a word."""
        link.heard = self._hear
        link.send(Statement(SQL["listen"])).add_done_callback(_ignore)

    def ring(self) -> None:
        """Tell others that there may be work. Rings that come while one is under way are one more."""
        if self._ringing is None:
            self._ringing = asyncio.get_running_loop().create_task(self._ring(), name="holdfast-bell")
        else:
            self._again = True

    async def rest(self, seconds: float) -> bool:
        """Return True as soon as another process rings, False after so many seconds."""
        if not self._heard.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._heard.wait()
            except TimeoutError:
                return False
        self._heard.clear()
        return True

    async def close(self) -> None:
        """Let a ring under way end."""
        if self._ringing is not None:
            await self._ringing

    async def _ring(self) -> None:
        try:
            while True:
                self._again = False
                await self._ask(self._notify)
                if not self._again:
                    return
        except StoreError:
            return
        finally:
            self._ringing = None

    def _hear(self, told: bytes) -> None:
        if told.decode() != self._name:
            self._heard.set()


def _ignore(listening: asyncio.Future[list[PGresult]]) -> None:
    """Take note of a refusal, so that nobody misses it: the polls go on."""
    if not listening.cancelled():
        listening.exception()
