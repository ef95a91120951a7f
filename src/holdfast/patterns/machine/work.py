"""How the actions of a durable machine are run: functions as steps of kind `call`, workflows as child runs."""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_
from types import MappingProxyType
from typing import Any, Final

import msgspec

from holdfast.core.caching import CachePolicy
from holdfast.core.context import StepContext
from holdfast.core.events import resolved
from holdfast.core.policy import Policy
from holdfast.core.retries import RetryPolicy
from holdfast.core.work import Blobs, Outcome
from holdfast.model.profile import StageProfile
from holdfast.model.sameness import is_same
from holdfast.model.secrets import Secrets
from holdfast.model.state import State, split_large
from holdfast.model.values import decode, encode_map, pack, unpack
from holdfast.patterns.machine.actions import Call
from holdfast.patterns.machine.events import KeptEvent
from holdfast.patterns.machine.kept import Context


class ActionWork:
    """One attempt of an action. It may change the context that it gets in place, or return the changed keys."""

    heartbeat_timeout: float | None = None
    cache: CachePolicy | None = None
    policy: Policy | None = None
    profile: StageProfile | None = None
    inline = False
    _given: Mapping[str, Any] = MappingProxyType({})
    _draft: Mapping[str, Any] = _given

    def __init__(
        self, name: str, call: Call, context: Context, event: KeptEvent | None, blobs: Blobs
    ) -> None:
        """Keep what the call needs."""
        self.name = name
        self.retry: RetryPolicy | None = call.retry
        self.timeout: float | None = call.timeout
        self.is_async = call.is_async
        self._call = call
        self._context = context
        self._event = event
        self._blobs = blobs

    def call(self, context: StepContext) -> Any:
        """Call the action."""
        call, event = self._call, self._event
        if not call.takes:
            return call(None, None)
        self._given = given = _decoded(self._whole())
        self._draft = draft = given.copy()
        return call(draft, event.told if event is not None and call.takes > 1 else None)

    def _whole(self) -> Context:
        """Return the context with its large values in it."""
        blobs = self._blobs
        return {key: resolved(raw, blobs) for key, raw in self._context.items()} if blobs else self._context

    def accept(self, value: Any, context: StepContext) -> Outcome:
        """Return the changed keys, encoded; refuses what cannot be stored or holds a secret."""
        where = f"action {self.name!r}"
        given, draft = self._given, self._draft
        changes = self._changed(where)
        if value is not None and isinstance(value, Mapping):
            changes |= encode_map(value, where)
        gone = (
            ()
            if given.keys() <= draft.keys()
            else tuple(k for k in given if k not in draft and k not in changes)
        )
        secrets = context.secrets
        if secrets and isinstance(secrets, Secrets):
            secrets.refuse(changes, where)
        inline, large = split_large(changes)
        return Outcome(pack(inline), gone, large)

    def _changed(self, where: str) -> dict[str, msgspec.Raw]:
        """Return what the draft has otherwise than the context. A plain value that is still there is not looked at."""
        given, draft, before = self._given, self._draft, self._context
        if _is_untouched(given, draft):  # the usual case
            return {}
        touched = {
            key: value
            for key, value in draft.items()
            if type(value) not in _PLAIN or key not in given or value is not given[key]
        }
        return {
            key: raw
            for key, raw in encode_map(touched, where).items()
            if key not in before or not is_same(resolved(before[key], self._blobs), raw)
        }


_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
"""Values that cannot be changed in place."""


def _decoded(context: Context) -> dict[str, Any]:
    """Return values decoded, in one sweep when none of them has a tag."""
    data = msgspec.json.encode(context)
    if b"$" in data and b'"$' in data:
        return {key: decode(raw) for key, raw in context.items()}
    decoded: dict[str, Any] = msgspec.json.decode(data)
    return decoded


def _is_untouched(given: Mapping[str, Any], draft: Mapping[str, Any]) -> bool:
    """Tell at once of plain values that they are all those that were given, at the same keys in the same order."""
    return (
        len(draft) == len(given)
        and _PLAIN.issuperset(map(type, draft.values()))
        and all(map(is_, draft.values(), given.values()))
        and all(map(is_, draft, given))
    )


class ChildAction:
    """A step that is a child run: an action that is a workflow, or an invoked one, on the machine's context."""

    queue = ""

    def __init__(
        self,
        name: str,
        workflow: Any,
        retry: RetryPolicy | None,
        timeout: float | None,
        context: Context,
        blobs: Blobs,
        *,
        merges: bool,
    ) -> None:
        """With `merges` what the child changed of the context goes into it; else its result is an event's data."""
        self.name = name
        self.workflow = workflow
        self.retry = retry
        self.timeout = timeout
        self._context = context
        self._blobs = blobs
        self._merges = merges

    def params(self, workflow: Any) -> dict[str, Any]:
        """Return the keys of the context that the child knows; all, when it does not say which."""
        schema = workflow.schema()
        known = schema["properties"].keys() if schema.get("additionalProperties") is False else None
        given = {key: raw for key, raw in self._context.items() if known is None or key in known}
        return dict(State.view(given, blobs=self._blobs))

    def accept(self, result: msgspec.Raw) -> Outcome:
        """Return the child's result, or what it changed of the context."""
        if not self._merges:
            return Outcome(result)
        if not isinstance(decode(result), dict):
            return Outcome(pack({}))
        before = {key: resolved(raw, self._blobs) for key, raw in self._context.items()}
        after = unpack(result)
        inline, large = split_large(
            {key: raw for key, raw in after.items() if key not in before or not is_same(before[key], raw)}
        )
        return Outcome(pack(inline), (), large)
