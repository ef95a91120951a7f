"""Wide pictures in a terminal: a row for each box, and every way can be followed from its end to its beginning."""

from __future__ import annotations

import random

import pytest

from holdfast import DAGWorkflow, Task
from holdfast.core.picture.layers import leading_back
from holdfast.core.picture.rails import rails
from holdfast.core.picture.shape import Box, Picture, Way
from holdfast.core.picture.terminal import WIDEST, rows, text


def lines(shown: Picture) -> list[str]:
    return ["".join(piece for piece, _ in row) for row in rails(shown)]


def random_picture(seed: int) -> Picture:
    chance = random.Random(seed)
    keys = [f"n{number}" for number in range(chance.randint(1, 30))]
    pairs = {(chance.choice(keys), chance.choice(keys)) for _ in range(chance.randint(0, 60))}
    return Picture("p", tuple(Box(key, key) for key in keys), tuple(Way(*pair) for pair in sorted(pairs)))


def followed(drawn: list[str]) -> set[tuple[str, str]]:
    """The ways that a drawing shows, read as people do: along the lines, from each box up to where they begin."""
    found: set[tuple[str, str]] = set()
    carried: dict[int, str] = {}
    for line in drawn:
        own = line.index("○")
        end = next((n for n in range(own, len(line)) if line[n].isalpha()), len(line))
        name, signs = line[end:].split()[0], line[:end].rstrip()
        first = last = own
        while first and signs[first - 1] in "─├└┼┴│" and signs[first - 1 : first + 1] != "│ ":
            first -= 1
        while last + 1 < len(signs) and signs[last + 1] in "─┤┘┼┴│" and signs[last + 1] != " ":
            last += 1
        for lane in range(0, max(len(signs), *(each + 1 for each in carried), 1), 2):
            sign = signs[lane] if lane < len(signs) else " "
            source = carried.get(lane)
            if source and first <= lane <= last and sign in "○├└┤┘┼┴":
                found.add((source, name))
            if sign in "└┘┴ ─":
                carried.pop(lane, None)
        carried[own] = name
    return found


@pytest.mark.parametrize("seed", range(60))
def test_every_way_can_be_followed(seed: int) -> None:
    shown = random_picture(seed)
    pairs = [(way.source, way.target) for way in shown.ways]
    back = leading_back([box.key for box in shown.boxes], pairs)
    drawn = lines(shown)
    assert sorted(line[line.index("n") :].split()[0] for line in drawn) == sorted(
        box.key for box in shown.boxes
    )
    assert followed(drawn) == {pair for pair in pairs if pair not in back and pair[0] != pair[1]}


def etl() -> DAGWorkflow:
    dag = DAGWorkflow(name="etl")
    for source in ("stocks", "employment", "weather", "exchange"):
        dag.add_task(source, list)
    dag.add_task("growth", lambda n: n, map_over="stocks")
    dag.add_task("market", lambda growth: growth, depends_on=["growth"])
    dag.add_task("climate", lambda n: n, map_over="weather")
    dag.add_task("dollars_only", list, depends_on=["exchange"], trigger_rule="one_failed")
    sources = ["market", "employment", "climate", "exchange"]
    dag.add_task("table", lambda *_: 1, depends_on=sources, trigger_rule="all_done_min_one_success")
    dag.add_task("load", lambda table: table, depends_on=["table"])
    before = ["market", "employment", "climate", "dollars_only", "load"]
    dag.add_task("report", lambda *_: 1, depends_on=before, trigger_rule="none_failed_min_one_success")
    return dag


def test_a_dag_that_is_too_wide_for_boxes() -> None:
    assert etl().to_ascii().splitlines() == [
        "○          stocks",
        "○          growth [ ]    map",
        "○          market",
        "│ ○        employment",
        "│ │ ○      weather",
        "│ │ ○      climate [ ]   map",
        "│ │ │ ○    exchange",
        "│ │ │ ├─○  dollars_only  one_failed",
        "├─┼─┼─○ │  table         all_done_min_one_success",
        "│ │ │ ○ │  load",
        "○─┴─┴─┴─┘  report        none_failed_min_one_success",
    ]


def test_a_picture_that_fits_is_drawn_as_boxes() -> None:
    shown = Picture("p", (Box("a", "a"), Box("b", "b" * 80)), (Way("a", "b"),))
    assert "┌" in text(shown)
    wide = max(len("".join(piece for piece, _ in row)) for row in rows(shown))
    assert wide < WIDEST
    assert "┌" in "".join(piece for row in rows(shown, wide) for piece, _ in row)
    assert "┌" not in "".join(piece for row in rows(shown, wide - 1) for piece, _ in row)


def test_many_ways_to_one_box_are_told_where_rails_take_too_much_room() -> None:
    dag = DAGWorkflow([Task("first", list)], name="wide")
    for number in range(300):
        dag.add_task(f"t{number}", list, depends_on=["first"])
    dag.add_task("last", len, depends_on=[f"t{number}" for number in range(300)], trigger_rule="all_done")
    shown = dag.to_ascii().splitlines()
    assert len(shown) == 302
    assert max(map(len, shown)) < WIDEST
    assert [line.split() for line in shown[:2]] == [["○", "first"], ["├─○", "t0"]]
    assert shown[-1].split(maxsplit=2) == ["○", "last", "all_done ← t0, t1, t2 and 297 more"]


def test_ways_back_and_tones() -> None:
    boxes = (
        Box("a", "a", tone="completed", note="2 s"),
        Box("b", "b", tone="running"),
        Box("c", "c", tone="idle"),
    )
    ways = (
        Way("a", "b", "good", tone="completed"),
        Way("a", "c", tone="idle"),
        Way("b", "b", "more"),
        Way("b", "a", "again", tone="completed"),
        Way("b", "c", "bad", tone="idle"),
    )
    assert lines(Picture("p", boxes, ways)) == [
        "✓    a  2 s",
        "├─●  b       good; ↺ more; ▲ a: again",
        "○─┘  c       bad ← b",
    ]
    tones = [[tone for _, tone in row] for row in rails(Picture("p", boxes, ways))]
    assert tones[0] == ["completed"]
    assert tones[1][:2] == ["completed", "running"]
    assert tones[2][0] == "idle"
