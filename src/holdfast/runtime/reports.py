"""What a running attempt tells of itself: how far it is, what its next attempt shall know, and that it lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from holdfast.model import facts
from holdfast.model.ids import SECOND, Instant, StepId
from holdfast.runtime.clock import Clock


class Reports:
    """Makes reports facts, at most one a second, the latest."""

    __slots__ = (
        "_attempt",
        "_clock",
        "_data",
        "_deliver",
        "_loop",
        "_percent",
        "_step",
        "_text",
        "_told",
        "_waits",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        step: StepId,
        attempt: int,
        deliver: Callable[[facts.Fact], None],
    ) -> None:
        """Begin with nothing told."""
        self._loop = loop
        self._clock = clock
        self._step = step
        self._attempt = attempt
        self._deliver = deliver
        self._percent: float | None = None
        self._text = ""
        self._data = facts.NOTHING
        self._told: Instant = 0
        self._waits = False

    def progress(self, percent: float, text: str) -> None:
        """Take how far the attempt is."""
        self._percent, self._text = percent, text
        self._soon()

    def details(self, data: msgspec.Raw) -> None:
        """Take what the next attempt shall know."""
        self._data = data
        self._soon()

    def _soon(self) -> None:
        wait = self._told + SECOND - self._clock.now()
        if wait <= 0:
            self.flush()
        elif not self._waits:
            self._waits = True
            self._loop.call_later(wait / SECOND, self.flush)

    def flush(self) -> None:
        """Deliver what is not delivered yet."""
        self._waits = False
        percent, text, data = self._percent, self._text, self._data
        if percent is None and data is facts.NOTHING:
            return
        self._percent, self._text, self._data = None, "", facts.NOTHING
        self._told = self._clock.now()
        self._deliver(
            facts.StepProgressed(
                step=self._step, attempt=self._attempt, percent=percent, message=text, data=data
            )
        )


class Silence:
    """Calls `end` when nothing was heard for `limit` seconds."""

    __slots__ = ("_end", "_heard", "_limit", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: float, end: Callable[[], None]) -> None:
        """Begin to listen."""
        self._loop = loop
        self._limit = limit
        self._end = end
        self._heard = loop.time()
        self._timer = loop.call_later(limit, self._look)

    def heard(self) -> None:
        """Take a sign of life, from any thread."""
        self._heard = self._loop.time()

    def _look(self) -> None:
        left = self._heard + self._limit - self._loop.time()
        if left <= 0:
            self._end()
        else:
            self._timer = self._loop.call_later(left, self._look)

    def cancel(self) -> None:
        """Listen no more."""
        self._timer.cancel()
