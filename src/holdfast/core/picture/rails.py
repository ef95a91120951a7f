"""Wide pictures for a terminal: one row for each box, and beside the rows a rail for each box until its last way ends.

It is read from top to bottom. `├─○` begins at a rail that goes on, `└─○` at one that ends here; `│` between two of
them passes behind. A box stands at the end of a rail where that can be, so a chain is one rail. Where even rails take
too much room, boxes that many ways lead to name where these begin: `← a, b, c and 297 more`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from holdfast.core.picture.layers import leading_back
from holdfast.core.picture.marks import LINES, MARKS, Piece, width_of
from holdfast.core.picture.shape import Box, Picture, Tone, Way

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_MOST_NAMED: Final = 3
_MOST_JOINED: Final = (8, 3, 1, 0)
"""So many ways are drawn that lead to one box, where more take too much room."""
_LONGEST: Final = 40


class Rail(NamedTuple):
    """What a rail carries: the ways that leave a box and have not ended. One without ways is free since `row`."""

    ways: tuple[Way, ...]
    row: int


def rails(picture: Picture, widest: int = 100) -> list[list[Piece]]:
    """Return the picture's rows from top to bottom, without a legend."""
    found = _rows(picture, len(picture.ways))
    for most in _MOST_JOINED:
        if width_of(found) <= widest:
            break
        found = _rows(picture, most)
    return found


def _rows(picture: Picture, most: int) -> list[list[Piece]]:
    """Return the rows, with rails for boxes that at most so many ways lead to."""
    back = leading_back(
        [box.key for box in picture.boxes], [(way.source, way.target) for way in picture.ways]
    )
    down = [way for way in picture.ways if way.source != way.target and (way.source, way.target) not in back]
    boxes = _ordered(picture.boxes, down)
    counts = Counter(way.target for way in down)
    drawn = _Rails(way for way in down if counts[way.target] <= most)
    left = [drawn.row(box) for box in boxes]
    names = {box.key: box.label for box in picture.boxes}
    wide = 2 * drawn.most + 1
    longest = max((len(box.label) for box in boxes), default=0)
    noted = max((len(box.note) for box in boxes), default=0)
    rows = []
    for box, row in zip(boxes, left, strict=True):
        texts = _texts(box, picture.ways, down, names, told=counts[box.key] > most)
        margin = " " * (wide - sum(len(piece) for piece, _ in row))
        label = (box.label.ljust(longest) + "  " if texts or box.note else box.label, box.tone)
        note = (box.note.ljust(noted) + "  " if texts and noted else box.note, box.tone)
        rows.append(_joined([*row, (margin, ""), label, note, (texts, "")]))
    return rows


def _ordered(boxes: Sequence[Box], down: Iterable[Way]) -> list[Box]:
    """Return the boxes so that each comes after all that lead to it, and near to the last of them."""
    place = {box.key: number for number, box in enumerate(boxes)}
    after: dict[str, dict[str, None]] = {box.key: {} for box in boxes}
    for way in down:
        after[way.source][way.target] = None
    waiting = dict.fromkeys(place, 0)
    for targets in after.values():
        for target in targets:
            waiting[target] += 1
    stack = [box.key for box in reversed(boxes) if not waiting[box.key]]
    found = []
    while stack:
        key = stack.pop()
        found.append(boxes[place[key]])
        ready = []
        for target in after[key]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
        stack += sorted(ready, key=place.__getitem__, reverse=True)
    return found


class _Rails:
    """The rails while the rows are drawn. `most` is how many there ever were beside each other."""

    def __init__(self, down: Iterable[Way]) -> None:
        self._leaving: dict[str, list[Way]] = {}
        for way in down:
            self._leaving.setdefault(way.source, []).append(way)
        self._rails: list[Rail] = []
        self._row = 0
        self.most = 0

    def row(self, box: Box) -> list[Piece]:
        """Draw the next box, and take its ways up."""
        self._row += 1
        before = [rail.ways for rail in self._rails]
        after = [tuple(way for way in ways if way.target != box.key) for ways in before]
        joined = {n for n, ways in enumerate(before) if len(after[n]) < len(ways)}
        own = self._place(after, joined)
        if own == len(before):
            before.append(())
            after.append(())
            self._rails.append(Rail((), 0))
        self.most = max(self.most, len(before))
        pieces = _drawn(box, own, joined, before, after)
        after[own] = tuple(self._leaving.get(box.key, ()))
        for n, rail in enumerate(self._rails):
            is_used = bool(before[n] or after[n] or n == own)
            self._rails[n] = Rail(after[n], self._row if is_used else rail.row)
        while self._rails and not self._rails[-1].ways and self._rails[-1].row < self._row:
            self._rails.pop()
        return pieces

    def _place(self, after: Sequence[tuple[Way, ...]], joined: Iterable[int]) -> int:
        """Return the first rail that ends here, else the first one that nothing was on in the row above."""
        ending = [n for n in joined if not after[n]]
        if ending:
            return min(ending)
        free = (n for n, rail in enumerate(self._rails) if not rail.ways and rail.row < self._row - 1)
        return next(free, len(self._rails))


def _drawn(
    box: Box, own: int, joined: set[int], before: Sequence[tuple[Way, ...]], after: Sequence[tuple[Way, ...]]
) -> list[Piece]:
    """Return the rails beside a box, from left to right."""
    first, last = min({own, *joined}), max({own, *joined})
    pieces: list[Piece] = []
    for n, ways in enumerate(before):
        arriving = [way for m in joined for way in before[m] if way.target == box.key and _between(n, m, own)]
        across = _tone(arriving)
        if n == own:
            pieces.append((MARKS[box.tone].strip() if box.tone else "○", box.tone))
        elif n in joined:
            sides = (_LEFT if n > first else 0) | (_RIGHT if n < last else 0)
            pieces.append((LINES[_UP | (_DOWN if after[n] else 0) | sides], _tone([*after[n], *arriving])))
        elif ways:
            pieces.append(("│", _tone(ways)))
        else:
            pieces.append(("─", across) if first < n < last else (" ", ""))
        arriving = [way for m in joined for way in before[m] if way.target == box.key and _crosses(n, m, own)]
        pieces.append(("─", _tone(arriving)) if first <= n < last else (" ", ""))
    return pieces


def _between(n: int, one: int, other: int) -> bool:
    return min(one, other) <= n <= max(one, other)


def _crosses(n: int, one: int, other: int) -> bool:
    """Tell whether what goes from one rail to another passes the gap behind rail `n`."""
    return min(one, other) <= n < max(one, other)


def _tone(ways: Sequence[Way]) -> Tone:
    """Return the tone of the first way that a run took, else of any."""
    tones = [way.tone for way in ways]
    return next((tone for tone in tones if tone not in ("", "idle")), tones[0] if tones else "")


def _texts(box: Box, ways: Iterable[Way], down: Iterable[Way], names: dict[str, str], *, told: bool) -> str:
    """Return what stands behind a box: the labels of the ways that lead to it, and those that lead back or round.

    `told`: it has no rails, and all the ways to it are told.
    """
    found = [way for way in down if way.target == box.key]
    sources: dict[str, list[str]] = {}
    for way in found:
        sources.setdefault(way.text[:_LONGEST], []).append(names[way.source])
    texts = []
    for text, named in sources.items():
        more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
        origin = f" ← {', '.join(named[:_MOST_NAMED])}{more}" if told or len(named) < len(found) else ""
        texts += [(text + origin).strip()] if text or told else []
    known = {id(way) for way in down}
    for way in ways:
        if way.source == box.key and id(way) not in known:
            sign = "↺" if way.target == way.source else f"▲ {names[way.target]}" + ":" * bool(way.text)
            texts.append(f"{sign} {way.text[:_LONGEST]}".strip())
    return "; ".join(texts)


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Return the same row with neighbours of one tone in one piece, and without an end of blanks."""
    row: list[Piece] = []
    for text, tone in pieces:
        if row and (row[-1][1] == tone or not text.strip()):
            row[-1] = (row[-1][0] + text, row[-1][1])
        elif text:
            row.append((text, tone))
    while row and not row[-1][0].strip():
        row.pop()
    return row
