"""W(10) as a durable saga: ten steps with a compensation each, beside the graph of ten nodes.

In `:memory:`, on a SQLite file (`synchronous=FULL`) or, given a URL, on PostgreSQL.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from bench.measure import NODES, AsyncExecute, Change, Probe, case_parser, emit, initial_state
from bench.passes import Passes
from holdfast import Engine, Saga


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    passes = Passes(arguments)
    saga = define(passes.probe)
    if arguments.memory:
        metrics = asyncio.run(passes.timed(lambda _: opened("sqlite:///:memory:", saga)))
    else:
        metrics = asyncio.run(passes.measure(lambda url: opened(url or f"sqlite:///{passes.path}", saga)))
    emit(metrics)


def define(probe: Probe) -> Saga:
    saga = Saga("bench")
    for index in range(NODES):
        saga.add_step(f"n{index}", forward=step(probe, index), compensate=never)
    return saga


def step(probe: Probe, index: int) -> Callable[..., Awaitable[Change]]:
    work = probe.async_node(index)

    async def forward(params: dict[str, Any]) -> Change:
        return await work(params)

    return forward


def never() -> None:
    message = "nothing fails here"
    raise AssertionError(message)


@contextlib.asynccontextmanager
async def opened(url: str, saga: Saga) -> AsyncIterator[AsyncExecute]:
    async with Engine(url, observers=()) as engine:

        async def execute(run: int) -> Any:
            result = await engine.execute(saga, initial_state(run))
            if len(result) != NODES:
                message = f"run {run} ended with {result}"
                raise RuntimeError(message)
            return result

        yield execute


if __name__ == "__main__":
    main()
