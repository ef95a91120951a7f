"""A process of its own that commits to a SQLite file, and tells after each commit that it is durable.

Usage: python committer.py PATH NAME RUNS COMMITS. It prints `ready` when the store is open, and goes when a line comes.
"""

from __future__ import annotations

import asyncio
import sys

from holdfast.model.commit import Committed
from holdfast.store.sqlite.store import SqliteStore
from holdfast.testing.store_cases import RUNNING, going_on, opening


async def main(path: str, name: str, runs: int, commits: int) -> None:
    store = SqliteStore(path)
    await store.open()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(drive(store, f"{name}-{number}", commits) for number in range(runs)))
    await store.close()
    print("done", flush=True)


async def drive(store: SqliteStore, run: str, commits: int) -> None:
    for position in range(commits):
        commit = going_on(run, position) if position else opening(run, status=RUNNING)
        (answer,) = await store.commit([commit])
        assert isinstance(answer, Committed), answer
        print(run, answer.position, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
