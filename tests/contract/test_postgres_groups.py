"""Which commits share a transaction on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from holdfast.model.commit import Committed
from holdfast.store.postgres.store import PostgresStore
from holdfast.store.postgres.writer import FULL_GROUP
from holdfast.testing.store_cases import going_on, opened

LAST = FULL_GROUP + 2
RUNS = [f"run-{number:03}" for number in range(LAST + 1)]


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(postgres_url, postgres_url)
    await store.open()
    await opened(store, *RUNS)
    yield store
    await store.close()


async def test_a_large_group_does_not_wait_for_the_one_before_and_a_small_one_does(
    store: PostgresStore, postgres_url: str
) -> None:
    """Given a commit that waits for a lock at the server, when many come, one by one, then not all wait for its end."""
    before = store.stats.transactions
    async with await psycopg.AsyncConnection.connect(postgres_url) as holder:
        await holder.execute("SELECT 1 FROM holdfast.workflow_runs WHERE id = %s FOR UPDATE", (RUNS[0],))
        asked = [store.commit([going_on(RUNS[0], 1)])]
        for run in RUNS[1:]:
            await asyncio.sleep(0)
            asked.append(store.commit([going_on(run, 1)]))
        await asyncio.sleep(0)
        assert not any(answer.done() for answer in asked)
    answers = [answer for (answer,) in await asyncio.gather(*asked)]

    assert [(answer.run, type(answer)) for answer in answers] == [(run, Committed) for run in RUNS]
    assert store.stats.transactions - before == 3, "one alone, a full one meanwhile, the rest afterwards"
