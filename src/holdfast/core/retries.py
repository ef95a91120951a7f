"""When a failed attempt is tried again: a pure function over the policy, what happened so far and a random number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from math import inf
from typing import Any, Final, Literal

from holdfast.model.checks import (
    LABEL,
    LIMIT,
    MOST_SECONDS,
    Kind,
    instance_of,
    is_number,
    lasts,
    setting,
    whole,
)
from holdfast.model.ids import SECOND, Instant, instant, microseconds, seconds

Jitter = Literal["full", "equal", "proportional", "decorrelated", "none"]
Growth = Literal["exponential", "linear", "fibonacci"]


def _is_class(given: object) -> bool:
    return isinstance(given, type) and issubclass(given, BaseException)


def _is_wait(given: Any) -> bool:
    return 0 <= lasts(given) < inf


def _are_waits(given: Any) -> bool:
    return isinstance(given, list | tuple) and bool(given) and all(map(_is_wait, given))


_WAIT: Final = Kind(_is_wait, "seconds or a timedelta, not negative")
_CLASSES: Final = Kind(
    lambda given: isinstance(given, tuple) and all(map(_is_class, given)), "a tuple of exception classes"
)
_KINDS: Final = {
    "attempts": whole(1, "a whole number of at least 1; it counts all tries"),
    "backoff": Kind(
        lambda given: _is_wait(given) or _are_waits(given),
        "seconds or a timedelta, not negative, or a list of them",
    ),
    "max_backoff": _WAIT,
    "factor": Kind(lambda n: is_number(n) and 1 <= n < inf, "a number of at least 1"),
    "growth": Kind(
        lambda given: given in ("exponential", "linear", "fibonacci"), "one of exponential, linear, fibonacci"
    ),
    "jitter": Kind(
        lambda given: given in ("full", "equal", "proportional", "decorrelated", "none"),
        "one of full, equal, proportional, decorrelated, none",
    ),
    "retry_on": _CLASSES,
    "give_up_on": _CLASSES,
    "max_elapsed": LIMIT.or_none(),
}

_PROPORTION: Final = 0.25
_DECORRELATION: Final = 3


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How many tries more than one a dependency can stand: a share `ratio` of the first ones, and `reserve` at first.

    All policies with a budget of one name share it: in an engine's store for all its processes, else in this process. A
    try beyond it is not made, so that layers which each try again do not multiply (the retry budget of Finagle).
    """

    name: str
    ratio: float = 0.2
    reserve: int = 10

    def __post_init__(self) -> None:
        """Refuse numbers that make no budget, naming the field."""
        setting("RetryBudget", "name", self.name, LABEL)
        setting("RetryBudget", "ratio", self.ratio, Kind(lambda n: is_number(n) and 0 <= n <= 1, "0 to 1"))
        setting("RetryBudget", "reserve", self.reserve, whole(0, "a whole number, not negative"))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Up to `attempts` tries in all; the wait before try n + 1 is `backoff * factor ** (n - 1)`, at most `max_backoff`.

    A list as `backoff` says each wait, its last one again and again. `growth` may also be "linear" (`backoff * n`) or
    "fibonacci". `jitter` draws the wait: "full" from 0 to it, "equal" from its half to it, "proportional" up to a
    quarter beside it, "decorrelated" from `backoff` to three times the last one, "none" takes it as it is (terms of
    Brooker, "Exponential Backoff And Jitter", 2015). No try begins later than `max_elapsed` after the first.
    Only errors of the classes in `retry_on` and not in `give_up_on` are tried again. One that says `retry_after`, or
    has a response with that header, is tried again no earlier, but for `max_backoff`.
    Durations are seconds or timedelta.
    """

    attempts: int = 3
    backoff: float | timedelta | Sequence[float | timedelta] = 1.0
    factor: float = 2.0
    max_backoff: float | timedelta = 60.0
    jitter: Jitter = "full"
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()
    growth: Growth = "exponential"
    max_elapsed: float | timedelta | None = None
    budget: RetryBudget | None = None

    def __post_init__(self) -> None:
        """Refuse numbers and classes that make no policy, naming the field."""
        for field, kind in _KINDS.items():
            setting("RetryPolicy", field, getattr(self, field), kind)
        setting(
            "RetryPolicy", "budget", self.budget, instance_of(RetryBudget, expected="a RetryBudget").or_none()
        )


def wait_before_retry(
    policy: RetryPolicy | None,
    failures: int,
    error: BaseException,
    draw: float,
    *,
    last: int = 0,
    now: Instant = 0,
    begun: Instant = 0,
) -> int | None:
    """Return the microseconds to wait after failure number `failures`, or None when the step has failed for good.

    `draw` is a random number from 0 to 1, `last` the wait before this try, `begun` when the first one began. Pure.
    """
    if policy is None or not isinstance(error, policy.retry_on) or isinstance(error, policy.give_up_on):
        return None
    asked = retry_after(error, now)
    return _wait(policy, failures, draw, asked, last=last, now=now, begun=begun)


def wait_before_next(
    policy: RetryPolicy,
    failures: int,
    error: str,
    draw: float,
    *,
    last: int = 0,
    now: Instant = 0,
    begun: Instant = 0,
) -> int | None:
    """Return what `wait_before_retry` does after an error of which only the name of its class is known. Pure."""
    if not _is_one_of(error, policy.retry_on) or _is_one_of(error, policy.give_up_on):
        return None
    return _wait(policy, failures, draw, 0.0, last=last, now=now, begun=begun)


def _is_one_of(name: str, classes: tuple[type[BaseException], ...]) -> bool:
    """Tell whether a class of that name is one of these, or derived from one, as far as this process knows."""
    seen, left = set(classes), list(classes)
    if Exception in seen or BaseException in seen:
        return True
    while left:
        kind = left.pop()
        if class_name(kind) == name:
            return True
        left += (derived for derived in kind.__subclasses__() if derived not in seen)
        seen.update(left)
    return False


def class_name(kind: type) -> str:
    """Return the name that an error's class is kept by."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _wait(
    policy: RetryPolicy, failures: int, draw: float, asked: float, *, last: int, now: Instant, begun: Instant
) -> int | None:
    if failures >= policy.attempts:
        return None
    most = min(seconds(policy.max_backoff), MOST_SECONDS)
    drawn = min(most, _drawn(policy, min(most, _grown(policy, failures, most)), draw, last / SECOND))
    wait = microseconds(max(drawn, min(most, asked)))
    if policy.max_elapsed is not None and now + wait - begun > microseconds(policy.max_elapsed):
        return None
    return wait


def _grown(policy: RetryPolicy, failures: int, most: float) -> float:
    """Return the wait before jitter, not capped yet."""
    if isinstance(policy.backoff, Sequence):
        return seconds(policy.backoff[min(failures, len(policy.backoff)) - 1])
    first = seconds(policy.backoff)
    match policy.growth:
        case "linear":
            return first * failures
        case "fibonacci":
            wait, following = first, first
            for _ in range(failures - 1):
                if wait >= most or not wait:
                    break
                wait, following = following, wait + following
            return wait
        case "exponential":
            try:
                return first * float(policy.factor) ** (failures - 1)
            except OverflowError:
                return most if first else 0.0


def _drawn(policy: RetryPolicy, wait: float, draw: float, last: float) -> float:
    match policy.jitter:
        case "full":
            return wait * draw
        case "equal":
            return wait * (0.5 + draw / 2)
        case "proportional":
            return wait * (1 - _PROPORTION + 2 * _PROPORTION * draw)
        case "decorrelated":
            least = seconds(policy.backoff[0] if isinstance(policy.backoff, Sequence) else policy.backoff)
            return least + draw * max(0.0, last * _DECORRELATION - least)
        case "none":
            return wait


def retry_after(error: BaseException, now: Instant = 0) -> float:
    """Return after how many seconds an error says that one may try again; 0 when it says nothing. Never raises.

    It says so by its attribute `retry_after`, or by the header `Retry-After` of its `response`: seconds or a date.
    """
    told: Any = getattr(error, "retry_after", None)
    if told is None:
        headers = getattr(getattr(error, "response", None), "headers", None)
        try:
            told = headers.get("Retry-After") if headers is not None else None
        except Exception:  # noqa: BLE001 - somebody else's class
            return 0.0
    if isinstance(told, str):
        told = _read_header(told.strip(), now)
    wait = lasts(told)
    return wait if 0 < wait < inf else 0.0


def _read_header(text: str, now: Instant) -> float:
    if text.isascii() and text.isdigit():
        return min(float(text), MOST_SECONDS)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return (instant(date if date.tzinfo else date.replace(tzinfo=UTC)) - now) / SECOND
