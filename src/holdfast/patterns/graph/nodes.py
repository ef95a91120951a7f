"""Nodes: the user's functions with how to call them and what their answers mean."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import FunctionType
from typing import Any, Final

import msgspec

from holdfast.core.caching import CacheOption, cache_of
from holdfast.core.context import StepContext
from holdfast.core.fingerprint import code_of, digest
from holdfast.core.policy import UNGUARDED, policy_of, stand_in
from holdfast.core.retries import RetryPolicy
from holdfast.core.work import Outcome
from holdfast.errors import DefinitionError, PayloadRejected
from holdfast.model.checks import FLAG, LIMIT, instance_of, setting
from holdfast.model.ids import seconds
from holdfast.model.profile import StageProfile
from holdfast.model.schema import Schema
from holdfast.model.secrets import Secrets
from holdfast.model.state import State, split_large
from holdfast.model.values import decode, encode_map, pack
from holdfast.patterns.graph.merging import raws

_RETRY: Final = instance_of(RetryPolicy, expected="a RetryPolicy").or_none()
_LIMIT: Final = LIMIT.or_none()
_NO_GUARDS: Final[Mapping[str, Any]] = {}
_PROFILE: Final = instance_of(StageProfile, expected="a StageProfile").or_none()


class Node:
    """A named function of a graph: `(state)` or `(state, step)`, plain or async, or a workflow, with its policies."""

    __slots__ = (
        "_code",
        "cache",
        "defer",
        "fn",
        "heartbeat_timeout",
        "is_async",
        "kind",
        "name",
        "order",
        "policy",
        "profile",
        "retry",
        "takes_step",
        "timeout",
        "where",
        "workflow",
    )

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        order: int,
        retry: RetryPolicy | None,
        timeout: float | timedelta | None,
        heartbeat_timeout: float | timedelta | None = None,
        *,
        defer: bool = False,
        profile: StageProfile | None = None,
        guards: Mapping[str, Any] = _NO_GUARDS,
        workflow: Any = None,
        cache: CacheOption = None,
    ) -> None:
        """Read the function's signature once; refuse what cannot be a node. `workflow` is what `fn` is of one."""
        if workflow is None and not callable(fn):
            raise DefinitionError(
                f"node {name!r}: {fn!r} is not callable", fix="Give a function of (state), or a workflow."
            )
        self.name = name
        self.where = f"node {name!r}"
        for field, given, kind in (
            ("retry", retry, _RETRY),
            ("timeout", timeout, _LIMIT),
            ("heartbeat_timeout", heartbeat_timeout, _LIMIT),
            ("profile", profile, _PROFILE),
        ):
            if given is not None:  # the usual case, and graphs may be built for each run
                setting(self.where, field, given, kind)
        self.defer = defer if defer is False else setting(self.where, "defer", defer, FLAG)
        self.profile = profile
        self.cache = None if cache is None else cache_of(self.where, cache)
        self._code = ""
        self.fn = fn
        self.order = order
        policy = policy_of(self.where, retry, timeout, guards)
        self.retry = policy.retry
        self.timeout = None if policy.timeout is None else seconds(policy.timeout)
        self.heartbeat_timeout = None if heartbeat_timeout is None else seconds(heartbeat_timeout)
        self.workflow = workflow
        self.kind = "call" if workflow is None else "run"
        self.is_async, self.takes_step = (True, False) if workflow is not None else _shape(name, fn)
        self.policy = None if policy is UNGUARDED or policy.is_plain else policy
        if policy.hedge is not None and not self.is_async:
            raise DefinitionError(
                f"{self.where}: hedge={policy.hedge} is not allowed for a plain function",
                fix="Only what can be cancelled is made twice: give an async function.",
            )
        if workflow is not None:
            guarded = self.policy or None
            self._refuse_for_workflows(
                heartbeat_timeout=heartbeat_timeout, profile=profile, policy=guarded, cache=self.cache
            )

    def code(self) -> str:
        """Return a hash of the function's code, made once."""
        if not self._code:
            self._code = code_of(self.fn)
        return self._code

    def _refuse_for_workflows(self, **given: Any) -> None:
        for option, value in given.items():
            if value is not None:
                raise DefinitionError(
                    f"{self.where} is a workflow, which has no {option}",
                    fix="Give it to the workflow's own nodes.",
                )


def _shape(name: str, fn: Callable[..., Any]) -> tuple[bool, bool]:
    """Return (async?, wants `step` after `state`?); refuse functions that cannot be called with a state."""
    if isinstance(fn, FunctionType):  # the usual case, read without the cost of `inspect`
        code = fn.__code__
        plain = not (code.co_kwonlyargcount or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS))
        if plain and fn.__defaults__ is None and code.co_argcount in (1, 2):
            return bool(code.co_flags & inspect.CO_COROUTINE), code.co_argcount == 2  # noqa: PLR2004 - state and step
    is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
    return is_async, _takes_step(name, fn)


def _takes_step(name: str, fn: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return False  # a builtin without a signature gets the state alone
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in parameters if p.kind in kinds]
    required = [p for p in positional if p.default is inspect.Parameter.empty]
    star = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    if len(required) > 2 or (not positional and not star):  # noqa: PLR2004 - state and step
        raise DefinitionError(
            f"node {name!r}: {getattr(fn, '__name__', fn)}{inspect.signature(fn)} cannot be called with (state)",
            fix="A node takes (state) or (state, step).",
        )
    return len(required) == 2 or (len(positional) > 1 and positional[1].name == "step")  # noqa: PLR2004


class NodeWork:
    """One attempt of a node on the state that its round sees."""

    __slots__ = (
        "_base",
        "_blobs",
        "_node",
        "_payload",
        "_schema",
        "_state",
        "_watch",
        "cache",
        "heartbeat_timeout",
        "is_async",
        "name",
        "policy",
        "profile",
        "retry",
        "timeout",
    )
    inline = False
    again = False

    def __init__(
        self,
        node: Node,
        base: Mapping[str, Any],
        blobs: Mapping[str, bytes],
        payload: Mapping[str, msgspec.Raw] | None,
        schema: Schema | None,
        *,
        watch: bool,
    ) -> None:
        """Keep what the call needs; `payload` is the state of a `Send` item in place of the round's."""
        self._watch = watch
        self._node = node
        self._base = base if payload is None else payload
        self._blobs = blobs
        self._schema = schema
        self._state: State | None = None
        self.name = node.name
        self.policy = node.policy
        self.cache = node.cache
        self.profile = node.profile
        self.retry = node.retry
        self.timeout = node.timeout
        self.heartbeat_timeout = node.heartbeat_timeout
        self.is_async = node.is_async

    def call(self, context: StepContext) -> Any:
        """Call the node with its state."""
        node, state = self._node, self._view(context)
        return node.fn(state, context) if node.takes_step else node.fn(state)

    def code(self) -> str:
        """Return a hash of the node's code, and of the schema that its result has passed."""
        code = self._node.code()
        return code if self._schema is None else digest(f"{code} {_told(self._schema)}".encode())

    def inputs(self) -> Mapping[str, msgspec.Raw]:
        """Return the keys of the state that it sees; a large one by its own hash."""
        return raws(self._base)

    def arguments(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the state that it sees, without secrets."""
        return (State.view(self._base, blobs=self._blobs),), {}

    def instead(self, error: BaseException, context: StepContext) -> Callable[[], Any]:
        """Return what gives the stand-in for what the node would have returned, of the same state."""
        policy = self._node.policy
        assert policy is not None  # noqa: S101 - without a policy nothing falls back
        return stand_in(policy.fallback, error, (self._view(context), context), {})

    def _view(self, context: StepContext) -> State:
        state = self._state = State.view(
            self._base,
            blobs=self._blobs,
            secrets=context.secrets,
            run_id=context.run_id,
            checkpoint_node=self._node.name,
            watch=self._watch,
        )
        return state

    def accept(self, value: Any, context: StepContext) -> Outcome:
        """Return the changed keys, encoded; refuses values that are no state, cannot be stored or hold a secret."""
        where = self._node.where
        changes, gone = changes_of(value, self._state, where)
        if self._watch and self._state is not None:
            _refuse_mutation(self._state, changes, where)
        secrets = context.secrets
        learned = learned_of(value, secrets)
        if not changes and not gone and learned is None:
            return _NO_CHANGE
        if self._schema is not None:
            self._schema.check({key: decode(raw) for key, raw in changes.items()})
        if learned is not None and secrets and isinstance(secrets, Secrets):
            secrets.refuse(changes, where)  # also what it knew before it set other ones
        return outcome_of(changes, gone, learned or secrets, learned, where)


def _told(schema: Schema) -> str:
    """Return a text that changes with a schema's keys and their types, and not from process to process."""
    fields = sorted(f"{name}: {hint!r}" for name, hint in schema.fields.items())
    return _ADDRESS.sub("", f"{schema.is_open} {'; '.join(fields)}")


_ADDRESS: Final = re.compile(r" at 0x\w+")
"""Where an object of a process stands, as its repr says."""


def in_development() -> bool:
    """Tell whether an in-place change of a value that was read is to be found: in development and in tests."""
    return "HOLDFAST_DEV" in os.environ or "PYTEST_CURRENT_TEST" in os.environ


_NO_CHANGE: Final = Outcome(pack({}))


def outcome_of(
    changes: dict[str, msgspec.Raw],
    gone: tuple[str, ...],
    secrets: Mapping[str, str],
    learned: Secrets | None,
    where: str,
) -> Outcome:
    """Return encoded changes as a step's outcome, large values apart; refuses one that holds a secret."""
    if secrets and isinstance(secrets, Secrets):
        secrets.refuse(changes, where)
    changes, blobs = split_large(changes)
    return Outcome(pack(changes), gone, blobs, learned)


def learned_of(value: Any, known: Mapping[str, str]) -> Secrets | None:
    """Return the secrets of a state that a node or factory returned, when they are not those it was given."""
    if type(value) is not State:
        return None
    secrets = value.known_secrets()
    return None if secrets is known or dict(secrets) == dict(known) else secrets


def changes_of(value: Any, given: State | None, where: str) -> tuple[dict[str, msgspec.Raw], tuple[str, ...]]:
    """Return (changed keys, removed keys) of what a node or factory returned."""
    if value is None:
        return {}, ()
    if type(value) is dict:
        return encode_map(value, where), ()
    if isinstance(value, State):
        if given is not None and value.derived_from(given):
            return value.changes(), value.deleted()
        return value.encoded(), ()
    if isinstance(value, Mapping):
        return encode_map(value, where), ()
    raise PayloadRejected(
        f"{where} returned {type(value).__name__}",
        fix="Return a State (state.set(...)), a dict of the changed keys, or None.",
    )


def _refuse_mutation(state: State, changes: Mapping[str, msgspec.Raw], where: str) -> None:
    key = state.mutated(besides=changes.keys())
    if key is not None:
        raise PayloadRejected(
            f"{where} changed the value of {key!r} in place",
            field=key,
            fix=f"Values of a state are read-only: copy it, change the copy, and return state.set({key!r}, copy).",
        )
