"""The server's clock, as read here: what it said last, and how long ago that was by a clock that nobody sets."""

from __future__ import annotations

import time
from typing import Final

from holdfast.model.ids import SECOND, Instant

AGE: Final = 60 * SECOND
"""A better reading than today's is taken at once, another one when today's is older than that."""


class ServerClock:
    """Tells the server's time without asking it, as well as half a round trip allows. Safe to read in any thread.

    What one thread reads rises with each reading, also when a better reading of the server says that it is earlier:
    what happened here first must not look as if it had been later. Only a clock that was set is followed back.
    """

    def __init__(self) -> None:
        """Go by the machine's own clock until the server has been read."""
        self._offset = time.time_ns() // 1000 - _ticks()
        self._doubt = 1 << 60
        self._read_at = 0
        self._last = 0

    def __call__(self) -> Instant:
        """Return the time of day in microseconds."""
        self._last = now = max(_ticks() + self._offset, self._last + 1)
        return now

    def observe(self, asked: int, told: Instant) -> None:
        """Take in what the server said to a question asked at `ticks()`; the answer is here just now."""
        answered = _ticks()
        doubt = (answered - asked) // 2
        offset = told - (asked + doubt)
        is_off = (
            abs(offset - self._offset) > doubt + self._doubt
        )  # our clock stood still, or the server's was set
        if doubt <= self._doubt or is_off or answered - self._read_at > AGE:
            self._offset, self._doubt, self._read_at = offset, doubt, answered
            if is_off:
                self._last = 0

    @staticmethod
    def ticks() -> int:
        """Return microseconds of the clock that nobody sets."""
        return _ticks()


def _ticks() -> int:
    return time.monotonic_ns() // 1000
