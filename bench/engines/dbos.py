"""DBOS queues: a workflow of one step per job.

The queue has no limit per worker, so that one poll takes all that is ready, and polls ten times as often as by
default for the drained queue: with the defaults a worker of ten slots ends ten jobs a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import sqlalchemy
from dbos import DBOS, DBOSClient, EnqueueOptions

from bench.board import Board
from bench.dbos_engine import launched
from bench.engines import STEPS, Enqueue

UNENDED = "SELECT count(*) FROM dbos.workflow_status WHERE status <> 'SUCCESS'"
QUEUE = "bench"
POLL_SECONDS = 0.1
BATCH = 500
OPTIONS: EnqueueOptions = {"workflow_name": "one_step", "queue_name": QUEUE}


def define(mark: Callable[[int], None]) -> Callable[[], None]:
    def defined() -> None:
        @DBOS.step(name="step")
        def step(job: int) -> int:
            mark(job)
            return job

        @DBOS.workflow(name="one_step")
        def one_step(job: int) -> Any:
            return step(job)

    return defined


async def fill(url: str, jobs: range) -> None:
    await asyncio.to_thread(_fill, url, jobs)


def _fill(url: str, jobs: range) -> None:
    with launched(url, define(lambda _: None)):  # makes the schema
        pass
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    client = DBOSClient(system_database_url=url)
    for begin in range(0, len(jobs), BATCH):
        with engine.begin() as connection:
            for job in jobs[begin : begin + BATCH]:
                client.enqueue_in_transaction(connection, OPTIONS, job)
    client.destroy()
    engine.dispose()


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[Enqueue]:
    opened = DBOSClient(system_database_url=url)
    try:
        yield lambda job: opened.enqueue_async(OPTIONS, job)
    finally:
        opened.destroy()


async def work(url: str, board: Board) -> None:
    with launched(url, define(board.mark)):
        await asyncio.to_thread(DBOS.register_queue, QUEUE, polling_interval_sec=POLL_SECONDS)
        await asyncio.Event().wait()


def define_three(board: Board, *, ends: bool) -> Callable[[], Any]:
    def defined() -> Any:
        runs = board.size // STEPS

        @DBOS.step(name="step")
        async def step(index: int, run: int) -> int:
            board.mark(index * runs + run)
            if index == 1 and not ends:
                await asyncio.Event().wait()
            return index

        @DBOS.workflow(name="three_steps")
        async def three_steps(run: int) -> None:
            for index in range(STEPS):
                await step(index, run)

        return three_steps

    return defined


async def begin(url: str, board: Board) -> None:
    with launched(url, define_three(board, ends=False)) as workflow:
        for run in range(board.size // STEPS):
            await DBOS.start_workflow_async(workflow, run)
        await asyncio.Event().wait()


async def take_up(url: str, board: Board) -> None:
    with launched(url, define_three(board, ends=True)):
        await asyncio.Event().wait()
