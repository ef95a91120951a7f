"""Limits as pure functions over rows, which all processes share: so many calls in a time, so many at once.

A rate is kept by GCRA: one instant says when the next permit would conform if all came evenly (ITU-T I.371). Processes
take permits in batches that are good for a moment only; the moment is taken off the burst, so that never more than
`burst + rate * t` calls begin in any time t, whoever makes them.
A bulkhead is kept by leases: each process holds as many places as it needs, for as long as it says again that it lives.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import msgspec

from holdfast.core.guarding import Guard
from holdfast.core.retries import RetryBudget
from holdfast.errors import DefinitionError
from holdfast.model.checks import COUNT, DURATION, LABEL, LIMIT, setting
from holdfast.model.ids import SECOND, Instant, WorkerId, microseconds

_NANO: Final = 1000
"""Nanoseconds in the microsecond that instants count in."""

SHORTEST_LEASE: Final = 50_000
LONGEST_LEASE: Final = 100_000
"""Microseconds for which permits are good, between these: for a store to answer, and not for long."""

MOST_AHEAD: Final = 300 * SECOND
"""So far into the future calls are told to come again, at most: what made them wait may be gone by then."""

LEASE: Final = 30 * SECOND
"""For so long a process holds places of a bulkhead without a sign of life."""

_MOST_RATE: Final = SECOND


@dataclass(frozen=True, slots=True)
class RateLimit(Guard):
    """At most `limit` calls in each time `per`, evenly but for a `burst` (else `limit`) at once.

    Who comes too early waits, for `max_wait` at most (None: however long), else RateLimited is raised. Limits of one
    `name` are one; without a name it is that of the node, or of this very object.
    """

    limit: int
    per: float | timedelta = 1.0
    burst: int | None = None
    name: str = ""
    max_wait: float | timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no limit, naming the field."""
        setting("RateLimit", "limit", self.limit, COUNT)
        setting("RateLimit", "per", self.per, LIMIT)
        setting("RateLimit", "burst", self.burst, COUNT.or_none())
        _check_name("RateLimit", self.name)
        setting("RateLimit", "max_wait", self.max_wait, DURATION.or_none())
        if self.limit > microseconds(self.per):
            raise DefinitionError(
                f"RateLimit: {self.limit} in {self.per} is not allowed",
                fix=f"Give at most {_MOST_RATE} in a second.",
            )

    @property
    def spacing(self) -> int:
        """The nanoseconds between two permits that come evenly; rounded up, so that never too many are given."""
        return -(-microseconds(self.per) * _NANO // self.limit)

    @property
    def tolerance(self) -> int:
        """By how many nanoseconds a permit may come too early, all within the burst."""
        return ((self.limit if self.burst is None else self.burst) - 1) * self.spacing

    @property
    def lease(self) -> int:
        """The microseconds for which a permit is good that came from a row which others take from, too."""
        even = max(self.tolerance // 2, self.spacing // 20) // _NANO
        return min(LONGEST_LEASE, max(SHORTEST_LEASE, even))


@dataclass(frozen=True, slots=True)
class Bulkhead(Guard):
    """At most `limit` calls at once.

    Who comes when all places are taken waits, for `max_wait` at most (None: however long), else BulkheadFull is raised.
    Bulkheads of one `name` are one; without a name it is that of the node, or of this very object.
    """

    limit: int
    name: str = ""
    max_wait: float | timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no limit, naming the field."""
        setting("Bulkhead", "limit", self.limit, COUNT)
        _check_name("Bulkhead", self.name)
        setting("Bulkhead", "max_wait", self.max_wait, DURATION.or_none())


def _check_name(owner: str, name: str) -> None:
    if name != "":
        setting(owner, "name", name, LABEL)


class RateRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rate as it is kept: the theoretical arrival time in nanoseconds, and where the line of those who wait ends."""

    tat: int = 0
    line: Instant = 0


def take(limit: RateLimit, row: RateRow, now: Instant, most: int, lease: int) -> tuple[RateRow, int, int]:
    """Return the row after up to `most` permits were taken: (row, how many, microseconds to wait if none). Pure.

    They are good until `lease` microseconds from now.
    """
    spacing, at = limit.spacing, now * _NANO
    tolerance = limit.tolerance - lease * _NANO
    # No row is further ahead than this; one that is was written by a clock that has been set back since.
    tat = min(row.tat, at + limit.tolerance + spacing)
    early = tat - tolerance - at
    if early > 0:
        return _set(row, tat), 0, -(-early // _NANO)
    tat = max(at, tat) + spacing
    more = min(most - 1, max(0, (at + tolerance - tat) // spacing + 1))
    return _set(row, tat + more * spacing), 1 + more, 0


def _set(row: RateRow, tat: int) -> RateRow:
    return row if tat == row.tat else msgspec.structs.replace(row, tat=tat)


def line_up(limit: RateLimit, row: RateRow, now: Instant, lease: int) -> tuple[RateRow, int]:
    """Return the row after one more call was told to come again, and in how many microseconds. Pure.

    The time is a hint that spreads those who wait; a permit is still to be taken then.
    """
    earliest = max(now, (row.tat - limit.tolerance) // _NANO + lease)
    due = max(earliest, row.line)
    if not now <= due <= now + MOST_AHEAD:
        due = min(earliest, now + MOST_AHEAD)
    return msgspec.structs.replace(row, line=due + -(-limit.spacing // _NANO)), due - now


class BudgetRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A retry budget as it is kept: the tries more than one that its dependency can stand; None as long as unused."""

    tokens: float | None = None


def spend(budget: RetryBudget, row: BudgetRow, firsts: int) -> tuple[BudgetRow, bool]:
    """Return the row after so many first tries and one more that is asked for, and whether that may be made. Pure."""
    tokens = _filled(budget, row, firsts)
    return (BudgetRow(tokens - 1), True) if tokens >= 1 else (BudgetRow(tokens), False)


def earn(budget: RetryBudget, row: BudgetRow, firsts: int) -> BudgetRow:
    """Return the row after so many first tries; one that is full stays as it is. Pure."""
    tokens = _filled(budget, row, firsts)
    return row if tokens == _filled(budget, row, 0) else BudgetRow(tokens)


def _filled(budget: RetryBudget, row: BudgetRow, firsts: int) -> float:
    before = float(budget.reserve) if row.tokens is None else row.tokens
    return min(before + budget.ratio * firsts, max(1.0, float(budget.reserve)))


class Places(msgspec.Struct, frozen=True, array_like=True):
    """How many places one process holds, and until when without a sign of life."""

    count: int
    until: Instant


class BulkheadRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A bulkhead as it is kept: the places of each process."""

    held: dict[WorkerId, Places] = {}


def hold(
    limit: Bulkhead, row: BulkheadRow, holder: WorkerId, want: int, now: Instant
) -> tuple[BulkheadRow, int]:
    """Return the row after a process said how many places it needs, and how many it holds from now on. Pure.

    Places of processes that gave no sign of life are free. None is taken from a process that needs it.
    """
    held = {
        other: Places(places.count, min(places.until, now + LEASE))
        for other, places in row.held.items()
        if places.until > now and other != holder
    }
    free = limit.limit - sum(places.count for places in held.values())
    mine = max(0, min(want, free))
    if mine:
        held[holder] = Places(mine, now + LEASE)
    return BulkheadRow(held), mine
