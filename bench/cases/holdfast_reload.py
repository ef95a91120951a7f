"""The reload of a run of 10,000 steps: from the journal alone, from its last stored fold, and at positions within.

A run loops over one node and then waits in back-off. Each reading is by an engine of its own that has never
seen the run. For "the journal alone" the stored folds are deleted from a copy of the file: they are a cache.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

from bench.measure import case_parser, emit, median_seconds
from holdfast import (
    END,
    START,
    Engine,
    GraphConfig,
    RetryPolicy,
    Runtime,
    State,
    StateGraph,
    workflow_factory,
)

STEPS = 10_000
QUICK_STEPS = 1_000
READINGS = 5
RUN = "long"
DAY_SECONDS = 86_400
LATER = RetryPolicy(attempts=2, backoff=DAY_SECONDS, factor=1, max_backoff=DAY_SECONDS, jitter="none")


def main() -> None:
    arguments = case_parser(__doc__).parse_args()
    emit(asyncio.run(measure(arguments.directory, QUICK_STEPS if arguments.quick else STEPS)))


async def tick(state: State) -> dict[str, Any]:
    return {"count": state["count"] + 1}


async def hold(state: State) -> None:
    message = "not today"
    raise RuntimeError(message)


@workflow_factory("long", "many steps, then a wait", config=GraphConfig(max_iterations=2 * STEPS))
def long(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
    graph.add_node("tick", tick)
    graph.add_node("hold", hold, retry=LATER)
    graph.add_edge(START, "tick")
    graph.add_conditional_edge(
        "tick", lambda s: "tick" if s["count"] < s["limit"] else "hold", ["tick", "hold"]
    )
    graph.add_edge("hold", END)
    return State({"count": 0, "limit": params["steps"]})


async def measure(directory: Path, steps: int) -> dict[str, float]:
    kept, bare = directory / "holdfast.db", directory / "bare.db"
    await make_run(kept, steps)
    shutil.copyfile(kept, bare)
    folds = forget_folds(bare)
    journal = median_seconds([await read_state(bare, steps) for _ in range(READINGS)])
    fold = median_seconds([await read_state(kept, steps) for _ in range(READINGS)])
    return {
        "journal_ms": 1000 * journal,
        "fold_ms": 1000 * fold,
        "position_ms": 1000 * await slowest_position(kept),
        "cancel_ms": 1000 * await cancel(kept),
        "steps": steps,
        "stored_folds": folds,
        "file_bytes_per_step": kept.stat().st_size / steps,
    }


async def make_run(path: Path, steps: int) -> None:
    async with Engine(f"sqlite:///{path}", observers=()) as engine:
        run = await engine.start("long", {"steps": steps}, id=RUN)
        while (await run.refresh(), run.status)[1] != "waiting":
            await asyncio.sleep(0.05)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def forget_folds(path: Path) -> int:
    """Delete the stored folds; how many there were."""
    with sqlite3.connect(path) as connection:
        folds = connection.execute("DELETE FROM checkpoints").rowcount
    connection.close()
    return folds


async def read_state(path: Path, steps: int) -> float:
    async with Engine(f"sqlite:///{path}", observers=(), workers=False) as engine:
        run = await engine.get(RUN)
        begun = time.perf_counter()
        state = await run.state()
        taken = time.perf_counter() - begun
        if state["count"] != steps:
            message = f"reloaded {state['count']} steps of {steps}"
            raise RuntimeError(message)
        return taken


async def slowest_position(path: Path) -> float:
    """Seconds to the state at a position, of positions all over the run: the slowest of the medians."""
    async with Engine(f"sqlite:///{path}", observers=(), workers=False) as engine:
        run = await engine.get(RUN)
        seconds = []
        for part in range(1, READINGS + 1):
            at, readings = run.position * part // (READINGS + 1), []
            for _ in range(READINGS):
                begun = time.perf_counter()
                await run.state(at=at)
                readings.append(time.perf_counter() - begun)
            seconds.append(median_seconds(readings))
        return max(seconds)


async def cancel(path: Path) -> float:
    """Seconds from a cancel to the end of the run, by a worker that must load it first."""
    async with Engine(f"sqlite:///{path}", observers=()) as engine:
        run = await engine.get(RUN)
        begun = time.perf_counter()
        await run.cancel()
        await run.wait(timeout=60)
        return time.perf_counter() - begun


if __name__ == "__main__":
    main()
