"""The SQLite store keeps the contract, in a file and in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from holdfast.store.port import Store
from holdfast.store.sqlite.store import SqliteStore
from holdfast.testing.store_cases import SetClock
from holdfast.testing.store_contract import StoreContract


class TestFile(StoreContract):
    """On a file, with a COMMIT wherever the writer sees fit."""

    @pytest.fixture
    async def store(self, clock: SetClock, tmp_path: Path) -> AsyncIterator[Store]:
        store = SqliteStore(tmp_path / "runs.db", clock)
        await store.open()
        yield store
        await store.close()

    async def query(self, store: Store, sql: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        connection = sqlite3.connect(store.url.removeprefix("sqlite:///"))
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()


class TestThread(TestFile):
    """On a file, with every COMMIT on the writer's thread."""

    @pytest.fixture
    async def store(
        self, clock: SetClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Store]:
        monkeypatch.setattr("holdfast.store.sqlite.writer.SHORT", -1.0)
        store = SqliteStore(tmp_path / "runs.db", clock)
        await store.open()
        yield store
        await store.close()


class TestMemory(StoreContract):
    """In memory."""

    @pytest.fixture
    async def store(self, clock: SetClock) -> AsyncIterator[Store]:
        store = SqliteStore(":memory:", clock)
        await store.open()
        yield store
        await store.close()

    async def query(self, store: Store, sql: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        assert isinstance(store, SqliteStore)
        return store._read(lambda database: database.execute(sql, values).fetchall())
