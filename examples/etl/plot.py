"""Draws series by month, one panel below the other on one axis of time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from math import ceil, floor, log10
from pathlib import Path
from typing import Final, NamedTuple

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1200, 230, 80, 30, 44, 30
INK, GREY, LIGHT, LINE = "black", "#808080", "#e8e8e8", "#2a5ca8"
LINES_WANTED: Final = 4

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Panel(NamedTuple):
    """A title, and a value for each month such as 2008-09."""

    title: str
    months: Mapping[str, float]


def draw(panels: Sequence[Panel], file: Path) -> None:
    """Writes the picture."""
    image = Image.new("RGB", (WIDTH, HEIGHT * len(panels) + BOTTOM), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    times = [_time(month) for panel in panels for month in panel.months]
    begin, end = floor(min(times)), floor(max(times)) + 1
    scale = (WIDTH - LEFT - RIGHT) / (end - begin)
    for year in range(begin, end + 1):
        x = LEFT + (year - begin) * scale
        pen.line([(x, TOP), (x, HEIGHT * len(panels))], LIGHT)
        if year < end:
            pen.text((x + scale / 2, HEIGHT * len(panels) + 6), str(year), GREY, font, anchor="ma")
    for number, panel in enumerate(panels):
        _draw_panel(pen, font, panel, number * HEIGHT, lambda month: LEFT + (_time(month) - begin) * scale)
    image.save(file)


def _draw_panel(
    pen: ImageDraw.ImageDraw, font: _Font, panel: Panel, top: int, x: Callable[[str], float]
) -> None:
    low, high, step = scale_of(panel.months.values())
    bottom, height = top + HEIGHT - 12, HEIGHT - TOP - 12

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * height

    pen.text((LEFT, top + 14), panel.title, INK, font)
    for count in range(round((high - low) / step) + 1):
        value = low + count * step
        pen.line([(LEFT, y(value)), (WIDTH - RIGHT, y(value))], LIGHT)
        pen.text((LEFT - 8, y(value)), f"{value:g}", GREY, font, anchor="rm")
    months = sorted(panel.months)
    pen.line([(x(month), y(panel.months[month])) for month in months], LINE, 3, joint="curve")


def scale_of(values: Collection[float]) -> tuple[float, float, float]:
    """Returns round numbers below and above all values, and the step of the lines between."""
    low, high = min(values), max(values)
    span = (high - low or 1) / LINES_WANTED
    power: float = 10 ** floor(log10(span))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= span)
    bottom, top = floor(low / step) * step, ceil(high / step) * step
    return bottom, max(top, bottom + step), step


def _time(month: str) -> float:
    return int(month[:4]) + (int(month[5:]) - 0.5) / 12
