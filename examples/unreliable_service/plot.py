"""Draws what happened over time: the service's mood, what reached it, the breaker, and how long each run took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from .service import Request

WIDTH, LEFT, RIGHT, LANE = 1200, 150, 30, 130
TOP: Final = 50
COLORS: Final = {
    "well": "#7bc47f",
    "failing": "#e66767",
    "busy": "#e6b267",
    "stalling": "#b48ce6",
    "closed": "#7bc47f",
    "open": "#e66767",
    "half_open": "#e6b267",
}


@dataclass(slots=True)
class Story:
    """What is drawn, all in seconds since the beginning."""

    seconds: float
    moods: Sequence[tuple[str, float, float]]
    requests: Sequence[Request]
    states: Sequence[tuple[str, float, float]]
    runs: list[tuple[float, float, bool]] = field(default_factory=list)
    """When each run was started, how long it took, and whether it got an old price."""


def draw(story: Story, file: Path) -> None:
    """Writes the picture."""
    image = Image.new("RGB", (WIDTH, TOP + 4 * LANE), "white")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(15)
    scale = (WIDTH - LEFT - RIGHT) / story.seconds

    def x(at: float) -> float:
        return LEFT + at * scale

    pen.text((LEFT, 14), "one durable step per run, behind the full policy", "black", font)
    for second in range(int(story.seconds) + 1):
        pen.line([(x(second), TOP), (x(second), TOP + 4 * LANE - 30)], "#e8e8e8")
        pen.text((x(second), TOP + 4 * LANE - 24), f"{second} s", "#808080", font, anchor="ma")
    names = ("the service is", "requests reach it", "the breaker is", "a run takes (s)")
    for lane, name in enumerate(names):
        pen.text((12, TOP + lane * LANE + 40), name, "black", font)
    for lane, spans in ((0, story.moods), (2, story.states)):
        last = -100.0
        for name, begin, end in spans:
            box = [(x(begin), TOP + lane * LANE + 30), (x(min(end, story.seconds)), TOP + lane * LANE + 70)]
            pen.rectangle(box, COLORS[name])
            if x(end) - x(begin) > 45 and x(begin) - last > 40:
                pen.text((x(begin) + 4, TOP + lane * LANE + 40), name.replace("_", "-"), "black", font)
                last = x(begin)
    for number, request in enumerate(story.requests):
        y: float = TOP + LANE + 30 + number % 8 * 6
        pen.ellipse([(x(request.at) - 3, y - 3), (x(request.at) + 3, y + 3)], COLORS[request.mood])
    longest = max((took for _, took, _ in story.runs), default=1.0)
    for at, took, stale in story.runs:
        base = TOP + 4 * LANE - 40
        y = base - took / longest * (LANE - 50)
        pen.line([(x(at), base), (x(at), y)], "#9ab8e0" if not stale else "#c0c0c0", 2)
        pen.ellipse([(x(at) - 2, y - 2), (x(at) + 2, y + 2)], "#2a5ca8" if not stale else "#808080")
    pen.text((LEFT - 40, TOP + 3 * LANE + 4), f"{longest:.1f}", "#808080", font)
    image.save(file)
