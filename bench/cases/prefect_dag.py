"""A DAG on Prefect, with its own server on this machine and its SQLite file: one flow that submits all tasks."""

from __future__ import annotations

import os
import time
from typing import Any

from bench.dags import SIZES, check, shape, tasks_of, work
from bench.measure import case_parser, emit


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--shape", choices=SIZES, required=True)
    parser.add_argument("--size", type=int)
    arguments = parser.parse_args()
    name, size = arguments.shape, arguments.size or SIZES[arguments.shape]
    os.environ |= {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(arguments.directory),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    run = flow_of(name)
    run(3)  # the server has started
    begun = time.perf_counter()
    total = run(size)
    seconds = time.perf_counter() - begun
    check(total, name, size)
    emit({"seconds": seconds, "us_per_task": seconds / tasks_of(name, size) * 1e6})


def flow_of(name: str) -> Any:
    """The flow that runs a DAG of a size and returns the sum of its results."""
    from prefect import flow, task  # noqa: PLC0415 - it reads its settings when it is imported

    @task
    def add(before: list[int]) -> int:
        return work(*before)

    @task
    def double(item: int) -> int:
        return 2 * item

    @flow
    def bench(size: int) -> int:
        if name == "map":
            return sum(double.map(range(size)).result())
        futures: dict[str, Any] = {}
        for each, before in shape(name, size):
            futures[each] = add.submit([futures[other] for other in before])
        return sum(future.result() for future in futures.values())

    return bench


if __name__ == "__main__":
    main()
