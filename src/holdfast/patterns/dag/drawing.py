"""What the picture of a DAG shows: its tasks, and what each depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from holdfast.core.picture.drawable import Drawable
from holdfast.core.picture.shape import Box, Picture, Way
from holdfast.patterns.dag.order import upstream
from holdfast.patterns.dag.task import Task


def picture(name: str, tasks: Mapping[str, Task]) -> Picture:
    """Return what a picture of the DAG shows. Ways into a task with a rule of its own say the rule."""
    boxes = tuple(Box(task.name, _label(task), inner=_inner(task)) for task in tasks.values())
    return Picture(name, boxes, tuple(_ways(tasks)))


def _label(task: Task) -> str:
    return task.name if task.map_over is None else f"{task.name} [ ]"


def _inner(task: Task) -> Picture | None:
    """Return what is within a task that was given a builder."""
    return task.workflow.picture() if isinstance(task.workflow, Drawable) else None


def _ways(tasks: Mapping[str, Task]) -> Iterator[Way]:
    for task in tasks.values():
        rule = "" if task.trigger_rule == "all_success" else str(task.trigger_rule)
        for before in upstream(tasks, task):
            chooses = bool(tasks[before].choice) if before in tasks else False
            label = rule or ("map" if before == task.map_over else "")
            yield Way(before, task.name, label, conditional=chooses or bool(rule), depends=True)
