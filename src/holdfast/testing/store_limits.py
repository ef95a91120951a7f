"""What is promised about rows that processes change together: breakers, rate limits, bulkheads."""

# ruff: noqa: S101, PLR2004 - tests: asserts are their way to speak, numbers what they expect
from __future__ import annotations

import asyncio

from holdfast.store.port import Store
from holdfast.store.rows import LimitRow


class LimitContract:
    """`limit` and `set_limit`."""

    async def test_a_row_is_written_by_who_knows_its_version(self, store: Store) -> None:
        """And by nobody else; each write raises it."""
        assert await store.limit("breaker:a") is None
        assert not await store.set_limit("breaker:a", 1, b"{}")
        assert await store.set_limit("breaker:a", 0, b'{"n":1}')
        assert not await store.set_limit("breaker:a", 0, b'{"n":2}')
        assert await store.limit("breaker:a") == LimitRow(1, b'{"n":1}')
        assert await store.set_limit("breaker:a", 1, b'{"n":"\xc3\xa9"}')
        assert not await store.set_limit("breaker:a", 1, b'{"n":4}')
        assert await store.limit("breaker:a") == LimitRow(2, b'{"n":"\xc3\xa9"}')
        assert await store.limit("breaker:b") is None

    async def test_rows_are_found_by_how_their_names_begin(self, store: Store) -> None:
        """Also names with characters that stand for others in patterns."""
        for name in ("breaker:b", "breaker:a%", "breaker:ä_", "rate:a", "Breaker:a"):
            assert await store.set_limit(name, 0, b"{}")
        assert [*await store.limits("breaker:")] == ["breaker:a%", "breaker:b", "breaker:ä_"]
        assert await store.limits("breaker:a%") == {"breaker:a%": LimitRow(1, b"{}")}
        assert await store.limits("breaker:a_") == {}

    async def test_of_all_who_write_at_once_one_succeeds(self, store: Store) -> None:
        """At each version."""
        for version in range(3):
            writes = (store.set_limit("rate:a", version, b"%d" % number) for number in range(50))
            assert sum(await asyncio.gather(*writes)) == 1
        row = await store.limit("rate:a")
        assert row is not None
        assert row.version == 3

    async def test_a_row_is_no_commit(self, store: Store) -> None:
        """Of any run."""
        commits = store.stats.commits
        await store.set_limit("rate:a", 0, b"1")
        assert (store.stats.commits, await store.check()) == (commits, [])
