"""A worker process of a queue's cell: says that it is ready, waits for the word, and works until it is killed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.board import Board
from bench.engines import ENGINES, TASKS, load

READY = "ready\n"


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


@contextlib.contextmanager
def workers(engine: str, url: str, board: Board, count: int = 1, task: str = "work") -> Iterator[None]:
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
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
