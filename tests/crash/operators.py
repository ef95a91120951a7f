"""A process that redrives or deletes runs of a store, and says of each that it has begun; to be killed within."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from holdfast import END, START, Engine, State, StateGraph
from holdfast.model.run import RunRow
from holdfast.registry import Registry
from holdfast.resilience import Retention
from holdfast.store.rows import Delivered


def delivering(up: Path) -> StateGraph:
    """A graph that fails until a file is there."""

    def deliver(state: State) -> State:
        if not up.exists():
            raise ConnectionError("down")
        return state.set("delivered", state.get("delivered", 0) + 1)

    graph = StateGraph("delivering")
    graph.add_node("deliver", deliver)
    graph.add_edge(START, "deliver")
    graph.add_edge("deliver", END)
    return graph


async def main(url: str, what: str) -> None:
    forever = Retention(age=0.001)
    workers = what == "delete"
    async with Engine(
        url, workers=workers, observers=(), registry=Registry(), queues=["none"], retention=forever
    ) as engine:
        if what == "redrive":
            async for run in engine.redrive_many(rate=20):
                print(run.id, flush=True)
        else:
            retaining = engine._open.retaining
            assert retaining is not None
            delete = retaining._delete

            async def told(row: RunRow) -> Delivered:
                answer = await delete(row)
                print("deleted", flush=True)
                return answer

            retaining._delete = told
            await retaining.round()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
