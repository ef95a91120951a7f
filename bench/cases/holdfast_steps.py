"""W(10) on Holdfast: a state graph of ten nodes, on a SQLite file (`synchronous=FULL`) or in `:memory:`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bench.measure import (
    COUNTED_RUNS,
    NODES,
    Change,
    Load,
    Probe,
    case_parser,
    emit,
    initial_state,
    median_seconds,
    wave,
)
from bench.observe import Transactions
from holdfast import END, START, Engine, Runtime, State, StateGraph, workflow_factory


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--store", choices=["file", "memory"], required=True)
    arguments = parser.parse_args()
    path = arguments.directory / "holdfast.db" if arguments.store == "file" else None
    emit(asyncio.run(measure(path, arguments.concurrency, arguments.seconds)))


def define(probe: Probe) -> None:
    @workflow_factory("bench", "ten trivial nodes in sequence")
    def bench(graph: StateGraph, runtime: Runtime, params: Change) -> State:
        for index in range(NODES):
            graph.add_node(f"n{index}", probe.async_node(index))
            graph.add_edge(f"n{index - 1}" if index else START, f"n{index}")
        graph.add_edge(f"n{NODES - 1}", END)
        return State(params)


async def measure(path: Path | None, concurrency: int, seconds: float) -> dict[str, float]:
    probe = Probe()
    define(probe)
    async with Engine(f"sqlite:///{path or ':memory:'}", observers=()) as engine:

        async def execute(run: int) -> Any:
            result = await engine.execute("bench", initial_state(run))
            if result["count"] != NODES:
                message = f"run {run} ended with {result}"
                raise RuntimeError(message)
            return result

        metrics = (await Load(probe, concurrency, seconds).measure(execute)).metrics()
        if path is None:
            return metrics
        transactions = Transactions(path)
        if concurrency > 1:
            await wave(execute, probe.new_runs(concurrency))
            return metrics | {"commits_per_step": transactions.count() / (concurrency * NODES)}
        commits: list[float] = []
        for run in probe.new_runs(COUNTED_RUNS):
            before = transactions.count()
            await execute(run)
            commits.append(transactions.count() - before)
        # The median: the keeper's housekeeping may commit in between, the run's own commits are alike.
        per_run = median_seconds(commits)
        return metrics | {"commits_per_step": per_run / NODES, "commits_per_run": per_run}


if __name__ == "__main__":
    main()
