"""Nodes that are workflows: what of the state their child runs get, and what of their results goes into it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.core.events import resolved
from holdfast.core.nesting import runnable
from holdfast.core.work import Outcome
from holdfast.errors import DefinitionError, PayloadRejected
from holdfast.model.sameness import is_same
from holdfast.model.schema import Schema
from holdfast.model.state import State
from holdfast.model.values import decode, encode, unpack
from holdfast.patterns.graph.merging import raws
from holdfast.patterns.graph.nodes import Node, outcome_of

if TYPE_CHECKING:
    from holdfast.patterns.graph.builder import StateGraph


def graph_in(node: Node) -> StateGraph | None:
    """Return the graph that a node was given, if it was given one."""
    graph: Any = node.workflow
    return graph if _is_graph(graph) else None


def _is_graph(given: Any) -> bool:
    return hasattr(given, "routers") and hasattr(given, "joins")


def nested_shape(node: Node) -> tuple[str, ...]:
    """Return what a graph's hash knows of a node's workflow."""
    graph = graph_in(node)
    if graph is not None:
        return ("graph", graph.hash)
    named = node.workflow
    return () if named is None else ("run", named if isinstance(named, str) else named.name)


def refuse_cycle(outer: StateGraph, name: str, inner: StateGraph) -> None:
    """Raise DefinitionError when `inner` is the graph itself or holds it: its runs would never begin."""
    stack, seen = [inner], {id(inner)}
    while stack:
        graph = stack.pop()
        if graph is outer:
            raise DefinitionError(
                f"node {name!r}: the graph would contain itself",
                fix="Register it, and give the node the registered name: then each run of it is a decision of its own.",
            )
        held = [found for node in graph.nodes.values() if (found := graph_in(node)) is not None]
        fresh = [found for found in held if id(found) not in seen]
        seen |= {id(found) for found in fresh}
        stack += fresh


class NestedRun:
    """One step that is a child run, on the state that its round sees."""

    queue = ""

    def __init__(
        self, node: Node, base: Mapping[str, Any], blobs: Mapping[str, bytes], schema: Schema | None
    ) -> None:
        """Keep what beginning and end need; `base` may be the state of a `Send` item."""
        self._node = node
        self._base = raws(base)
        self._blobs = blobs
        self._schema = schema
        self.name = node.name
        self.workflow = runnable(node.workflow, node.name)
        self.retry = node.retry
        self.timeout = node.timeout

    def params(self, workflow: Any) -> dict[str, Any]:
        """Return the keys of the state that the child knows; all, when it does not say which."""
        return dict(State.view(self._given(workflow), blobs=self._blobs))

    def _given(self, workflow: Any) -> dict[str, msgspec.Raw]:
        graph = graph_in(self._node)
        if graph is not None:
            known = None if graph.schema is None or graph.schema.is_open else graph.schema.fields.keys()
        else:
            schema = workflow.schema()
            known = schema["properties"].keys() if schema.get("additionalProperties") is False else None
        return {key: raw for key, raw in self._base.items() if known is None or key in known}

    def accept(self, result: msgspec.Raw) -> Outcome:
        """Return what the child changed of the keys that both know; refuses a result that is no state."""
        where = self._node.where
        if not isinstance(decode(result), dict):
            raise PayloadRejected(
                f"{where}: its workflow's result is no dict",
                fix="Call it from a function, which makes one of it.",
            )
        given = {key: resolved(raw, self._blobs) for key, raw in self._base.items()}
        changed = {
            key: added
            for key, raw in unpack(result).items()
            if self._knows(key) and (added := self._added(key, given.get(key), raw)) is not None
        }
        if self._schema is not None:
            self._schema.check({key: decode(raw) for key, raw in changed.items()})
        return outcome_of(changed, (), {}, None, where)

    def _knows(self, key: str) -> bool:
        schema = self._schema
        return schema is None or schema.is_open or key in schema.fields

    def _added(self, key: str, given: msgspec.Raw | None, result: msgspec.Raw) -> msgspec.Raw | None:
        """Return what the child wrote under a key, None when nothing. Of a list that grows, the parent has the rest."""
        if given is None:
            return result
        if is_same(given, result):
            return None
        reducer: Callable[..., Any] | None = None if self._schema is None else self._schema.reducers.get(key)
        if reducer is operator.add:
            before, after = decode(given), decode(result)
            if isinstance(before, list) and isinstance(after, list) and after[: len(before)] == before:
                return encode(after[len(before) :])
        return result
