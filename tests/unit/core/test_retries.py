"""Retry policies: how many tries, which errors, and how long to wait between."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.retries import RetryPolicy, wait_before_retry
from holdfast.errors import DefinitionError

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
