"""The sign and colour of each status, the same in trees, tables and lines."""

from __future__ import annotations

import codecs
from typing import Final

SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

MARKS: Final = {
    "pending": ("○", "bright_black"),
    "scheduled": ("○", "bright_black"),
    "running": ("●", "cyan"),
    "waiting": ("◷", "blue"),
    "suspended": ("◷", "blue"),
    "retrying": ("↻", "yellow"),
    "paused": ("‖", "yellow"),
    "completed": ("✓", "green"),
    "failed": ("✗", "red"),
    "cancelled": ("⊘", "yellow"),
    "skipped": ("-", "bright_black"),
}
"""By status: sign, colour."""

TIMES: Final = "×"  # noqa: RUF001 - the sign for "so many times"

TAKEN: Final = ("→", "cyan")
NOT_TAKEN: Final = ("↛", "bright_black")
NEWS: Final = ("·", "bright_black")
SIGNAL: Final = ("»", "blue")

_PLAIN = dict(zip("○●◷↻‖✓✗⊘→↛·»…├└│─█░", "o*~@=+x->/.>.|`|-#.", strict=True))
_PLAIN |= dict(zip("┌┐┘┤┬┴┼╴╵╶╷▲▼↺", "+++|+++-|-|^v@", strict=True))
_PLAIN |= {TIMES: "x", **dict.fromkeys(SPINNER, "*")}


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101 - only writing asks
    wrong = error.object[error.start : error.end]
    return "".join(_PLAIN.get(char, "?") for char in wrong), error.end


def allow_plain_terminals() -> str:
    """Return the name of an error handler for streams that cannot encode our signs: it writes plain ones instead."""
    codecs.register_error("holdfast", _replace)
    return "holdfast"
