"""What the picture of a saga shows: its steps one after the other, and their compensations beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from holdfast.core.picture.drawable import Drawable
from holdfast.core.picture.shape import Box, Picture, Way
from holdfast.core.program import END, START
from holdfast.model.ids import COMPENSATION
from holdfast.patterns.saga.actions import Nested

if TYPE_CHECKING:
    from holdfast.patterns.saga.definition import Definition, SagaStep


def picture(definition: Definition) -> Picture:
    """Return what a picture of the saga shows; the way to a compensation is one that a failure takes."""
    steps = [step for group in definition.groups for step in group]
    undone = [step for step in steps if step.compensation is not None]
    boxes = (
        Box(START, START, is_end=True),
        *(Box(step.name, _label(step), inner=_inner(step)) for step in steps),
        Box(END, END, is_end=True),
        *(Box(COMPENSATION + step.name, f"undo {step.name}") for step in undone),
    )
    return Picture(definition.name, boxes, (*_ways(definition.groups), *map(_back, undone)))


def _label(step: SagaStep) -> str:
    each = " [ ]" if step.foreach is not None else ""
    return f"{step.name}{each}" if step.kind == "compensatable" else f"{step.name}{each} ({step.kind})"


def _inner(step: SagaStep) -> Picture | None:
    workflow = step.forward.workflow if isinstance(step.forward, Nested) else None
    return workflow.picture() if isinstance(workflow, Drawable) else None


def _ways(groups: Sequence[Sequence[SagaStep]]) -> Iterator[Way]:
    """Yield the ways forward: each step of a group leads to each of the next."""
    rows = [[START], *([step.name for step in group] for group in groups), [END]]
    for sources, targets in pairwise(rows):
        for source in sources:
            for target in targets:
                yield Way(source, target, depends=True)


def _back(step: SagaStep) -> Way:
    return Way(step.name, COMPENSATION + step.name, "undo", conditional=True, depends=True)
