"""The order of all runs' commits has no gap that a reader could skip, whatever transactions do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from holdfast.model.commit import Committed
from holdfast.store.postgres.store import PostgresStore
from holdfast.store.rows import JournalRow
from holdfast.testing.store_cases import RUNNING, going_on, opened

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

WRITE = """
INSERT INTO holdfast.journal (run, position, count, at, epoch, commit_id, worker, facts)
VALUES (%s, %s, 1, 0, 1, '', 'slow', '[]') RETURNING seq
"""


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(url, url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    async with open_store(postgres_url) as store:
        yield store


async def connect(url: str) -> Connection:
    return await psycopg.AsyncConnection.connect(url)


async def read_until(store: PostgresStore, cursor: str, run: str) -> list[JournalRow]:
    """All commits after a cursor, as soon as one of that run is among them."""
    rows: list[JournalRow] = []
    while run not in {row.run for row in rows}:
        rows += await store.commits_after(rows[-1].cursor if rows else cursor)
        await asyncio.sleep(0.005)
    return rows


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_reader_stops_before_a_transaction_that_still_writes(
    store: PostgresStore, postgres_url: str, end: str
) -> None:
    """It has a smaller number than what was committed meanwhile; a reader who went on would never see it."""
    await opened(store, "begin")
    (begin,) = await read_until(store, "", "begin")
    async with await connect(postgres_url) as slow:
        (early,) = await (await slow.execute(WRITE, ("slow", 1))).fetchone() or (0,)
        await opened(store, "quick")
        (quick,) = await store.journal("quick")
        assert early < int(quick.cursor.split(".")[2])
        assert await store.commits_after(begin.cursor) == []
        assert [row.run for row in await store.tail("starter", begin.cursor)] == ["quick"]
        await (slow.commit() if end == "commit" else slow.rollback())
        rows = await read_until(store, begin.cursor, "quick")
        assert [row.run for row in rows] == (["slow", "quick"] if end == "commit" else ["quick"])


async def test_a_transaction_that_began_before_it_wrote_is_no_gap(
    store: PostgresStore, postgres_url: str
) -> None:
    """Numbers follow the first write, not the beginning."""
    async with await connect(postgres_url) as slow:
        await slow.execute("SELECT 1")
        await opened(store, "quick")
        (quick,) = await read_until(store, "", "quick")
        await slow.execute(WRITE, ("slow", 1))
        assert await store.commits_after(quick.cursor) == []
        await slow.commit()
        assert [row.run for row in await read_until(store, quick.cursor, "slow")] == ["slow"]


async def test_fifty_writers_make_no_reader_miss_a_commit(postgres_url: str) -> None:
    """Transactions that overlap at random, a third of them rolled back, and three readers at different paces."""
    chance = random.Random(5)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    committed: set[tuple[str, int]] = set()
    writing = True

    async def write(run: str) -> None:
        for position in range(1, 9):
            connection = await free.get()
            await connection.execute(WRITE, (run, position))
            await asyncio.sleep(chance.uniform(0, 0.03))
            if chance.random() < 1 / 3:
                await connection.rollback()
            else:
                committed.add((run, position))
                await connection.commit()
            free.put_nowait(connection)

    async def read(store: PostgresStore, limit: int, pause: float) -> list[tuple[str, int]]:
        rows: list[JournalRow] = []
        while writing or len(rows) < len(committed):
            rows += await store.commits_after(rows[-1].cursor if rows else "", limit)
            await asyncio.sleep(pause)
        return [(row.run, row.position) for row in rows]

    connections = [await connect(postgres_url) for _ in range(26)]
    for connection in connections[1:]:
        free.put_nowait(connection)
    async with open_store(postgres_url) as store:
        readers = [asyncio.create_task(read(store, limit, limit / 5000)) for limit in (1, 7, 1000)]
        naive = asyncio.create_task(read_by_seq(connections[0]))
        await asyncio.gather(*(write(f"w{number}") for number in range(50)))
        writing = False
        naive.cancel()
        seen = [await reader for reader in readers]
    (by_seq_alone,) = await asyncio.gather(naive)
    for connection in connections:
        await connection.close()
    assert [len(rows) for rows in seen] == [len(committed)] * 3
    assert set(seen[0]) == committed
    assert seen[0] == seen[1] == seen[2]
    assert by_seq_alone < committed, "nothing was provoked"


async def read_by_seq(connection: Connection) -> set[tuple[str, int]]:
    """What a reader sees, until it is cancelled, who goes on after the largest number that it saw."""
    seen: set[tuple[str, int]] = set()
    last = 0
    try:
        while True:
            sql = "SELECT seq, run, position FROM holdfast.journal WHERE seq > %s ORDER BY seq"
            for seq, run, position in await (await connection.execute(sql, (last,))).fetchall():
                seen.add((run, position))
                last = seq
            await connection.commit()
            await asyncio.sleep(0.001)
    except asyncio.CancelledError:
        return seen


async def test_the_order_goes_on_after_a_restore_elsewhere(postgres_url: str) -> None:
    """The other server's transactions have smaller numbers; cursors from before still say where their readers are."""
    async with open_store(postgres_url) as store:
        await opened(store, "a")
        await opened(store, "b")
        first = (await read_until(store, "", "b"))[0]
    async with await connect(postgres_url) as restored:
        await restored.execute(
            "UPDATE holdfast.journal SET tx = (tx::text::bigint + 1000000000000)::text::xid8"
        )
    era, tx, seq = map(int, first.cursor.split("."))
    cursor = f"{era}.{tx + 10**12}.{seq}"
    async with open_store(postgres_url) as store, open_store(postgres_url) as other:
        await opened(other, "c")
        assert [row.run for row in await read_until(store, "", "c")] == ["a", "b", "c"]
        assert [row.run for row in await read_until(store, cursor, "c")] == ["b", "c"]
        assert [row.run for row in await store.tail("starter", cursor)] == ["b", "c"]
        await opened(store, "d")
        rows = await read_until(other, cursor, "d")
        assert [row.cursor.partition(".")[0] for row in rows] == [str(era), str(era + 1), str(era + 1)]


async def test_a_workers_commits_are_in_order_after_a_lost_connection(postgres_url: str) -> None:
    """A group whose connection is lost may still go on at the server; the next one waits for it."""
    async with open_store(postgres_url) as store, await connect(postgres_url) as other:
        await opened(store, "a", "b", status=RUNNING)
        begin = (await store.tail("starter", ""))[-1].cursor
        await other.execute("SELECT 1 FROM holdfast.workflow_runs WHERE id = 'a' FOR UPDATE")
        late = asyncio.ensure_future(store.commit([going_on("a", 1)]))
        while not await waiting(postgres_url):
            await asyncio.sleep(0.01)
        writing = store._lines[0].ready
        assert writing is not None
        writing.close()
        (answer,) = await asyncio.gather(late, return_exceptions=True)
        assert isinstance(answer, Exception)
        next_ = asyncio.ensure_future(store.commit([going_on("b", 1)]))
        while await waiting(postgres_url) < 2:
            await asyncio.sleep(0.01)
        await other.commit()
        await next_
        assert [row.run for row in await store.tail("holder", begin)] == ["a", "b"]


async def waiting(url: str) -> int:
    """How many backends wait for a lock in this database."""
    async with await connect(url) as connection:
        found = await connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        ((count,),) = await found.fetchall()
        return int(count)


async def test_a_deletion_that_waits_holds_up_no_commit(store: PostgresStore, postgres_url: str) -> None:
    """Nor does any other write that is no commit: they have a connection of their own."""
    await opened(store, "going", status=RUNNING)
    await opened(store, "old", status=RUNNING)
    async with await connect(postgres_url) as other:
        await other.execute("SELECT 1 FROM holdfast.workflow_runs WHERE id = 'old' FOR UPDATE")
        deletion = asyncio.create_task(store.delete("old"))
        while not await waiting(postgres_url):
            await asyncio.sleep(0.01)
        assert isinstance((await store.commit([going_on("going", 1)]))[0], Committed)
        assert not deletion.done()
        await other.rollback()
        assert (await deletion).outcome == "refused"
