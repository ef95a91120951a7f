"""Which jobs have started, and when: a file in shared memory that the workers of a cell write and its parent reads.

A job has two numbers: the instant of its first start on the monotonic clock, which all processes of a machine
share, and how often it started. Marking costs a microsecond and no system call.
"""

from __future__ import annotations

import mmap
import time
from pathlib import Path

BYTES_PER_JOB = 16


class Board:
    def __init__(self, path: Path, size: int) -> None:
        if not path.exists():
            path.write_bytes(bytes(BYTES_PER_JOB * size))
        with path.open("r+b") as file:
            memory = memoryview(mmap.mmap(file.fileno(), 0))
        self.path = path
        self.size = size
        self._starts = memory[: 8 * size].cast("d")
        self._counts = memory[8 * size :].cast("q")

    def mark(self, job: int) -> None:
        """Note that the job starts now."""
        self._counts[job] += 1
        if self._counts[job] == 1:
            self._starts[job] = time.monotonic()

    def start(self, job: int) -> float:
        """When the job first started; 0 if it did not yet."""
        return self._starts[job]

    def started(self, jobs: range | None = None) -> int:
        """How many of these jobs, or of all, have started."""
        return sum(start > 0 for start in self._among(jobs))

    def first(self) -> float:
        """When the first job started."""
        return min(start for start in self._among(None) if start)

    def last(self, jobs: range) -> float:
        """When the last of these jobs started."""
        return max(self._among(jobs))

    def repeated(self) -> int:
        """How many jobs started more than once."""
        return sum(count > 1 for count in self._counts.tolist())

    def _among(self, jobs: range | None) -> list[float]:
        chosen = self._starts if jobs is None else self._starts[jobs.start : jobs.stop]
        return chosen.tolist()
