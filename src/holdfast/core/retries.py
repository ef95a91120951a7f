"""When a failed attempt is tried again: a pure function over the policy, the failures so far and a random number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from holdfast.errors import DefinitionError
from holdfast.model.ids import microseconds, seconds

MOST_SECONDS: Final = 100 * 365 * 86_400
"""No wait is longer, whatever a policy says: an instant must fit into the database."""

_JITTER: Final = ("full", "equal", "none")


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
        if type(self.attempts) is not int or self.attempts < 1:
            raise _refused("attempts", self.attempts, "a whole number of at least 1; it counts all tries")
        for field in ("backoff", "max_backoff"):
            value = seconds(getattr(self, field))
            if not (math.isfinite(value) and value >= 0):
                raise _refused(field, value, "seconds or a timedelta, not negative")
        if not (math.isfinite(self.factor) and self.factor >= 1):
            raise _refused("factor", self.factor, "a number of at least 1")
        if self.jitter not in _JITTER:
            raise _refused("jitter", self.jitter, "one of full, equal, none")
        for field in ("retry_on", "give_up_on"):
            _check_classes(field, getattr(self, field))


def _check_classes(field: str, classes: object) -> None:
    if not isinstance(classes, tuple):
        raise _refused(field, classes, "a tuple of exception classes")
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise _refused(field, each, "a tuple of exception classes")


def _refused(field: str, value: object, expected: str) -> DefinitionError:
    return DefinitionError(f"RetryPolicy: {field}={value!r} is not allowed", fix=f"Give {expected}.")


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
