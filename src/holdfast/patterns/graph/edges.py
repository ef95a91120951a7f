"""Edges: how a round's end chooses the next round. Every edge that is looked at is told with its reason.

Plain edges of one source are all taken, in parallel. Once one of them has a `when`, they are tried in the order they
were added, the first that holds is taken, and the one without `when` is the default. Routers are asked besides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.core.program import END
from holdfast.errors import DefinitionError
from holdfast.model.checks import TEXT, setting
from holdfast.model.facts import EdgeTried, readable
from holdfast.model.state import State

Predicate = Callable[[State], bool]


class Send:
    """One item of a fan-out: run `node` once with a state of its own. Returned by routers, in a list."""

    __slots__ = ("node", "state")

    def __init__(self, node: str, state: Mapping[str, Any] | State) -> None:
        """Keep the target and the state that this item sees instead of the round's."""
        self.node = node
        self.state: Any = state  # looked at when the router has returned

    def __repr__(self) -> str:
        """Show the target and the keys."""
        return f"Send({self.node!r}, {dict(self.state)!r})"


class Edge(msgspec.Struct, frozen=True):
    """A way from one node to another. Without `when` it is always open."""

    target: str
    when: Predicate | None = None
    name: str = ""


class Router(msgspec.Struct, frozen=True):
    """A function that names the targets; `targets` maps what it may return to nodes."""

    choose: Callable[[State], Any]
    targets: dict[Any, str]
    name: str = ""


class Chosen(msgspec.Struct, gc=False):
    """What a source decided: the edges tried, the nodes to run next, and the fan-out's items in order."""

    tried: tuple[EdgeTried, ...]
    targets: Sequence[str] = ()
    sends: Sequence[Send] = ()


_ALWAYS: Final = "always"


class EdgeFault(Exception):
    """A predicate or router raised or named an unknown target; `edge` says which. Ends in the run's error."""

    def __init__(self, edge: str, message: str) -> None:
        """Keep the edge and what is wrong with it."""
        super().__init__(f"{edge}: {message}")


def choose(
    source: str, edges: Sequence[Edge], routers: Sequence[Router], state: Callable[[], State]
) -> Chosen:
    """Return what `source` decides on the state. Raises EdgeFault; pure but for the user's predicates."""
    if not routers:
        if len(edges) == 1 and edges[0].when is None:
            return _single(edges[0])
        return _plain(source, edges, state)
    chosen = _plain(source, edges, state) if edges else Chosen(())
    tried, targets, sends = list(chosen.tried), list(chosen.targets), list(chosen.sends)
    for router in routers:
        routed = _route(source, router, state())
        tried += routed.tried
        targets += routed.targets
        sends += routed.sends
    return Chosen(tuple(tried), targets, sends)


def _single(edge: Edge) -> Chosen:
    return Chosen((EdgeTried(edge.target, edge.name, reason=_ALWAYS),), (edge.target,))


def _plain(source: str, edges: Sequence[Edge], state: Callable[[], State]) -> Chosen:
    if all(edge.when is None for edge in edges):
        tried = tuple(EdgeTried(e.target, e.name, reason=_ALWAYS) for e in edges)
        return Chosen(tried, [e.target for e in edges])
    tests: dict[int, EdgeTried] = {}
    taken: Edge | None = None
    for index, edge in enumerate(edges):
        if edge.when is None:
            continue
        if taken is not None:
            tests[index] = EdgeTried(
                edge.target, edge.name, result=False, reason="not tried: an earlier edge held"
            )
        elif _holds(source, edge, state()):
            taken = edge
            tests[index] = EdgeTried(edge.target, edge.name, reason="held")
        else:
            tests[index] = EdgeTried(edge.target, edge.name, result=False, reason="did not hold")
    for index, edge in enumerate(edges):
        if edge.when is None and taken is None:
            taken = edge
            tests[index] = EdgeTried(edge.target, edge.name, reason="default: no other edge held")
        elif edge.when is None:
            tests[index] = EdgeTried(edge.target, edge.name, result=False, reason="default not needed")
    if taken is None:
        raise EdgeFault(
            f"no valid transition from node {source!r}", "none of its edges held and none is the default"
        )
    return Chosen(tuple(tests[i] for i in sorted(tests)), (taken.target,))


def _holds(source: str, edge: Edge, state: State) -> bool:
    label = f"edge {source!r} -> {edge.target!r}"
    try:
        answer = edge.when(state)  # type: ignore[misc]  # only edges with `when` come here
    except BaseException as error:
        raise EdgeFault(label, _raised("predicate", edge.name, error)) from error
    if hasattr(answer, "__await__"):
        _discard(answer)
        raise EdgeFault(
            label, "its predicate is async; predicates run on the loop and must be plain functions"
        )
    return bool(answer)


def _discard(awaitable: Any) -> None:
    """Close a coroutine that nobody will await, so that Python does not warn of it."""
    if hasattr(awaitable, "close"):
        awaitable.close()


def _raised(what: str, name: str, error: BaseException) -> str:
    label = f"{what} {name}" if name else what
    missing = (
        f"; the state has no key {error.args[0]!r}" if isinstance(error, KeyError) and error.args else ""
    )
    return readable(f"{label} raised {type(error).__name__}: {error}{missing}")


def _route(source: str, router: Router, state: State) -> Chosen:
    label = f"conditional edge from {source!r}"
    try:
        answer = router.choose(state)
    except BaseException as error:
        raise EdgeFault(label, _raised("router", router.name, error)) from error
    if hasattr(answer, "__await__"):
        _discard(answer)
        raise EdgeFault(label, "its router is async; routers run on the loop and must be plain functions")
    many = isinstance(answer, list | tuple | set)
    targets: list[str] = []
    sends: list[Send] = []
    for item in answer if many else [answer]:
        if isinstance(item, Send):
            _check_send(label, router, item)
            sends.append(item)
        else:
            targets.append(_target(label, router, item))
    return Chosen(_told(router, targets, sends), targets, sends)


def _check_send(label: str, router: Router, send: Send) -> None:
    if send.node not in router.targets.values():
        raise EdgeFault(label, f"router sent to {send.node!r}, which is none of its targets {_names(router)}")
    if send.node == END:
        raise EdgeFault(label, "router sent an item to END; return END itself")
    if type(send.state) is not dict and not isinstance(send.state, Mapping):
        kind = type(send.state).__name__
        raise EdgeFault(label, f"router sent {send.node!r} a state of type {kind}; give a dict or a State")


def _target(label: str, router: Router, item: Any) -> str:
    try:
        return router.targets[item]
    except (KeyError, TypeError):
        raise EdgeFault(
            label, f"router returned {item!r:.80}, which is none of its targets {_names(router)}"
        ) from None


def _names(router: Router) -> str:
    return ", ".join(map(str, router.targets))


def _told(router: Router, targets: Iterable[str], sends: Sequence[Send]) -> tuple[EdgeTried, ...]:
    """Return one edge per possible target: the taken ones with how many items went along, the others as not taken."""
    counts = dict.fromkeys(targets, 1)
    items: dict[str, int] = {}
    for send in sends:
        items[send.node] = items.get(send.node, 0) + 1
    told: list[EdgeTried] = []
    for target in dict.fromkeys(router.targets.values()):
        if target in items:
            told.append(EdgeTried(target, router.name, reason="sent by the router", count=items[target]))
        elif target in counts:
            told.append(EdgeTried(target, router.name, reason="returned by the router"))
        else:
            told.append(EdgeTried(target, router.name, result=False, reason="not returned by the router"))
    return tuple(told)


def router_of(source: str, choose: Callable[[State], Any], targets: object) -> Router:
    """Return a router from the user's function and targets: a list of nodes, or a dict from answers to nodes."""
    if not callable(choose):
        raise DefinitionError(
            f"the router of {source!r} is not callable: {choose!r}", fix="Give a function of (state)."
        )
    if isinstance(targets, Mapping):
        table = dict(targets)
    elif isinstance(targets, list | tuple | set) and targets:
        table = {setting(f"the router of {source!r}", "targets", each, TEXT): each for each in targets}
    else:
        raise DefinitionError(
            f"the router of {source!r} has no targets", fix='List every node it may return: ["a", "b", END].'
        )
    return Router(choose, table, predicate_name(choose))


def check_edge(source: str, edge: Edge, others: Sequence[Edge]) -> None:
    """Refuse an edge that leaves open which one is taken, or that can never be."""
    if not others:
        return
    if edge.when is None and any(other.when is None and other.target == edge.target for other in others):
        raise DefinitionError(f"edge {source!r} -> {edge.target!r} is there already", fix="Add it once.")
    for other in others:
        if edge.when is not None and other.when is edge.when:
            raise DefinitionError(
                f"edges {source!r} -> {other.target!r} and {source!r} -> {edge.target!r} have the same condition",
                fix="The first that holds is taken, so the second never is: give it another `when`, or none.",
            )
    mixed = edge.when is not None or any(other.when is not None for other in others)
    defaults = [each.target for each in (*others, edge) if each.when is None]
    if mixed and len(defaults) > 1:
        raise DefinitionError(
            f"node {source!r} has two default edges: to {defaults[0]!r} and to {defaults[1]!r}",
            fix="Among edges with `when`, leave one without.",
        )


def predicate_name(fn: Callable[..., Any]) -> str:
    """Return the name under which a predicate or router is told; empty for a lambda."""
    name = getattr(fn, "__name__", "")
    return "" if name == "<lambda>" else name
