"""What transitions and states do and ask: the user's callables, read once, and the actions that are data.

A callable takes nothing, `(context)`, or `(context, event)`. What a function does is a step; what is data (raising an
event, sending one later, taking that back, writing a log line), and `assign`, which is pure, belongs to the decision.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import FunctionType
from typing import Any, Final

import msgspec

from holdfast.core.naming import check_step_name
from holdfast.core.nesting import workflow_in
from holdfast.core.retries import RetryPolicy
from holdfast.errors import DefinitionError, PayloadRejected
from holdfast.model.checks import DURATION, LABEL, LIMIT, WORDS, instance_of, setting
from holdfast.model.ids import microseconds, seconds

_MOST: Final = 2
"""Context and event."""

_RETRY: Final = instance_of(RetryPolicy, expected="a RetryPolicy").or_none()
_LIMIT: Final = LIMIT.or_none()


class Call:
    """A function that a transition or state does, or a workflow, with the name and the policies of its step."""

    __slots__ = ("fn", "is_async", "name", "retry", "takes", "timeout", "workflow")

    def __init__(
        self,
        fn: Any,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
    ) -> None:
        """Read the callable once. Raises DefinitionError for what cannot be called so."""
        plain = isinstance(fn, FunctionType) and not fn.__dict__
        self.workflow: Final = None if plain else workflow_in(fn)
        if self.workflow is None and not callable(fn):
            raise DefinitionError(
                f"the action {fn!r:.80} is not callable",
                fix="Give a function of nothing, (context) or (context, event), or a workflow.",
            )
        if setting("an action", "name", name, LABEL.or_none()) is not None:
            check_step_name("action", name or "")
        self.retry: Final = setting("an action", "retry", retry, _RETRY)
        self.timeout: Final = (
            None if setting("an action", "timeout", timeout, _LIMIT) is None else seconds(timeout or 0)
        )
        self.fn: Final = fn
        self.name: Final = name or name_of(fn)
        self.takes: Final = 0 if self.workflow is not None else arity(fn, "the action")
        call = getattr(fn, "__call__", None)  # noqa: B004 - an object with an async __call__
        self.is_async: Final = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call)

    def __call__(self, context: Any, event: Any) -> Any:
        """Call the function with as much as it takes."""
        return self.fn(*(context, event)[: self.takes])


class Assign:
    """A pure function whose mapping of changed keys goes into the context, within the decision."""

    __slots__ = ("fn", "name", "takes")

    def __init__(self, fn: Callable[..., Mapping[str, Any]] | Mapping[str, Any]) -> None:
        """Keep the function, or the keys to set."""
        given: Any = (lambda: fn) if isinstance(fn, Mapping) else fn
        self.takes: Final = arity(given, "assign")
        self.fn: Final = given
        self.name: Final = name_of(given) or "assign"

    def __call__(self, context: Any, event: Any) -> Mapping[str, Any]:
        """Return the changed keys. Raises PayloadRejected for what is no mapping."""
        changes = self.fn(*(context, event)[: self.takes])
        if changes is None:
            return {}
        if not isinstance(changes, Mapping):
            raise PayloadRejected(
                f"assign {self.name!r} returned {type(changes).__name__}",
                fix="Return a dict of the changed keys.",
            )
        return changes


class Raise(msgspec.Struct, frozen=True):
    """Raises an event that the machine itself takes before the next one from outside."""

    event: str
    data: Any = None


class SendLater(msgspec.Struct, frozen=True, tag=True):
    """Sends an event to the machine itself after `delay` microseconds, unless `Cancel(id)` comes before."""

    event: str
    delay: int
    id: str


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Takes back an event that would be sent later."""

    id: str


class Log(msgspec.Struct, frozen=True):
    """Writes a line to the log."""

    message: str


Action = Call | Assign | Raise | SendLater | Cancel | Log
PURE: Final = (Assign, Raise, SendLater, Cancel, Log)


class Guard:
    """A pure condition of context and event."""

    __slots__ = ("fn", "name", "takes")

    def __init__(self, fn: Callable[..., Any], name: str | None = None) -> None:
        """Read the callable once."""
        if not callable(fn):
            raise DefinitionError(
                f"guard={fn!r:.80} is not callable",
                fix="Give a function of nothing, (context) or (context, event).",
            )
        if inspect.iscoroutinefunction(fn):
            raise DefinitionError(
                f"the guard {name_of(fn) or fn!r} is async",
                fix="Guards are pure and answer at once; what must be awaited is an action.",
            )
        self.fn: Final = fn
        self.name: Final = name or name_of(fn)
        self.takes: Final = arity(fn, "the guard")

    def holds(self, context: Any, event: Any, active: Callable[[str], bool]) -> bool:
        """Return what the function says."""
        takes = self.takes
        if not takes:
            return bool(self.fn())
        return bool(self.fn(context)) if takes == 1 else bool(self.fn(context, event))


class Within(Guard):
    """A condition on what is active: a formula over the names of states, as SCXML's `In('ready')`."""

    __slots__ = ("formula",)

    def __init__(self, formula: Callable[[Callable[[str], bool]], bool], name: str) -> None:
        """Keep the formula; it is asked with a function that tells whether a state is active."""
        super().__init__(lambda: True, name)
        self.formula: Final = formula

    def holds(self, context: Any, event: Any, active: Callable[[str], bool]) -> bool:
        """Return what the formula says."""
        return self.formula(active)


def arity(fn: Callable[..., Any], what: str) -> int:
    """Return how much of `(context, event)` a callable takes; raises DefinitionError when it wants more."""
    if (
        isinstance(fn, FunctionType) and fn.__defaults__ is None
    ):  # the usual case, without the cost of `inspect`
        code = fn.__code__
        plain = not (code.co_kwonlyargcount or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS))
        if plain and code.co_argcount <= _MOST:
            return code.co_argcount
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return 0  # a builtin without a signature
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in parameters if p.kind in kinds]
    needed = [p for p in positional if p.default is inspect.Parameter.empty]
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is inspect.Parameter.empty]
    if len(needed) > _MOST or keywords:
        raise DefinitionError(
            f"{what} {name_of(fn) or fn!r}{inspect.signature(fn)} cannot be called",
            fix="It takes nothing, (context) or (context, event).",
        )
    named = [p for p in positional if p.name in ("context", "ctx", "event") or p in needed]
    return len(named)


def name_of(fn: Any) -> str:
    """Return a callable's own name, empty for a lambda."""
    name = getattr(fn, "__name__", "") or getattr(fn, "name", "")
    if not name and not isinstance(fn, FunctionType):
        name = type(fn).__name__
    return "" if name == "<lambda>" or not isinstance(name, str) else name


def action(
    fn: Any,
    name: str | None = None,
    *,
    retry: RetryPolicy | None = None,
    timeout: float | timedelta | None = None,
) -> Call:
    """Return a function, or a workflow, as an action with a name and policies of its own."""
    return Call(fn, name, retry, timeout)


def assign(changes: Callable[..., Mapping[str, Any]] | Mapping[str, Any]) -> Assign:
    """Return the action that sets keys of the context: to what a pure function returns, or to given values."""
    return Assign(changes)


def raise_event(event: str, data: Any = None) -> Raise:
    """Return the action that raises an event within the machine; it is taken before the next one from outside."""
    return Raise(setting("raise_event", "event", event, LABEL), data)


def send_event(event: str, delay: float | timedelta, id: str | None = None) -> SendLater:
    """Return the action that sends the machine an event after `delay`; `cancel_event(id)` takes it back."""
    setting("send_event", "event", event, LABEL)
    setting("send_event", "id", id, LABEL.or_none())
    return SendLater(event, microseconds(setting("send_event", "delay", delay, DURATION)), id or event)


def cancel_event(id: str) -> Cancel:
    """Return the action that takes back what `send_event` would send; nothing happens when that is over."""
    return Cancel(setting("cancel_event", "id", id, LABEL))


def log(message: str) -> Log:
    """Return the action that writes a line to the log of the process that decides."""
    return Log(setting("log", "message", message, WORDS))
