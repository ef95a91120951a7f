"""What is promised about chunks: what steps send to readers beside the journal."""

# ruff: noqa: S101, PLR2004 - tests: asserts are their way to speak, numbers what they expect
from __future__ import annotations

import asyncio

from holdfast.model.commit import Dequeue
from holdfast.model.run import RunStatus
from holdfast.store.port import Store
from holdfast.store.rows import Chunk
from holdfast.testing.store_cases import NOON, effect, going_on, held, opened


def chunk(number: int, run: str = "r") -> Chunk:
    """Return a chunk that says its number."""
    return Chunk(run, "s#1", 1, NOON + number, b'"%d"' % number)


class ChunkContract:
    """`stream` and `chunks`."""

    async def test_chunks_are_read_in_order_after_any_of_them(self, store: Store) -> None:
        """With the position that their run had, and without those of other runs."""
        await opened(store, "r", "x")
        at = (await store.journal("r"))[-1].count
        positions = await store.stream([chunk(1), chunk(7, "x"), chunk(2)])
        assert positions == {"r": at, "x": at}
        assert await store.stream([Chunk("r", "s#1", 2, NOON, b"")]) == {"r": at}
        found = await store.chunks("r")
        assert [(row.data, row.attempt, row.position) for row in found] == [
            (b'"1"', 1, at),
            (b'"2"', 1, at),
            (b"", 2, at),
        ]
        assert [row.at for row in found] == [NOON + 1, NOON + 2, NOON]
        assert await store.chunks("r", after=found[0].number, limit=1) == [found[1]]
        assert await store.chunks("r", after=found[2].number) == []

    async def test_chunks_are_no_commit(self, store: Store) -> None:
        """The run's row and journal stay as they are."""
        await opened(store, "r")
        before = await store.run("r"), await store.journal("r"), store.stats.commits
        await store.stream([chunk(n) for n in range(1000)])
        assert (await store.run("r"), await store.journal("r"), store.stats.commits) == before
        assert len(await store.chunks("r")) == 1000

    async def test_chunks_asked_for_before_a_commit_are_there_before_it(self, store: Store) -> None:
        """So they have the position before it."""
        epoch = await held(store, "r")
        at = (await store.journal("r"))[-1].count
        streaming = asyncio.ensure_future(store.stream([chunk(1)]))
        await asyncio.sleep(0)
        await store.commit([going_on("r", at, epoch=epoch, was=RunStatus.PENDING)])
        assert [row.position for row in await store.chunks("r")] == [at]
        await streaming

    async def test_chunks_go_with_their_run(self, store: Store) -> None:
        """And those of a run that is unknown are not kept."""
        await held(store, "r")
        assert (await store.stream([chunk(1), chunk(1, "unknown")])).keys() == {"r"}
        await effect(store, Dequeue(), status=RunStatus.COMPLETED)
        await store.delete("r")
        assert await store.stream([chunk(2)]) == {}
        assert (await store.chunks("r"), await store.chunks("unknown")) == ([], [])
        assert await store.check() == []
