"""The PostgreSQL store keeps the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
import pytest

from holdfast.store.port import Store
from holdfast.store.postgres.store import PostgresStore
from holdfast.testing.store_cases import SetClock
from holdfast.testing.store_contract import StoreContract


class TestPostgres(StoreContract):
    @pytest.fixture
    async def store(self, clock: SetClock, postgres_url: str) -> AsyncIterator[Store]:
        store = PostgresStore(postgres_url, postgres_url, clock)
        await store.open()
        yield store
        await store.close()

    async def query(self, store: Store, sql: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(store.url) as connection:
            await connection.execute("SET search_path = holdfast")
            return await (await connection.execute(sql.encode(), values)).fetchall()
