"""Hedged calls: the same call once more when the first one takes long; the first result counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from holdfast.core.policy import Hedge
from holdfast.model.ids import seconds

T = TypeVar("T")


async def hedged(hedge: Hedge | None, call: Callable[[], Awaitable[T]]) -> T:
    """Return the first result of `call()`, made again each `after` while none has ended well, up to `limit` times.

    The others are cancelled. When all that were begun have failed, the first error is raised.
    """
    if hedge is None:
        return await call()
    race = _Race(call)
    try:
        for _ in range(hedge.limit):
            race.begin()
            if await race.is_over(seconds(hedge.after)):
                return race.result()
        race.begin()
        await race.is_over(None)
        return race.result()
    finally:
        await race.end()


class _Race(Generic[T]):
    """Calls of which the first result counts."""

    def __init__(self, call: Callable[[], Awaitable[T]]) -> None:
        self._call = call
        self._running: set[asyncio.Future[T]] = set()
        self._failed: asyncio.Future[T] | None = None
        self._won: asyncio.Future[T] | None = None

    def begin(self) -> None:
        self._running.add(asyncio.ensure_future(self._call()))

    async def is_over(self, pause: float | None) -> bool:
        """Wait until a call has ended well or all have failed, but no longer than for the pause."""
        first = asyncio.FIRST_COMPLETED
        while self._running and self._won is None:
            ended, self._running = await asyncio.wait(self._running, timeout=pause, return_when=first)
            if not ended:
                return False
            for call in ended:
                if call.cancelled() or call.exception() is not None:
                    self._failed = self._failed or call
                else:
                    self._won = call
        return True

    def result(self) -> T:
        over = self._won or self._failed
        assert over is not None  # noqa: S101 - it was asked when the race was over
        return over.result()

    async def end(self) -> None:
        for call in self._running:
            call.cancel()
        if self._running:
            await asyncio.wait(self._running)
            for call in self._running:
                if not call.cancelled():
                    call.exception()  # nobody else asks
