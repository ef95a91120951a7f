"""What the demo writes to the terminal: bars that move where they can, plain lines where they cannot."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .readlog import Read

_COLOURS: Final = {"ACCEPT": "green", "REVIEW": "yellow", "REJECT": "red", "FAILED": "red"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One document's row in the table."""

    document: str
    pages: int
    marking: str
    caveats: Sequence[str]
    confidence: float
    recommendation: str
    enhanced: Sequence[int]
    seconds: float
    reason: str = ""


def labels(documents: Sequence[Path]) -> dict[Path, str]:
    """Returns a short name for each document; two files of one name keep their folders."""
    names = Counter(document.stem for document in documents)
    return {document: document.stem if names[document.stem] == 1 else str(document) for document in documents}


def outcome_of(name: str, result: Mapping[str, Any], seconds: float) -> Outcome:
    """Returns the row for a run's result."""
    classification, confidence = result["classification"], result["confidence"]
    enhanced = [page["page_number"] for page in result["detections"] if page["enhanced_image"]]
    return Outcome(
        name,
        result["page_count"],
        classification["level"],
        classification["caveats"],
        confidence["overall_score"],
        confidence["recommendation"],
        enhanced,
        seconds,
        classification["rationale"],
    )


def failure_of(name: str, reason: str, seconds: float) -> Outcome:
    """Returns the row for a run that failed."""
    return Outcome(name, 0, "", (), 0.0, "FAILED", (), seconds, reason)


class Board:
    """Live progress of several documents."""

    def __init__(self, console: Console) -> None:
        """Takes the console to write to."""
        self._console = console
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("pages"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._width = 0

    @contextmanager
    def live(self, names: Iterable[str]) -> Iterator["Board"]:
        """Shows a line for each name until the block ends."""
        listed = list(names)
        self._width = max(map(len, listed), default=0)
        for name in listed:
            self._tasks[name] = self._bars.add_task(name.ljust(self._width), total=None, note="")
        if not self._console.is_terminal:
            yield self
            return
        with self._bars:
            yield self

    def pages_known(self, name: str, total: int) -> None:
        """Says how many pages a document has."""
        self._bars.update(self._tasks[name], total=total)

    def pages_kept(self, name: str, count: int) -> None:
        """Counts pages that were read before."""
        self._bars.advance(self._tasks[name], count)
        self.note(name, f"{count} pages are in the store")

    def page_read(self, name: str) -> None:
        """Counts one page that was read."""
        self._bars.advance(self._tasks[name])
        task = self._bars.tasks[self._tasks[name]]
        self._plain(name, f"{task.completed:.0f} of {task.total or 0:.0f} pages read")

    def note(self, name: str, note: str, colour: str = "dim") -> None:
        """Puts a word behind a document's bar."""
        self._bars.update(self._tasks[name], note=f"[{colour}]{note}[/]")
        self._plain(name, note)

    def done(self, name: str, recommendation: str) -> None:
        """Stops a document's clock and shows what is recommended."""
        self.note(name, recommendation, _COLOURS.get(recommendation, "dim"))
        self._bars.stop_task(self._tasks[name])

    def _plain(self, name: str, text: str) -> None:
        # Bars in a file or a pipe would be unreadable; there each step is one line.
        if not self._console.is_terminal:
            self._console.print(f"  {name.ljust(self._width)}  {text}", highlight=False)


def outcomes_table(outcomes: Iterable[Outcome]) -> Table:
    """Returns the table of all documents."""
    # Fits into a terminal of 80 columns.
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in ("document", "pages", "marking", "caveats", "score", "advice", "enhanced", "time"):
        right = heading in {"pages", "score", "time"}
        wraps = heading in {"document", "caveats"}
        table.add_column(heading, justify="right" if right else "left", no_wrap=not wraps)
    for row in outcomes:
        failed = row.recommendation == "FAILED"
        table.add_row(
            row.document,
            "" if failed else str(row.pages),
            row.marking,
            ", ".join(row.caveats) or "-",
            "" if failed else f"{row.confidence:.2f}",
            Text(row.recommendation, style=_COLOURS[row.recommendation]),
            pages_text(row.enhanced) or "-",
            f"{row.seconds:.0f} s",
        )
    return table


def pages_text(pages: Iterable[int]) -> str:
    """Returns page numbers, or nothing when there are none."""
    return ", ".join(map(str, sorted(pages)))


def readings_table(reads: Iterable[Read], pages: int, finished: set[int], killed_pid: int) -> Table:
    """Returns which process read which page: a row for the killed one and a row for the one that went on."""
    plain = [read for read in reads if not read.enhanced]
    before = {read.page for read in plain if read.pid == killed_pid}
    after = {read.page for read in plain if read.pid != killed_pid}
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("page", no_wrap=True)
    for number in range(1, pages + 1):
        table.add_column(str(number), justify="center")
    marks = [_mark(number, before, finished) for number in range(1, pages + 1)]
    table.add_row("read by the killed process", *marks)
    table.add_row(
        "read after the restart",
        *("[green]x[/]" if number in after else "." for number in range(1, pages + 1)),
    )
    return table


def _mark(number: int, before: set[int], finished: set[int]) -> str:
    if number in finished:
        return "[green]x[/]"
    return "[yellow]~[/]" if number in before else "."
