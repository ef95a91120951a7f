"""The PostgreSQL store keeps the contract, on a server and behind a pooler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
import pytest

from holdfast.store.port import Store
from holdfast.store.postgres.store import PostgresStore
from holdfast.testing.store_cases import SetClock
from holdfast.testing.store_contract import StoreContract
from tests.servers.pooler import pooler


class TestServer(StoreContract):
    """On a server."""

    @pytest.fixture
    async def store(self, clock: SetClock, postgres_url: str) -> AsyncIterator[Store]:
        store = PostgresStore(postgres_url, postgres_url, clock)
        await store.open()
        yield store
        await store.close()

    @pytest.fixture(autouse=True)
    def server(self, postgres_url: str) -> None:
        self.direct = postgres_url

    async def query(self, store: Store, sql: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self.direct) as connection:
            await connection.execute("SET search_path = holdfast")
            return await (await connection.execute(sql.encode(), values)).fetchall()


class TestPooler(TestServer):
    """Behind a pooler in transaction mode: no session, no prepared statements, no notifications."""

    @pytest.fixture
    async def store(self, clock: SetClock, postgres_url: str) -> AsyncIterator[Store]:
        with pooler(postgres_url) as between:
            store = PostgresStore(between.url, between.url, clock)
            await store.open()
            yield store
            await store.close()
            assert between.transactions > 0
