"""A queue drained: jobs that were enqueued before, by one or more workers. From the first start to the last end.

The last end is read from the database: every job has ended there, not only in a worker's memory.
"""

from __future__ import annotations

import asyncio
import time

from bench.board import Board
from bench.engines import ENGINES, load
from bench.engines.worker import workers
from bench.measure import case_parser, emit
from bench.server import connect


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
        workers(arguments.engine, arguments.url, board, arguments.workers) as crew,
    ):
        crew.until(lambda: board.started() == board.size, lambda: f"{board.started()} jobs started")
        seconds = crew.drained(connection, engine.UNENDED) - board.first()
    emit(
        {
            "jobs_per_second": arguments.jobs / seconds,
            "seconds": seconds,
            "enqueue_seconds": enqueued,
            "started_again": board.repeated(),
        }
    )


if __name__ == "__main__":
    main()
