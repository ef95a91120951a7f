"""A virtual clock: time that moves only when it is told to, and chance that a seed decides."""

from __future__ import annotations

import random
from typing import Final

from holdfast.model.ids import SECOND, Instant

BEGIN: Final = 1_800_000_000 * SECOND
"""The instant at which virtual time begins: a morning in January 2027."""

_DIGITS: Final = 80
"""Bits in a token of 20 hexadecimal digits."""


class VirtualClock:
    """The runtime's `Clock` for tests. Two clocks of one seed draw the same numbers."""

    def __init__(self, seed: int = 0, begin: Instant = BEGIN) -> None:
        """Begin at an instant."""
        self.random: Final = random.Random(seed)  # noqa: S311 - no secret, and it must repeat
        self.elapsed: float = 0.0
        """Seconds since the beginning."""
        self._begin = begin

    def now(self) -> Instant:
        """Return microseconds since 1970."""
        return self._begin + round(self.elapsed * SECOND)

    def draw(self) -> float:
        """Return a number from 0 to 1."""
        return self.random.random()

    def token(self) -> str:
        """Return 20 hexadecimal digits."""
        return f"{self.random.getrandbits(_DIGITS):020x}"

    def forward(self, seconds: float) -> Instant:
        """Move on, and return the new instant."""
        self.elapsed += max(seconds, 0.0)
        return self.now()
