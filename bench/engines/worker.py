"""A worker process of a queue's cell: says that it is ready, waits for the word, and works until it is killed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from bench.board import Board
from bench.engines import ENGINES, TASKS, load

READY = "ready\n"
POLL_SECONDS = 0.005
PATIENCE_SECONDS = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--board", type=Path, required=True)
    parser.add_argument("--size", type=int, required=True)
    arguments = parser.parse_args()
    task = getattr(load(arguments.engine), arguments.task)
    board = Board(arguments.board, arguments.size)
    sys.stdout.write(READY)
    sys.stdout.flush()
    sys.stdin.readline()
    asyncio.run(task(arguments.url, board))


class Crew:
    """Worker processes at work, and waiting for what they do."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]]) -> None:
        self._processes = processes

    def check(self, begun: float, found: Callable[[], str]) -> None:
        """Raise RuntimeError with what was found when a worker has ended, or `PATIENCE_SECONDS` after `begun`."""
        if any(process.poll() is not None for process in self._processes):
            message = f"{found()}, then a worker ended"
            raise RuntimeError(message)
        if time.monotonic() - begun > PATIENCE_SECONDS:
            message = f"{found()} within {PATIENCE_SECONDS} s"
            raise RuntimeError(message)

    def until(self, holds: Callable[[], bool], found: Callable[[], str]) -> None:
        begun = time.monotonic()
        while not holds():
            self.check(begun, found)
            time.sleep(POLL_SECONDS)

    def drained(self, connection: psycopg.Connection[Any], unended: str) -> float:
        """Wait until every job has ended in the database; return when."""

        def left() -> int:
            (count,) = connection.execute(unended).fetchone()  # type: ignore[misc, arg-type]
            return int(count)

        self.until(lambda: left() == 0, lambda: f"{left()} jobs were left")
        return time.monotonic()


@contextlib.contextmanager
def workers(engine: str, url: str, board: Board, count: int = 1, task: str = "work") -> Iterator[Crew]:
    """Start workers, have all of them begin at once, and kill them in the end."""
    command = [sys.executable, "-m", "bench.engines.worker", "--engine", engine, "--task", task]
    command += ["--url", url, "--board", str(board.path), "--size", str(board.size)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(count)]  # type: ignore[call-overload]
    try:
        for process in processes:
            if process.stdout.readline() != READY:
                message = f"a worker of {engine} did not get ready"
                raise RuntimeError(message)
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        yield Crew(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
