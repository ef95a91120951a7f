"""What every builder of a workflow can be drawn as."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.core.picture.shape import Picture


class Drawable:
    """Something with a picture. Nothing is laid out before it is asked for."""

    __slots__ = ()

    @abstractmethod
    def picture(self) -> Picture:
        """Return what a picture shows: boxes, and the ways between them."""

    def _drawn(self, format: str) -> str:
        from holdfast.core.picture.drawing import drawn  # noqa: PLC0415 - only for pictures

        return drawn(self.picture(), format)

    def to_mermaid(self) -> str:
        """Return it as Mermaid text."""
        return self._drawn("mermaid")

    def to_dot(self) -> str:
        """Return it in Graphviz's DOT language."""
        return self._drawn("dot")

    def to_svg(self) -> str:
        """Return it as an SVG document."""
        return self._drawn("svg")

    def to_ascii(self) -> str:
        """Return it as text, drawn with lines."""
        return self._drawn("ascii")
