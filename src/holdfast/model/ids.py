"""Identifiers and instants.

Ids are text. An instant is an integer of microseconds since 1970 in UTC inside, an aware `datetime` outside.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from holdfast.errors import PayloadRejected

RunId = str
StepId = str
CommitId = str
InboxId = int
WorkerId = str
Instant = int

SECOND: Final = 1_000_000
LONGEST_RUN_ID: Final = 200
_RUN_ID: Final = re.compile(r"[A-Za-z0-9_.:@+=-][A-Za-z0-9_.:@+=/-]{0,199}")
_CHILD_ID: Final = re.compile(r"[A-Za-z0-9_.:@+=-][A-Za-z0-9_.:@+=/~-]{0,199}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def check_run_id(value: object) -> RunId:
    """Return `value` when it may be a run's id, else raise PayloadRejected that says what is allowed."""
    if isinstance(value, str) and _CHILD_ID.fullmatch(value):
        return value
    raise _malformed(value)


def check_new_run_id(value: object) -> RunId:
    """Return `value` when it may be given to a run: as `check_run_id`, but for the ids that child runs get."""
    if isinstance(value, str) and _RUN_ID.fullmatch(value):
        return value
    raise _malformed(value)


def _malformed(value: object) -> PayloadRejected:
    return PayloadRejected(
        f"malformed run id: {value!r:.80}",
        field="id",
        fix="Use 1 to 200 letters, digits and any of _ . : @ + = - (and / after the first).",
    )


def instant(moment: datetime) -> Instant:
    """Return an aware datetime as microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(at: Instant) -> datetime:
    """Return microseconds since 1970 as an aware datetime in UTC."""
    return _EPOCH + timedelta(microseconds=at)


def seconds(duration: float | timedelta) -> float:
    """Return a duration, given as seconds or timedelta, in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


def microseconds(duration: float | timedelta) -> int:
    """Return a duration, given as seconds or timedelta, in microseconds."""
    return duration // _MICROSECOND if isinstance(duration, timedelta) else round(duration * SECOND)


def step_id(name: str, iteration: int) -> StepId:
    """Return the id of the step that is the `iteration`-th execution (from 1) of `name` in its run."""
    return f"{name}#{iteration}"


COMPENSATION: Final = "compensate:"
"""How the name of a step begins that takes back what another step did; the rest is the other one's name."""


def compensation_of(step: StepId) -> StepId:
    """Return the id of the step that would take back what `step` did."""
    return COMPENSATION + step


def is_compensation(step: StepId) -> bool:
    """Tell whether a step takes back what another one did."""
    return step.startswith(COMPENSATION)


def split_step(step: StepId) -> tuple[str, int]:
    """Return (name, iteration) of a step id; the inverse of `step_id`, whatever the name holds."""
    name, _, iteration = step.rpartition("#")
    return name, int(iteration)
