"""How long a DAG takes: its critical path, and where more parallelism would have saved time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from holdfast.core.picture.trace import duration
from holdfast.model.audit import Stage
from holdfast.patterns.dag.order import topological, upstream
from holdfast.patterns.dag.task import Task

_NOTICED: Final = 0.01
"""Waits of a smaller share of the whole are not told."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a run took, its critical path with how long that took, and how long tasks waited that could have run."""

    seconds: float
    critical_path: tuple[str, ...]
    critical_seconds: float
    waits: tuple[tuple[str, float], ...]

    @property
    def saved(self) -> float:
        """How many seconds a run without any limit would have saved at most."""
        return max(0.0, self.seconds - self.critical_seconds)

    def __str__(self) -> str:
        """Say it in two sentences."""
        path = " -> ".join(self.critical_path)
        told = (
            f"took {duration(self.seconds)}; its critical path took {duration(self.critical_seconds)}: {path}"
        )
        if not self.waits:
            return f"{told}\nno task waited for a place: more parallelism would save nothing"
        waited = ", ".join(f"{name} {duration(seconds)}" for name, seconds in self.waits)
        return f"{told}\nmore parallelism would save up to {duration(self.saved)}; these waited for a place: {waited}"


def critical_path(tasks: Mapping[str, Task], seconds: Mapping[str, float]) -> tuple[list[str], float]:
    """Return the longest way through the tasks by how long each takes, and how long that is."""
    longest: dict[str, float] = {}
    before: dict[str, str] = {}
    for name in topological(tasks):
        ways = [each for each in upstream(tasks, tasks[name]) if each in longest]
        last = max(ways, key=lambda each: longest[each], default="")
        before[name] = last
        longest[name] = longest.get(last, 0.0) + seconds.get(name, 0.0)
    name = max(longest, key=lambda each: longest[each], default="")
    path = []
    total = longest.get(name, 0.0)
    while name:
        path.append(name)
        name = before[name]
    return path[::-1], total


def timing(tasks: Mapping[str, Task], stages: Iterable[Stage]) -> Timing | None:
    """Return where the time of a run went, as its stages tell; None when none of its tasks has ended."""
    began, ended, took = _spans(stage for stage in stages if stage.name in tasks)
    if not ended:
        return None
    start = min(began.values())
    whole = (max(ended.values()) - start).total_seconds()
    path, critical = critical_path(tasks, took)
    waits = []
    for name in ended:
        ready = max([ended[each] for each in upstream(tasks, tasks[name]) if each in ended], default=start)
        items = (ended[name] - began[name]).total_seconds() - took[name]
        waited = (began[name] - ready).total_seconds() + items
        if waited > whole * _NOTICED:
            waits.append((name, waited))
    waits.sort(key=lambda wait: -wait[1])
    return Timing(whole, tuple(name for name in path if name in took), critical, tuple(waits))


def _spans(
    stages: Iterable[Stage],
) -> tuple[dict[str, datetime], dict[str, datetime], dict[str, float]]:
    """Return when each task first began and last ended, and how long its longest step took."""
    began: dict[str, datetime] = {}
    ended: dict[str, datetime] = {}
    took: dict[str, float] = {}
    for stage in stages:
        starts = [attempt.started_at for attempt in stage.attempts if attempt.started_at is not None]
        if starts and stage.completed_at is not None:
            name, start, end = stage.name, min(starts), stage.completed_at
            began[name] = min(began.get(name, start), start)
            ended[name] = max(ended.get(name, end), end)
            took[name] = max(took.get(name, 0.0), (end - start).total_seconds())
    return began, ended, took
