"""PgQueuer: a queue without steps, over asyncpg. It claims `BATCH` jobs at once and records their ends in groups."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import asyncpg
from pgqueuer import AsyncpgDriver, PgQueuer, Queries
from pgqueuer.models import Job

from bench.board import Board
from bench.engines import Enqueue

UNENDED = "SELECT count(*) FROM pgqueuer"
BATCH = 100
ENTRY = "step"


async def fill(url: str, jobs: range) -> None:
    connection = await asyncpg.connect(url)
    try:
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        await queries.enqueue([ENTRY] * len(jobs), [b"%d" % job for job in jobs], [0] * len(jobs))
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[Enqueue]:
    connection = await asyncpg.connect(url)
    try:
        queries = Queries(AsyncpgDriver(connection))
        yield lambda job: queries.enqueue(ENTRY, b"%d" % job)
    finally:
        await connection.close()


async def work(url: str, board: Board) -> None:
    pgq = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

    @pgq.entrypoint(ENTRY)
    async def step(job: Job) -> None:
        board.mark(int(job.payload or b""))

    await pgq.run(batch_size=BATCH)
