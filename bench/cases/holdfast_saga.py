"""W(10) as a durable saga: ten steps with a compensation each, beside the graph of ten nodes.

In `:memory:`, on a SQLite file (`synchronous=FULL`) or, given a URL, on PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bench.cases import holdfast_steps
from bench.measure import NODES, Change, Probe, case_parser, emit
from bench.passes import Passes
from holdfast import Saga


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    passes = Passes(arguments)
    saga = define(passes.probe)
    if arguments.memory:
        metrics = asyncio.run(passes.timed(lambda _: holdfast_steps.opened("sqlite:///:memory:", saga, len)))
    else:
        metrics = asyncio.run(
            passes.measure(lambda url: holdfast_steps.opened(url or f"sqlite:///{passes.path}", saga, len))
        )
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


if __name__ == "__main__":
    main()
