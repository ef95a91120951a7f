"""Actions: the forward and the compensating half of a step, with how they are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import FunctionType
from typing import Any, Final

from holdfast.core.nesting import workflow_in
from holdfast.core.policy import Policy
from holdfast.core.retries import RetryPolicy
from holdfast.errors import DefinitionError
from holdfast.model.checks import LIMIT, instance_of, setting
from holdfast.model.ids import seconds

_RETRY: Final = instance_of(RetryPolicy, expected="a RetryPolicy").or_none()
_LIMIT: Final = LIMIT.or_none()

CHOOSING: Final = ("params", "results")
"""What a function that chooses items may take, by name."""

FORWARD: Final = (*CHOOSING, "item", "index", "idempotency_key", "step", "runtime")
"""What a forward action may take, by name."""

BACKWARD: Final = (*FORWARD, "output", "reason")
"""What a compensation may take, by name: also what its step returned, and why that is undone."""


class Nested:
    """A workflow as an action: a child run, with the run's params and what else it asks for by name."""

    __slots__ = ("known", "retry", "timeout", "where", "workflow")
    kind = "run"

    def __init__(
        self,
        where: str,
        workflow: Any,
        known: tuple[str, ...],
        retry: RetryPolicy | None,
        timeout: float | timedelta | None,
    ) -> None:
        """Keep a registered name, a builder or a workflow; `known` are the names that it may ask for."""
        self.where = where
        self.workflow = workflow
        self.known = known
        self.retry: RetryPolicy | None = setting(where, "retry", retry, _RETRY)
        limit = setting(where, "timeout", timeout, _LIMIT)
        self.timeout = None if limit is None else seconds(limit)

    @property
    def is_saga(self) -> bool:
        """Tell whether it undoes itself when it fails."""
        return hasattr(self.workflow, "add_step")


class Action:
    """A function of the user's, plain or async, that takes what it names of what is known."""

    __slots__ = ("fn", "is_async", "policy", "retry", "takes", "timeout", "where")
    kind = "call"

    def __init__(
        self,
        where: str,
        fn: Callable[..., Any],
        known: tuple[str, ...],
        retry: RetryPolicy | None,
        timeout: float | timedelta | None,
    ) -> None:
        """Read the signature once; refuse what cannot be called with names out of `known`."""
        if not callable(fn):
            raise DefinitionError(f"{where}: {fn!r:.80} is not callable", fix="Give a function.")
        self.where = where
        self.fn = fn
        self.retry: RetryPolicy | None = setting(where, "retry", retry, _RETRY)
        limit = setting(where, "timeout", timeout, _LIMIT)
        self.timeout = None if limit is None else seconds(limit)
        self.is_async = any(map(inspect.iscoroutinefunction, (fn, getattr(fn, "__call__", None))))  # noqa: B004
        self.takes = _taken(where, fn, known)
        self.policy: Policy | None = None

    def call(self, known: Mapping[str, Callable[[], Any]]) -> Any:
        """Call the function with what it takes; each value is made when it is wanted."""
        return self.fn(**{name: known[name]() for name in self.takes})


def _taken(where: str, fn: Callable[..., Any], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return which of the names in `known` a function takes."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return ()  # a builtin without a signature gets nothing
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return known
    named = [p.name for p in parameters if p.kind in _NAMED and p.name in known]
    for parameter in parameters:
        required = parameter.default is inspect.Parameter.empty and parameter.kind in _SINGLE
        if required and parameter.name not in named:
            raise DefinitionError(
                f"{where}: nobody gives {getattr(fn, '__name__', fn)} its parameter {parameter.name!r}",
                fix=f"It takes nothing, or any of {', '.join(known)}, by name.",
            )
    return tuple(named)


def guarded(action: Action | Nested, policy: Policy) -> Action | Nested:
    """Have a policy guard each attempt of an action. Raises DefinitionError where it cannot."""
    if policy.is_plain:
        return action
    if isinstance(action, Nested):
        raise DefinitionError(
            f"{action.where} is a workflow, which has no policy", fix="Give it to the workflow's own steps."
        )
    if policy.hedge is not None and not action.is_async:
        raise DefinitionError(
            f"{action.where}: hedge={policy.hedge} is not allowed for a plain function",
            fix="Only what can be cancelled is made twice: give an async function.",
        )
    action.policy = policy
    return action


def action_of(
    where: str,
    given: Any,
    known: tuple[str, ...],
    retry: RetryPolicy | None,
    timeout: float | timedelta | None,
) -> Action | Nested:
    """Return a function or workflow as an action. Raises DefinitionError for what is neither."""
    workflow = None if isinstance(given, FunctionType) and not given.__dict__ else workflow_in(given)
    if workflow is not None:
        return Nested(where, workflow, known, retry, timeout)
    return Action(where, given, known, retry, timeout)


_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_SINGLE: Final = (*_NAMED, inspect.Parameter.POSITIONAL_ONLY)
