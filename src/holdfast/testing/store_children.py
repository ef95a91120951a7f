"""The part of the store contract about child runs: they begin, and go on, in the transactions of their parents."""

# ruff: noqa: S101 - tests: asserts are their way to speak, numbers what they expect, names say the rest
from __future__ import annotations

import asyncio

import msgspec
import pytest

from holdfast.model import facts
from holdfast.model.commit import Commit, Committed, Conflict, Deliver, Dequeue, StartRun
from holdfast.model.ids import RunId
from holdfast.model.run import RunStatus
from holdfast.store.port import Store
from holdfast.store.rows import RunQuery
from holdfast.testing.store_cases import (
    CANCELLED,
    COMPLETED,
    FAILED,
    LANE,
    NOON,
    PAUSED,
    PENDING,
    RUNNING,
    effect,
    going_on,
    held,
    keys,
    opened,
    opening,
    run_of,
)


def starting(parent: RunId, position: int, *children: Commit, **changes: object) -> Commit:
    """Return a commit of a parent that begins children."""
    return going_on(parent, position, effects=tuple(map(StartRun, children)), **changes)


async def ended(store: Store, run: RunId, status: RunStatus) -> None:
    """Open a run and end or pause it; nobody holds it then."""
    epoch = await held(store, run, priority=7)
    changes = {"epoch": epoch, "was": PENDING, "status": status, "effects": (Dequeue(),)}
    error = facts.ErrorInfo(code="boom", message="it broke")
    (answer,) = await store.commit([going_on(run, 1, error=error, **changes)])
    assert isinstance(answer, Committed)


class ChildContract:
    """Child runs: begun and taken up in the transaction of a commit of another run, if that is accepted."""

    async def test_a_commit_begins_other_runs(self, store: Store) -> None:
        """With their rows, journals, jobs, tags and large params, and with the worker whose commits they are."""
        await opened(store, "p")
        large = msgspec.Raw(b'"' + b"x" * 50_000 + b'"')
        first = opening("p/a~1", parent="p", priority=3, tags=("t",), params=large)
        (answer,) = await store.commit([starting("p", 1, first, opening("p/b~1", parent="p"), was=PENDING)])
        assert answer == Committed("p", 2, size=answer.size if isinstance(answer, Committed) else 0)
        child = await run_of(store, "p/a~1")
        assert (child.status, child.position, child.epoch, child.parent) == (PENDING, 1, 1, "p")
        assert (child.tags, child.priority, bytes(child.params)) == (("t",), 3, bytes(large))
        assert child.last_commit == "open-p/a~1"
        (row,) = await store.journal("p/a~1")
        assert (row.worker, row.position, facts.Journal.decode(row.facts)) == ("starter", 1, first.facts)
        assert [run.id for run in await store.runs(RunQuery(tags=("t",)))] == ["p/a~1"]
        assert [claim.run.id for claim in await store.claim("w", [LANE], 10)] == ["p/a~1", "p", "p/b~1"]
        assert [row.run for row in await store.tail("starter", "")][1:] == ["p/a~1", "p/b~1"]

    async def test_a_conflict_begins_nothing(self, store: Store) -> None:
        """Neither rows nor jobs nor values; and a commit beside it begins its own."""
        await opened(store, "p", "q")
        large = msgspec.Raw(b'"' + b"x" * 50_000 + b'"')
        lost = starting("p", 7, opening("p/a~1", parent="p", params=large, tags=("t",)))
        kept = starting("q", 1, opening("q/a~1", parent="q"), was=PENDING)
        answers = await asyncio.gather(store.commit([lost]), store.commit([kept]))
        assert [type(answer) for (answer,) in answers] == [Conflict, Committed]
        assert await store.commit([starting("p", 1, opening("p/b~1"), epoch=4)]) == [Conflict("p")]
        for run in ("p/a~1", "p/b~1"):
            assert await store.run(run) is None
            assert await store.journal(run) == []
        assert await store.runs(RunQuery(tags=("t",))) == []
        assert {claim.run.id for claim in await store.claim("w", [LANE], 10)} == {"p", "q", "q/a~1"}
        assert await store.check() == []

    async def test_a_run_is_begun_once(self, store: Store) -> None:
        """One that has begun stays as it is, and its parent's commit counts."""
        await opened(store, "p")
        await store.commit([starting("p", 1, opening("p/a~1", parent="p"), was=PENDING)])
        again = msgspec.structs.replace(opening("p/a~1", parent="p", priority=9), id="again", worker="other")
        (answer,) = await store.commit([starting("p", 2, again)])
        assert isinstance(answer, Committed)
        child = await run_of(store, "p/a~1")
        assert (child.priority, child.last_commit, child.position) == (0, "open-p/a~1", 1)
        assert len(await store.journal("p/a~1")) == 1
        claims = {claim.run.id: claim.wakes for claim in await store.claim("w", [LANE], 10)}
        assert claims == {"p": 0, "p/a~1": 0}

    async def test_the_first_commit_of_a_run_begins_others(self, store: Store) -> None:
        """Also several commits of one run in one call, each its own."""
        first = opening("p")
        first = msgspec.structs.replace(
            first, effects=(*first.effects, StartRun(opening("p/a~1", parent="p")))
        )
        commits = [first, starting("p", 1, opening("p/b~1", parent="p"), was=PENDING)]
        commits.append(starting("p", 1, opening("p/c~1", parent="p"), id="late"))
        answers = await store.commit(commits)
        assert [type(answer) for answer in answers] == [Committed, Committed, Conflict]
        found = {run.id for run in await store.runs(RunQuery())}
        assert found == {"p", "p/a~1", "p/b~1"}

    async def test_what_is_sent_with_the_beginning_arrives(self, store: Store) -> None:
        """A run that begins with a commit can be sent something by the same commit."""
        await opened(store, "p")
        begun = starting("p", 1, opening("p/a~1", parent="p"), was=PENDING)
        sent = (*begun.effects, Deliver("stop", run="p/a~1"))
        await store.commit([msgspec.structs.replace(begun, effects=sent)])
        assert await keys(store, "p/a~1") == ["stop"]
        claims = {claim.run.id: claim.wakes for claim in await store.claim("w", [LANE], 10)}
        assert claims == {"p": 0, "p/a~1": 1}

    @pytest.mark.parametrize("status", [FAILED, CANCELLED, PAUSED])
    async def test_a_commit_takes_another_run_up_again(self, store: Store, status: RunStatus) -> None:
        """It is pending then, without its error, and has a job."""
        await ended(store, "p/a~1", status)
        await held(store)
        await effect(store, Deliver("again", run="p/a~1", reopens=True), at=NOON + 5)
        run = await run_of(store, "p/a~1")
        assert (run.status, run.error, run.completed_at, run.updated_at) == (PENDING, None, 0, NOON + 5)
        assert await keys(store, "p/a~1") == ["again"]
        (claimed,) = await store.claim("w", [LANE], 10)
        assert (claimed.run.id, claimed.run.priority) == ("p/a~1", 7)

    async def test_only_what_ended_or_is_paused_is_taken_up(self, store: Store) -> None:
        """A completed run and one that goes on stay as they are; so does one that is sent something else."""
        await ended(store, "done", COMPLETED)
        await ended(store, "failed", FAILED)
        await held(store, "running")
        await effect(store, run="running", was=PENDING, status=RUNNING)
        await held(store)
        again = [Deliver("again", run=run, reopens=True) for run in ("done", "running", "unknown")]
        await effect(store, *again, Deliver("news", run="failed"))
        found = [(await run_of(store, run)).status for run in ("done", "running", "failed")]
        assert found == [COMPLETED, RUNNING, FAILED]
        assert (await keys(store, "done"), await keys(store, "running")) == ([], ["again"])
        assert await store.claim("w", [LANE], 10) == []

    async def test_a_conflict_takes_nothing_up(self, store: Store) -> None:
        """Neither status nor inbox of the other run change."""
        await ended(store, "p/a~1", FAILED)
        await opened(store, "p")
        lost = going_on("p", 5, effects=(Deliver("again", run="p/a~1", reopens=True),))
        assert await store.commit([lost]) == [Conflict("p")]
        assert (await run_of(store, "p/a~1")).status is FAILED
        assert await keys(store, "p/a~1") == []

    async def test_parents_and_children_commit_at_once(self, store: Store) -> None:
        """Ends of children go to parents that begin others: nobody waits for ever, nothing is lost."""
        parents = [f"p{number}" for number in range(8)]
        await opened(store, *parents)
        begun = [starting(run, 1, opening(f"{run}/a~1", parent=run), was=PENDING) for run in parents]
        await asyncio.gather(*(store.commit([commit]) for commit in begun))

        async def end(run: RunId) -> None:
            told = (Dequeue(), Deliver("child:a~1", run=run))
            commit = going_on(f"{run}/a~1", 1, was=PENDING, status=COMPLETED, effects=told)
            (answer,) = await store.commit([commit])
            assert isinstance(answer, Committed)

        async def more(run: RunId) -> None:
            (answer,) = await store.commit([starting(run, 2, opening(f"{run}/b~1", parent=run))])
            assert isinstance(answer, Committed)

        await asyncio.gather(*(each(run) for run in parents for each in (end, more)))
        for run in parents:
            assert await keys(store, run) == ["child:a~1"]
            assert (await run_of(store, f"{run}/b~1")).status is PENDING
        assert await store.check() == []
