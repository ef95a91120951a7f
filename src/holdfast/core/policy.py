"""Policies: all that guards one call, in one order, and what stands in for its result.

From the outside in: fallback, total timeout, retry, breaker, rate limit, bulkhead, timeout of one attempt, hedge.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypedDict

from holdfast.core.breaker import CircuitBreaker
from holdfast.core.guarding import Guard
from holdfast.core.limits import Bulkhead, RateLimit
from holdfast.core.retries import RetryPolicy
from holdfast.errors import DefinitionError
from holdfast.model.checks import DURATION, LIMIT, Kind, instance_of, setting, whole
from holdfast.model.ids import seconds


class _Nothing:
    """Stands for no fallback, since None may be one."""

    def __repr__(self) -> str:
        return "no fallback"


NO_FALLBACK: Final = _Nothing()


@dataclass(frozen=True, slots=True)
class Hedge(Guard):
    """Makes the same call once more when it has not ended `after` so long, up to `limit` times.

    The first result counts. The other calls are cancelled. For calls only that may be made twice.
    """

    after: float | timedelta
    limit: int = 1

    def __post_init__(self) -> None:
        """Refuse what makes no hedge, naming the field."""
        setting("Hedge", "after", self.after, DURATION)
        setting("Hedge", "limit", self.limit, whole(1, "a whole number of at least 1"))


@dataclass(frozen=True, slots=True)
class Policy(Guard):
    """All that guards one call. `timeout` is for one attempt, `total_timeout` for all of them with their waits.

    `fallback` is a value, or a function that is called with what was called, and with the last error if it has a
    parameter `error`; what it gives stands in for the result. It is not asked when the call was cancelled.
    """

    retry: RetryPolicy | None = None
    breaker: CircuitBreaker | None = None
    rate_limit: RateLimit | None = None
    bulkhead: Bulkhead | None = None
    hedge: Hedge | None = None
    timeout: float | timedelta | None = None
    total_timeout: float | timedelta | None = None
    fallback: Any = NO_FALLBACK

    def __post_init__(self) -> None:
        """Refuse what cannot guard, naming the field."""
        for field, kind in _KINDS.items():
            setting("Policy", field, getattr(self, field), kind)

    @property
    def falls_back(self) -> bool:
        """Tell whether something stands in for a result."""
        return self.fallback is not NO_FALLBACK

    @property
    def is_plain(self) -> bool:
        """Tell whether it is no more than tries and the timeout of each."""
        budgeted = self.retry is not None and self.retry.budget is not None
        guards = self.breaker or self.rate_limit or self.bulkhead or self.hedge or self.total_timeout
        return guards is None and not budgeted and not self.falls_back


def _one(*classes: type) -> Kind:
    return instance_of(*classes, expected=f"a {classes[0].__name__}").or_none()


_KINDS: Final = {
    "retry": _one(RetryPolicy),
    "breaker": _one(CircuitBreaker),
    "rate_limit": _one(RateLimit),
    "bulkhead": _one(Bulkhead),
    "hedge": _one(Hedge),
    "timeout": LIMIT.or_none(),
    "total_timeout": LIMIT.or_none(),
}


class PolicyOptions(TypedDict, total=False):
    """What may be given beside `retry` and `timeout` wherever code of the user's is a step: a policy, or its parts."""

    policy: Policy
    breaker: CircuitBreaker
    rate_limit: RateLimit
    bulkhead: Bulkhead
    hedge: Hedge
    total_timeout: float | timedelta
    fallback: Any


def policy_of(
    where: str,
    retry: RetryPolicy | None,
    timeout: float | timedelta | None,
    options: Mapping[str, Any],
) -> Policy:
    """Return the policy of a step that was given these. Raises DefinitionError for what is unknown or given twice."""
    if not options and retry is None and timeout is None:  # the usual case: graphs may be built for each run
        return UNGUARDED
    unknown = options.keys() - PolicyOptions.__annotations__.keys()
    if unknown:
        raise DefinitionError(
            f"{where}: {', '.join(sorted(unknown))} is no option",
            fix=f"Options are retry, timeout, {', '.join(PolicyOptions.__annotations__)}.",
        )
    parts = {name: value for name, value in options.items() if name != "policy" and value is not None}
    parts |= {name: value for name, value in (("retry", retry), ("timeout", timeout)) if value is not None}
    policy = setting(where, "policy", options.get("policy"), _one(Policy)) or UNGUARDED
    for name in parts:
        if getattr(policy, name) not in (None, NO_FALLBACK):
            raise DefinitionError(
                f"{where}: {name} is given twice", fix="Give it in the policy, or beside it."
            )
    for name, value in parts.items():
        if name in _KINDS:
            setting(where, name, value, _KINDS[name])
    policy = dataclasses.replace(policy, **parts)
    if policy.total_timeout is not None and policy.retry is not None:
        elapsed = min(map(seconds, filter(None, (policy.retry.max_elapsed, policy.total_timeout))))
        policy = dataclasses.replace(policy, retry=dataclasses.replace(policy.retry, max_elapsed=elapsed))
    return policy


UNGUARDED: Final = Policy()
"""The policy of what was given none: one for all, so that it is told by identity."""


def guarded_by(guard: Guard) -> Policy:
    """Return any guard as a policy."""
    match guard:
        case Policy():
            return guard
        case CircuitBreaker():
            return Policy(breaker=guard)
        case RateLimit():
            return Policy(rate_limit=guard)
        case Bulkhead():
            return Policy(bulkhead=guard)
        case Hedge():
            return Policy(hedge=guard)
        case _:
            raise TypeError(f"not a guard: {guard!r}")


def stand_in(
    fallback: Any, error: BaseException, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> Callable[[], Any]:
    """Return what gives the stand-in for a result: the value, or a call of the function with what it takes. Pure."""
    if not callable(fallback):
        return lambda: fallback
    try:
        parameters = inspect.signature(fallback).parameters.values()
    except (TypeError, ValueError):  # a builtin
        return lambda: fallback(*arguments, **options)
    kinds = {parameter.kind for parameter in parameters}
    takes_all = inspect.Parameter.VAR_POSITIONAL in kinds
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds
    positional = [
        parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.name != "error"
    ]
    given = arguments if takes_all else arguments[: len(positional)]
    names = {parameter.name for parameter in parameters}
    named = {name: value for name, value in options.items() if takes_any or name in names}
    if "error" in names:
        named["error"] = error
    return lambda: fallback(*given, **named)
