"""A DAG on Dask's LocalCluster, two processes: nothing is durable, so this is what scheduling alone costs there."""

from __future__ import annotations

import time
from typing import Any

from distributed import Client, LocalCluster

from bench.dags import SIZES, check, shape, tasks_of, work
from bench.measure import case_parser, emit, median_seconds


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--shape", choices=SIZES, required=True)
    parser.add_argument("--size", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    name, size = arguments.shape, arguments.size or SIZES[arguments.shape]
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        run(client, name, 3)
        repeats = 1 if arguments.quick else arguments.repeats
        seconds = median_seconds([run(client, name, size) for _ in range(repeats)])
    emit({"seconds": seconds, "us_per_task": seconds / tasks_of(name, size) * 1e6})


def double(item: int) -> int:
    return 2 * item


def run(client: Any, name: str, size: int) -> float:
    """Submit the DAG and gather all results; the seconds that it took."""
    begun = time.perf_counter()
    if name == "map":
        futures = client.map(double, range(size), pure=False)
    else:
        by_name: dict[str, Any] = {}
        for task, before in shape(name, size):
            by_name[task] = client.submit(work, *(by_name[other] for other in before), pure=False)
        futures = list(by_name.values())
    total = sum(client.gather(futures))
    taken = time.perf_counter() - begun
    check(total, name, size)
    return taken


if __name__ == "__main__":
    main()
