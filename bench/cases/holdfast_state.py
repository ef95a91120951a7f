"""Bytes written per step on Holdfast: a state of 1 MB (1,000 keys of 1 KB), each step changes one key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bench.large_state import Written, blocks, compare, fresh_block, key_of
from bench.measure import case_parser, emit
from bench.observe import RowData, Transactions
from holdfast import END, START, Engine, Runtime, State, StateGraph, workflow_factory


def main() -> None:
    arguments = case_parser(__doc__).parse_args()
    emit(asyncio.run(measure(arguments.directory / "holdfast.db")))


async def change(state: State) -> dict[str, Any]:
    return {"count": state["count"] + 1, key_of(state["count"]): fresh_block()}


@workflow_factory("large", "a large state, changed a little at a time")
def large(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
    graph.add_node("change", change)
    graph.add_edge(START, "change")
    graph.add_conditional_edge(
        "change", lambda s: "change" if s["count"] < s["limit"] else END, ["change", END]
    )
    return State({"count": 0, "limit": params["steps"], **blocks()})


async def measure(path: Path) -> dict[str, float]:
    async with Engine(f"sqlite:///{path}", observers=()) as engine:
        rows, transactions = RowData(path), Transactions(path)

        async def run(steps: int) -> Written:
            before = Written(rows.total(), transactions.log_bytes())
            await engine.execute("large", {"steps": steps})
            return Written(rows.total() - before.row_bytes, transactions.log_bytes() - before.log_bytes)

        return await compare(run)


if __name__ == "__main__":
    main()
