"""A log of page readings outside of the engine: the witness that finished pages are not read again.

One line of JSON per reading, written with a single append when the reading begins, so that lines of several
processes do not mix and a killed process leaves the line of every reading that it had begun.
"""

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Read:
    """One reading of one page."""

    document: str
    page: int
    enhanced: bool
    pid: int


class ReadLog:
    """Appends readings to a file and counts them."""

    def __init__(self, path: Path) -> None:
        """Takes the file's path; the file is made by the first reading."""
        self.path = path

    def record(self, document: str, page: int, *, enhanced: bool = False) -> None:
        """Appends one reading by this process."""
        line = json.dumps(asdict(Read(document, page, enhanced, os.getpid()))) + "\n"
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode())

    def reads(self) -> list[Read]:
        """Returns all readings so far, oldest first."""
        if not self.path.exists():
            return []
        return [Read(**json.loads(line)) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def times_read(self) -> Counter[int]:
        """Returns how often each page was read as it is; readings of enhanced pages are not counted."""
        return Counter(read.page for read in self.reads() if not read.enhanced)
