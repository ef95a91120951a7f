"""Draws the ranking: a bar for each line, made of what each KPI adds to its points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont

from .scores import KPIS

WIDTH, LEFT, RIGHT, ROW, TOP = 1100, 170, 80, 46, 96
COLORS: Final = ("#2a5ca8", "#7bc47f", "#e6b267", "#b48ce6", "#e66767")


def draw(ranking: Sequence[Mapping[str, Any]], scores: Mapping[str, Mapping[str, float]], file: Path) -> None:
    """Writes the picture."""
    image = Image.new("RGB", (WIDTH, TOP + ROW * len(ranking) + 50), "white")
    pen = ImageDraw.Draw(image)
    font, large = ImageFont.load_default(15), ImageFont.load_default(20)
    most = max(100.0, *(each["points"] for each in ranking))
    scale = (WIDTH - LEFT - RIGHT) / most
    pen.text((LEFT, 14), "Ferry lines, third quarter of 2026: points against targets", "#202020", large)
    x = float(LEFT)
    for kpi, color in zip(KPIS, COLORS, strict=True):
        pen.rectangle([(x, 56), (x + 14, 70)], color)
        label = f"{kpi.name} ({kpi.weight:.0%})"
        pen.text((x + 20, 54), label, "#404040", font)
        x += 40 + pen.textlength(label, font)
    bottom = TOP + ROW * len(ranking)
    for points in range(0, int(most) + 1, 20):
        at = LEFT + points * scale
        pen.line([(at, TOP - 8), (at, bottom)], "#e0e0e0")
        pen.text((at, bottom + 8), str(points), "#808080", font, anchor="ma")
    for number, each in enumerate(ranking):
        y, at = TOP + number * ROW, float(LEFT)
        pen.text((LEFT - 10, y + 10), f"{each['rank']}. {each['line']}", "#202020", font, anchor="ra")
        for kpi, color in zip(KPIS, COLORS, strict=True):
            end = at + kpi.weight * scores[each["line"]][kpi.name] * scale
            pen.rectangle([(at, y + 4), (end, y + ROW - 12)], color)
            at = end
        pen.text((WIDTH - 16, y + 10), f"{each['points']:.1f}", "#202020", font, anchor="ra")
    target = LEFT + 100 * scale
    pen.line([(target, TOP - 8), (target, bottom)], "#202020", 2)
    pen.text((target, TOP - 12), "target", "#202020", font, anchor="mb")
    image.save(file)
