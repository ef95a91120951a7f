"""How a run is shown while it goes on: a tree drawn anew, a line for each event, or JSON lines.

A screen gets every event once, in order, and is told regularly that time passes.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from holdfast.cli.formats import utc_now
from holdfast.cli.lines import tell_together
from holdfast.cli.output import Output
from holdfast.cli.tree import draw
from holdfast.cli.view import RunView
from holdfast.model.event import RunEvent

if TYPE_CHECKING:
    from rich.live import Live

FRAME_SECONDS: Final = 0.1
LAST_LINES: Final = 100
"""Lines of the last picture; `holdfast show` has all."""

LINES_SECONDS: Final = 0.25
"""How long lines are held back, for those of one kind to come together."""


class Screen(Protocol):
    """Shows one run."""

    view: RunView

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the last state and end."""

    def absorb(self, event: RunEvent, *, old: bool = False) -> None:
        """Take an event in; an `old` one happened before anybody looked."""

    def tick(self) -> None:
        """Draw, when it is time."""


def screen_for(out: Output, view: RunView) -> Screen:
    """Return the screen that fits where the output goes."""
    if out.json:
        return JsonScreen(out, view)
    return TreeScreen(out, view) if out.lively else LineScreen(out, view)


class QuietScreen:
    """Shows nothing and keeps the view."""

    def __init__(self, view: RunView) -> None:
        """Begin with what is in the view."""
        self.view = view

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""

    def absorb(self, event: RunEvent, *, old: bool = False) -> None:
        """Take the event in."""
        self.view.absorb(event)

    def tick(self) -> None:
        """Nothing to draw."""


class JsonScreen(QuietScreen):
    """Each event as a line of JSON."""

    def __init__(self, out: Output, view: RunView) -> None:
        """Write to `out`."""
        super().__init__(view)
        self._out = out

    def absorb(self, event: RunEvent, *, old: bool = False) -> None:
        """Write the event; an old one only counts."""
        super().absorb(event)
        if not old:
            self._out.raw(event.to_json())


class LineScreen(QuietScreen):
    """A line for each event; those that come together share one."""

    def __init__(self, out: Output, view: RunView) -> None:
        """Write to `out`."""
        super().__init__(view)
        self._out = out
        self._held: list[RunEvent] = []
        self._written = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is held back."""
        self._write()

    def absorb(self, event: RunEvent, *, old: bool = False) -> None:
        """Keep the event for its line."""
        super().absorb(event)
        if not old:
            self._held.append(event)

    def tick(self) -> None:
        """Write, when there was time to come together."""
        if time.monotonic() - self._written >= LINES_SECONDS:
            self._write()

    def _write(self) -> None:
        held, self._held = self._held, []
        self._written = time.monotonic()
        for told in tell_together([event for event in held if is_news(event)]):
            self._out.say(*told.parts())


class TreeScreen(QuietScreen):
    """A tree on a terminal, drawn anew ten times a second; what others print goes above it."""

    def __init__(self, out: Output, view: RunView) -> None:
        """Draw on `out`."""
        super().__init__(view)
        self._out = out
        self._live: Live | None = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        """Begin to draw."""
        from rich.live import Live

        self._live = Live(
            console=self._out.console,
            auto_refresh=False,
            transient=True,
            vertical_overflow="crop",
            screen=False,
        )
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last picture in the terminal's history."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._out.show(draw(self.view, utc_now(), height=LAST_LINES))

    def tick(self) -> None:
        """Draw the next picture."""
        if self._live is None or time.monotonic() - self._drawn < FRAME_SECONDS:
            return
        height = self._out.console.height - 1
        self._live.update(draw(self.view, utc_now(), live=True, height=height), refresh=True)
        self._drawn = time.monotonic()


def is_news(event: RunEvent) -> bool:
    """Tell whether a person wants the line: not of an edge that is always taken."""
    if event.type == "decision":
        edges = event.envelope["edges"]
        return len(edges) != 1 or edges[0]["reason"] != "always"
    return True
