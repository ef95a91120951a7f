"""What the picture of a graph shows: its nodes, and its ways with their labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from holdfast.core.picture.shape import Box, Picture, Way
from holdfast.core.program import END, START
from holdfast.patterns.graph.nested import graph_in

if TYPE_CHECKING:
    from holdfast.patterns.graph.builder import StateGraph
    from holdfast.patterns.graph.nodes import Node


def picture(graph: StateGraph) -> Picture:
    """Return what a picture of the graph shows. Conditional ways are marked, joins labelled."""
    nodes = [_box(node) for node in graph.nodes.values()]
    boxes = (Box(START, START, is_end=True), *nodes, Box(END, END, is_end=True))
    return Picture(graph.name, boxes, tuple(_ways(graph)))


def _box(node: Node) -> Box:
    graph = None if node.workflow is None else graph_in(node)
    return Box(node.name, node.name, inner=None if graph is None else picture(graph))


def _ways(graph: StateGraph) -> Iterator[Way]:
    """Yield every way of the graph in the order of definition."""
    for source, edges in graph.edges.items():
        mixed = any(edge.when is not None for edge in edges)
        for edge in edges:
            label = edge.name or ("when" if edge.when is not None else "else" if mixed else "")
            yield Way(source, edge.target, label, conditional=mixed)
    for source, routers in graph.routers.items():
        for router in routers:
            answers = {target: answer for answer, target in router.targets.items()}
            for target in dict.fromkeys(router.targets.values()):
                answer = answers[target]
                yield Way(source, target, "" if answer == target else str(answer), conditional=True)
    for join in graph.joins:
        for source in sorted(join.sources):
            yield Way(source, join.target, "all")
