"""W(10) on LangGraph: without a checkpointer, or with a saver, async or sync, of SQLite or, given a URL, PostgreSQL.

The savers run with `durability="sync"`, the mode in which a step is on disk before the next begins. On SQLite
`synchronous=FULL` is set in so many words, since builds differ in their default. On PostgreSQL the savers get a pool
with a connection per concurrent run, at most 20. A sync saver has a thread per run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypedDict

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from bench.measure import NODES, AsyncExecute, Execute, case_parser, emit, initial_state
from bench.passes import Passes

SYNCHRONOUS_FULL = "PRAGMA synchronous = FULL"
MOST_CONNECTIONS = 20


class BenchState(TypedDict):
    run: int
    count: int
    last: str
    text: str


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--saver", choices=["none", "async", "sync"], required=True)
    arguments = parser.parse_args()
    case = Case(arguments)
    if arguments.saver == "none":
        metrics = asyncio.run(case.passes.timed(case.without_saver))
    elif arguments.saver == "async":
        metrics = asyncio.run(case.passes.measure(case.with_async_saver))
    else:
        metrics = case.passes.measure_threads(case.with_sync_saver)
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


class Case:
    """The ways to open LangGraph."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.passes = Passes(arguments)
        connections = min(arguments.concurrency, MOST_CONNECTIONS)
        self._pool: dict[str, Any] = {
            "min_size": connections,
            "max_size": connections,
            "kwargs": {
                "autocommit": True,
                "prepare_threshold": 0,
                "row_factory": dict_row,
            },  # as the savers ask
        }

    @contextlib.asynccontextmanager
    async def without_saver(self, _url: str) -> AsyncIterator[AsyncExecute]:
        graph = build(self.passes.probe.async_node).compile()
        yield lambda run: graph.ainvoke(initial_state(run))

    @contextlib.asynccontextmanager
    async def with_async_saver(self, url: str) -> AsyncIterator[AsyncExecute]:
        async with self._async_postgres(url) if url else self._async_sqlite() as saver:
            await saver.setup()
            graph = build(self.passes.probe.async_node).compile(checkpointer=saver)
            yield lambda run: graph.ainvoke(initial_state(run), thread(run), durability="sync")

    @contextlib.contextmanager
    def with_sync_saver(self, url: str) -> Iterator[Execute]:
        with self._postgres(url) if url else self._sqlite() as saver:
            saver.setup()
            graph = build(self.passes.probe.node).compile(checkpointer=saver)
            yield lambda run: graph.invoke(initial_state(run), thread(run), durability="sync")

    @contextlib.asynccontextmanager
    async def _async_postgres(self, url: str) -> AsyncIterator[Any]:
        async with AsyncConnectionPool(url, open=False, **self._pool) as pool:
            yield AsyncPostgresSaver(pool)

    @contextlib.asynccontextmanager
    async def _async_sqlite(self) -> AsyncIterator[Any]:
        async with AsyncSqliteSaver.from_conn_string(str(self.passes.path)) as saver:
            await saver.conn.execute(SYNCHRONOUS_FULL)
            yield saver

    @contextlib.contextmanager
    def _postgres(self, url: str) -> Iterator[Any]:
        with ConnectionPool(url, open=False, **self._pool) as pool:
            yield PostgresSaver(pool)

    @contextlib.contextmanager
    def _sqlite(self) -> Iterator[Any]:
        connection = sqlite3.connect(self.passes.path, check_same_thread=False)
        connection.execute(SYNCHRONOUS_FULL)
        yield SqliteSaver(connection)


if __name__ == "__main__":
    main()
