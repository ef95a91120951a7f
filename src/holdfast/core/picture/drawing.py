"""Drawing a picture in a format by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from holdfast.core.picture.shape import Picture
from holdfast.core.picture.svg import svg
from holdfast.core.picture.terminal import text
from holdfast.core.picture.texts import dot, mermaid
from holdfast.errors import PayloadRejected

FORMATS: Final[dict[str, Callable[[Picture], str]]] = {
    "mermaid": mermaid,
    "dot": dot,
    "svg": svg,
    "ascii": text,
}


def drawn(picture: Picture, format: str) -> str:
    """Return the picture in one of the formats; raises PayloadRejected for another."""
    draw = FORMATS.get(format)
    if draw is None:
        raise PayloadRejected(
            f"format={format!r:.80}", field="format", fix=f"Use one of {', '.join(FORMATS)}."
        )
    return draw(picture)
