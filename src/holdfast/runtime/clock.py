"""Time for the runtime, behind a seam that a simulation replaces."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Protocol

from holdfast.model.ids import Instant


class Clock(Protocol):
    """Tells the time and draws numbers."""

    def now(self) -> Instant:
        """Return microseconds since 1970."""

    def draw(self) -> float:
        """Return a random number from 0 to 1."""

    def token(self) -> str:
        """Return 20 random hexadecimal digits."""


class SystemClock:
    """The machine's clock and its randomness."""

    def now(self) -> Instant:
        """Return microseconds since 1970."""
        return time.time_ns() // 1000

    def draw(self) -> float:
        """Return a random number from 0 to 1."""
        return random.random()  # noqa: S311 - jitter, not a secret

    def token(self) -> str:
        """Return 20 random hexadecimal digits."""
        return os.urandom(10).hex()


class SharedClock:
    """The store's time, on which all processes that share it agree, with the chance of a clock of our own.

    A run whose timer is due by one clock and not by the next holder's would be laid down again without a timer.
    """

    def __init__(self, clock: Clock, now: Callable[[], Instant]) -> None:
        """Take the time from `now`, all else from `clock`."""
        self.now = now
        self.draw = clock.draw
        self.token = clock.token


def new_id(clock: Clock) -> str:
    """Return a unique id of 32 hexadecimal digits that sorts by time.

    Runs of the same time are neighbours in the indexes, so that their commits share pages (the layout of UUIDv7).
    """
    return f"{clock.now() // 1000:012x}{clock.token()}"
