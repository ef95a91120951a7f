"""Pictures for a terminal: boxes of lines, and ways that go down and across between them.

Between two layers each box that a way leaves has a row of its own to go across, so that ways of different boxes do
not lie upon each other. A picture that would be too wide is drawn as rails.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from holdfast.core.picture.layers import Layout, Measures, Slot, arranged, widest_layer
from holdfast.core.picture.marks import LINES, LONGEST, MARKS, Piece, width_of
from holdfast.core.picture.rails import rails
from holdfast.core.picture.shape import LEGEND, Box, Picture, Tone, Way

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
WIDEST: Final = 100
"""Pictures that would be wider are drawn as rails."""


class Joint(NamedTuple):
    """A way between two layers: from which column to which, and which ends are boxes."""

    x: int
    to_x: int
    way: Way
    back: bool
    leaves: bool
    arrives: bool


def rows(picture: Picture, widest: int = WIDEST) -> list[list[Piece]]:
    """Return the picture's rows from top to bottom: boxes, or where these are wider than `widest`, rails."""
    texts = {box.key: _texts(box, picture.ways) for box in picture.boxes}
    widths = {key: max(map(len, lines)) // 2 * 2 + 5 for key, lines in texts.items()}
    found = [] if widest_layer(picture, widths) > widest else _boxed(picture, texts, widths)
    if not found or width_of(found) > widest:
        found = rails(picture, widest)
    if picture.tones:
        found += [
            [],
            [
                piece
                for tone in picture.tones
                for piece in ((f"{MARKS[tone]}{LEGEND[tone]}", tone), ("  ", ""))
            ],
        ]
    return found


def _boxed(picture: Picture, texts: dict[str, list[str]], widths: dict[str, int]) -> list[list[Piece]]:
    beside = {way.text: 2.0 * min(len(way.text), LONGEST) + 1 for way in picture.ways}
    layout = arranged(
        picture, Measures({key: float(width) for key, width in widths.items()}, beside, 3.0, 3.0)
    )
    canvas = _Canvas()
    y = 0
    for rank, layer in enumerate(layout.layers):
        deep = max([len(texts[slot.key]) + 2 for slot in layer if slot.key], default=0)
        for slot in layer:
            if slot.key:
                box = next(box for box in picture.boxes if box.key == slot.key)
                canvas.box(_column(slot), y, widths[slot.key], texts[slot.key], box.tone)
        _pass(picture, layout, canvas, rank, y, deep)
        y = _join(_joints(picture, layout, rank), canvas, y + deep)
    return canvas.rows()


def text(picture: Picture) -> str:
    """Return the picture as plain text."""
    return "\n".join("".join(piece for piece, _ in row).rstrip() for row in rows(picture)) + "\n"


def _texts(box: Box, ways: Iterable[Way]) -> list[str]:
    """Return what stands in a box; a way that leads back to the box itself is told there."""
    lines = [f"{MARKS[box.tone] if box.tone else ''}{box.label}", *([box.note] if box.note else [])]
    return lines + [f"↺ {way.text}".strip() for way in ways if way.source == way.target == box.key]


def _column(slot: Slot) -> int:
    return int(slot.x + 0.001)  # widths are odd, so the middle is within a column


def _pass(picture: Picture, layout: Layout, canvas: _Canvas, rank: int, y: int, deep: int) -> None:
    """Draw the ways that pass a layer."""
    for line in layout.lines:
        first = layout.boxes[line.slots[0].key][0]
        if first < rank < first + len(line.slots) - 1:
            x = _column(line.slots[rank - first])
            for row in range(y, y + deep):
                canvas.add(x, row, _UP | _DOWN, picture.ways[line.way].tone)


def _joints(picture: Picture, layout: Layout, rank: int) -> list[Joint]:
    """Return what goes from this layer to the next one."""
    found: list[Joint] = []
    for line in layout.lines:
        first = layout.boxes[line.slots[0].key][0]
        if not first <= rank < first + len(line.slots) - 1:
            continue
        above, below = line.slots[rank - first], line.slots[rank - first + 1]
        aside = 2 if line.back else 0
        x = _column(above) + (aside if above.key else 0)
        to_x = _column(below) + (aside if below.key else 0)
        found.append(Joint(x, to_x, picture.ways[line.way], line.back, bool(above.key), bool(below.key)))
    return found


def _join(joints: list[Joint], canvas: _Canvas, y: int) -> int:
    """Draw what goes to the next layer; return the row in which that begins."""
    tracks = _tracks(joints)
    first = y + any(joint.back and joint.leaves for joint in joints)
    last = first + len(set(tracks.values())) + 1
    labels: dict[int, list[str]] = {}
    for joint in joints:
        x, to_x, way = joint.x, joint.to_x, joint.way
        track = first + tracks[x]
        canvas.down(x, y, track, way.tone)
        canvas.across(x, to_x, track, way.tone)
        canvas.down(to_x, track, last, way.tone)
        canvas.add(x, y, _UP, way.tone)
        canvas.add(to_x, last, _DOWN, way.tone)
        if joint.leaves:
            canvas.sign(x, y if joint.back else y - 1, "▲" if joint.back else "┬", way.tone)
            box_x = to_x - 2 if joint.back and joint.arrives else to_x
            labels.setdefault(box_x, []).append(way.text)
        if joint.arrives:
            canvas.sign(to_x, last + joint.back, "┴" if joint.back else "▼", way.tone)
    for x, named in labels.items():
        canvas.beside(x + 2, last - 1, " | ".join(dict.fromkeys(filter(None, named))))
    return last + 1 if joints else y


def _tracks(joints: Iterable[Joint]) -> dict[int, int]:
    """Return in which row, from 0, the ways that leave at each column go across.

    A column at which others arrive goes first, so that what arrives there does not run along it.
    """
    leaving: dict[int, set[int]] = {}
    for joint in joints:
        leaving.setdefault(joint.x, set()).add(joint.to_x)
    bent = [x for x in sorted(leaving) if leaving[x] != {x}]
    arrivals = {x: sum(x in leaving[other] for other in bent if other != x) for x in leaving}
    order = sorted(bent, key=lambda x: -arrivals[x])
    return dict.fromkeys(leaving, 0) | {x: row for row, x in enumerate(order)}


class _Canvas:
    """Signs by column and row."""

    def __init__(self) -> None:
        self._lines: dict[tuple[int, int], int] = {}
        self._signs: dict[tuple[int, int], str] = {}
        self._tones: dict[tuple[int, int], Tone] = {}

    def add(self, x: int, y: int, directions: int, tone: Tone) -> None:
        self._lines[x, y] = self._lines.get((x, y), 0) | directions
        if tone != "idle" or (x, y) not in self._tones:
            self._tones[x, y] = tone

    def sign(self, x: int, y: int, sign: str, tone: Tone) -> None:
        self._signs[x, y] = sign
        self._tones[x, y] = tone

    def down(self, x: int, y: int, to_y: int, tone: Tone) -> None:
        for row in range(y, to_y + 1):
            self.add(x, row, (_UP if row > y else 0) | (_DOWN if row < to_y else 0), tone)

    def across(self, x: int, to_x: int, y: int, tone: Tone) -> None:
        for column in range(min(x, to_x), max(x, to_x) + 1):
            left, right = column > min(x, to_x), column < max(x, to_x)
            self.add(column, y, (_LEFT if left else 0) | (_RIGHT if right else 0), tone)

    def box(self, x: int, y: int, width: int, lines: list[str], tone: Tone) -> None:
        left = x - width // 2
        inside = width - 2
        framed = [
            "┌" + "─" * inside + "┐",
            *(f"│{line:^{inside}}│" for line in lines),
            "└" + "─" * inside + "┘",
        ]
        for row, line in enumerate(framed, y):
            for column, sign in enumerate(line, left):
                if (column, row) not in self._signs:  # where a way arrives
                    self.sign(column, row, sign, tone)

    def beside(self, x: int, y: int, text: str) -> None:
        """Write as much of a text as there is room for, behind a way that leads back beside this one."""
        x += 2 * ((x, y) in self._lines)
        for column, sign in enumerate(text[:LONGEST], x):
            if (column, y) in self._lines:
                break
            self.sign(column, y, sign, "")

    def rows(self) -> list[list[Piece]]:
        cells = self._lines.keys() | self._signs.keys()
        left = min((x for x, _ in cells), default=0)
        return [self._row(y, left) for y in range(max((y for _, y in cells), default=-1) + 1)]

    def _row(self, y: int, left: int) -> list[Piece]:
        pieces: list[Piece] = []
        right = max((x for x, row in self._lines.keys() | self._signs.keys() if row == y), default=left - 1)
        for x in range(left, right + 1):
            sign = self._signs.get((x, y)) or LINES[self._lines.get((x, y), 0)]
            tone = self._tones.get((x, y), "")
            if pieces and pieces[-1][1] == tone:
                pieces[-1] = (pieces[-1][0] + sign, tone)
            else:
                pieces.append((sign, tone))
        return pieces
