"""What `commit` promises, and what `load`, `journal` and `tail` then return."""

# ruff: noqa: S101, PLR2004 - tests: asserts are their way to speak, numbers what they expect
from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from holdfast.errors import StoreError
from holdfast.model import facts
from holdfast.model.commit import Commit, Committed, Conflict, Deliver, Dequeue, Enqueue
from holdfast.model.run import Progress, RunStatus
from holdfast.store.port import Store
from holdfast.store.rows import Fold, JournalRow, RunQuery, Stored
from holdfast.testing.store_cases import (
    COMPLETED,
    FAILED,
    LANE,
    NOON,
    PENDING,
    RUNNING,
    WAITING,
    going_on,
    keys,
    opened,
    opening,
    run_of,
    send,
)


async def commits_after(store: Store, cursor: str, count: int) -> Sequence[JournalRow]:
    """Return so many commits of all runs, as soon as the store shows them: foreign transactions may hold them back."""
    while len(rows := await store.commits_after(cursor)) < count:  # noqa: ASYNC110 - these tell us nothing
        await asyncio.sleep(0.01)
    assert len(rows) == count
    return rows


class CommitContract:
    """Commits: the optimistic lock, the fence, and that each is written wholly or not at all."""

    async def test_the_first_commit_opens_the_run(self, store: Store) -> None:
        """Every column of the row comes from the commit and its `opened`."""
        row: dict[str, Any] = {
            "version": "2",
            "hash": "h",
            "queue": "q",
            "priority": 3,
            "tags": ("b", "a"),
            "secrets": ("key",),
        }
        (answer,) = await store.commit([opening("r", params=msgspec.Raw(b'{"n":1}'), parent="p", **row)])
        assert isinstance(answer, Committed)
        assert (answer.run, answer.position) == ("r", 1)
        run = await run_of(store, "r")
        assert {name: getattr(run, name) for name in row} == row
        assert (run.id, run.workflow, run.parent, bytes(run.params)) == ("r", "order", "p", b'{"n":1}')
        assert (run.status, run.position, run.epoch, run.last_commit) == (PENDING, 1, 1, "open-r")
        assert (run.created_at, run.started_at, run.completed_at, run.updated_at) == (NOON, 0, 0, NOON)

    async def test_large_params_come_back(self, store: Store) -> None:
        """However a store keeps them, they are no blob."""
        params = b'"' + b"x" * 50_000 + b'"'
        await opened(store, "r", params=msgspec.Raw(params))
        assert bytes((await run_of(store, "r")).params) == params
        assert bytes((await store.runs(RunQuery()))[0].params) == params
        assert await store.blobs("r") == {}

    async def test_an_id_is_taken_once(self, store: Store) -> None:
        """A second opening conflicts and changes nothing."""
        await opened(store, "r")
        assert await store.commit([opening("r", workflow="other", priority=9)]) == [Conflict("r")]
        assert (await run_of(store, "r")).workflow == "order"
        (claimed,) = await store.claim("w", [LANE], 10)
        assert claimed.run.priority == 0

    async def test_an_unknown_run_conflicts(self, store: Store) -> None:
        """Nothing is made by the way."""
        assert await store.commit([going_on("r", 0)]) == [Conflict("r")]
        assert await store.run("r") is None
        assert await store.load("r") is None

    @pytest.mark.parametrize(("position", "epoch"), [(0, 1), (2, 1), (1, 0), (1, 2)])
    async def test_a_commit_must_know_position_and_epoch(
        self, store: Store, position: int, epoch: int
    ) -> None:
        """A conflict leaves journal, row, job, inbox and blobs as they were."""
        await opened(store, "r")
        effects = (Dequeue(), Deliver("k"), Enqueue("default", "order", 5, "thief"))
        before = await store.load("r")
        for each in (effects, (Dequeue(0), *effects[1:])):
            commit = going_on("r", position, epoch=epoch, was=PENDING, effects=each, blobs={"h": b"x"})
            assert await store.commit([commit]) == [Conflict("r")]
        assert msgspec.json.encode(await store.load("r")) == msgspec.json.encode(before)
        assert await keys(store) == []
        (claimed,) = await store.claim("w", [LANE], 10)
        assert (claimed.run.priority, claimed.wakes) == (0, 0)

    async def test_a_conflict_touches_no_other_commit(self, store: Store) -> None:
        """Neither of the same call nor of calls at the same time."""
        await opened(store, "a", "b", "c")
        answers = await store.commit([going_on("a", 1), going_on("b", 7), going_on("c", 1)])
        assert [type(answer) for answer in answers] == [Committed, Conflict, Committed]
        calls = [going_on("a", 2), going_on("b", 7), going_on("b", 1), going_on("c", 2)]
        several = await asyncio.gather(*(store.commit([commit]) for commit in calls))
        assert [type(answer) for (answer,) in several] == [Committed, Conflict, Committed, Committed]

    async def test_a_commit_in_error_fails_alone(self, store: Store) -> None:
        """Text that no database takes fails its own call; the calls beside it are written, once."""
        await opened(store, "a", "b", "c")
        bad = going_on("b", 2, worker="\ud800")
        calls = [[going_on("a", 1)], [going_on("b", 1), bad], [going_on("c", 1)]]
        first, second, third = await asyncio.gather(*map(store.commit, calls), return_exceptions=True)
        assert isinstance(second, StoreError)
        assert [[type(each) for each in answers] for answers in (first, third)] == [[Committed], [Committed]]  # type: ignore[union-attr]
        assert [len(await store.journal(run)) for run in "abc"] == [2, 1, 2]
        assert store.stats.commits == 5
        assert isinstance((await store.commit([going_on("b", 1)]))[0], Committed)

    async def test_one_run_advances_within_one_call(self, store: Store) -> None:
        """Commits of one call are written in order."""
        answers = await store.commit(
            [opening("r"), going_on("r", 1, was=PENDING), going_on("r", 2), going_on("r", 2)]
        )
        assert [type(answer) for answer in answers] == [Committed, Committed, Committed, Conflict]

    async def test_concurrent_commits_share_transactions(self, store: Store) -> None:
        """Fifty runs at once need far fewer transactions than commits."""
        runs = [f"r{number}" for number in range(50)]
        await opened(store, *runs)
        before = msgspec.structs.replace(store.stats)

        async def drive(run: str) -> None:
            for position in range(1, 11):
                (answer,) = await store.commit([going_on(run, position)])
                assert isinstance(answer, Committed)
                assert answer.position == position + 1

        await asyncio.gather(*map(drive, runs))
        assert store.stats.commits - before.commits == 500
        assert store.stats.transactions - before.transactions < 100
        assert store.stats.bytes > before.bytes

    async def test_a_cancelled_caller_disturbs_nobody(self, store: Store) -> None:
        """Whether its commit was written or not, those beside it were."""
        await opened(store, "a", "b")
        task = asyncio.ensure_future(store.commit([going_on("a", 1)]))
        other = asyncio.ensure_future(store.commit([going_on("b", 1)]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert isinstance((await other)[0], Committed)
        assert isinstance((await store.commit([going_on("b", 2)]))[0], Committed)

    async def test_a_commit_without_facts_keeps_the_position(self, store: Store) -> None:
        """It still answers for its id, and no empty row stands in the journal."""
        await opened(store, "r")
        commit = msgspec.structs.replace(going_on("r", 1, id="bare"), facts=())
        (answer,) = await store.commit([commit])
        assert answer == Committed("r", 1)
        assert (await run_of(store, "r")).last_commit == "bare"
        assert len(await store.journal("r")) == 1

    async def test_the_row_follows_the_status(self, store: Store) -> None:
        """Times, waits, error and progress are those of the newest commit; progress stays until told anew."""
        await opened(store, "r")
        progress = Progress(40.0, "half", "s1", 2, 5)

        async def go(position: int, at: int, was: RunStatus, status: RunStatus, **more: object) -> None:
            (answer,) = await store.commit([going_on("r", position, at=at, was=was, status=status, **more)])
            assert isinstance(answer, Committed)

        await go(1, NOON + 1, PENDING, RUNNING, progress=progress)
        await go(2, NOON + 2, RUNNING, WAITING, waiting_on=("signal é", "timer"))
        run = await run_of(store, "r")
        assert (run.status, run.started_at, run.waiting_on, run.progress) == (
            *(WAITING, NOON + 1, ("signal é", "timer"), progress),
        )
        error = facts.ErrorInfo(code="boom", message="it broke", type="ValueError", attempt=3)
        await go(3, NOON + 3, WAITING, FAILED, error=error)
        run = await run_of(store, "r")
        assert (run.status, run.completed_at, run.waiting_on, run.error) == (FAILED, NOON + 3, (), error)
        await go(4, NOON + 4, FAILED, RUNNING)
        run = await run_of(store, "r")
        assert (run.status, run.completed_at, run.error, run.started_at) == (RUNNING, 0, None, NOON + 1)
        await go(5, NOON + 5, RUNNING, COMPLETED)
        run = await run_of(store, "r")
        assert (run.status, run.completed_at, run.updated_at) == (COMPLETED, NOON + 5, NOON + 5)

    async def test_a_run_may_end_in_its_first_commit(self, store: Store) -> None:
        """It leaves no job, whatever effects came with its opening."""
        commit = opening("r", status=COMPLETED)
        (answer,) = await store.commit(
            [msgspec.structs.replace(commit, effects=(*commit.effects, Dequeue()))]
        )
        assert isinstance(answer, Committed)
        assert answer.released
        run = await run_of(store, "r")
        assert (run.status, run.started_at, run.completed_at) == (COMPLETED, NOON, NOON)
        assert await store.claim("w", [LANE], 10) == []


class JournalContract:
    """Journals, folds and large values."""

    async def test_a_journal_is_read_as_it_was_written(self, store: Store) -> None:
        """Rows hold the facts of a commit; the first fact of a row stands at the row's position, from 1."""
        await opened(store, "r", "other")
        two = (
            facts.StepCompleted(
                at=NOON, step="é\u0000\U0001f600", attempt=1, data=msgspec.Raw(b'{"a":[1,2.50]}')
            ),
            facts.DecisionMade(at=NOON, source="a", edges=(facts.EdgeTried(target="b", result=False),)),
        )
        await store.commit([going_on("r", 1, *two, at=NOON + 5)])
        first, second = await store.journal("r")
        assert (first.position, first.count, second.position, second.count) == (1, 1, 2, 2)
        assert (second.run, second.at, second.worker) == ("r", NOON + 5, "holder")
        assert second.cursor != first.cursor
        assert second.facts == facts.Journal.encode(two)
        assert facts.Journal.decode(second.facts) == two

    async def test_a_journal_is_read_by_the_page(self, store: Store) -> None:
        """A page begins with the commit that holds the next position, also when that is in its middle."""
        await opened(store, "r")
        some = [facts.StepScheduled(step=f"s{number}", name="n") for number in range(3)]
        await store.commit([going_on("r", 1 + 3 * number, *some) for number in range(4)])
        starts = {
            after: [row.position for row in await store.journal("r", after, 2)]
            for after in (0, 1, 2, 4, 12, 13)
        }
        assert starts == {0: [1, 2], 1: [2, 5], 2: [2, 5], 4: [5, 8], 12: [11], 13: []}
        assert await store.journal("unknown") == []

    async def test_the_tail_holds_one_workers_commits(self, store: Store) -> None:
        """In one order, over all runs."""
        await opened(store, "a", "b")
        await store.commit(
            [going_on("a", 1, worker="x"), going_on("b", 1, worker="y"), going_on("b", 2, worker="x")]
        )
        rows = await store.tail("x", "")
        assert [(row.run, row.position) for row in rows] == [("a", 2), ("b", 3)]
        assert [row.run for row in await store.tail("x", rows[0].cursor)] == ["b"]
        assert [row.run for row in await store.tail("x", "", 1)] == ["a"]

    async def test_all_commits_are_read_in_one_order(self, store: Store) -> None:
        """By the page, whoever made them; those of a run as they stand in its journal."""
        await opened(store, "a", "b")
        for position in (1, 2):
            await store.commit([going_on(run, position, worker=run) for run in "ba"])
        rows = await commits_after(store, "", 6)
        assert sorted((row.run, row.position) for row in rows) == [
            (run, at) for run in "ab" for at in (1, 2, 3)
        ]
        assert [row.position for row in rows if row.run == "a"] == [1, 2, 3]
        seen: list[JournalRow] = []
        while page := await store.commits_after(seen[-1].cursor if seen else "", 1):
            seen += page
        assert seen == rows

    async def test_cursors_never_come_back(self, store: Store) -> None:
        """A reader of all commits that saw one of a deleted run must see the next one."""
        await store.commit([opening("gone", status=COMPLETED)])
        (seen,) = await commits_after(store, "", 1)
        await store.delete("gone")
        await opened(store, "next")
        assert [row.run for row in await commits_after(store, seen.cursor, 1)] == ["next"]

    async def test_numbers_in_the_tail_never_come_back(self, store: Store) -> None:
        """A reader that saw a commit of a deleted run must see the next one."""
        await store.commit([opening("gone", status=COMPLETED)])
        (seen,) = await store.tail("starter", "")
        await store.delete("gone")
        await opened(store, "next")
        assert [row.run for row in await store.tail("starter", seen.cursor)] == ["next"]

    async def test_load_returns_all_that_a_driver_needs(self, store: Store) -> None:
        """The newest fold of that program and only the journal after it; with no such fold, all of it."""
        await opened(store, "r")
        for position, hash_ in ((1, "old"), (2, "new"), (3, "new")):
            await store.commit([going_on("r", position, checkpoint=b"%d" % position, checkpoint_hash=hash_)])
        await store.commit([going_on("r", 4, blobs={"h": b"\0large"})])

        async def load(hash_: str) -> Stored:
            stored = await store.load("r", hash_)
            assert stored is not None
            assert stored.run.position == 5
            assert stored.blobs == {"h": b"\0large"}
            return stored

        stored = await load("new")
        assert stored.fold == Fold(4, "new", b"3")
        assert [row.position for row in stored.rows] == [5]
        assert (await load("old")).fold == Fold(2, "old", b"1")
        stored = await load("third")
        assert stored.fold is None
        assert [row.position for row in stored.rows] == [1, 2, 3, 4, 5]
        until = [await store.fold("r", "new", position) for position in range(6)]
        assert until == [None, None, None, Fold(3, "new", b"2"), *[Fold(4, "new", b"3")] * 2]
        assert await store.fold("r", "third", 9) is await store.fold("unknown", "new", 9) is None

    async def test_many_runs_are_loaded_at_once(self, store: Store) -> None:
        """Each with what is its own, however many ask; and the inboxes beside them."""
        names = [f"r{number}" for number in range(60)]
        await opened(store, *names)
        for number, name in enumerate(names):
            fold: dict[str, Any] = (
                {"checkpoint": b"%d" % number, "checkpoint_hash": "new"} if number % 2 else {}
            )
            await store.commit([going_on(name, 1, blobs={"h": name.encode()}, **fold)])
            await send(store, name, f"key of {name}")
        loads = asyncio.gather(*(store.load(name, "new") for name in [*names, "unknown"]))
        inboxes = asyncio.gather(*(store.inbox(name) for name in [*names, "unknown"]))
        *loaded, unknown = await loads
        *arrived, none = await inboxes
        assert (unknown, none) == (None, [])
        for number, (name, stored, rows) in enumerate(zip(names, loaded, arrived, strict=True)):
            assert stored is not None
            assert (stored.run.id, stored.blobs) == (name, {"h": name.encode()})
            assert stored.fold == (Fold(2, "new", b"%d" % number) if number % 2 else None)
            assert [(row.run, row.position) for row in stored.rows] == (
                [] if number % 2 else [(name, 1), (name, 2)]
            )
            assert [(row.run, row.key) for row in rows] == [(name, f"key of {name}")]

    async def test_a_long_journal_is_loaded_whole(self, store: Store) -> None:
        """More commits than a page holds, and more than a loop should wait for."""
        await opened(store, "r")
        await store.commit([going_on("r", position) for position in range(1, 3000)])
        stored = await store.load("r")
        assert stored is not None
        assert [row.position for row in stored.rows] == list(range(1, 3001))
        ends = [row.position + row.count for row in await store.journal("r", 0, 5000)]
        assert ends == list(range(2, 3002))

    async def test_large_values_are_kept_once(self, store: Store) -> None:
        """The first value under a hash stays; runs do not share."""
        await opened(store, "r", "other")
        await store.commit([going_on("r", 1, blobs={"a": b"1", "b": b"2"})])
        await store.commit([going_on("r", 2, blobs={"a": b"9", "c": b"3"})])
        assert await store.blobs("r") == {"a": b"1", "b": b"2", "c": b"3"}
        assert await store.blobs("other") == {}

    async def test_large_blobs_are_loaded(self, store: Store) -> None:
        """More than a loop should wait for."""
        await opened(store, "r")
        await store.commit([going_on("r", 1, blobs={"a": b"x" * 3_000_000})])
        stored = await store.load("r")
        assert stored is not None
        assert len(stored.blobs["a"]) == 3_000_000

    async def test_a_reader_sees_its_own_writes(self, store: Store) -> None:
        """What an awaited commit wrote is there for the next read."""
        await opened(store, "r")
        commits: list[Commit] = [going_on("r", position) for position in range(1, 30)]
        for commit, position in zip(commits, itertools.count(2), strict=False):
            await store.commit([commit])
            assert (await run_of(store, "r")).position == position
            assert (await store.journal("r", position - 1))[0].position == position
