"""Pictures as SVG: a file that any browser shows, in the colours of the reader's light or dark theme."""

from __future__ import annotations

from itertools import pairwise
from typing import Final
from xml.sax.saxutils import escape

from holdfast.core.picture.layers import Layout, Line, Measures, arranged
from holdfast.core.picture.shape import LEGEND, Box, Picture, Tone
from holdfast.core.picture.texts import FILLS

_LETTER: Final = 7.8
_NOTE_LETTER: Final = 6.4
_HEIGHT: Final = 36.0
_NOTED: Final = 50.0
_BETWEEN: Final = 60.0
_GAP: Final = 34.0
_PASSING: Final = 26.0
_MARGIN: Final = 24.0
_ASIDE: Final = 14.0
_LEGEND: Final = 40.0

Point = tuple[float, float]

_ARROWS: Final[tuple[Tone, ...]] = ("", *FILLS)

_STYLE: Final = """
  text { font: 13px ui-sans-serif, system-ui, "Segoe UI", sans-serif; fill: #18181b; text-anchor: middle; }
  .note { font-size: 11px; fill: #52525b; }
  .label { font-size: 11px; fill: #3f3f46; paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }
  .box { fill: #ffffff; stroke: #71717a; stroke-width: 1.4; }
  .way { fill: none; stroke: #71717a; stroke-width: 1.4; }
  .dashed { stroke-dasharray: 5 4; }
  .taken { stroke-width: 2.6; }
  .ground { fill: #ffffff; }
"""
_DARK: Final = """
    .ground { fill: #18181b; }
    text { fill: #f4f4f5; } .note { fill: #a1a1aa; } .label { fill: #d4d4d8; stroke: #18181b; }
    .box { fill: #27272a; stroke: #a1a1aa; } .way { stroke: #a1a1aa; }
    .toned text { fill: #18181b; } .toned .note { fill: #3f3f46; }
"""


def svg(picture: Picture) -> str:
    """Return the picture as an SVG document."""
    widths = {box.key: _width(box) for box in picture.boxes}
    texts = {way.text: len(way.text) * _NOTE_LETTER for way in picture.ways}
    layout = arranged(picture, Measures(widths, texts, _GAP, _PASSING))
    tops = _tops(picture, layout)
    boxes = {box.key: box for box in picture.boxes}
    drawn = [part for line in layout.lines for part in _way(picture, layout, line, tops, boxes)]
    drawn.sort(key=lambda part: part.startswith("<text"))  # labels lie over all lines
    drawn += [_box(boxes[slot.key], slot.x, tops[rank]) for rank, slot in layout.boxes.values()]
    right = max((slot.x + slot.width / 2 for layer in layout.layers for slot in layer), default=0.0)
    bottom = tops[-1]
    legend, needed = _legend(picture, bottom)
    width, height = max(right, needed) + 2 * _MARGIN, bottom + (_LEGEND if legend else 0) + _MARGIN
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(picture.name or 'graph')}</title>",
        f"<style>{_STYLE}{_toned()}  @media (prefers-color-scheme: dark) {{{_DARK}  }}\n</style>",
        f"<defs>{''.join(_arrow(tone) for tone in _ARROWS)}</defs>",
        '<rect class="ground" width="100%" height="100%"/>',
        f'<g transform="translate({_MARGIN:g} 0)">',
    ]
    return "\n".join([*parts, *drawn, *legend, "</g>", "</svg>\n"])


def _width(box: Box) -> float:
    return max(len(box.label) * _LETTER, len(box.note) * _NOTE_LETTER, 36.0) + 28


def _height(box: Box) -> float:
    return _NOTED if box.note else _HEIGHT


def _tops(picture: Picture, layout: Layout) -> list[float]:
    """Return where each layer begins, and at last where the picture ends."""
    heights = {box.key: _height(box) for box in picture.boxes}
    tops, at = [], _MARGIN
    for layer in layout.layers:
        tops.append(at)
        at += max((heights.get(slot.key, 0.0) for slot in layer), default=0.0) + _BETWEEN
    return [*tops, at - _BETWEEN + _MARGIN]


def _toned() -> str:
    rules = []
    for tone, (fill, stroke) in FILLS.items():
        rules.append(
            f"  .{tone} .box {{ fill: {fill}; stroke: {stroke}; }} .way.{tone} {{ stroke: {stroke}; }}\n"
        )
        rules.append(f"  .head-{tone} {{ fill: {stroke}; }}\n")
    return "".join(rules)


def _arrow(tone: Tone) -> str:
    color = f'class="head-{tone}"' if tone else 'fill="#71717a"'
    return (
        f'<marker id="arrow-{tone or "plain"}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9" '
        f'markerUnits="userSpaceOnUse" orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" {color}/></marker>'
    )


def _box(box: Box, x: float, top: float) -> str:
    width, height = _width(box), _height(box)
    radius = height / 2 if box.is_end else 7
    first = top + height / 2 + 4.5 - (8 if box.note else 0)
    note = (
        f'<text class="note" x="{x:.1f}" y="{first + 16:.1f}">{escape(box.note)}</text>' if box.note else ""
    )
    return (
        f'<g class="{f"toned {box.tone}" if box.tone else ""}"><rect class="box" x="{x - width / 2:.1f}" y="{top:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}" rx="{radius:g}"/>'
        f'<text x="{x:.1f}" y="{first:.1f}">{escape(box.label)}</text>{note}</g>'
    )


def _way(picture: Picture, layout: Layout, line: Line, tops: list[float], boxes: dict[str, Box]) -> list[str]:
    way = picture.ways[line.way]
    points = _points(layout, line, tops, boxes)
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x, y), (to_x, to_y) in pairwise(points):
        bend = (to_y - y) / 2 if x != to_x else 0
        path += f" C{x:.1f} {y + bend:.1f} {to_x:.1f} {to_y - bend:.1f} {to_x:.1f} {to_y:.1f}"
    if len(line.slots) == 1:
        x, y = points[0]
        path = f"M{x - 16:.1f} {y:.1f} c0 26 32 26 32 0"
        label = x + 16 + len(way.text) * _NOTE_LETTER / 2, y + 20
    else:
        label = _beside(*points[:2], back=line.back)
    classes = ["way", *([way.tone] if way.tone else [])]
    classes += ["dashed"] * way.conditional + ["taken"] * bool(way.count)
    end = "start" if line.back else "end"
    drawn = [
        f'<path class="{" ".join(classes)}" d="{path}" marker-{end}="url(#arrow-{way.tone or "plain"})"/>'
    ]
    if way.text:
        drawn.append(f'<text class="label" x="{label[0]:.1f}" y="{label[1]:.1f}">{escape(way.text)}</text>')
    return drawn


def _points(layout: Layout, line: Line, tops: list[float], boxes: dict[str, Box]) -> list[Point]:
    """Return the way's points from top to bottom: out of a box, straight past each layer, into a box."""
    first, last = line.slots[0], line.slots[-1]
    rank = layout.boxes[first.key][0]
    aside = _ASIDE if line.back else 0.0
    points = [(first.x + aside, tops[rank] + _height(boxes[first.key]))]
    for passed, slot in enumerate(line.slots[1:-1], rank + 1):
        deep = max(_height(boxes[other.key]) for other in layout.layers[passed] if other.key)
        points += [(slot.x, tops[passed]), (slot.x, tops[passed] + deep)]
    return [*points, (last.x + aside, tops[layout.boxes[last.key][0]])]


def _beside(start: Point, end: Point, *, back: bool) -> Point:
    """Return where a label stands on a bent way: towards its end, away from the labels of others."""
    across, down = (0.19, 0.33) if back else (0.81, 0.67)
    return start[0] + (end[0] - start[0]) * across, start[1] + (end[1] - start[1]) * down + 4


def _legend(picture: Picture, bottom: float) -> tuple[list[str], float]:
    """Return the legend's parts and how wide it is."""
    parts, x = [], 0.0
    for tone in picture.tones:
        width = len(LEGEND[tone]) * _NOTE_LETTER + 20
        parts.append(
            f'<g class="toned {tone}"><rect class="box" x="{x:.1f}" y="{bottom:.1f}" width="{width:.1f}" height="24" '
            f'rx="6"/><text class="note" x="{x + width / 2:.1f}" y="{bottom + 16:.1f}">{LEGEND[tone]}</text></g>'
        )
        x += width + 10
    return parts, x
