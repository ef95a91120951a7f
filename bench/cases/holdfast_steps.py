"""W(10) on Holdfast: a state graph of ten nodes, in `:memory:`, on a SQLite file or, given a URL, on PostgreSQL.

On SQLite it is `synchronous=FULL`. The graph is built once, as LangGraph's is compiled once; with `--factory` each run
has its own, built by a factory from its params.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from operator import itemgetter
from typing import Any

from bench.measure import NODES, AsyncExecute, Change, Probe, case_parser, emit, initial_state
from bench.passes import Passes
from holdfast import END, START, Engine, Runtime, Saga, State, StateGraph, StateMachine, workflow_factory


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--factory", action="store_true", help="build a graph for each run")
    arguments = parser.parse_args()
    passes = Passes(arguments)
    workflow = factory(passes.probe) if arguments.factory else add_nodes(StateGraph("bench"), passes.probe)
    if arguments.memory:
        metrics = asyncio.run(passes.timed(lambda _: opened("sqlite:///:memory:", workflow)))
    else:
        metrics = asyncio.run(passes.measure(lambda url: opened(url or f"sqlite:///{passes.path}", workflow)))
    emit(metrics)


def factory(probe: Probe) -> str:
    @workflow_factory("bench", "ten trivial nodes in sequence")
    def bench(graph: StateGraph, runtime: Runtime, params: Change) -> State:
        add_nodes(graph, probe)
        return State(params)

    return "bench"


def add_nodes(graph: StateGraph, probe: Probe) -> StateGraph:
    for index in range(NODES):
        graph.add_node(f"n{index}", probe.async_node(index))
        graph.add_edge(f"n{index - 1}" if index else START, f"n{index}")
    return graph.add_edge(f"n{NODES - 1}", END)


@contextlib.asynccontextmanager
async def opened(
    url: str,
    workflow: str | StateGraph | StateMachine | Saga,
    steps: Callable[[Any], int] = itemgetter("count"),
) -> AsyncIterator[AsyncExecute]:
    """Open an engine that executes `workflow`; `steps` tells from a result how many steps the run made."""
    async with Engine(url, observers=()) as engine:

        async def execute(run: int) -> Any:
            result = await engine.execute(workflow, initial_state(run))
            if steps(result) != NODES:
                message = f"run {run} ended with {result}"
                raise RuntimeError(message)
            return result

        yield execute


if __name__ == "__main__":
    main()
