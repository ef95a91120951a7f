"""The layout of a picture: boxes in layers from top to bottom, ordered so that few ways cross, near what they join.

The steps are those of layered drawing (Sugiyama, Tagawa and Toda, 1981): ways that lead back are turned round, each
box goes below all that lead to it, a way that passes layers gets a slot in each of them, slots are ordered by the
middle of their neighbours, and take the places that are nearest to their neighbours without touching.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Final

from holdfast.core.picture.shape import Picture

SWEEPS: Final = 8
MOST_SWEEPS: Final = 200
"""After so many the boxes stay where they are; a picture of some boxes is at rest long before."""
_PULL: Final = (1.0, 2.0, 8.0)
"""How strongly two neighbours pull each other, by how many of them are ways that pass: those shall be straight."""


@dataclass(slots=True, eq=False)
class Slot:
    """A place in a layer: of a box, or of a way that passes (`key` is empty then). `x` is its middle."""

    key: str
    width: float
    x: float = 0.0
    upper: list[Slot] = field(default_factory=list)
    lower: list[Slot] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Line:
    """The slots that a way goes through, from top to bottom; `back`: it leads from the bottom to the top."""

    way: int
    slots: tuple[Slot, ...]
    back: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """Layers of slots from top to bottom, and the lines between them. A way from a box to itself has one slot."""

    layers: list[list[Slot]]
    lines: list[Line]
    boxes: dict[str, tuple[int, Slot]]


@dataclass(frozen=True, slots=True)
class Measures:
    """How wide boxes are and the texts beside ways, the gap between neighbours, and what a way takes that passes."""

    boxes: dict[str, float]
    texts: dict[str, float]
    gap: float
    passing: float


def arranged(picture: Picture, measures: Measures) -> Layout:
    """Return where everything goes."""
    keys = [box.key for box in picture.boxes]
    pairs = [(way.source, way.target) for way in picture.ways]
    back = leading_back(keys, pairs)
    down = [(b, a) if (a, b) in back else (a, b) for a, b in pairs]
    ranks = _ranks(keys, down)
    layers: list[list[Slot]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    boxes: dict[str, tuple[int, Slot]] = {}
    for key in keys:
        boxes[key] = (ranks[key], Slot(key, measures.boxes[key]))
        layers[ranks[key]].append(boxes[key][1])
    lines = []
    for number, (upper, lower) in enumerate(down):
        through = [boxes[upper][1]]
        for rank in range(ranks[upper] + 1, ranks[lower]):
            through.append(Slot("", measures.passing))
            layers[rank].append(through[-1])
        if upper != lower:
            through.append(boxes[lower][1])
        for above, below in pairwise(through):
            above.lower.append(below)
            below.upper.append(above)
        lines.append(Line(number, tuple(through), pairs[number] in back))
        beside = through[:2][-1]
        beside.width = max(beside.width, measures.texts[picture.ways[number].text])
    _order(layers)
    _place(layers, measures.gap)
    return Layout(layers, lines, boxes)


def widest_layer(picture: Picture, widths: Mapping[str, int]) -> int:
    """Return the least width that a picture takes whose boxes are so wide; cheap beside the layout."""
    keys = [box.key for box in picture.boxes]
    pairs = [(way.source, way.target) for way in picture.ways]
    back = leading_back(keys, pairs)
    ranks = _ranks(keys, [(b, a) if (a, b) in back else (a, b) for a, b in pairs])
    layers: dict[int, int] = {}
    for key, rank in ranks.items():
        layers[rank] = layers.get(rank, 0) + widths[key]
    return max(layers.values(), default=0)


def leading_back(keys: Sequence[str], pairs: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the ways that close a circle, found by walking from the first box."""
    targets: dict[str, list[str]] = {key: [] for key in keys}
    for source, target in pairs:
        targets[source].append(target)
    back: set[tuple[str, str]] = set()
    on_path: dict[str, bool] = {}
    for origin in keys:
        if origin in on_path:
            continue
        stack = [(origin, iter(targets[origin]))]
        on_path[origin] = True
        while stack:
            key, following = stack[-1]
            target = next(following, "")
            if not target:
                on_path[key] = False
                stack.pop()
            elif target not in on_path:
                on_path[target] = True
                stack.append((target, iter(targets[target])))
            elif on_path[target] and target != key:
                back.add((key, target))
    return back


def _ranks(keys: Sequence[str], down: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return each box's layer: below all that lead to it."""
    ranks = dict.fromkeys(keys, 0)
    waiting = dict.fromkeys(keys, 0)
    for upper, lower in down:
        waiting[lower] += upper != lower
    below: dict[str, list[str]] = {key: [] for key in keys}
    for upper, lower in down:
        if upper != lower:
            below[upper].append(lower)
    ready = [key for key in keys if not waiting[key]]
    while ready:
        key = ready.pop()
        for lower in below[key]:
            ranks[lower] = max(ranks[lower], ranks[key] + 1)
            waiting[lower] -= 1
            if not waiting[lower]:
                ready.append(lower)
    return ranks


def _order(layers: list[list[Slot]]) -> None:
    """Sort each layer by the middle of its neighbours above, then below, and so on; the best order seen is kept."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers)
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        for layer in layers if downwards else reversed(layers):
            _number(layers)
            middles = {
                slot: fmean(other.x for other in near)
                if (near := slot.upper if downwards else slot.lower)
                else slot.x
                for slot in layer
            }
            layer.sort(key=middles.__getitem__)
        crossings = _crossings(layers)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    for layer, order in zip(layers, best, strict=True):
        layer[:] = order


def _number(layers: list[list[Slot]]) -> None:
    for layer in layers:
        for place, slot in enumerate(layer):
            slot.x = (place + 0.5) / len(layer)


def _crossings(layers: list[list[Slot]]) -> int:
    _number(layers)
    count = 0
    for layer in layers:
        ends = [(slot.x, below.x) for slot in layer for below in slot.lower]
        count += sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(ends) for c, d in ends[:i])
    return count


def _place(layers: list[list[Slot]], gap: float) -> None:
    for layer in layers:
        at = 0.0
        for slot in layer:
            slot.x = at + slot.width / 2
            at += slot.width + gap
    for sweep in range(MOST_SWEEPS):
        before = [slot.x for layer in layers for slot in layer]
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            _nearest(layer, [_wanted(slot) for slot in layer], gap)
        after = (slot.x for layer in layers for slot in layer)
        if all(abs(one - other) < gap / 100 for one, other in zip(before, after, strict=True)):
            break
    left = min((slot.x - slot.width / 2 for layer in layers for slot in layer), default=0.0)
    for layer in layers:
        for slot in layer:
            slot.x -= left


def _wanted(slot: Slot) -> tuple[float, float]:
    """Return where its neighbours would have a slot, and how strongly they pull.

    Neighbours pull each other alike, and a block of slots is as heavy as what pulls its members: so each sweep makes
    the ways shorter in all, and the boxes come to rest.
    """
    pulls = [(_PULL[(not slot.key) + (not other.key)], other.x) for other in slot.upper + slot.lower]
    weight = sum(pull for pull, _ in pulls)
    return (sum(pull * x for pull, x in pulls) / weight, weight) if pulls else (slot.x, 1.0)


def _nearest(layer: list[Slot], wanted: list[tuple[float, float]], gap: float) -> None:
    """Put slots as near as can be to where they are wanted, in their order and apart.

    Neighbours that would touch form a block, which goes to the weighted mean of what its members want.
    """
    offsets = [0.0]
    for before, slot in pairwise(layer):
        offsets.append(offsets[-1] + (before.width + slot.width) / 2 + gap)
    blocks: list[list[float]] = []  # weight, mean, members
    for (want, pull), offset in zip(wanted, offsets, strict=True):
        block = [pull, want - offset, 1.0]
        while blocks and blocks[-1][1] > block[1]:
            weight, mean, members = blocks.pop()
            total = weight + block[0]
            block = [total, (mean * weight + block[1] * block[0]) / total, members + block[2]]
        blocks.append(block)
    means = [mean for _, mean, members in blocks for _ in range(int(members))]
    for slot, mean, offset in zip(layer, means, offsets, strict=True):
        slot.x = mean + offset
