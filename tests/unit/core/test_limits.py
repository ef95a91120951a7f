"""Limits: never more calls than a rate allows in any time, never more at once than there are places."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.limits import (
    LEASE,
    MOST_AHEAD,
    BudgetRow,
    Bulkhead,
    BulkheadRow,
    RateLimit,
    RateRow,
    earn,
    hold,
    line_up,
    spend,
    take,
)
from holdfast.core.retries import RetryBudget
from holdfast.errors import DefinitionError
from holdfast.model.ids import SECOND, seconds

NOON = 1_700_000_000 * SECOND
_LIMITS = st.builds(
    RateLimit,
    st.integers(1, 50),
    st.sampled_from([0.1, 1.0, 7.0]),
    burst=st.one_of(st.none(), st.integers(1, 60)),
)


def within(limit: RateLimit, uses: list[int]) -> bool:
    """Whether no time t, however it is chosen, has more uses in it than burst + rate * t."""
    burst = limit.limit if limit.burst is None else limit.burst
    rate = limit.limit / (seconds(limit.per) * SECOND)
    return all(
        last - first + 1 <= burst + rate * (uses[last] - uses[first]) + 1e-9
        for first in range(len(uses))
        for last in range(first, len(uses))
    )


@given(limit=_LIMITS, pauses=st.lists(st.integers(0, SECOND), max_size=60), most=st.integers(1, 20))
def test_no_time_has_more_than_its_burst_and_its_rate(limit: RateLimit, pauses: list[int], most: int) -> None:
    """B-R10, when each permit is used where it is taken."""
    row, now, uses = RateRow(), NOON, []
    for pause in pauses:
        now += pause
        row, count, wait = take(limit, row, now, most, 0)
        uses += [now] * count
        assert bool(count) != bool(wait)
    assert within(limit, uses)


@given(
    limit=_LIMITS,
    pauses=st.lists(st.integers(0, SECOND), max_size=60),
    most=st.integers(1, 20),
    late=st.randoms(use_true_random=False),
)
def test_nor_when_permits_are_used_later_by_others(
    limit: RateLimit, pauses: list[int], most: int, late: Any
) -> None:
    """B-R10 with several processes: each uses what it took at any instant while it is good."""
    row, now, uses = RateRow(), NOON, []
    for pause in pauses:
        now += pause
        row, count, _ = take(limit, row, now, most, limit.lease)
        uses += [now + late.randint(0, limit.lease) for _ in range(count)]
    assert within(limit, sorted(uses))


@given(limit=_LIMITS, most=st.integers(1, 20), lease=st.booleans())
def test_who_waits_as_long_as_is_said_gets_a_permit(limit: RateLimit, most: int, lease: bool) -> None:
    row, now, good = RateRow(), NOON, limit.lease if lease else 0
    for _ in range(100):
        row, count, wait = take(limit, row, now, most, good)
        assert count or 0 < wait <= seconds(limit.per) * SECOND + good + limit.tolerance / 1000 + 1
        now += wait
        if wait:
            row, count, wait = take(limit, row, now, most, good)
            assert count


@given(limit=_LIMITS, back=st.integers(1, 10**6 * SECOND))
def test_a_clock_that_is_set_back_neither_grants_nor_blocks_for_ever(limit: RateLimit, back: int) -> None:
    row = RateRow()
    count = 1
    while count:
        row, count, usual = take(limit, row, NOON, 1000, 0)
    row, count, wait = take(limit, row, NOON - back, 1000, 0)
    assert (count, wait) == (0, min(usual + back, -(-limit.spacing // 1000)))
    row, due = line_up(limit, row, NOON - 2 * back, 0)
    assert due <= MOST_AHEAD


def test_those_who_come_again_are_spread_at_the_rate() -> None:
    """B-R6: a backlog comes back as fast as it may go on."""
    limit = RateLimit(10, per=1, burst=1)
    row, count, _ = take(limit, RateRow(), NOON, 1, 0)
    waits = []
    for _ in range(1000):
        row, wait = line_up(limit, row, NOON, 0)
        waits.append(wait)
    buckets = [
        sum(begin <= wait < begin + SECOND for wait in waits) for begin in range(0, 100 * SECOND, SECOND)
    ]
    assert count == 1
    assert max(buckets) <= 10
    assert sum(buckets) >= 990


def test_nobody_is_told_to_come_again_later_than_is_of_use() -> None:
    limit, row = RateLimit(1, per=60), RateRow()
    for _ in range(100):
        row, wait = line_up(limit, row, NOON, 0)
        assert wait <= MOST_AHEAD


@given(
    limit=st.integers(1, 6),
    acts=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 8), st.integers(0, LEASE // 2)), max_size=50
    ),
)
def test_there_are_never_more_places_than_the_limit(limit: int, acts: list[tuple[str, int, int]]) -> None:
    """B-R11: among those that gave a sign of life in time; and places of the dead come back."""
    settings, row, now = Bulkhead(limit), BulkheadRow(), NOON
    held: dict[str, tuple[int, int]] = {}
    for who, want, pause in acts:
        now += pause
        row, mine = hold(settings, row, who, want, now)
        held[who] = (mine, now + LEASE)
        living = {name: count for name, (count, until) in held.items() if until > now}
        assert mine <= want
        assert sum(living.values()) <= limit
        free = limit - sum(living.values())
        assert mine == want or free == 0
        assert {name: places.count for name, places in row.held.items()} == {
            n: c for n, c in living.items() if c
        }


def test_places_of_a_dead_process_are_free_after_its_lease_also_when_the_clock_is_set_back() -> None:
    settings = Bulkhead(1)
    row, _ = hold(settings, BulkheadRow(), "dead", 1, NOON)
    row, mine = hold(settings, row, "b", 1, NOON - 3600 * SECOND)
    assert mine == 0
    _, mine = hold(settings, row, "b", 1, NOON - 3600 * SECOND + LEASE)
    assert mine == 1


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (RateLimit, {"limit": 0}),
        (RateLimit, {"limit": -3}),
        (RateLimit, {"limit": 1.5}),
        (RateLimit, {"limit": 1, "per": 0}),
        (RateLimit, {"limit": 1, "per": timedelta(-1)}),
        (RateLimit, {"limit": 1, "per": float("inf")}),
        (RateLimit, {"limit": 10**9}),
        (RateLimit, {"limit": 1, "burst": 0}),
        (RateLimit, {"limit": 1, "name": 3}),
        (RateLimit, {"limit": 1, "max_wait": -1}),
        (Bulkhead, {"limit": 0}),
        (Bulkhead, {"limit": True}),
        (Bulkhead, {"limit": 1, "name": "x" * 300}),
    ],
    ids=str,
)
def test_what_makes_no_limit_is_refused_by_name(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=f"{kind.__name__}: ") as refused:
        kind(**wrong)
    assert refused.value.fix


@given(
    st.floats(0, 1), st.integers(0, 50), st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60)
)
def test_a_budget_never_allows_more_than_its_reserve_and_its_share(
    ratio: float, reserve: int, asked: list[tuple[int, bool]]
) -> None:
    """B-R5, whichever processes ask and tell."""
    budget, row = RetryBudget("b", ratio=ratio, reserve=reserve), BudgetRow()
    firsts = spent = 0
    for more, asks in asked:
        firsts += more
        if asks:
            row, may = spend(budget, row, more)
            spent += may
        else:
            row = earn(budget, row, more)
        assert spent <= reserve + ratio * firsts + 1e-6


def test_a_full_budget_is_not_written_for_first_tries() -> None:
    row = BudgetRow()
    assert earn(RetryBudget("b"), row, 100) is row
