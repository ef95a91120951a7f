"""W(10) on DBOS with its SQLite system database: the async API, or the sync API with a thread per run.

DBOS chooses the file's settings itself: a rollback journal with `synchronous=FULL`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig

from bench.measure import COUNTED_RUNS, NODES, Change, Load, Probe, case_parser, emit, initial_state
from bench.observe import Transactions


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--api", choices=["sync", "async"], required=True)
    arguments = parser.parse_args()
    probe = Probe()
    load = Load(probe, arguments.concurrency, arguments.seconds)
    path = arguments.directory / "dbos.db"
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": f"sqlite:///{path}",
        "log_level": "ERROR",
        "console_log_level": "ERROR",
        "enable_otlp": False,
    }
    DBOS(config=config)
    try:
        if arguments.api == "sync":
            metrics = measure_sync(probe, load, path)
        else:
            metrics = asyncio.run(measure_async(probe, load, path))
    finally:
        DBOS.destroy()
    emit(metrics)


def measure_sync(probe: Probe, load: Load, path: Path) -> dict[str, float]:
    steps = [DBOS.step(name=f"n{index}")(probe.node(index)) for index in range(NODES)]

    @DBOS.workflow()
    def bench(state: dict[str, Any]) -> dict[str, Any]:
        for step in steps:
            state |= step(state)
        return state

    DBOS.launch()
    metrics = load.measure_threads(lambda run: bench(initial_state(run))).metrics()
    transactions = Transactions(path)
    for run in probe.new_runs(COUNTED_RUNS):
        bench(initial_state(run))
    return metrics | {"commits_per_step": transactions.count() / (COUNTED_RUNS * NODES)}


async def measure_async(probe: Probe, load: Load, path: Path) -> dict[str, float]:
    steps = [DBOS.step(name=f"n{index}")(probe.async_node(index)) for index in range(NODES)]

    @DBOS.workflow()
    async def bench(state: Change) -> Change:
        for step in steps:
            state |= await step(state)
        return state

    DBOS.launch()

    async def execute(run: int) -> object:
        return await bench(initial_state(run))

    metrics = (await load.measure(execute)).metrics()
    transactions = Transactions(path)
    for run in probe.new_runs(COUNTED_RUNS):
        await execute(run)
    return metrics | {"commits_per_step": transactions.count() / (COUNTED_RUNS * NODES)}


if __name__ == "__main__":
    main()
