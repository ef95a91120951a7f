"""Processes that keep the same results at once on PostgreSQL: they may wait for each other, never in a circle."""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast.model.commit import Committed, Keep
from holdfast.store.postgres.store import PostgresStore
from holdfast.store.rows import CacheQuery
from holdfast.testing.store_cache import entry
from holdfast.testing.store_cases import going_on, opened

KEYS = [f"k{number}" for number in range(30)]
ROUNDS = 3


async def test_the_same_results_may_be_kept_at_once_in_any_order(postgres_url: str) -> None:
    """Given two processes, when both keep the same keys in opposite orders, and clear them, then all goes well."""
    stores = [PostgresStore(postgres_url, postgres_url) for _ in "ab"]
    for store in stores:
        await store.open()
    await opened(stores[0], *(f"{name}{key}" for name in "ab" for key in KEYS))

    async def keep(store: PostgresStore, name: str, keys: list[str]) -> list[Any]:
        answers: list[Any] = []
        for number in range(ROUNDS):
            commits = [
                going_on(f"{name}{key}", 1 + number, effects=(Keep(entry(key)), Keep(entry(KEYS[-1 - n]))))
                for n, key in enumerate(keys)
            ]
            for asked in [store.commit([commit]) for commit in commits]:
                answers += await asked
        return answers

    kept = await asyncio.gather(
        keep(stores[0], "a", KEYS),
        keep(stores[1], "b", KEYS[::-1]),
        *(store.clear_cache(CacheQuery(), limit=7) for store in stores),
    )
    assert [type(answer) for answers in kept[:2] for answer in answers] == [Committed] * (
        2 * ROUNDS * len(KEYS)
    )
    assert await stores[0].clear_cache(CacheQuery()) <= len(KEYS)
    for store in stores:
        await store.close()
