"""Fan-out on LangGraph (AsyncSqliteSaver, `sync`): one node sends to many, a reducer folds their results."""

from __future__ import annotations

import asyncio
import operator
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from bench.measure import case_parser, emit, median_seconds
from bench.observe import Transactions


class FanState(TypedDict):
    items: int
    results: Annotated[list[int], operator.add]


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    path = arguments.directory / "langgraph.db"
    emit(asyncio.run(measure(path, arguments.items, 1 if arguments.quick else arguments.repeats)))


def build() -> Any:
    graph: Any = StateGraph(FanState)
    graph.add_node("fan", fan)
    graph.add_node("work", work)
    graph.add_node("join", join)
    graph.add_edge(START, "fan")
    graph.add_conditional_edges("fan", spread, ["work"])
    graph.add_edge("work", "join")
    graph.add_edge("join", END)
    return graph


async def fan(state: FanState) -> dict[str, Any]:
    return {"results": []}


async def work(state: dict[str, int]) -> dict[str, Any]:
    return {"results": [state["item"] * 2]}


async def join(state: FanState) -> dict[str, Any]:
    return {"results": []}


def spread(state: FanState) -> list[Send]:
    return [Send("work", {"item": item}) for item in range(state["items"])]


async def measure(path: Path, items: int, repeats: int) -> dict[str, float]:
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        await saver.setup()
        await saver.conn.execute("PRAGMA synchronous = FULL")
        graph = build().compile(checkpointer=saver)

        async def run(name: str, count: int) -> float:
            begun = time.perf_counter()
            config = {"configurable": {"thread_id": name}}
            state = await graph.ainvoke({"items": count, "results": []}, config, durability="sync")
            taken = time.perf_counter() - begun
            if len(state["results"]) != count:
                message = f"{len(state['results'])} results of {count}"
                raise RuntimeError(message)
            return taken

        await run("warm", 10)
        seconds = median_seconds([await run(f"timed-{repeat}", items) for repeat in range(repeats)])
        transactions = Transactions(path)
        await run("counted", items)
        return {"seconds": seconds, "commits": transactions.count(), "log_bytes": transactions.log_bytes()}


if __name__ == "__main__":
    main()
