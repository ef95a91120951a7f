"""Pictures for other programs to draw: Mermaid and DOT. Conditional ways are dashed; a run's path is coloured."""

from __future__ import annotations

import json
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
    """Return Mermaid flowchart text."""
    numbered = [box for box in picture.boxes if not box.is_end]
    ids = _ENDS | {box.key: f"n{number}" for number, box in enumerate(numbered)}
    lines = ["flowchart TD"]
    lines += [f"    {ids[box.key]}{_mermaid_box(box)}" for box in picture.boxes]
    for way in picture.ways:
        arrow = "-.->" if way.conditional else "-->"
        text = f"|{_quoted(way.text)}|" if way.text else ""
        lines.append(f"    {ids[way.source]} {arrow}{text} {ids[way.target]}")
    return "\n".join(lines + _mermaid_tones(picture, ids)) + "\n"


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
    lines += [_dot_box(box) for box in sorted(picture.boxes, key=lambda box: not box.is_end)]
    for way in picture.ways:
        style = "dashed" if way.conditional else "solid"
        color = f', color="{FILLS[way.tone][1]}"' if way.tone else ""
        width = ", penwidth=2" if way.count else ""
        given = f"label={_text(way.text)}, style={style}{color}{width}"
        lines.append(f"    {_text(way.source)} -> {_text(way.target)} [{given}];")
    return "\n".join([*lines, "}"]) + "\n"


def _dot_box(box: Box) -> str:
    given = ["shape=oval"] if box.is_end else []
    if box.note:
        given.append(f"label={_text(chr(10).join((box.label, box.note)))}")
    if box.tone:
        fill, stroke = FILLS[box.tone]
        given.append(f'style="rounded,filled", fillcolor="{fill}", color="{stroke}"')
    return f"    {_text(box.key)} [{', '.join(given)}];" if given else f"    {_text(box.key)};"


def _text(text: str) -> str:
    """Return a DOT string: quoted like JSON, but with letters as they are."""
    return json.dumps(text, ensure_ascii=False)
