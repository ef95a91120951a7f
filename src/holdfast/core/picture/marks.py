"""The signs of pictures in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from holdfast.core.picture.shape import Tone

Piece = tuple[str, Tone]
"""A part of a row, and the tone in which it is written."""


def width_of(rows: Iterable[Sequence[Piece]]) -> int:
    """Return how many columns rows take."""
    return max((sum(len(text) for text, _ in row) for row in rows), default=0)


LINES: Final = " ╵╷│╴┘┐┤╶└┌├─┴┬┼"
"""The signs by the directions in which they lead: up is 1, down 2, left 4, right 8."""

MARKS: Final[dict[Tone, str]] = {
    "completed": "✓ ",
    "failed": "✗ ",
    "running": "● ",
    "waiting": "◷ ",
    "idle": "○ ",
}

LONGEST: Final = 24
"""So much of a way's text is written."""
