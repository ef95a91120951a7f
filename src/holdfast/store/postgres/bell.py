"""Hints between processes: who makes work for others rings, outside of any commit; who listens looks at once.

A hint may be lost, and a pooler gives none at all. So nobody waits for one: looking now and then is what finds work.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Final

import psycopg
from psycopg.pq.abc import PGresult

from holdfast.store.postgres.lines import Line
from holdfast.store.postgres.link import Link, Statement
from holdfast.store.postgres.queries import SQL
from holdfast.store.postgres.wire import text


class Bell:
    """Rings for others, and is heard here. Belongs to one event loop."""

    def __init__(self, line: Line) -> None:
        """Ring on a line that is not the one of the commits: NOTIFY takes a lock of the cluster."""
        self._line = line
        self._name: Final = uuid.uuid4().hex
        self._notify = Statement(SQL["notify"], (text(self._name),))
        self._heard = asyncio.Event()
        self._ringing: asyncio.Future[None] | None = None
        self._again = False

    def attend(self, link: Link) -> None:
        """Listen on a fresh link. A pooler may refuse that, or agree and never say a word."""
        link.heard = self._hear
        link.send(Statement(SQL["listen"])).add_done_callback(_ignore)

    def ring(self) -> None:
        """Tell others that there may be work, at once. Rings that come while one is under way are one more."""
        self._again = True
        if self._ringing is None:
            self._ring()

    def ring_behind(self, link: Link) -> None:
        """Tell others as soon as what was sent last on a link is written, without waiting for its answer here."""
        link.post((self._notify,), _unheard)

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

    def _ring(self) -> None:
        link = self._line.ready
        if self._again and link is not None:  # without a link the others look by themselves
            self._again, self._ringing = False, asyncio.get_running_loop().create_future()
            link.post((self._notify,), self._rung)

    def _rung(self, _results: list[PGresult], error: psycopg.Error | None) -> None:
        ringing, self._ringing = self._ringing, None
        if ringing is not None:
            ringing.set_result(None)
        if error is None:
            self._ring()

    def _hear(self, told: bytes) -> None:
        if told.decode() != self._name:
            self._heard.set()


def _unheard(_results: list[PGresult], _error: psycopg.Error | None) -> None:
    """Nobody waits for a hint: who missed it looks by himself."""


def _ignore(listening: asyncio.Future[list[PGresult]]) -> None:
    """Take note of a refusal, so that nobody misses it: the polls go on."""
    if not listening.cancelled():
        listening.exception()
