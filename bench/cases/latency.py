"""From enqueue to start on an idle system: a client enqueues one job at a time, one worker has nothing else to do.

The time is taken from before the client's call to the first line of the job's code, so it holds the commit of the
enqueue, the way to the worker, the claim and whatever the engine commits before user code may run. The worker is
another process, or with `--here` the client's own.

A commit is one bare INSERT+COMMIT of the client through psycopg. It is measured after each job and after the same
rest: an idle system is cold, whoever wakes it, and what else the machine does falls on both.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

import psycopg

from bench.board import Board
from bench.cases.bare_postgres import SCHEMA, SINGLE
from bench.engines import ENGINES, Enqueue, holdfast, load
from bench.engines.worker import Crew, workers
from bench.measure import case_parser, emit, initial_state, quantile
from bench.server import connect

WARM_UP_JOBS = 3
LOOK_SECONDS = 0.001
REST_SECONDS = 0.02


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--here", action="store_true", help="the client works, too; Holdfast only")
    arguments = parser.parse_args()
    engine = load(arguments.engine)
    board = Board(arguments.directory / "board", WARM_UP_JOBS + arguments.jobs)
    asyncio.run(engine.fill(arguments.url, range(0)))
    with connect(arguments.url) as connection:
        connection.execute(SCHEMA)
        if arguments.here:
            one = holdfast.client_that_works(arguments.url, board)
            times = asyncio.run(measure(one, Crew(()), connection, board))
        else:
            with workers(arguments.engine, arguments.url, board) as crew:
                times = asyncio.run(measure(engine.client(arguments.url), crew, connection, board))
    waits, commits = zip(*times[WARM_UP_JOBS:], strict=True)
    emit(
        {
            "p50_ms": 1000 * quantile(waits, 0.5),
            "p99_ms": 1000 * quantile(waits, 0.99),
            "commit_ms": 1000 * quantile(commits, 0.5),
            "jobs": len(waits),
        }
    )


async def measure(
    client: contextlib.AbstractAsyncContextManager[Enqueue],
    crew: Crew,
    connection: psycopg.Connection[Any],
    board: Board,
) -> list[tuple[float, float]]:
    """Return for each job how long it waited for its start, and what a commit took then."""
    times = []
    body = json.dumps(initial_state(0)).encode()
    async with client as enqueue:
        for job in range(board.size):
            begun = time.monotonic()
            await enqueue(job)
            while not board.start(job):
                crew.check(begun, lambda: f"{board.started()} jobs started")
                await asyncio.sleep(LOOK_SECONDS)
            await asyncio.sleep(REST_SECONDS)
            committing = time.monotonic()
            connection.execute(SINGLE, (1, job, body), prepare=True)
            times.append((board.start(job) - begun, time.monotonic() - committing))
            await asyncio.sleep(REST_SECONDS)
    return times


if __name__ == "__main__":
    main()
