"""Fan-out on Holdfast (a SQLite file): one node sends to many, a reducer folds their results.

With `--static` the many are nodes of the graph, each with an edge to it. The graph is built beforehand.
"""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from bench.measure import case_parser, emit, median_seconds
from bench.observe import Transactions
from holdfast import END, START, Engine, Runtime, Send, State, StateGraph, workflow_factory


class FanState(TypedDict):
    items: int
    results: Annotated[list[int], operator.add]


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--static", action="store_true")
    arguments = parser.parse_args()
    path = arguments.directory / "holdfast.db"
    repeats = 1 if arguments.quick else arguments.repeats
    emit(asyncio.run(measure(path, arguments.items, repeats, static=arguments.static)))


@workflow_factory("fan-out", "one node sends to many", schema=FanState)
def fan_out(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
    graph.add_node("fan", fan)
    graph.add_node("work", work)
    graph.add_node("join", join)
    graph.add_edge(START, "fan")
    graph.add_conditional_edge("fan", spread, ["work"])
    graph.add_edge("work", "join")
    graph.add_edge("join", END)
    return State({"items": params["items"], "results": []})


async def fan(state: State) -> dict[str, Any]:
    return {"results": []}


async def work(state: State) -> dict[str, Any]:
    return {"results": [state["item"] * 2]}


async def join(state: State) -> dict[str, Any]:
    return {"results": []}


def spread(state: State) -> list[Send]:
    return [Send("work", State({"item": item})) for item in range(state["items"])]


def static_graph(items: int) -> StateGraph:
    graph = StateGraph(f"static-{items}", schema=FanState).add_node("fan", fan).add_node("join", join)
    for item in range(items):
        graph.add_node(f"work-{item}", worker(item)).add_edge("fan", f"work-{item}").add_edge(
            f"work-{item}", "join"
        )
    return graph.add_edge(START, "fan").add_edge("join", END)


def worker(item: int) -> Callable[[State], Awaitable[dict[str, Any]]]:
    async def work_on_item(state: State) -> dict[str, Any]:
        return {"results": [item * 2]}

    return work_on_item


async def measure(path: Path, items: int, repeats: int, *, static: bool) -> dict[str, float]:
    graphs = {count: static_graph(count) for count in (10, items)} if static else {}
    async with Engine(f"sqlite:///{path}", observers=()) as engine:

        async def run(count: int) -> float:
            begun = time.perf_counter()
            state = await engine.execute(graphs.get(count, "fan-out"), {"items": count, "results": []})
            taken = time.perf_counter() - begun
            if len(state["results"]) != count:
                message = f"{len(state['results'])} results of {count}"
                raise RuntimeError(message)
            return taken

        await run(10)
        seconds = median_seconds([await run(items) for _ in range(repeats)])
        transactions = Transactions(path)
        await run(items)
        return {"seconds": seconds, "commits": transactions.count(), "log_bytes": transactions.log_bytes()}


if __name__ == "__main__":
    main()
