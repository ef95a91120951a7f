"""Pictures for other programs to draw: Mermaid and DOT. Conditional ways are dashed; a run's path is coloured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from holdfast.core.picture.shape import LEGEND, Box, Picture, Tone
from holdfast.core.program import END, START

FILLS: Final[dict[Tone, tuple[str, str]]] = {
    "completed": ("#dcf3e3", "#1a7f43"),
    "running": ("#dbeafe", "#1d5fc4"),
    "waiting": ("#fdf1cf", "#9a6700"),
    "failed": ("#fde0de", "#c5221f"),
    "idle": ("#f4f4f5", "#a1a1aa"),
}
"""By tone: the colour of the ground, and that of the line."""

_ENDS: Final = {START: "start", END: "finish"}


def mermaid(picture: Picture) -> str:
    """Return Mermaid flowchart text. A node that is a graph is drawn around it."""
    ids = _ids(picture)
    # The ways of the outermost graph come first: those are counted where a run's path is coloured.
    lines = [*_mermaid_boxes(picture, ids), *_mermaid_ways(picture, ids), *_mermaid_within(picture, ids)]
    return "\n".join(["flowchart TD", *lines, *_mermaid_tones(picture, ids)]) + "\n"


def _ids(picture: Picture, within: str = "") -> dict[str, str]:
    numbered = [box for box in picture.boxes if not box.is_end]
    ids = _ENDS | {box.key: f"n{number}" for number, box in enumerate(numbered)}
    return {key: f"{within}{id_}" for key, id_ in ids.items()}


def _mermaid_boxes(picture: Picture, ids: dict[str, str], depth: int = 1) -> Iterator[str]:
    indent = "    " * depth
    for box in picture.boxes:
        id_ = ids[box.key]
        if box.inner is None:
            yield f"{indent}{id_}{_mermaid_box(box)}"
            continue
        yield f"{indent}subgraph {id_}[{_quoted(box.label, box.note)}]"
        yield from _mermaid_boxes(box.inner, _ids(box.inner, f"{id_}_"), depth + 1)
        yield f"{indent}end"


def _mermaid_ways(picture: Picture, ids: dict[str, str]) -> Iterator[str]:
    for way in picture.ways:
        arrow = "-.->" if way.conditional else "-->"
        text = f"|{_quoted(way.text)}|" if way.text else ""
        yield f"    {ids[way.source]} {arrow}{text} {ids[way.target]}"


def _mermaid_within(picture: Picture, ids: dict[str, str]) -> Iterator[str]:
    for box in picture.boxes:
        if box.inner is not None:
            inner = _ids(box.inner, f"{ids[box.key]}_")
            yield from _mermaid_ways(box.inner, inner)
            yield from _mermaid_within(box.inner, inner)


def _mermaid_box(box: Box) -> str:
    if box.is_end:
        return f"([{box.label}])"
    return f"[{_quoted(box.label, box.note)}]"


def _mermaid_tones(picture: Picture, ids: dict[str, str]) -> list[str]:
    lines: list[str] = []
    if picture.tones:
        named = [f"legend_{tone}[{_quoted(LEGEND[tone])}]" for tone in picture.tones]
        lines += [
            '    subgraph legend[" "]',
            "        direction LR",
            f"        {' ~~~ '.join(named)}",
            "    end",
        ]
        lines.append("    style legend fill:none,stroke:none")
    for tone in picture.tones:
        fill, stroke = FILLS[tone]
        lines.append(f"    classDef {tone} fill:{fill},stroke:{stroke},color:#18181b")
        named = [ids[box.key] for box in picture.boxes if box.tone == tone] + [f"legend_{tone}"]
        lines.append(f"    class {','.join(named)} {tone}")
    for index, way in enumerate(picture.ways):
        if way.tone:
            width = "3px" if way.count else "1px"
            lines.append(f"    linkStyle {index} stroke:{FILLS[way.tone][1]},stroke-width:{width}")
    return lines


def _quoted(*lines: str) -> str:
    texts = (line.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;") for line in lines if line)
    return f'"{"<br/>".join(texts)}"'


def dot(picture: Picture) -> str:
    """Return a Graphviz digraph."""
    lines = [
        f"digraph {_text(picture.name or 'graph')} {{",
        "    rankdir=TB;",
        "    node [shape=box, style=rounded];",
    ]
    if any(box.inner is not None for box in picture.boxes):
        lines.append("    compound=true;")
    return "\n".join([*lines, *_dot_within(picture), "}"]) + "\n"


def _dot_within(picture: Picture, path: str = "", depth: int = 1) -> Iterator[str]:
    """Yield the boxes and ways of a graph; a node that is a graph is a cluster around that."""
    indent = "    " * depth
    inner = {box.key: box.inner for box in picture.boxes if box.inner is not None}
    for box in sorted(picture.boxes, key=lambda box: not box.is_end):
        if box.inner is None:
            yield indent + _dot_box(box, path)
            continue
        yield f"{indent}subgraph {_text(f'cluster_{path}{box.key}')} {{"
        note = f"\n{box.note}" if box.note else ""
        yield f"{indent}    label={_text(box.label + note)};"
        yield from _dot_within(box.inner, f"{path}{box.key}/", depth + 1)
        yield f"{indent}}}"
    for way in picture.ways:
        style = "dashed" if way.conditional else "solid"
        color = f', color="{FILLS[way.tone][1]}"' if way.tone else ""
        width = ", penwidth=2" if way.count else ""
        given = f"label={_text(way.text)}, style={style}{color}{width}"
        source, target = (f"{path}{end}" for end in (way.source, way.target))
        if way.source in inner:
            given, source = f"{given}, ltail={_text(f'cluster_{source}')}", f"{source}/{END}"
        if way.target in inner:
            given, target = f"{given}, lhead={_text(f'cluster_{target}')}", f"{target}/{START}"
        yield f"{indent}{_text(source)} -> {_text(target)} [{given}];"


def _dot_box(box: Box, path: str) -> str:
    given = ["shape=oval"] if box.is_end else []
    if box.note:
        given.append(f"label={_text(chr(10).join((box.label, box.note)))}")
    elif path:
        given.append(f"label={_text(box.label)}")
    if box.tone:
        fill, stroke = FILLS[box.tone]
        given.append(f'style="rounded,filled", fillcolor="{fill}", color="{stroke}"')
    name = _text(f"{path}{box.key}")
    return f"{name} [{', '.join(given)}];" if given else f"{name};"


def _text(text: str) -> str:
    """Return a DOT string: quoted like JSON, but with letters as they are."""
    return json.dumps(text, ensure_ascii=False)
