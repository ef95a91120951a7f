"""A run over time, as rows for a terminal: one bar for each node or task, from its first beginning to its last end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from holdfast.core.picture.shape import Tone
from holdfast.core.picture.trace import duration
from holdfast.model.audit import Attempt, Stage
from holdfast.model.run import StepStatus

Piece = tuple[str, Tone]

_TONES: Final[dict[StepStatus, Tone]] = {
    StepStatus.COMPLETED: "completed",
    StepStatus.FAILED: "failed",
    StepStatus.CANCELLED: "failed",
    StepStatus.RUNNING: "running",
}
_STRONGEST_LAST: Final[tuple[Tone, ...]] = ("", "idle", "completed", "running", "failed")
_SIGNS: Final[dict[Tone, str]] = {"": " ", "idle": "·", "completed": "█", "running": "▒", "failed": "▚"}
_LEAST: Final = 10


def gantt(stages: Iterable[Stage], now: datetime, width: int = 60) -> list[list[Piece]]:
    """Return rows of (text, tone): name, bar and duration. Steps of one name share a row; waits between tries are dots.

    Empty when nothing has begun. `now` ends the bars of what still runs.
    """
    by_name: dict[str, list[Attempt]] = {}
    counts: dict[str, int] = {}
    for stage in stages:
        begun = [attempt for attempt in stage.attempts if attempt.started_at is not None]
        if begun:
            by_name.setdefault(stage.name, []).extend(begun)
            counts[stage.name] = counts.get(stage.name, 0) + 1
    every = [attempt for attempts in by_name.values() for attempt in attempts]
    if not every:
        return []
    spans = [_span(attempt, now) for attempt in every]
    begin, end = min(start for start, _ in spans), max(stop for _, stop in spans)
    labels = {
        name: name if n == 1 else f"{name} ×{n}"  # noqa: RUF001 - the sign for "so many times"
        for name, n in counts.items()
    }
    wide = max(map(len, labels.values()))
    scale = max(_LEAST, width) / max((end - begin).total_seconds(), 1e-6)
    rows = [
        [(f"{labels[name]:<{wide}}  ", ""), *_bar(attempts, begin, scale, max(_LEAST, width), now)]
        for name, attempts in by_name.items()
    ]
    return [
        *rows,
        [(f"{'':<{wide}}  0{duration((end - begin).total_seconds()):>{max(_LEAST, width) - 1}}", "")],
    ]


def _span(attempt: Attempt, now: datetime) -> tuple[datetime, datetime]:
    start = attempt.started_at or now
    return start, max(start, attempt.completed_at or now)


def _bar(
    attempts: Sequence[Attempt], begin: datetime, scale: float, width: int, now: datetime
) -> list[Piece]:
    cells: list[Tone] = [""] * width
    places = [(_tone(attempt), *_cells(_span(attempt, now), begin, scale, width)) for attempt in attempts]
    first, last = min(start for _, start, _ in places), max(stop for _, _, stop in places)
    for cell in range(first, last):
        cells[cell] = "idle"
    for tone, start, stop in places:
        for cell in range(start, stop):
            cells[cell] = max(cells[cell], tone, key=_STRONGEST_LAST.index)
    spans = [_span(attempt, now) for attempt in attempts]
    took = (max(stop for _, stop in spans) - min(start for start, _ in spans)).total_seconds()
    return [*_joined(cells), (f"  {duration(took)}", "")]


def _tone(attempt: Attempt) -> Tone:
    return _TONES.get(attempt.status, "idle")


def _cells(span: tuple[datetime, datetime], begin: datetime, scale: float, width: int) -> tuple[int, int]:
    """Return the cells of a span; at least one, whatever short it is."""
    start = min(width - 1, int((span[0] - begin).total_seconds() * scale))
    stop = min(width, round((span[1] - begin).total_seconds() * scale))
    return start, max(start + 1, stop)


def _joined(cells: Sequence[Tone]) -> list[Piece]:
    pieces: list[Piece] = []
    for tone in cells:
        if pieces and pieces[-1][1] == tone:
            pieces[-1] = (pieces[-1][0] + _SIGNS[tone], tone)
        else:
            pieces.append((_SIGNS[tone], tone))
    return pieces
