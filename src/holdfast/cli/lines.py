"""One line of text for each event, where lines cannot be drawn anew: in a log, a pipe, `holdfast events`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final, NamedTuple

from holdfast.cli.formats import clock, cut, duration, one_line, stage_label
from holdfast.cli.marks import MARKS, NEWS, SIGNAL, TIMES
from holdfast.cli.output import Part
from holdfast.cli.tree import edge_parts
from holdfast.model.event import RunEvent

TOGETHER: Final = 5
"""From so many events of one type and node in a row on, they share a line."""

Line = tuple[Part, list[Part]]
"""The sign of an event, and its text."""

_BY_TYPE: Final[dict[str, Callable[[dict[str, Any]], Line]]] = {
    "run.started": lambda d: (MARKS["running"], [f"{d['workflow']} started"]),
    "run.completed": lambda _: (MARKS["completed"], ["run completed"]),
    "run.failed": lambda d: (MARKS["failed"], ["run failed  ", *_why(d)]),
    "run.cancelled": lambda d: (MARKS["cancelled"], ["run cancelled", *_because(d)]),
    "run.paused": lambda d: (MARKS["paused"], ["run paused", *_because(d)]),
    "run.resumed": lambda d: (
        (MARKS["retrying"], [f"run is tried again {_when(d)}", *_cause(d)])
        if "next_at" in d
        else (MARKS["running"], ["run resumed"])
    ),
    "run.forked": lambda d: (NEWS, [f"forked from {d['source']} at {d['at']}"]),
    "stage.scheduled": lambda d: (MARKS["scheduled"], [f"{_label(d)} scheduled"]),
    "stage.progress": lambda d: (
        MARKS["running"],
        [f"{_label(d)}  {d['percent']:.0f}%  {d['message']}".rstrip()],
    ),
    "stage.chunk": lambda d: (MARKS["running"], [f"{_label(d)} sends"]),
    "stage.chunk_reset": lambda d: (MARKS["retrying"], [f"{_label(d)} sends anew, attempt {d['attempt']}"]),
    "stage.retried": lambda d: (
        MARKS["retrying"],
        [f"{_label(d)}  attempt {d['attempt']} {_when(d)}", *_cause(d)],
    ),
    "stage.completed": lambda d: (MARKS["completed"], [f"{_label(d)} completed", *_spent(d)]),
    "stage.failed": lambda d: (MARKS["failed"], [f"{_label(d)} failed", *_spent(d), "  ", *_why(d)]),
    "stage.cancelled": lambda d: (MARKS["cancelled"], [f"{_label(d)} cancelled", *_spent(d)]),
    "wait.started": lambda d: (MARKS["waiting"], [f"waits for {d['kind']} {d['name']}", *_until(d)]),
    "wait.ended": lambda d: (NEWS, [f"{d['kind']} {d['name']}: {d['outcome']}"]),
    "signal": lambda d: (SIGNAL, [f"signal {d['name']}"]),
    "decision": lambda d: (NEWS, _edges(d)),
    "event": lambda d: (SIGNAL, [f"published {d['type']}"]),
}


class Told(NamedTuple):
    """A line that stands for one event or for several of one kind."""

    position: int
    at: datetime
    type: str
    sign: Part
    text: list[Part]

    def parts(self) -> list[Part]:
        """Return time, sign and text."""
        return [(clock(self.at), "bright_black"), "  ", self.sign, " ", *self.text]


def tell(event: RunEvent) -> Told:
    """Return the line of an event."""
    known = _BY_TYPE.get(event.type)
    if known is None:
        return Told(
            event.position, event.at, event.type, NEWS, [f"{event.type}  {one_line(event.envelope, 120)}"]
        )
    sign, text = known(event.envelope)
    return Told(event.position, event.at, event.type, sign, text)


def tell_together(events: Sequence[RunEvent]) -> Iterator[Told]:
    """Yield the lines of events that came together; many in a row of one type and node share one."""
    for (kind, name), row in groupby(events, key=lambda event: (event.type, event.envelope.get("name"))):
        alike = list(row)
        if kind.startswith("stage.") and len(alike) >= TOGETHER and kind != "stage.failed":
            last, word = alike[-1], kind.partition(".")[2]
            reasons = {event.envelope.get("reason", "") for event in alike}
            why = f"  {reasons.pop()}" if len(reasons) == 1 else ""
            yield Told(
                last.position,
                last.at,
                kind,
                tell(last).sign,
                [f"{name} {TIMES}{len(alike):,} {word}{why}".rstrip()],
            )
        else:
            yield from map(tell, alike)


def _label(data: dict[str, Any]) -> str:
    return stage_label(data["name"], data.get("iteration", 1))


def _spent(data: dict[str, Any]) -> list[Part]:
    if data.get("cached"):
        return [("  from the cache", "bright_black")]
    tries = f", attempt {data['attempt']}" if data.get("attempt", 1) > 1 else ""
    return [(f"  {duration(data['duration'])}{tries}", "bright_black")]


def _why(data: dict[str, Any]) -> list[Part]:
    error = data.get("error") or {}
    return [(cut(f"{error.get('type') or error.get('code', '')}: {error.get('message', '')}", 300), "red")]


def _cause(data: dict[str, Any]) -> list[Part]:
    if data.get("error"):
        return ["  ", *_why(data)]
    return [(f"  {data['reason']}", "yellow")] if data.get("reason") else []


def _because(data: dict[str, Any]) -> list[Part]:
    return [(f"  {cut(data['reason'], 300)}", "yellow")] if data.get("reason") else []


def _when(data: dict[str, Any]) -> str:
    return f"at {clock(data['next_at'])}"


def _until(data: dict[str, Any]) -> list[Part]:
    return [(f"  until {clock(data['until'])}", "bright_black")] if data.get("until") else []


def _edges(data: dict[str, Any]) -> list[Part]:
    edges = sorted(data["edges"], key=lambda edge: not edge["result"])
    parts: list[Part] = [data["from_node"]]
    for edge in edges:
        parts += ["  ", *edge_parts(edge)]
    return parts
