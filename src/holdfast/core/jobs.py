"""Job defaults: what every builder takes for the runs of its workflow, whatever its pattern.

`core/supervision.py` does what `retry`, `on_success` and `on_failure` say, for any program.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypedDict, cast

from holdfast.core.retention import Retention
from holdfast.core.retries import RetryPolicy
from holdfast.errors import DefinitionError
from holdfast.model.checks import CALLABLE, DURATION, LABEL, PRIORITY, WORDS, instance_of, setting
from holdfast.model.ids import seconds

Hook = Callable[..., Any]
"""A plain or async function of `(run, error)`, or `(run, result)`, or fewer of them."""


class JobDefaults(TypedDict, total=False):
    """What every builder takes beside what is its own.

    `version` is kept with each run; `queue`, `priority` and `timeout` are those of its runs unless others are given.
    `retry` has a run that fails go on from the failed step, `on_success` and `on_failure` are its last steps, and
    `retention` says how long its runs are kept.
    """

    version: str
    queue: str
    priority: int
    timeout: float | timedelta | None
    retry: RetryPolicy | None
    on_success: Hook | None
    on_failure: Hook | None
    retention: Retention | None


_KINDS: Final = {
    "version": WORDS,
    "queue": LABEL,
    "priority": PRIORITY,
    "timeout": DURATION.or_none(),
    "retry": instance_of(RetryPolicy, expected="a RetryPolicy").or_none(),
    "on_success": CALLABLE.or_none(),
    "on_failure": CALLABLE.or_none(),
    "retention": instance_of(Retention, expected="a Retention").or_none(),
}


@dataclass(frozen=True, slots=True)
class Job:
    """Job defaults as they were given, and the rest."""

    given: JobDefaults
    version: str = ""
    queue: str = "default"
    priority: int = 0
    timeout: float | None = None
    retry: RetryPolicy | None = None
    on_success: Hook | None = None
    on_failure: Hook | None = None
    retention: Retention | None = None

    @property
    def supervises(self) -> bool:
        """Tell whether the end of a run is not just what its program wants."""
        return self.retry is not None or self.on_success is not None or self.on_failure is not None


_WITHOUT: Final = Job({})


def job_of(where: str, given: JobDefaults) -> Job:
    """Return job defaults. Raises DefinitionError that names what is unknown or cannot be one."""
    if not given:  # the usual case: graphs may be built for each run
        return _WITHOUT
    unknown = given.keys() - _KINDS.keys()
    if unknown:
        raise DefinitionError(
            f"{where}: {', '.join(sorted(unknown))} is no option",
            fix=f"The defaults of its runs are {', '.join(_KINDS)}.",
        )
    for name, value in given.items():
        setting(where, name, value, _KINDS[name])
    retry = given.get("retry")
    if retry is not None and retry.budget is not None:
        raise DefinitionError(
            f"{where}: the retry of a run has no budget", fix="Give the budget to the retry of its steps."
        )
    for name in ("on_success", "on_failure"):
        if given.get(name) is not None:
            takes(f"{where}: {name}", cast("Hook", given.get(name)))
    timeout = given.get("timeout")
    limit = {} if timeout is None else {"timeout": seconds(timeout)}
    return Job(given, **{**given, "timeout": None, **limit})  # type: ignore[arg-type]  # checked above


def takes(where: str, hook: Hook) -> int:
    """Return how many of its two arguments a hook takes. Raises DefinitionError for one that wants more."""
    try:
        parameters = inspect.signature(hook).parameters.values()
    except (TypeError, ValueError):  # a builtin
        return 2
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    required = [p for p in positional if p.default is p.empty]
    if len(required) > 2 or named:  # noqa: PLR2004 - the run, and what it came to
        raise DefinitionError(
            f"{where}={getattr(hook, '__name__', hook)}{inspect.signature(hook)} cannot be called",
            fix="A hook takes (run, error) or (run, result), or fewer.",
        )
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 2
    return min(2, len(positional))
