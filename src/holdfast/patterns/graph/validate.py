"""What is wrong with a graph, found before it runs; all problems at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.program import END, START
from holdfast.patterns.graph.nested import graph_in
from holdfast.predicates import always

if TYPE_CHECKING:
    from holdfast.patterns.graph.builder import StateGraph


def problems(graph: StateGraph) -> list[str]:
    """Return one sentence for each problem, in the order of the nodes; empty when the graph can run."""
    if not graph.nodes:
        return ["it has no nodes"]
    ways = _ways(graph)
    if not ways.get(START):
        return [f"it has no entry: add an edge from START to one of {', '.join(graph.nodes)}"]
    found = [f"node {name!r} is a dead end: no edge leaves it" for name in graph.nodes if not ways.get(name)]
    reached = _reach(ways, START)
    found += [f"node {name!r} is unreachable from START" for name in graph.nodes if name not in reached]
    if END not in reached:
        found.append("there is no way to END")
    else:
        back = _reverse(ways)
        ending = _reach(back, END)
        found += [
            f"node {name!r} has no way to END"
            for name in graph.nodes
            if name in reached and ways.get(name) and name not in ending
        ]
    return found + _joins(graph) + _defaults(graph) + _never_taken(graph) + _nested(graph)


def _nested(graph: StateGraph) -> list[str]:
    """Find what is wrong with graphs that nodes were given."""
    return [
        f"the graph of node {name!r}: {problem}"
        for name, node in graph.nodes.items()
        if node.workflow is not None and (inner := graph_in(node)) is not None
        for problem in problems(inner)
    ]


def _ways(graph: StateGraph) -> dict[str, set[str]]:
    ways: dict[str, set[str]] = {}
    for source, edges in graph.edges.items():
        ways.setdefault(source, set()).update(edge.target for edge in edges)
    for source, routers in graph.routers.items():
        for router in routers:
            ways.setdefault(source, set()).update(router.targets.values())
    for join in graph.joins:
        for source in join.sources:
            ways.setdefault(source, set()).add(join.target)
    return ways


def _reverse(ways: dict[str, set[str]]) -> dict[str, set[str]]:
    back: dict[str, set[str]] = {}
    for source, targets in ways.items():
        for target in targets:
            back.setdefault(target, set()).add(source)
    return back


def _reach(ways: dict[str, set[str]], origin: str) -> set[str]:
    seen = {origin}
    stack = [origin]
    while stack:
        for target in ways.get(stack.pop(), ()):
            if target not in seen:
                seen.add(target)
                stack.append(target)
    return seen


def _joins(graph: StateGraph) -> list[str]:
    return [
        f"the join into {join.target!r} waits for {join.target!r} itself: leave it out of the list"
        for join in graph.joins
        if join.target in join.sources
    ]


def _defaults(graph: StateGraph) -> list[str]:
    return [
        f"node {source!r} has edges with `when` but no default: add one without `when`"
        for source, edges in graph.edges.items()
        if edges
        and not graph.routers.get(source)
        and not any(edge.when is None or edge.when is always for edge in edges)
    ]


def _never_taken(graph: StateGraph) -> list[str]:
    """Find edges behind one that always holds: those with `when` that were added later, and the default."""
    found = []
    for source, edges in graph.edges.items():
        sure = next((index for index, edge in enumerate(edges) if edge.when is always), len(edges))
        found += [
            f"edge {source!r} -> {edge.target!r} is never taken: the one to {edges[sure].target!r} always holds"
            for index, edge in enumerate(edges)
            if sure < len(edges) and (index > sure or edge.when is None)
        ]
    return found
