"""When a failed attempt is tried again: a pure function over the policy, the failures so far and a random number."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import Final, Literal

from holdfast.model.checks import MOST_SECONDS, Kind, is_number, lasts, setting, whole
from holdfast.model.ids import microseconds, seconds


def _is_class(given: object) -> bool:
    return isinstance(given, type) and issubclass(given, BaseException)


_WAIT: Final = Kind(lambda d: 0 <= lasts(d) < inf, "seconds or a timedelta, not negative")
_CLASSES: Final = Kind(
    lambda given: isinstance(given, tuple) and all(map(_is_class, given)), "a tuple of exception classes"
)
_KINDS: Final = {
    "attempts": whole(1, "a whole number of at least 1; it counts all tries"),
    "backoff": _WAIT,
    "max_backoff": _WAIT,
    "factor": Kind(lambda n: is_number(n) and 1 <= n < inf, "a number of at least 1"),
    "jitter": Kind(lambda given: given in ("full", "equal", "none"), "one of full, equal, none"),
    "retry_on": _CLASSES,
    "give_up_on": _CLASSES,
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Up to `attempts` tries in all; the wait before try n + 1 is `backoff * factor ** (n - 1)`, at most `max_backoff`.

    `jitter` draws the wait: "full" from 0 to it, "equal" from its half to it, "none" takes it as it is (terms of
    Brooker, "Exponential Backoff And Jitter", 2015). Only errors of the classes in `retry_on` and not in `give_up_on`
    are tried again. Durations are seconds or timedelta.
    """

    attempts: int = 3
    backoff: float | timedelta = 1.0
    factor: float = 2.0
    max_backoff: float | timedelta = 60.0
    jitter: Literal["full", "equal", "none"] = "full"
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        """Refuse numbers and classes that make no policy, naming the field."""
        for field, kind in _KINDS.items():
            setting("RetryPolicy", field, getattr(self, field), kind)


def wait_before_retry(
    policy: RetryPolicy | None, failures: int, error: BaseException, draw: float
) -> int | None:
    """Return the microseconds to wait after failure number `failures`, or None when the step has failed for good.

    `draw` is a random number from 0 to 1. Pure.
    """
    if policy is None or failures >= policy.attempts:
        return None
    if not isinstance(error, policy.retry_on) or isinstance(error, policy.give_up_on):
        return None
    cap = min(seconds(policy.max_backoff), MOST_SECONDS)
    try:
        full = min(cap, seconds(policy.backoff) * float(policy.factor) ** (failures - 1))
    except OverflowError:
        full = cap
    match policy.jitter:
        case "full":
            full *= draw
        case "equal":
            full *= 0.5 + draw / 2
        case "none":
            pass
    return microseconds(full)
