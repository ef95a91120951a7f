"""Holdfast: a graph of one node per job. A worker has its 100 slots, a client drives nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from bench.board import Board
from bench.engines import STEPS, Enqueue
from holdfast import END, START, Engine, Runtime, State, StateGraph, workflow_factory

UNENDED = "SELECT count(*) FROM holdfast.workflow_runs WHERE status <> 'completed'"
BATCH = 1000


def define(mark: Callable[[int], None]) -> None:
    @workflow_factory("one-step", "one trivial node", replace=True)
    def one_step(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
        graph.add_node("step", step)
        graph.add_edge(START, "step")
        graph.add_edge("step", END)
        return State(params)

    async def step(state: State) -> dict[str, Any]:
        mark(state["job"])
        return {"done": True}


async def fill(url: str, jobs: range) -> None:
    async with client(url) as enqueue:
        for begin in range(0, len(jobs), BATCH):
            await asyncio.gather(*(enqueue(job) for job in jobs[begin : begin + BATCH]))


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[Enqueue]:
    define(lambda _: None)
    async with Engine(url, workers=False, observers=()) as engine:
        yield lambda job: engine.start("one-step", {"job": job})


@contextlib.asynccontextmanager
async def client_that_works(url: str, board: Board) -> AsyncIterator[Enqueue]:
    """What enqueues one job and works itself, in one process."""
    define(board.mark)
    async with Engine(url, observers=()) as engine:
        yield lambda job: engine.start("one-step", {"job": job})


def define_three(mark: Callable[[int], None], runs: int, *, ends: bool) -> None:
    @workflow_factory("three-steps", "the second may never end")
    def three_steps(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
        graph.add_node("first", step(0))
        graph.add_node("second", second)
        graph.add_node("third", step(2))
        graph.add_edge(START, "first")
        graph.add_edge("first", "second")
        graph.add_edge("second", "third")
        graph.add_edge("third", END)
        return State(params)

    def step(index: int) -> Callable[[State], Any]:
        async def run(state: State) -> dict[str, Any]:
            mark(index * runs + state["run"])
            return {"last": index}

        return run

    async def second(state: State) -> dict[str, Any]:
        mark(runs + state["run"])
        if not ends:
            await asyncio.Event().wait()
        return {"last": 1}


async def begin(url: str, board: Board) -> None:
    runs = board.size // STEPS
    define_three(board.mark, runs, ends=False)
    async with Engine(url, observers=(), concurrency=runs) as engine:
        await asyncio.gather(*(engine.start("three-steps", {"run": run}) for run in range(runs)))
        await asyncio.Event().wait()


async def take_up(url: str, board: Board) -> None:
    runs = board.size // STEPS
    define_three(board.mark, runs, ends=True)
    async with Engine(url, observers=(), concurrency=runs):
        await asyncio.Event().wait()


async def work(url: str, board: Board) -> None:
    define(board.mark)
    async with Engine(url, observers=()):
        await asyncio.Event().wait()
