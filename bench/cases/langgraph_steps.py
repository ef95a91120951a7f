"""W(10) on LangGraph: without a checkpointer, with AsyncSqliteSaver, with SqliteSaver (threads).

The savers run with `durability="sync"`, the mode in which a step is on disk before the next begins, and with
`synchronous=FULL` set in so many words, since SQLite builds differ in their default.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from bench.measure import COUNTED_RUNS, NODES, Load, Probe, case_parser, emit, initial_state, wave
from bench.observe import Transactions

SYNCHRONOUS_FULL = "PRAGMA synchronous = FULL"


class BenchState(TypedDict):
    run: int
    count: int
    last: str
    text: str


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--saver", choices=["none", "async", "sync"], required=True)
    arguments = parser.parse_args()
    probe = Probe()
    load = Load(probe, arguments.concurrency, arguments.seconds)
    path = arguments.directory / "langgraph.db"
    if arguments.saver == "none":
        metrics = asyncio.run(measure_none(probe, load))
    elif arguments.saver == "async":
        metrics = asyncio.run(measure_async(probe, load, path, arguments.concurrency))
    else:
        metrics = measure_sync(probe, load, path)
    emit(metrics)


def build(node: Callable[[int], Callable[[Any], Any]]) -> Any:
    graph: Any = StateGraph(BenchState)
    for index in range(NODES):
        graph.add_node(f"n{index}", node(index))
        graph.add_edge(f"n{index - 1}" if index else START, f"n{index}")
    graph.add_edge(f"n{NODES - 1}", END)
    return graph


def thread(run: int) -> Any:
    return {"configurable": {"thread_id": str(run)}}


async def measure_none(probe: Probe, load: Load) -> dict[str, float]:
    graph = build(probe.async_node).compile()

    async def execute(run: int) -> object:
        return await graph.ainvoke(initial_state(run))

    return (await load.measure(execute)).metrics()


async def measure_async(probe: Probe, load: Load, path: Path, concurrency: int) -> dict[str, float]:
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        await saver.setup()
        await saver.conn.execute(SYNCHRONOUS_FULL)
        graph = build(probe.async_node).compile(checkpointer=saver)

        async def execute(run: int) -> object:
            return await graph.ainvoke(initial_state(run), thread(run), durability="sync")

        metrics = (await load.measure(execute)).metrics()
        transactions = Transactions(path)
        counted = max(concurrency, COUNTED_RUNS)
        await wave(execute, probe.new_runs(counted))
        return metrics | {"commits_per_step": transactions.count() / (counted * NODES)}


def measure_sync(probe: Probe, load: Load, path: Path) -> dict[str, float]:
    connection = sqlite3.connect(path, check_same_thread=False)
    saver = SqliteSaver(connection)
    saver.setup()
    connection.execute(SYNCHRONOUS_FULL)
    graph = build(probe.node).compile(checkpointer=saver)

    def execute(run: int) -> object:
        return graph.invoke(initial_state(run), thread(run), durability="sync")

    metrics = load.measure_threads(execute).metrics()
    transactions = Transactions(path)
    for run in probe.new_runs(COUNTED_RUNS):
        execute(run)
    return metrics | {"commits_per_step": transactions.count() / (COUNTED_RUNS * NODES)}


if __name__ == "__main__":
    main()
