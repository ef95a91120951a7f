"""Runs of very many rows are deleted a few rows at a time on SQLite: commits go on, and a crash leaves nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import Engine, InvalidStatus, Retention, RunConflict, RunNotFound
from holdfast.store.open import open_store
from holdfast.store.sqlite import leaving
from holdfast.testing.store_cases import NOON, SetClock
from tests.graphs import nothing, sequence

Open = Callable[..., Awaitable[Engine]]
GRAPH = sequence("g", a=nothing)
TABLES = ("journal", "payloads", "checkpoints", "chunks", "inbox", "jobs", "run_tags", "leaving")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers with which a few rows are very many."""
    monkeypatch.setattr(leaving, "LARGE", 50)
    monkeypatch.setattr(leaving, "ROWS", 7)


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def rows_of(url: str, run: str) -> int:
    with sqlite3.connect(path_of(url)) as database:
        return sum(
            database.execute(f"SELECT count(*) FROM {table} WHERE run = ?", (run,)).fetchone()[0]  # noqa: S608
            for table in TABLES
        )


async def large(engine: Engine, url: str, run: str) -> None:
    """A run with rows of every kind, more than are deleted at once."""
    await (await engine.start(GRAPH, {"text": "x" * 100_000}, id=run, tags=["t"])).wait()
    with sqlite3.connect(path_of(url)) as database:
        (position,) = database.execute("SELECT position FROM workflow_runs WHERE id = ?", (run,)).fetchone()
        fact = '[{"fact":"StepProgressed","step":"a#1","attempt":1}]'
        database.executemany(
            "INSERT INTO journal (run, position, count, at, commit_id, epoch, worker, facts)"
            " VALUES (?, ?, 1, 1, ?, 1, 'w', ?)",
            [(run, position + n, f"{run}{n}", fact) for n in range(1, 101)],
        )
        database.execute("UPDATE workflow_runs SET position = position + 100 WHERE id = ?", (run,))
        database.executemany(
            "INSERT INTO chunks (run, position, step, attempt, at, data) VALUES (?, 1, 'a#1', 1, 1, '1')",
            [(run,)] * 20,
        )
    database.close()


async def test_all_rows_go_and_others_stay(open_engine: Open, file_url: str) -> None:
    engine = await open_engine(file_url)
    await large(engine, file_url, "large")
    await large(engine, file_url, "other")
    before = rows_of(file_url, "other")
    await engine.delete("large")
    assert (rows_of(file_url, "large"), rows_of(file_url, "other")) == (0, before)
    assert await engine.store.check() == []
    with pytest.raises(RunConflict, match="was deleted"):
        await engine.start(GRAPH, {"text": "x"}, id="large")


async def test_runs_go_on_while_rows_go(
    open_engine: Open, file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await open_engine(file_url)
    await large(engine, file_url, "large")
    swept: list[int] = []
    sweep = leaving.sweep

    def counted(database: sqlite3.Connection) -> bool:
        swept.append(1)
        return sweep(database, 1)

    monkeypatch.setattr(leaving, "sweep", counted)
    deleting = asyncio.ensure_future(engine.delete("large"))
    while not swept:
        await asyncio.sleep(0)
    assert await engine.execute(GRAPH, {"n": 1}) == {"n": 1}
    assert not deleting.done()
    with pytest.raises(RunNotFound):
        await engine.get("large")
    await deleting
    assert rows_of(file_url, "large") == 0


async def test_what_a_crash_leaves_is_swept_by_the_next_round(open_engine: Open, file_url: str) -> None:
    first = await open_engine(file_url)
    await large(first, file_url, "large")
    await first.close()
    clock = SetClock(NOON)
    assert (
        leaving.detach(str(path_of(file_url)), "large", clock()).outcome == "delivered"
    )  # and then it was killed
    assert rows_of(file_url, "large") > 100
    second = await open_engine(file_url, store=open_store(file_url, clock), retention=Retention(age=1000))
    with pytest.raises(RunNotFound):
        await second.journal("large")
    assert await second.store.check() == []
    assert [run.id async for run in await second.runs()] == []
    clock.forward(2000)
    assert second._open.retaining is not None
    await second._open.retaining.round()
    assert rows_of(file_url, "large") == 0
    await (await second.start(GRAPH, {"n": 1}, id="large")).wait()


async def test_an_id_is_not_free_before_its_rows_are_gone(open_engine: Open, file_url: str) -> None:
    engine = await open_engine(file_url, workers=False)
    other = await open_engine(file_url)
    await large(other, file_url, "large")
    leaving.detach(str(path_of(file_url)), "large", 1)
    with pytest.raises(RunConflict):
        await engine.start(GRAPH, {"n": 1}, id="large")


async def test_one_that_goes_on_is_not_deleted(open_engine: Open, file_url: str) -> None:
    engine = await open_engine(file_url)
    await large(engine, file_url, "large")
    with sqlite3.connect(path_of(file_url)) as database:
        database.execute("UPDATE workflow_runs SET status = 'running' WHERE id = 'large'")
    database.close()
    before = rows_of(file_url, "large")
    with pytest.raises(InvalidStatus):
        await engine.delete("large")
    assert rows_of(file_url, "large") == before


async def test_two_who_delete_it_at_once_delete_it_once(open_engine: Open, file_url: str) -> None:
    engines = [await open_engine(file_url) for _ in range(2)]
    await large(engines[0], file_url, "large")
    asked: list[Any] = await asyncio.gather(
        *(engine.delete("large") for engine in engines * 2), return_exceptions=True
    )
    assert all(answer is None or isinstance(answer, RunNotFound) for answer in asked)
    assert rows_of(file_url, "large") == 0
    assert await engines[0].store.check() == []
