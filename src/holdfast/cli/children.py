"""A run's children and theirs, as a tree of lines and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from holdfast.cli.formats import between, cut, duration
from holdfast.cli.marks import MARKS
from holdfast.cli.output import Output, Part
from holdfast.engine import Engine
from holdfast.run import Run


class Family(NamedTuple):
    """A child run with its own children."""

    run: Run
    children: Sequence[Family]


async def families(engine: Engine, run: Run) -> list[Family]:
    """Return the children of a run, in the order in which they began, each with all its descendants."""
    return [Family(child, await families(engine, child)) for child in await engine.children(run.id)]


def as_data(found: Sequence[Family]) -> list[dict[str, Any]]:
    """Return families as JSON shows them."""
    return [{**family.run.to_dict(), "children": as_data(family.children)} for family in found]


def show_children(out: Output, found: Sequence[Family], now: datetime) -> None:
    """Say who the children are, how they stand, how long they took and what they wait for."""
    if found:
        out.say()
        out.say(("child runs", "bold"))
        for parts in _lines(found, now):
            out.say(*parts)


def _lines(found: Sequence[Family], now: datetime, guide: str = "") -> Iterator[list[Part]]:
    for number, (run, children) in enumerate(found, 1):
        last = number == len(found)
        mark, color = MARKS[run.status.value]
        took = duration(between(run.started_at, run.completed_at, now)) if run.started_at else ""
        why = run.error.message if run.error is not None else ", ".join(run.waiting_on)
        line: list[Part] = [(f"{guide}{'└─ ' if last else '├─ '}", "bright_black"), (mark, color)]
        line += [
            f" {run.id}  ",
            (run.status.value, color),
            (f"  {took}  {cut(why, 200)}".rstrip(), "bright_black"),
        ]
        yield line
        yield from _lines(children, now, guide + ("   " if last else "│  "))
