"""What a claim of 100 ready jobs costs among 1,000 ended runs, and among 1,000,000 ended and 100,000 waiting ones.

The many are made by SQL from one run that ended and its row: as rows of runs and, for those that wait, arrivals that
are due in a year. A claim reads no journals, so they have none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import time
from typing import Any

import psycopg

from bench.engines import holdfast
from bench.measure import case_parser, emit
from bench.server import connect
from holdfast import Engine
from holdfast.store.open import open_store

JOBS = 100
CLAIMS = 20
FEW = 1_000
MANY, WAITING = 1_000_000, 100_000
QUICK_SHARE = 10
WORKER = "bench"
LANES = [("default", "one-step")]
YEAR = 365 * 86_400 * 1_000_000


def main() -> None:
    parser = case_parser(__doc__)
    arguments = parser.parse_args()
    emit(asyncio.run(measure(arguments)))


async def measure(arguments: argparse.Namespace) -> dict[str, float]:
    share = QUICK_SHARE if arguments.quick else 1
    holdfast.define(lambda _: None)
    async with Engine(arguments.url, observers=()) as engine:
        await engine.execute("one-step", {"job": 0})
    with connect(arguments.url) as connection:
        ended(connection, 0, FEW)
        few = await claims(arguments.url)
        ended(connection, FEW, MANY // share)
        waiting(connection, WAITING // share)
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute("CHECKPOINT")  # what we wrote is not the claims' to write out
        many = await claims(arguments.url)
    return {"few_ms": 1000 * few, "many_ms": 1000 * many, "ended": MANY // share, "waiting": WAITING // share}


def ended(connection: psycopg.Connection[Any], begin: int, end: int) -> None:
    changes = {"id": "'ended-' || n", "created_at": "created_at - n"}
    copies(connection, "holdfast.workflow_runs", "WHERE status = 'completed'", changes, begin, end)


def waiting(connection: psycopg.Connection[Any], count: int) -> None:
    changes = {"id": "'waiting-' || n", "created_at": "created_at - n", "status": "'waiting'"}
    copies(connection, "holdfast.workflow_runs", "WHERE status = 'completed'", changes, 0, count)
    due = time.time_ns() // 1000 + YEAR
    connection.execute(
        "INSERT INTO holdfast.inbox (run, key, due, at, fact) "
        "SELECT 'waiting-' || n, 'timer', %s::bigint + n, 0, NULL FROM generate_series(1, %s) AS n",
        (due, count),
    )


def copies(
    connection: psycopg.Connection[Any], table: str, which: str, changes: dict[str, str], begin: int, end: int
) -> None:
    """Copy one row often, with some columns computed from `n`, from `begin` + 1 to `end`."""
    description = connection.execute(f"SELECT * FROM {table} LIMIT 0").description or ()  # noqa: S608 -- our names
    columns = [column.name for column in description]
    values = ", ".join(changes.get(column, column) for column in columns)
    connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} "  # noqa: S608 -- as above
        f"FROM (SELECT * FROM {table} {which} LIMIT 1) AS template, generate_series({begin} + 1, {end}) AS n"
    )
    connection.execute(f"VACUUM ANALYZE {table}")  # not by itself while we measure


async def claims(url: str) -> float:
    """The median time of one claim."""
    times = []
    store = open_store(url)
    await store.open()
    try:
        for _ in range(CLAIMS):
            await holdfast.fill(url, range(JOBS))
            begun = time.perf_counter()
            claimed = await store.claim(WORKER, LANES, JOBS)
            times.append(time.perf_counter() - begun)
            if len(claimed) != JOBS:
                message = f"{len(claimed)} of {JOBS} jobs were claimed"
                raise RuntimeError(message)
    finally:
        await store.close()
    return statistics.median(times)


if __name__ == "__main__":
    main()
