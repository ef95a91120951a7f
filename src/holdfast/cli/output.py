"""What the command line writes: text for people, or JSON and nothing else.

Everything goes through here. With `--json` stdout holds JSON alone, also when a node prints; errors and remarks go
to stderr.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Final, cast

import msgspec

from holdfast.cli.failures import OutputFailed, as_json, explain
from holdfast.cli.marks import allow_plain_terminals
from holdfast.model.event import to_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

Part = str | tuple[str, str]
"""A piece of a line: text, or (text, style)."""

Cell = Part | list[Part]
"""A cell of a table: one piece or several."""

_UNBOUNDED: Final = 4000
"""Columns of a console that is a file: nothing is cut or wrapped there."""


_CONTROLS: Final = dict.fromkeys(
    [
        *range(9),
        *range(11, 32),
        *range(127, 160),
        0x061C,
        0x200E,
        0x200F,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ],
    "�",
)
"""All but tab and newline; also what makes text run the other way, so that it reads as what it is not."""


class _Stdout:
    """Standard output; what keeps it from being written is told as that, but for a reader that is gone."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _told():
            return self._stream.write(text)

    def flush(self) -> None:
        with _told():
            self._stream.flush()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (BrokenPipeError, UnicodeError):
        raise
    except OSError as error:
        raise OutputFailed(f"standard output cannot be written: {error.strerror}") from error
    except ValueError as error:  # a user's code closed it
        raise OutputFailed("standard output is closed") from error


class Output:
    """Where this invocation writes, and how."""

    def __init__(self, *, json: bool = False, color: bool = True, traceback: bool = False) -> None:
        """Keep the streams of the moment: a node that prints must not mix with ours."""
        self.json: Final = json
        self.traceback: Final = traceback
        self._color: Final = color
        self._stdout: Final = cast("IO[str]", _Stdout(sys.stdout))
        self._stderr: Final = sys.stderr
        for stream in (self._stdout, self._stderr):
            with contextlib.suppress(AttributeError, ValueError):
                stream.reconfigure(errors=allow_plain_terminals())  # type: ignore[union-attr]

    @property
    def lively(self) -> bool:
        """Tell whether stdout is a terminal where lines can be drawn anew."""
        return not self.json and self._stdout.isatty() and os.environ.get("TERM") != "dumb"

    @cached_property
    def console(self) -> Console:
        """The console for people."""
        return self._console(self._stdout)

    @cached_property
    def errors(self) -> Console:
        """The console for errors and remarks."""
        return self._console(self._stderr)

    def _console(self, file: IO[str]) -> Console:
        from rich.console import Console

        class Plain(Console):
            def on_broken_pipe(self) -> None:
                """Leave it to the command what to do, where rich would end the process."""
                raise BrokenPipeError

        width = None if file.isatty() or "COLUMNS" in os.environ else _UNBOUNDED
        color = None if self._color else True
        return Plain(file=file, width=width, no_color=color, highlight=False, markup=False, emoji=False)

    @contextlib.contextmanager
    def clean(self) -> Iterator[None]:
        """Within, what a user's code prints goes to stderr when stdout is for JSON."""
        if not self.json:
            yield
            return
        with contextlib.redirect_stdout(self._stderr):
            yield

    def leave_screen(self) -> None:
        """Begin a line of its own with a cursor, in the middle of whatever was drawn; for the end of the process."""
        if self.lively:
            self._stdout.write("\n\x1b[?25h")
            self.__dict__.pop("console", None)  # the old one would draw its picture again

    def flush(self) -> None:
        """Have everything written. Raises BrokenPipeError, OutputFailed."""
        if not self._stdout.closed:
            self._stdout.flush()

    # --- JSON

    def document(self, value: Any) -> None:
        """Write one JSON document; indented on a terminal."""
        text = to_json(value)
        self.raw(msgspec.json.format(text, indent=2) if self._stdout.isatty() else text)

    def raw(self, line: bytes) -> None:
        """Write one line of JSON, at once."""
        self._stdout.write(line.decode() + "\n")
        self._stdout.flush()

    # --- text

    def say(self, *parts: Part) -> None:
        """Write a line."""
        self.console.print(text_of(*parts), soft_wrap=True)

    def text(self, text: str) -> None:
        """Write a text as it is, however long; laying it out would take its time."""
        self._stdout.write(f"{text.translate(_CONTROLS)}\n")

    def indented(self, indent: int, *parts: Part) -> None:
        """Write a text that keeps its distance from the left where it is wrapped."""
        from rich.padding import Padding

        self.console.print(Padding(text_of(*parts), (0, 0, 0, indent), expand=False))

    def note(self, *parts: Part) -> None:
        """Write a remark to stderr; with `--json` that is for errors."""
        if not self.json:
            self.errors.print(text_of(*parts), soft_wrap=True, style="dim")

    def show(self, thing: RenderableType) -> None:
        """Write a table or a tree."""
        self.console.print(thing)

    def table(
        self, headings: Sequence[str], rows: Iterable[Sequence[Cell]], right: Sequence[str] = ()
    ) -> None:
        """Write a table; headings in `right` have their columns to the right."""
        table = table_of(headings, rows, right)
        if self._stdout.isatty():
            self.show(table)
            return
        with self.console.capture() as written:  # a file needs no blanks at the ends of its lines
            self.show(table)
        for line in written.get().splitlines():
            self._stdout.write(f"{line.rstrip()}\n")

    # --- errors

    def failure(self, error: BaseException) -> None:
        """Write an error and what to do; with its traceback when that was asked for."""
        if self.traceback:
            self._stderr.write("".join(traceback.format_exception(error)))
        if self.json:
            self._stderr.write(as_json(error) + "\n")
            return
        _, message, fix = explain(error)
        self.errors.print(text_of(("error: ", "bold red"), message), soft_wrap=True)
        if fix:
            self.errors.print(text_of(("fix: ", "bold green"), fix), soft_wrap=True)

    def warn(self, message: str) -> None:
        """Write a warning to stderr."""
        self.errors.print(text_of(("warning: ", "bold yellow"), message), soft_wrap=True)


def text_of(*parts: Part) -> Text:
    """Return the parts as one rich text."""
    from rich.text import Text

    return Text.assemble(*(_safe(part) for part in parts))


def _safe(part: Part) -> Part:
    """Return a piece without control characters: what a user's code says must not steer the terminal."""
    text = part if isinstance(part, str) else part[0]
    if text.isprintable():
        return part
    text = text.translate(_CONTROLS)
    return text if isinstance(part, str) else (text, part[1])


def table_of(headings: Sequence[str], rows: Iterable[Sequence[Cell]], right: Sequence[str] = ()) -> Table:
    """Return a table without lines, a line for each row; where room is short the last column is cut."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        last = heading is headings[-1]
        table.add_column(heading, justify="right" if heading in right else "left", no_wrap=not last)
    for row in rows:
        cells = [text_of(*cell) if isinstance(cell, list) else text_of(cell) for cell in row]
        for cell in cells:
            cell.no_wrap, cell.overflow = True, "ellipsis"
        table.add_row(*cells)
    return table
