"""Retry policies: how many tries, which errors, and how long to wait between."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.retries import RetryPolicy, wait_before_retry
from holdfast.errors import DefinitionError
from holdfast.model.ids import instant

MS = 1000


def waits(policy: RetryPolicy, draw: float = 1.0) -> list[int | None]:
    """The waits after each failure, until there is none."""
    found: list[int | None] = []
    while not found or found[-1] is not None:
        found.append(wait_before_retry(policy, len(found) + 1, ValueError(), draw))
    return found


def test_without_a_policy_there_is_no_second_try() -> None:
    assert wait_before_retry(None, 1, ValueError(), 0.5) is None


def test_attempts_counts_all_tries() -> None:
    assert len(waits(RetryPolicy(attempts=1))) == 1
    assert len(waits(RetryPolicy(attempts=3))) == 3


def test_the_wait_grows_by_its_factor_up_to_its_cap() -> None:
    policy = RetryPolicy(attempts=6, backoff=0.1, factor=2, max_backoff=timedelta(seconds=0.5), jitter="none")
    assert waits(policy) == [100 * MS, 200 * MS, 400 * MS, 500 * MS, 500 * MS, None]


def test_a_factor_of_one_waits_always_the_same() -> None:
    assert waits(RetryPolicy(attempts=3, backoff=timedelta(seconds=2), factor=1, jitter="none")) == [
        2000 * MS,
        2000 * MS,
        None,
    ]


@pytest.mark.parametrize(
    ("jitter", "draw", "wait"),
    [
        ("full", 0.0, 0),
        ("full", 0.5, 500 * MS),
        ("full", 1.0, 1000 * MS),
        ("equal", 0.0, 500 * MS),
        ("equal", 1.0, 1000 * MS),
        ("none", 0.3, 1000 * MS),
    ],
)
def test_jitter_draws_the_wait(jitter: Any, draw: float, wait: int) -> None:
    assert wait_before_retry(RetryPolicy(backoff=1, jitter=jitter), 1, ValueError(), draw) == wait


@pytest.mark.parametrize(
    ("options", "error", "retries"),
    [
        ({}, ValueError(), True),
        ({}, TimeoutError(), True),
        ({}, SystemExit(), False),
        ({}, KeyboardInterrupt(), False),
        ({"retry_on": (OSError,)}, ConnectionError(), True),
        ({"retry_on": (OSError,)}, ValueError(), False),
        ({"give_up_on": (ConnectionError,)}, OSError(), True),
        ({"give_up_on": (ConnectionError,)}, ConnectionRefusedError(), False),
        ({"retry_on": (BaseException,)}, SystemExit(), True),
        ({"retry_on": ()}, ValueError(), False),
    ],
)
def test_which_errors_are_tried_again(options: dict[str, Any], error: BaseException, retries: bool) -> None:
    assert (wait_before_retry(RetryPolicy(**options), 1, error, 0.5) is not None) is retries


def test_a_huge_number_of_failures_overflows_nothing() -> None:
    policy = RetryPolicy(attempts=10**9, backoff=1, factor=10, max_backoff=60, jitter="none")
    assert wait_before_retry(policy, 10**8, ValueError(), 1) == 60_000 * MS


@given(
    failures=st.integers(1, 50),
    backoff=st.floats(0, 100),
    factor=st.floats(1, 10),
    cap=st.floats(0, 1000),
    jitter=st.sampled_from(["full", "equal", "none"]),
    draw=st.floats(0, 1),
)
def test_no_wait_is_negative_or_beyond_the_cap(
    failures: int, backoff: float, factor: float, cap: float, jitter: Any, draw: float
) -> None:
    policy = RetryPolicy(attempts=51, backoff=backoff, factor=factor, max_backoff=cap, jitter=jitter)
    wait = wait_before_retry(policy, failures, ValueError(), draw)
    assert wait is not None
    assert 0 <= wait <= cap * 1_000_000 + 1


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": 2.5}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"backoff": -1}, "backoff"),
        ({"backoff": float("nan")}, "backoff"),
        ({"max_backoff": float("inf")}, "max_backoff"),
        ({"max_backoff": timedelta(seconds=-1)}, "max_backoff"),
        ({"factor": 0.5}, "factor"),
        ({"factor": float("nan")}, "factor"),
        ({"jitter": "some"}, "jitter"),
        ({"retry_on": ValueError}, "retry_on"),
        ({"retry_on": ("ValueError",)}, "retry_on"),
        ({"give_up_on": [ValueError]}, "give_up_on"),
    ],
    ids=str,
)
def test_what_makes_no_policy_is_refused_naming_the_field(options: dict[str, Any], field: str) -> None:
    with pytest.raises(DefinitionError, match=f"RetryPolicy: {field}=") as caught:
        RetryPolicy(**options)
    assert caught.value.fix


def test_a_policy_is_a_value() -> None:
    assert RetryPolicy(attempts=2) == RetryPolicy(attempts=2)
    assert len({RetryPolicy(attempts=2), RetryPolicy(attempts=2)}) == 1
    with pytest.raises(AttributeError):
        RetryPolicy().attempts = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"growth": "linear"}, [1, 2, 3, 4, 5]),
        ({"growth": "fibonacci"}, [1, 1, 2, 3, 5]),
        ({"backoff": [0.5, 7, timedelta(seconds=3)]}, [0.5, 7, 3, 3, 3]),
        ({"backoff": 0}, [0, 0, 0, 0, 0]),
        ({"max_backoff": 2}, [1, 2, 2, 2, 2]),
    ],
    ids=str,
)
def test_the_wait_grows_as_it_is_told(changes: dict[str, Any], expected: list[float]) -> None:
    policy = RetryPolicy(**{"attempts": 6, "backoff": 1, "jitter": "none", **changes})
    assert waits(policy) == [round(wait * 1000 * MS) for wait in expected] + [None]


def test_proportional_jitter_stays_within_a_quarter() -> None:
    policy = RetryPolicy(backoff=4, jitter="proportional")
    assert [wait_before_retry(policy, 1, ValueError(), draw) for draw in (0, 0.5, 1)] == [
        3000 * MS,
        4000 * MS,
        5000 * MS,
    ]


def test_decorrelated_jitter_goes_by_the_last_wait() -> None:
    policy = RetryPolicy(attempts=9, backoff=1, jitter="decorrelated", max_backoff=20)
    found = [wait_before_retry(policy, 2, ValueError(), draw, last=5000 * MS) for draw in (0, 0.5, 1)]
    assert found == [1000 * MS, 8000 * MS, 15000 * MS]
    assert wait_before_retry(policy, 1, ValueError(), 1.0) == 1000 * MS
    assert wait_before_retry(policy, 3, ValueError(), 1.0, last=15000 * MS) == 20000 * MS


COUNT = count()


class Busy(Exception):
    def __init__(self, retry_after: Any = None, header: str | None = None) -> None:
        super().__init__("busy")
        if retry_after is not None:
            self.retry_after = retry_after
        self.response = SimpleNamespace(headers={} if header is None else {"Retry-After": header})


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (Busy(7), 7),
        (Busy(timedelta(seconds=7)), 7),
        (Busy(header="7"), 7),
        (Busy(header=" 120 "), 60),
        (Busy(header="9" * 400), 60),
        (Busy(header="Wed, 15 Nov 2023 12:00:09 GMT"), 9),
        (Busy(header="Wed, 15 Nov 2023 11:00:00 GMT"), 1),
        (Busy(header="soon"), 1),
        (Busy(-3), 1),
        (Busy("soon"), 1),
        (Busy(float("inf")), 1),
        (Busy(float("nan")), 1),
        (Busy(), 1),
    ],
    ids=lambda _: str(next(COUNT)),
)
def test_a_dependency_says_when_it_can_be_asked_again(error: Exception, wait: float) -> None:
    """B-R8: honoured, and capped."""
    noon = instant(datetime(2023, 11, 15, 12, tzinfo=UTC))
    policy = RetryPolicy(backoff=1, jitter="none", max_backoff=60)
    assert wait_before_retry(policy, 1, error, 0.5, now=noon) == wait * 1000 * MS


def test_no_try_begins_after_the_time_for_all() -> None:
    policy = RetryPolicy(attempts=99, backoff=4, factor=1, jitter="none", max_elapsed=10)
    found = [
        wait_before_retry(policy, 1, ValueError(), 0, now=at * MS, begun=0) for at in (0, 6000, 6001, 50_000)
    ]
    assert found == [4000 * MS, 4000 * MS, None, None]


def test_of_a_thousand_tries_due_at_once_few_begin_together() -> None:
    """B-R6: full jitter spreads a herd evenly."""
    policy, draws = RetryPolicy(backoff=10), random.Random(3)
    found = [wait_before_retry(policy, 1, ValueError(), draws.random()) or 0 for _ in range(1000)]
    buckets = [
        sum(begin <= wait < begin + 100 * MS for wait in found) for begin in range(0, 10_000 * MS, 100 * MS)
    ]
    assert sum(buckets) == 1000
    assert max(buckets) < 30


@given(
    policy=st.builds(
        RetryPolicy,
        attempts=st.integers(1, 10**6),
        backoff=st.floats(0, 1e9),
        factor=st.floats(1, 1e9),
        max_backoff=st.floats(0, 1e9),
        jitter=st.sampled_from(["full", "equal", "proportional", "decorrelated", "none"]),
        growth=st.sampled_from(["exponential", "linear", "fibonacci"]),
    ),
    failures=st.integers(1, 10**6),
    draw=st.floats(0, 1),
    last=st.integers(0, 10**12),
)
def test_no_wait_is_longer_than_its_cap_or_negative(
    policy: RetryPolicy, failures: int, draw: float, last: int
) -> None:
    wait = wait_before_retry(policy, failures, ValueError(), draw, last=last)
    assert (wait is None) == (failures >= policy.attempts)
    assert wait is None or 0 <= wait <= round(float(str(policy.max_backoff)) * 1e6) + 1
