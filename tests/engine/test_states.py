"""The state at any position of a run, however long it is."""

from __future__ import annotations

import operator
import sqlite3
from typing import Annotated, TypedDict

from holdfast import END, START, Engine, StateGraph
from tests.conftest import OpenEngine


class Counted(TypedDict, total=False):
    n: int
    log: Annotated[list[int], operator.add]


def long(turns: int) -> StateGraph:
    graph = StateGraph("long", Counted)
    graph.add_node("tick", lambda s: {"n": s["n"] + 1, "log": [s["n"]]})
    graph.add_edge(START, "tick").add_edge("tick", "tick", when=lambda s: s["n"] < turns)
    return graph.add_edge("tick", END)


async def test_the_state_in_the_midst_of_a_long_run_is_that_of_its_journal(
    file_url: str, open_engine: OpenEngine
) -> None:
    """With stored folds, and when they are gone: they are a cache."""
    engine = await open_engine(file_url)
    run = await engine.start(long(400), {"n": 0, "log": []})
    await run.wait()
    await run.refresh()
    positions = [1, 2, 3, 4, 499, 500, 501, 502, 503, 777, run.position - 1, run.position]
    states = [await run.state(at=position) for position in positions]
    assert states[-1]["n"] == 400
    assert all(state.get("log", []) == list(range(state.get("n", 0))) for state in states)
    await engine.close()
    database = sqlite3.connect(file_url.removeprefix("sqlite:///"))
    with database:
        assert database.execute("DELETE FROM checkpoints").rowcount > 0
    database.close()
    again = await open_engine(file_url)
    assert [await again.state(run.id, position) for position in positions] == states


async def test_a_late_state_reads_no_more_than_the_journal_since_a_fold(engine: Engine) -> None:
    run = await engine.start(long(700), {"n": 0, "log": []})
    await run.wait()
    await run.refresh()
    read: list[int] = []
    original = engine.store.journal

    async def journal(name: str, after: int = 0, limit: int = 1000) -> object:
        rows = await original(name, after, limit)
        read.append(sum(row.count for row in rows))
        return rows

    engine.store.journal = journal  # type: ignore[assignment,method-assign]  # to count
    assert (await run.state(at=run.position - 1))["n"] == 700
    assert max(read) < 1000 < run.position
