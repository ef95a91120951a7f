"""A run's path over a graph, folded from its audit: how often each node and way, how long, with how many failures."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from holdfast.core.picture.shape import Box, Picture, Tone, Way
from holdfast.core.program import END, START
from holdfast.model.audit import Attempt, Decision, Stage
from holdfast.model.run import StepStatus

_TONES: Final[dict[StepStatus, Tone]] = {
    StepStatus.COMPLETED: "completed",
    StepStatus.FAILED: "failed",
    StepStatus.CANCELLED: "failed",
    StepStatus.RUNNING: "running",
    StepStatus.SCHEDULED: "waiting",
    StepStatus.RETRYING: "waiting",
    StepStatus.SUSPENDED: "waiting",
}
_WORST_LAST: Final[tuple[Tone, ...]] = ("completed", "waiting", "running", "failed")

_MAP_OVER_NOTHING: Final = ("map", "0 items")
"""How a task of a DAG is told that is completed without a stage."""

_MINUTE: Final = 60.0


@dataclass(slots=True)
class Visits:
    """What a run made of one node."""

    count: int = 0
    seconds: float = 0.0
    failures: int = 0
    tone: Tone = "completed"

    def absorb(self, attempts: tuple[Attempt, ...], tone: Tone) -> None:
        """Count one more stage."""
        self.count += 1
        self.seconds += sum(attempt.duration or 0.0 for attempt in attempts)
        self.failures += sum(attempt.status is StepStatus.FAILED for attempt in attempts)
        self.tone = max(self.tone, tone, key=_WORST_LAST.index)


@dataclass(frozen=True, slots=True)
class Trace:
    """A run's path: visits by node, and how often each way was taken."""

    visits: dict[str, Visits] = field(default_factory=dict)
    taken: dict[tuple[str, str], int] = field(default_factory=dict)


def traced(stages: Iterable[Stage], decisions: Iterable[Decision]) -> Trace:
    """Return the path of a run. A node's time is that of all its attempts; its tone the worst of its stages'."""
    trace = Trace()
    for stage in stages:
        visits = trace.visits.setdefault(stage.name, Visits())
        tone: Tone = _TONES.get(stage.status, "waiting")
        visits.absorb(stage.attempts, tone)
    for decision in decisions:
        if decision.result and decision.to_node is not None:
            way = (decision.from_node, decision.to_node)
            trace.taken[way] = trace.taken.get(way, 0) + decision.count
            if (decision.name, decision.reason) == _MAP_OVER_NOTHING:
                trace.visits.setdefault(decision.to_node, Visits())
    return trace


def laid_over(picture: Picture, trace: Trace) -> Picture:
    """Return the picture with a run's path over it."""
    reached = {node for way in trace.taken for node in way}
    boxes = tuple(_visited(box, trace.visits.get(box.key), box.key in reached) for box in picture.boxes)
    return replace(picture, boxes=boxes, ways=tuple(_taken(way, trace) for way in picture.ways))


def activated(picture: Picture, active: Collection[str]) -> Picture:
    """Return the picture with the states in colour that are active."""
    boxes = (
        replace(box, tone="running", note="active") if box.key in active else box for box in picture.boxes
    )
    return replace(picture, boxes=tuple(boxes)) if active else picture


def _visited(box: Box, visits: Visits | None, reached: bool) -> Box:  # noqa: FBT001 - one fact of three about a box
    if box.is_state or box.key in (START, END):
        return replace(box, tone="completed" if reached else "idle")
    if visits is None:
        return replace(box, tone="idle")
    if not visits.count:
        return replace(box, tone=visits.tone, note="no items")
    times = f"{visits.count}× " if visits.count > 1 else ""  # noqa: RUF001 - the sign for "so many times"
    failed = f", {visits.failures} failed" if visits.failures else ""
    return replace(box, tone=visits.tone, note=f"{times}{duration(visits.seconds)}{failed}")


def _taken(way: Way, trace: Trace) -> Way:
    count = trace.taken.get((way.source, way.target), 0)
    if way.depends and not count:
        count = int(way.source in trace.visits and way.target in trace.visits)
    return replace(way, count=count, tone="completed" if count else "idle")


def duration(seconds: float) -> str:
    """Return a duration as people read it: 3 ms, 1.2 s, 4 min 10 s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "under 1 ms"  # noqa: PLR2004 - a millisecond
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), int(_MINUTE))
    return f"{minutes} min {rest} s"
