"""What a picture shows, whatever draws it: boxes and ways between them, with what a run made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Tone = Literal["", "completed", "failed", "running", "waiting", "idle"]
"""What became of a box or way in a run; empty in a picture without a run."""

LEGEND: Final[dict[Tone, str]] = {
    "completed": "completed",
    "running": "running",
    "waiting": "waiting",
    "failed": "failed",
    "idle": "not reached",
}


@dataclass(frozen=True, slots=True)
class Box:
    """A node: how it is named inside of the picture, what it says, and what a run made of it."""

    key: str
    label: str
    is_end: bool = False
    note: str = ""
    tone: Tone = ""
    is_state: bool = False
    """It is entered by the ways that lead to it, and has no code of its own."""
    inner: Picture | None = None
    """What is within the node, where it is a graph."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way from one box to another. A run may have taken it several times, or not."""

    source: str
    target: str
    label: str = ""
    conditional: bool = False
    depends: bool = False
    """A run that reached both of its ends took it."""
    count: int = 0
    tone: Tone = ""

    @property
    def text(self) -> str:
        """What stands beside the way: its label, and how often it was taken when that was more than once."""
        times = f"{self.count}×" if self.count > 1 else ""  # noqa: RUF001 - the sign for "so many times"
        return f"{self.label} {times}".strip()


@dataclass(frozen=True, slots=True)
class Picture:
    """Boxes in the order of definition, and ways in the order in which they are tried."""

    name: str
    boxes: tuple[Box, ...]
    ways: tuple[Way, ...]

    @property
    def tones(self) -> tuple[Tone, ...]:
        """The tones that a legend explains, in its order."""
        found = {box.tone for box in self.boxes}
        return tuple(tone for tone in LEGEND if tone in found)
