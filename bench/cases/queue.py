"""A queue drained: jobs that were enqueued before, by one or more workers. From the first start to the last end.

The last end is read from the database: every job has ended there, not only in a worker's memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import psycopg

from bench.board import Board
from bench.engines import ENGINES, load
from bench.engines.worker import workers
from bench.measure import case_parser, emit
from bench.server import connect

POLL_SECONDS = 0.005
PATIENCE_SECONDS = 300


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    engine = load(arguments.engine)
    begun = time.monotonic()
    asyncio.run(engine.fill(arguments.url, range(arguments.jobs)))
    enqueued = time.monotonic() - begun
    board = Board(arguments.directory / "board", arguments.jobs)
    with (
        connect(arguments.url) as connection,
        workers(arguments.engine, arguments.url, board, arguments.workers),
    ):
        until(lambda: board.started() == board.size, lambda: f"{board.started()} jobs started")
        seconds = drained(connection, engine.UNENDED) - board.first()
    emit(
        {
            "jobs_per_second": arguments.jobs / seconds,
            "seconds": seconds,
            "enqueue_seconds": enqueued,
            "started_again": board.repeated(),
        }
    )


def until(holds: Callable[[], bool], found: Callable[[], str]) -> None:
    """Wait until it holds; raise RuntimeError with what was found instead after `PATIENCE_SECONDS`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            message = f"{found()} within {PATIENCE_SECONDS} s"
            raise RuntimeError(message)
        time.sleep(POLL_SECONDS)


def drained(connection: psycopg.Connection[Any], unended: str) -> float:
    """Wait until every job has ended in the database; return when."""

    def left() -> int:
        (count,) = connection.execute(unended).fetchone()  # type: ignore[misc, arg-type]
        return int(count)

    until(lambda: left() == 0, lambda: f"{left()} jobs were left")
    return time.monotonic()


if __name__ == "__main__":
    main()
