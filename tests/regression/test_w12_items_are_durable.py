"""W12: items were fixed when the graph was built, were all done again after a failure, and failures vanished.

Items come from the state of the run, each is kept when it is done, and who gathers sees what failed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from holdfast import Engine, ParallelConfig, State, parallel_node
from holdfast.processing import ParallelResult
from tests.conftest import OpenEngine
from tests.graphs import parallel, sequence


def pages_of(result: ParallelResult[str], state: State) -> dict[str, Any]:
    return {"texts": result.results, "unread": [error.item for error in result.errors]}


async def test_the_pages_of_each_run_are_its_own(engine: Engine) -> None:
    graph = sequence("w12", read=parallel_node("pages", str.upper, pages_of))
    for pages in (["a", "b"], [], ["c"]):
        state = await engine.execute(graph, {"pages": pages})
        assert state["texts"] == [page.upper() for page in pages]


async def test_a_resume_in_another_process_reads_only_the_pages_that_are_missing(
    url: str, open_engine: OpenEngine
) -> None:
    read: Counter[int] = Counter()
    broken = {7}

    async def read_page(page: int) -> str:
        read[page] += 1
        if page in broken:
            raise OSError(f"page {page} is unreadable")
        return f"page {page}"

    node = parallel_node(lambda state: range(state["count"]), read_page, pages_of)
    graph = sequence("w12", count=lambda _: {"count": 40}, read=node)
    first = await open_engine(url)
    run = await first.start(graph)
    await first.wait(run.id)
    done = set(read) - broken
    await first.close()

    broken.clear()
    second = await open_engine(url)
    await second.resume(run.id)
    assert (await second.result(run.id))["texts"] == [f"page {n}" for n in range(40)]
    assert {page for page, times in read.items() if times > 1} <= {7}
    assert done <= read.keys() == set(range(40))


async def test_failures_do_not_vanish(engine: Engine) -> None:
    def read_page(page: str) -> str:
        if page == "torn":
            raise OSError("unreadable")
        return page

    node = parallel_node(["one", "torn", "two"], read_page, pages_of, ParallelConfig(fail_fast=False))
    assert await engine.execute(sequence("w12", read=node)) == {"texts": ["one", "two"], "unread": ["torn"]}


async def test_branches_run_at_the_same_time(engine: Engine) -> None:
    """Each waits for the other, so one after the other they would never end."""
    met = asyncio.Barrier(2)

    async def left(state: State) -> dict[str, bool]:
        await met.wait()
        return {"left": True}

    async def right(state: State) -> dict[str, bool]:
        await met.wait()
        return {"right": True}

    assert await engine.execute(parallel("w12", left=left, right=right), timeout=20) == {
        "left": True,
        "right": True,
    }
