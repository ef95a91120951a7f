"""Pictures of a graph as text: Mermaid and DOT. Conditional ways are dashed, joins marked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from holdfast.core.program import END, START

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.patterns.graph.builder import StateGraph

Way = tuple[str, str, str, bool]  # source, target, label, conditional


def ways(graph: StateGraph) -> Iterator[Way]:
    """Yield every way of the graph in the order of definition."""
    for source, edges in graph.edges.items():
        mixed = any(edge.when is not None for edge in edges)
        for edge in edges:
            label = edge.name or ("when" if edge.when is not None else "else" if mixed else "")
            yield source, edge.target, label, mixed
    for source, routers in graph.routers.items():
        for router in routers:
            answers = {target: answer for answer, target in router.targets.items()}
            for target in dict.fromkeys(router.targets.values()):
                answer = answers[target]
                yield source, target, "" if answer == target else str(answer), True
    for join in graph.joins:
        for source in sorted(join.sources):
            yield source, join.target, "all", False


def mermaid(graph: StateGraph) -> str:
    """Return Mermaid flowchart text."""
    ids = {START: "start", END: "finish"} | {name: f"n{node.order}" for name, node in graph.nodes.items()}
    lines = ["flowchart TD", "    start([START])"]
    lines += [f"    {ids[name]}[{_quoted(name)}]" for name in graph.nodes]
    lines.append("    finish([END])")
    for source, target, label, conditional in ways(graph):
        arrow = "-.->" if conditional else "-->"
        text = f"|{_quoted(label)}|" if label else ""
        lines.append(f"    {ids[source]} {arrow}{text} {ids[target]}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;") + '"'


def dot(graph: StateGraph) -> str:
    """Return a Graphviz digraph."""
    lines = [
        f"digraph {_text(graph.name or 'graph')} {{",
        "    rankdir=TB;",
        "    node [shape=box, style=rounded];",
    ]
    lines += [f"    {_text(point)} [shape=oval];" for point in (START, END)]
    lines += [f"    {_text(name)};" for name in graph.nodes]
    for source, target, label, conditional in ways(graph):
        style = "dashed" if conditional else "solid"
        lines.append(f"    {_text(source)} -> {_text(target)} [label={_text(label)}, style={style}];")
    return "\n".join([*lines, "}"]) + "\n"


def _text(text: str) -> str:
    """Return a DOT string: quoted like JSON, but with letters as they are."""
    return json.dumps(text, ensure_ascii=False)
