"""A DAG on Holdfast (a SQLite file): independent tasks, a chain, layers, or a map. It is built beforehand."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bench.dags import SIZES, check, shape, tasks_of, work
from bench.measure import case_parser, emit, median_seconds
from bench.observe import Transactions
from holdfast import DAGWorkflow, Engine


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--shape", choices=SIZES, required=True)
    parser.add_argument("--size", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    size = arguments.size or SIZES[arguments.shape]
    repeats = 1 if arguments.quick else arguments.repeats
    emit(asyncio.run(measure(arguments.directory / "holdfast.db", arguments.shape, size, repeats)))


def build(name: str, size: int) -> DAGWorkflow:
    dag = DAGWorkflow(name=f"{name}-{size}")
    if name == "map":
        dag.add_task("each", double, map_over="items")
        return dag
    for task, before in shape(name, size):
        dag.add_task(task, add, depends_on=before)
    return dag


async def add(*before: int) -> int:
    return work(*before)


async def double(item: int) -> int:
    return 2 * item


async def measure(path: Path, name: str, size: int, repeats: int) -> dict[str, float]:
    dag, warm = build(name, size), build(name, 3)
    tasks = tasks_of(name, size)
    async with Engine(f"sqlite:///{path}", observers=()) as engine:

        async def run(workflow: DAGWorkflow, count: int) -> float:
            params = {"items": list(range(count))} if name == "map" else {}
            begun = time.perf_counter()
            results = await engine.execute(workflow, params)
            taken = time.perf_counter() - begun
            check(sum(results["each"] if name == "map" else results.values()), name, count)
            return taken

        await run(warm, 3)
        seconds = median_seconds([await run(dag, size) for _ in range(repeats)])
        transactions = Transactions(path)
        await run(dag, size)
        commits = transactions.count()
    return {
        "seconds": seconds,
        "us_per_task": seconds / tasks * 1e6,
        "commits": commits,
        "commits_per_task": commits / tasks,
    }


if __name__ == "__main__":
    main()
