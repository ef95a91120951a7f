"""What must be true of a store when everything is over, whatever happened to it."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import Any

import psycopg

from holdfast.core.work import Blobs
from holdfast.model import facts
from holdfast.model.commit import Commit
from holdfast.model.run import RunRow, RunStatus
from holdfast.model.values import decode
from holdfast.store.open import file_of, open_store
from holdfast.store.port import Store
from holdfast.store.rows import JournalRow, RunQuery
from holdfast.testing.laws import broken_laws
from tests.crash.processes import Journal, check_all
from tests.crash.workflows import registered

PAGE = 10_000


def ask(url: str, query: str) -> list[tuple[Any, ...]]:
    """Ask the database itself; tables have no schema before their names."""
    file = file_of(url)
    if file is not None:
        with sqlite3.connect(file) as database:
            return database.execute(query).fetchall()
    with psycopg.connect(url, options="-c search_path=holdfast") as connection:
        return connection.execute(query.encode()).fetchall()


async def check_store(url: str, log: Path) -> dict[str, Journal]:
    """Check every run's journal, that nobody wrote under a stale epoch, and that nothing is left over."""
    journals = await check_all(url, log)
    store = open_store(url)
    await store.open()
    try:
        rows = await store.runs(RunQuery(limit=PAGE))
        broken = await asyncio.gather(*(_broken_laws(store, row) for row in rows))
        assert list(chain.from_iterable(broken)) == []
    finally:
        await store.close()
    check_epochs(url)
    check_leftovers(url)
    return journals


async def _broken_laws(store: Store, row: RunRow) -> list[str]:
    registry = registered()
    blobs = dict(await store.blobs(row.id))

    def opens() -> Any:
        workflow = registry.find(row.workflow)
        assert workflow is not None
        return workflow.open(None, decode(row.params), Blobs(blobs))

    commits = [_commit(each, row) for each in await store.journal(row.id, limit=PAGE)]
    return [f"run {row.id}: {text}" for text in broken_laws(commits, opens, random.Random(0))]


def _commit(each: JournalRow, row: RunRow) -> Commit:
    """The commit of a row in the journal, as far as the laws look at it."""
    return Commit(
        id=each.commit,
        run=each.run,
        position=each.position - 1,
        epoch=0,
        at=each.at,
        worker=each.worker,
        facts=tuple(facts.Journal.decode(each.facts)),
        status=RunStatus.RUNNING,
        was=RunStatus.RUNNING,
        opened=row if each.position == 1 else None,
    )


def check_epochs(url: str) -> None:
    """Check that epochs only rise along each journal, and that each belongs to one worker."""
    last: dict[str, int] = defaultdict(int)
    holders: dict[tuple[str, int], set[str]] = defaultdict(set)
    for run, epoch, worker in ask(url, "SELECT run, epoch, worker FROM journal ORDER BY run, position"):
        assert epoch >= last[run], f"run {run}: a commit under the stale epoch {epoch} after {last[run]}"
        last[run] = epoch
        holders[run, epoch].add(worker)
    shared = {key: workers for key, workers in holders.items() if len(workers) > 1}
    assert shared == {}


def check_leftovers(url: str) -> None:
    """Check that no job or arrival is left, and that no worker is held to be alive."""
    left = {
        "jobs": ask(url, "SELECT run, worker, deaths FROM jobs"),
        # What a failed or cancelled run was sent and did not take stays for a resume, but no clock.
        "arrivals": ask(
            url,
            "SELECT i.run, i.key FROM inbox AS i JOIN workflow_runs AS r ON r.id = i.run"
            " WHERE i.due > 0 OR r.status NOT IN ('failed', 'cancelled')",
        ),
        "workers": ask(url, "SELECT id FROM workers WHERE stopped_at = 0"),
    }
    assert left == {"jobs": [], "arrivals": [], "workers": []}, left
