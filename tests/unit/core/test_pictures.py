"""Pictures: what is drawn is what there is, in every format, and a run's path lies over it."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from holdfast.core.picture.drawing import FORMATS, drawn
from holdfast.core.picture.layers import Layout, Measures, arranged
from holdfast.core.picture.shape import Box, Picture, Way
from holdfast.core.picture.terminal import rows, text
from holdfast.core.picture.trace import duration, laid_over, traced
from holdfast.core.program import END, START
from holdfast.errors import PayloadRejected
from holdfast.model.audit import Attempt, Decision, Stage
from holdfast.model.run import StepStatus

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def picture(*ways: tuple[str, str] | tuple[str, str, str], name: str = "p") -> Picture:
    made = tuple(Way(way[0], way[1], "".join(way[2:]), conditional=len(way) > 2) for way in ways)
    keys = dict.fromkeys([START, *(key for way in ways for key in way[:2] if key != END), END])
    return Picture(name, tuple(Box(key, key, is_end=key in (START, END)) for key in keys), made)


CHAIN = picture((START, "a"), ("a", "b"), ("b", END))
REVIEW = picture(
    (START, "draft"),
    ("draft", "review"),
    ("review", "draft", "again"),
    ("review", "publish", "good"),
    ("review", END, "bad"),
    ("publish", "publish", "more"),
    ("publish", END),
)


def random_picture(seed: int, *, loops: bool = True) -> Picture:
    chance = random.Random(seed)
    nodes = [f"n{i}" for i in range(chance.randint(1, 14))]
    ways = [(START, chance.choice(nodes)), (chance.choice(nodes), END)]
    ways += [(chance.choice(nodes), chance.choice([*nodes, END])) for _ in range(chance.randint(0, 25))]
    return picture(*(way for way in dict.fromkeys(ways) if loops or way[0] != way[1]))


def layout(shown: Picture) -> Layout:
    widths = {box.key: 10.0 for box in shown.boxes}
    return arranged(shown, Measures(widths, dict.fromkeys((way.text for way in shown.ways), 0.0), 3, 2))


# --- layout


@pytest.mark.parametrize("seed", range(40))
def test_nothing_touches_and_every_way_leads_on(seed: int) -> None:
    shown = random_picture(seed)
    made = layout(shown)
    for layer in made.layers:
        for left, right in pairwise(layer):
            assert right.x - left.x >= (left.width + right.width) / 2 + 3 - 1e-6
        assert all(slot.x - slot.width / 2 >= -1e-6 for slot in layer)
    assert len(made.lines) == len(shown.ways)
    for line in made.lines:
        way = shown.ways[line.way]
        ends = (way.target, way.source) if line.back else (way.source, way.target)
        assert (line.slots[0].key, line.slots[-1].key) == ends
        first = made.boxes[line.slots[0].key][0]
        for rank, slot in enumerate(line.slots, first):
            assert slot in made.layers[rank]


def test_ways_lead_down_but_those_that_close_a_circle() -> None:
    made = layout(REVIEW)
    assert [REVIEW.ways[line.way].label for line in made.lines if line.back] == ["again"]
    assert {key: rank for key, (rank, _) in made.boxes.items()} == {
        START: 0,
        "draft": 1,
        "review": 2,
        "publish": 3,
        END: 4,
    }


def test_a_chain_is_a_straight_line() -> None:
    assert len({slot.x for _, slot in layout(CHAIN).boxes.values()}) == 1


def test_ways_that_can_be_drawn_without_crossing_do_not_cross() -> None:
    crossed = picture((START, "a"), (START, "b"), ("a", "y"), ("b", "x"), ("x", END), ("y", END))
    made = layout(crossed)
    order = [[slot.key for slot in layer] for layer in made.layers]
    assert order[1:3] in ([["a", "b"], ["y", "x"]], [["b", "a"], ["x", "y"]])


# --- for a terminal


def test_a_chain_in_a_terminal() -> None:
    assert text(CHAIN) == (
        "┌───────┐\n"
        "│ START │\n"
        "└───┬───┘\n"
        "    │\n"
        "    │\n"
        "    ▼\n"
        "  ┌───┐\n"
        "  │ a │\n"
        "  └─┬─┘\n"
        "    │\n"
        "    │\n"
        "    ▼\n"
        "  ┌───┐\n"
        "  │ b │\n"
        "  └─┬─┘\n"
        "    │\n"
        "    │\n"
        "    ▼\n"
        " ┌─────┐\n"
        " │ END │\n"
        " └─────┘\n"
    )


def test_ways_back_and_labels_in_a_terminal() -> None:
    shown = text(REVIEW)
    assert "▲" in shown
    for label in ("again", "good", "bad", "↺ more"):
        assert label in shown


@pytest.mark.parametrize("seed", range(40))
def test_every_box_is_drawn_whole_and_entered_by_an_arrow(seed: int) -> None:
    shown = random_picture(seed, loops=False)
    lines = text(shown).splitlines()
    for box in shown.boxes:
        ((row, found),) = [
            (n, found) for n, line in enumerate(lines) if (found := re.search(rf"│ +{box.key} +│", line))
        ]
        column, end = found.span()
        assert lines[row - 1][column] == "┌"
        assert lines[row + 1][column] == "└"
        entered = any(way.target == box.key for way in shown.ways)
        around = {lines[r][column:end] for r in (row - 2, row + 2) if 0 <= r < len(lines)}
        assert any(re.search("[▼▲]", part) for part in around) or not entered


# --- as text and SVG


@pytest.mark.parametrize("seed", range(10))
def test_svg_is_a_document_with_every_box_and_way(seed: int) -> None:
    shown = random_picture(seed)
    root = ET.fromstring(drawn(shown, "svg"))  # noqa: S314 - our own
    space = "{http://www.w3.org/2000/svg}"
    texts = [each.text for each in root.iter(f"{space}text")]
    assert sorted(filter(None, texts)) == sorted(box.label for box in shown.boxes)
    assert len([p for p in root.iter(f"{space}path") if "way" in p.get("class", "")]) == len(shown.ways)


@pytest.mark.parametrize("format", FORMATS)
def test_labels_cannot_leave_their_place(format: str) -> None:
    evil = picture((START, '<b>"&x'), ('<b>"&x', END, '</text><script>"'), name="<&>")
    shown = drawn(evil, format)
    assert "<script" not in shown or format in ("ascii", "dot")
    if format == "svg":
        ET.fromstring(shown)  # noqa: S314


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(PayloadRejected, match="format='png'"):
        drawn(CHAIN, "png")


def test_an_empty_picture() -> None:
    for name in FORMATS:
        drawn(Picture("", (), ()), name)


# --- a run's path


def stage(name: str, status: StepStatus, *seconds: float, failures: int = 0) -> Stage:
    failed = [StepStatus.FAILED] * failures
    attempts = tuple(
        Attempt(number=n, status=each, duration=lasted)
        for n, (each, lasted) in enumerate(zip([*failed, status], seconds, strict=True), 1)
    )
    return Stage(name=name, iteration=1, attempt=len(attempts), status=status, attempts=attempts)


def decided(source: str, target: str, *, result: bool = True, count: int = 1) -> Decision:
    return Decision(from_node=source, to_node=target, result=result, count=count, at=NOW)


TRACE = traced(
    [
        stage("draft", StepStatus.COMPLETED, 0.5),
        stage("review", StepStatus.COMPLETED, 1.0),
        stage("draft", StepStatus.COMPLETED, 0.1, 0.7, failures=1),
        stage("review", StepStatus.RUNNING, 0.0),
    ],
    [
        decided(START, "draft"),
        decided("draft", "review"),
        decided("review", "draft"),
        decided("review", "publish", result=False),
        decided("draft", "review"),
    ],
)


def test_a_run_is_counted() -> None:
    draft = TRACE.visits["draft"]
    assert (draft.count, draft.failures, draft.tone) == (2, 1, "completed")
    assert draft.seconds == pytest.approx(1.3)
    assert TRACE.visits["review"].tone == "running"
    assert TRACE.taken == {(START, "draft"): 1, ("draft", "review"): 2, ("review", "draft"): 1}


def test_a_fan_out_is_counted_by_its_items() -> None:
    assert traced([], [decided("a", "b", count=20), decided("a", "b", count=5)]).taken == {("a", "b"): 25}


def test_the_path_lies_over_the_picture() -> None:
    shown = laid_over(REVIEW, TRACE)
    boxes = {box.key: (box.tone, box.note) for box in shown.boxes}
    assert boxes == {
        START: ("completed", ""),
        "draft": ("completed", "2× 1.3 s, 1 failed"),  # noqa: RUF001
        "review": ("running", "2× 1.0 s"),  # noqa: RUF001
        "publish": ("idle", ""),
        END: ("idle", ""),
    }
    assert [(way.source, way.target, way.count, way.tone) for way in shown.ways[:4]] == [
        (START, "draft", 1, "completed"),
        ("draft", "review", 2, "completed"),
        ("review", "draft", 1, "completed"),
        ("review", "publish", 0, "idle"),
    ]
    assert shown.tones == ("completed", "running", "idle")


def test_every_format_shows_the_path_and_a_legend() -> None:
    shown = laid_over(REVIEW, TRACE)
    for name in ("mermaid", "svg", "ascii"):
        for what in ("2× 1.3 s, 1 failed", "not reached", "running"):  # noqa: RUF001
            assert what in drawn(shown, name)
    mermaid = drawn(shown, "mermaid")
    assert "class start,n0,legend_completed completed" in mermaid
    assert "linkStyle 1 stroke:#1a7f43,stroke-width:3px" in mermaid
    assert "penwidth=2" in drawn(shown, "dot")
    assert {tone for row in rows(shown) for _, tone in row} == {"", "completed", "running", "idle"}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "under 1 ms"), (0.0123, "12 ms"), (1.24, "1.2 s"), (59.9, "59.9 s"), (250, "4 min 10 s")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
