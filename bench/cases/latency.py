"""From enqueue to start on an idle system: one worker process waits, a client in another enqueues one job at a time.

The time is taken from before the client's call to the job's first line of code, so it holds the commit of the
enqueue, the way to the worker, and the claim. Beside it one INSERT+COMMIT on the same server, with nothing else.
"""

from __future__ import annotations

import asyncio
import time

from bench.board import Board
from bench.cases import bare_postgres
from bench.engines import ENGINES, QueueEngine, load
from bench.engines.worker import Crew, workers
from bench.measure import case_parser, emit, quantile
from bench.server import connect

BARE_SECONDS = 0.3
WARM_UP_JOBS = 3
LOOK_SECONDS = 0.001
REST_SECONDS = 0.02


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--jobs", type=int, default=100)
    arguments = parser.parse_args()
    engine = load(arguments.engine)
    board = Board(arguments.directory / "board", WARM_UP_JOBS + arguments.jobs)
    asyncio.run(engine.fill(arguments.url, range(0)))
    with workers(arguments.engine, arguments.url, board) as crew:
        waits = asyncio.run(measure(engine, crew, arguments.url, board))[WARM_UP_JOBS:]
    with connect(arguments.url) as connection:
        commits = bare_postgres.measure(connection, 1, BARE_SECONDS)
    emit(
        {
            "p50_ms": 1000 * quantile(waits, 0.5),
            "p99_ms": 1000 * quantile(waits, 0.99),
            "commit_ms": 1000 * quantile(commits.latencies, 0.5),
            "jobs": len(waits),
        }
    )


async def measure(engine: QueueEngine, crew: Crew, url: str, board: Board) -> list[float]:
    waits = []
    async with engine.client(url) as enqueue:
        for job in range(board.size):
            begun = time.monotonic()
            await enqueue(job)
            while not board.start(job):
                crew.check(begun, lambda: f"{board.started()} jobs started")
                await asyncio.sleep(LOOK_SECONDS)
            waits.append(board.start(job) - begun)
            await asyncio.sleep(REST_SECONDS)
    return waits


if __name__ == "__main__":
    main()
