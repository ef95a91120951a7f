"""Bytes written per step on LangGraph: a state of 1 MB (1,000 keys of 1 KB), each step changes one key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from bench.large_state import Written, blocks, compare, fresh_block, key_of
from bench.measure import case_parser, emit
from bench.observe import RowData, Transactions


def merge(before: dict[str, str], change: dict[str, str]) -> dict[str, str]:
    return before | change


class LargeState(TypedDict):
    count: int
    limit: int
    blocks: Annotated[dict[str, str], merge]


def main() -> None:
    arguments = case_parser(__doc__).parse_args()
    emit(asyncio.run(measure(arguments.directory / "langgraph.db")))


async def change(state: LargeState) -> dict[str, Any]:
    return {"count": state["count"] + 1, "blocks": {key_of(state["count"]): fresh_block()}}


def build() -> Any:
    graph: Any = StateGraph(LargeState)
    graph.add_node("change", change)
    graph.add_edge(START, "change")
    graph.add_conditional_edges(
        "change", lambda s: "change" if s["count"] < s["limit"] else END, ["change", END]
    )
    return graph


async def measure(path: Path) -> dict[str, float]:
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        await saver.setup()
        graph = build().compile(checkpointer=saver)
        rows, transactions = RowData(path), Transactions(path)

        async def run(steps: int) -> Written:
            before = Written(rows.total(), transactions.log_bytes())
            config = {"configurable": {"thread_id": str(steps)}, "recursion_limit": 10_000}
            await graph.ainvoke({"count": 0, "limit": steps, "blocks": blocks()}, config, durability="sync")
            return Written(rows.total() - before.row_bytes, transactions.log_bytes() - before.log_bytes)

        return await compare(run)


if __name__ == "__main__":
    main()
