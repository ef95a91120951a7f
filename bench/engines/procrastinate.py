"""Procrastinate: a queue without steps. A worker fetches one job per query and has `CONCURRENCY` of them at once."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import procrastinate

from bench.board import Board
from bench.engines import Enqueue

UNENDED = "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'"
CONCURRENCY = 10
BATCH = 1000
boards: list[Board] = []


def application(url: str) -> procrastinate.App:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    @app.task(name="step")
    async def step(job: int) -> None:
        boards[0].mark(job)

    return app


async def fill(url: str, jobs: range) -> None:
    app = application(url)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for begin in range(0, len(jobs), BATCH):
            await app.tasks["step"].batch_defer_async(*({"job": job} for job in jobs[begin : begin + BATCH]))


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[Enqueue]:
    app = application(url)
    async with app.open_async():
        yield lambda job: app.tasks["step"].defer_async(job=job)


async def work(url: str, board: Board) -> None:
    boards.append(board)
    app = application(url)
    async with app.open_async():
        await app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False)
