"""100,000 runs waiting in back-off: the memory that they add to the process, and what starting them costs.

Each run's only node fails at once and is due again in a day. The baseline is taken when the engine is open
and has driven some such runs, so that code and caches do not count as the runs' own.
"""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path
from typing import Any

from bench.measure import case_parser, emit, resident_mb
from holdfast import END, START, Engine, RetryPolicy, Runtime, State, StateGraph, workflow_factory

RUNS = 100_000
QUICK_RUNS = 5_000
BASELINE_RUNS = 1_000
STARTED_TOGETHER = 500
DAY_SECONDS = 86_400
LATER = RetryPolicy(attempts=2, backoff=DAY_SECONDS, factor=1, max_backoff=DAY_SECONDS, jitter="none")


def main() -> None:
    arguments = case_parser(__doc__).parse_args()
    emit(asyncio.run(measure(arguments.directory / "holdfast.db", QUICK_RUNS if arguments.quick else RUNS)))


async def fail(state: State) -> State:
    message = "not today"
    raise RuntimeError(message)


@workflow_factory("tomorrow", "fails at once, is due again in a day")
def tomorrow(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
    graph.add_node("fail", fail, retry=LATER)
    graph.add_edge(START, "fail")
    graph.add_edge("fail", END)
    return State(params)


async def measure(path: Path, runs: int) -> dict[str, float]:
    async with Engine(f"sqlite:///{path}", observers=()) as engine:
        await start_waiting(engine, 0, BASELINE_RUNS)
        baseline = resident_mb()
        begun = time.perf_counter()
        await start_waiting(engine, BASELINE_RUNS, BASELINE_RUNS + runs)
        return {
            "runs": runs,
            "added_mb": resident_mb() - baseline,
            "baseline_mb": baseline,
            "starts_per_second": runs / (time.perf_counter() - begun),
            "file_bytes_per_run": path.stat().st_size / (BASELINE_RUNS + runs),
        }


async def start_waiting(engine: Engine, first: int, last: int) -> None:
    for begin in range(first, last, STARTED_TOGETHER):
        numbers = range(begin, min(begin + STARTED_TOGETHER, last))
        await asyncio.gather(*(engine.start("tomorrow", {"number": number}) for number in numbers))
    while await engine.count(workflow="tomorrow", status="waiting") < last:
        await asyncio.sleep(0.1)
    gc.collect()


if __name__ == "__main__":
    main()
