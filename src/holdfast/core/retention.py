"""What is kept how long: which ended runs may go, as a pure function over a setting."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

from holdfast.model.checks import DURATION, LIMIT, Kind, setting
from holdfast.model.ids import Instant, microseconds
from holdfast.model.run import RunStatus

_KEPT: Final = Kind(
    lambda given: (
        given is None
        or (type(given) is int and given >= 0)
        or (isinstance(given, timedelta) and DURATION.holds(given))
    ),
    "a number of runs, not negative, a timedelta, or None for the age",
)


@dataclass(frozen=True, slots=True)
class Retention:
    """For how long ended runs are kept: for `age`, or `completed` and `failed` as these say.

    Each is a timedelta, or a number: so many of the newest runs of each workflow are kept, however old. Cancelled runs
    are kept as failed ones. A run goes with its children, and its id stays taken for `age` after that. Runs that have
    not ended are always kept. `None` as `age` keeps what is not said otherwise for ever.
    """

    age: float | timedelta | None = timedelta(days=30)
    completed: int | timedelta | None = None
    failed: int | timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse what says no time, naming the field."""
        setting("Retention", "age", self.age, LIMIT.or_none())
        setting("Retention", "completed", self.completed, _KEPT)
        setting("Retention", "failed", self.failed, _KEPT)


class Rule(NamedTuple):
    """What may go of the runs that ended so: those that ended before an instant, or all but so many of a workflow."""

    status: RunStatus
    before: Instant | None = None
    keep: int | None = None


def rules_of(retention: Retention, now: Instant) -> list[Rule]:
    """Return a rule for each way to end of which some runs may go. Pure."""
    given = (
        (RunStatus.COMPLETED, retention.completed),
        (RunStatus.FAILED, retention.failed),
        (RunStatus.CANCELLED, retention.failed),
    )
    found = []
    for status, kept in given:
        if isinstance(kept, int):
            found.append(Rule(status, keep=kept))
            continue
        age = retention.age if kept is None else kept
        if age is not None:
            found.append(Rule(status, before=now - microseconds(age)))
    return found
