"""What is promised about lists, deletion, waiting, and the views that people read."""

# ruff: noqa: S101, PLR2004 - tests: asserts are their way to speak, numbers what they expect
from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from holdfast.errors import StoreUnavailable
from holdfast.model import facts
from holdfast.model.commit import Conflict, Dequeue
from holdfast.model.ids import SECOND
from holdfast.model.run import RunStatus
from holdfast.store.port import Store
from holdfast.store.rows import Delivered, RunQuery
from holdfast.testing.store_cases import (
    COMPLETED,
    FAILED,
    LANE,
    NOON,
    PENDING,
    RUNNING,
    effect,
    going_on,
    held,
    keys,
    opened,
    opening,
    run_of,
    send,
)


async def ids(store: Store, **query: Any) -> list[str]:
    """Return the ids of the runs that match, having checked the count."""
    asked = RunQuery(**query)
    found = [run.id for run in await store.runs(asked)]
    everything = msgspec.structs.replace(asked, limit=10_000, after=None)
    assert await store.count(asked) == len(await store.runs(everything))
    return found


class ListContract:
    """`runs` and `count`."""

    @pytest_asyncio.fixture
    async def listed(self, store: Store) -> Store:
        """Six runs; c and d began at the same instant."""
        begun = {"a": 1, "b": 2, "c": 3, "d": 3, "e": 4, "f": 5}
        for run, second in begun.items():
            status = COMPLETED if run in "ace" else PENDING
            workflow = "order" if run in "abc" else "ship"
            tags = ("red", "big") if run in "abd" else ("red",) if run == "e" else ()
            at = NOON + second * SECOND
            await store.commit([opening(run, at=at, status=status, workflow=workflow, tags=tags)])
        return store

    async def test_the_newest_come_first(self, listed: Store) -> None:
        """Or the oldest, when asked."""
        assert await ids(listed) == ["f", "e", "d", "c", "b", "a"]
        assert await ids(listed, ascending=True) == ["a", "b", "c", "d", "e", "f"]
        assert await ids(listed, limit=2) == ["f", "e"]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"workflow": "order"}, "cba"),
            ({"workflow": "none"}, ""),
            ({"status": frozenset({COMPLETED})}, "eca"),
            ({"status": frozenset({COMPLETED, PENDING, RunStatus.FAILED})}, "fedcba"),
            ({"workflow": "ship", "status": frozenset({PENDING})}, "fd"),
            ({"tags": ("red",)}, "edba"),
            ({"tags": ("red", "big")}, "dba"),
            ({"tags": ("red",), "workflow": "ship"}, "ed"),
            ({"tags": ("blue",)}, ""),
            ({"since": NOON + 3 * SECOND}, "fedc"),
            ({"until": NOON + 3 * SECOND}, "ba"),
            ({"since": NOON + 2 * SECOND, "until": NOON + 4 * SECOND, "status": frozenset({PENDING})}, "db"),
        ],
        ids=lambda value: "-".join(value) or "none",
    )
    async def test_filters_are_joined_by_and(
        self, listed: Store, query: dict[str, Any], expected: str
    ) -> None:
        """`since` is part of the span, `until` is not; a run has all the tags asked for."""
        assert await ids(listed, **query) == list(expected)
        assert await ids(listed, **query, ascending=True) == list(reversed(expected))

    @pytest.mark.parametrize("query", [{}, {"workflow": "ship"}, {"tags": ("red",)}], ids=str)
    @pytest.mark.parametrize("ascending", [False, True], ids=["down", "up"])
    async def test_a_cursor_walks_over_all(
        self, listed: Store, query: dict[str, Any], *, ascending: bool
    ) -> None:
        """Page by page nothing is missed and nothing comes twice, also among equal instants."""
        whole = await ids(listed, **query, ascending=ascending)
        seen: list[str] = []
        after = None
        while page := await listed.runs(RunQuery(**query, ascending=ascending, limit=1, after=after)):
            seen += [run.id for run in page]
            after = (page[-1].created_at, page[-1].id)
        assert seen == whole


class DeletionContract:
    """`delete`."""

    async def test_a_deleted_run_leaves_nothing_but_its_id(self, store: Store) -> None:
        """Rows of all kinds go; the id stays taken."""
        await held(store, "r", tags=("t",), params=msgspec.Raw(b'"' + b"x" * 5000 + b'"'))
        await send(store, "r", "k")
        more: dict[str, Any] = {"blobs": {"h": b"x"}, "checkpoint": b"c", "checkpoint_hash": "h"}
        await effect(store, Dequeue(), status=COMPLETED, **more)
        assert await store.delete("r") == Delivered("delivered", COMPLETED)
        assert (await store.run("r"), await store.load("r")) == (None, None)
        assert (await store.journal("r"), await store.blobs("r"), await keys(store)) == ([], {}, [])
        assert await ids(store, tags=("t",)) == []
        assert await store.commit([opening("r")]) == [Conflict("r")]
        assert await store.delete("r") == Delivered("unknown")
        assert await store.check() == []

    async def test_an_id_may_be_used_again_without_a_tombstone(self, store: Store) -> None:
        """The new run knows nothing of the old."""
        await store.commit([opening("r", status=COMPLETED)])
        await store.delete("r", tombstone=False)
        await opened(store, "r")
        assert len(await store.journal("r")) == 1

    async def test_a_living_run_is_not_deleted(self, store: Store) -> None:
        """Nor one with a living child."""
        await held(store, "r", worker="w")
        assert await store.delete("r") == Delivered("refused", PENDING, "w")
        await store.commit([opening("parent", status=COMPLETED)])
        await opened(store, "child", parent="parent")
        assert await store.delete("parent") == Delivered("refused", PENDING)
        assert (await run_of(store, "parent")).status is COMPLETED

    async def test_children_go_with_their_parent(self, store: Store) -> None:
        """And theirs, each with a tombstone."""
        for run, parent in (("a", ""), ("b", "a"), ("c", "b"), ("x", "")):
            await store.commit([opening(run, status=COMPLETED, parent=parent)])
        assert (await store.delete("a")).outcome == "delivered"
        assert await ids(store) == ["x"]
        assert await store.commit([opening("c")]) == [Conflict("c")]


class LifeContract:
    """Opening, closing, waiting."""

    async def test_waiting_ends_in_time(self, store: Store) -> None:
        """Our own writes are no news."""
        await opened(store, "r")
        started = time.monotonic()
        assert not await store.wait(0.1)
        assert 0.05 < time.monotonic() - started < 2

    async def test_the_loop_goes_on_while_waiting(self, store: Store) -> None:
        """Others commit meanwhile."""
        waiting = asyncio.create_task(store.wait(0.2))
        await opened(store, "r")
        assert not waiting.done()
        await waiting

    async def test_a_closed_store_says_so(self, store: Store) -> None:
        """Closing finishes what is under way, and may be done twice."""
        late = asyncio.ensure_future(store.commit([opening("r")]))
        await asyncio.sleep(0)
        await store.close()
        await store.close()
        assert (await late)[0].run == "r"
        with pytest.raises(StoreUnavailable):
            await store.run("r")
        with pytest.raises(StoreUnavailable):
            await store.commit([opening("s")])

    async def test_the_clock_is_the_stores(self, store: Store) -> None:
        """Given from outside in tests."""
        assert store.now() == NOON

    async def test_a_sound_database_has_no_faults(self, store: Store) -> None:
        """After some writes of all kinds."""
        await held(store, "r")
        await store.commit([going_on("r", 1, epoch=2), going_on("r", 2, epoch=2, was=RUNNING, status=FAILED)])
        assert await store.check() == []


class ViewContract:
    """The views `facts`, `stages` and `decisions`."""

    async def query(self, store: Store, sql: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        """Return the rows of a statement; a store without SQL leaves this out."""
        pytest.skip(f"{store.url} gives no access by SQL: {sql}{values}")

    async def test_facts_stand_one_by_one(self, store: Store) -> None:
        """With their positions and readable times."""
        await opened(store, "r")
        pair = (
            facts.StepScheduled(at=NOON + 5, step="a", name="pack"),
            facts.StepSuspended(at=NOON + 6, step="a", attempt=1),
        )
        await store.commit([going_on("r", 1, *pair)])
        rows = await self.query(
            store, "SELECT position, fact, at, worker FROM facts WHERE run = 'r' ORDER BY position"
        )
        assert rows == [
            (1, "RunStarted", "2023-11-14T22:13:20.000000Z", "starter"),
            (2, "StepScheduled", "2023-11-14T22:13:20.000005Z", "holder"),
            (3, "StepSuspended", "2023-11-14T22:13:20.000006Z", "holder"),
        ]

    async def test_decisions_show_every_edge(self, store: Store) -> None:
        """Those that were not taken, too, with the reason."""
        await opened(store, "r")
        edges = (facts.EdgeTried("b", "big", result=False, reason="n < 3"), facts.EdgeTried("c", count=4))
        await store.commit([going_on("r", 1, facts.DecisionMade(at=NOON, source="a", edges=edges))])
        rows = await self.query(store, "SELECT * FROM decisions")
        at = "2023-11-14T22:13:20.000000Z"
        assert rows == [("r", 2, "a", "b", "big", 0, "n < 3", 1, at), ("r", 2, "a", "c", "", 1, "", 4, at)]

    async def test_a_stage_shows_its_last_attempt(self, store: Store) -> None:
        """With output, error, times and worker."""
        error = facts.ErrorInfo(code="boom", message="no")
        await self._happened(
            store,
            facts.StepScheduled(at=NOON, step="s1", name="pack", iteration=2),
            facts.StepRetried(at=NOON + 1, step="s1", attempt=2, due=NOON + 3, error=error),
            facts.StepCompleted(
                at=NOON + SECOND, step="s1", attempt=2, started=NOON + 4, data=msgspec.Raw(b'{"ok":[1]}')
            ),
            facts.StepScheduled(at=NOON + 1, step="s2", name="send"),
            facts.StepFailed(at=NOON + SECOND, step="s2", attempt=1, error=error),
            facts.StepScheduled(at=NOON + 1, step="s3", name="text"),
            facts.StepCompleted(at=NOON + SECOND, step="s3", attempt=1, data=msgspec.Raw(b'"word"')),
        )
        columns = "step, name, iteration, attempt, status, output, error, started_at, completed_at, duration, worker"
        rows = await self.query(store, f"SELECT {columns} FROM stages WHERE run = 'r' ORDER BY step")  # noqa: S608 - constant
        begun, ended = "2023-11-14T22:13:20.00000", "2023-11-14T22:13:21.000000Z"
        boom = json.dumps({"code": "boom", "message": "no"}, separators=(",", ":"))
        assert rows == [
            ("s1", "pack", 2, 2, "completed", '{"ok":[1]}', None, begun + "4Z", ended, 0.999996, "holder"),
            ("s2", "send", 1, 1, "failed", None, boom, begun + "1Z", ended, 0.999999, "holder"),
            ("s3", "text", 1, 1, "completed", '"word"', None, begun + "1Z", ended, 0.999999, "holder"),
        ]

    async def test_only_nodes_are_stages(self, store: Store) -> None:
        """Of functions and of child runs; not timers, waits, calls inside a node, nor the making of the first state."""
        await self._happened(
            store,
            facts.StepScheduled(step="0", name="START"),
            facts.StepScheduled(step="1", name="pack"),
            facts.StepScheduled(step="2", name="fetch", parent="1"),
            facts.StepScheduled(step="3", name="sleep", kind="timer"),
            facts.StepScheduled(step="4", name="child", kind="run"),
            facts.StepScheduled(step="5", name="go", kind="signal"),
        )
        assert await self.query(store, "SELECT step, name FROM stages ORDER BY step") == [
            ("1", "pack"),
            ("4", "child"),
        ]

    async def test_an_open_stage_shows_how_it_stands(self, store: Store) -> None:
        """A step runs while its run is held and it is due."""
        far = 2**52
        await self._happened(
            store,
            *(
                facts.StepScheduled(at=NOON, step=step, name=step)
                for step in ("now", "slept", "again", "later", "dead")
            ),
            facts.StepSuspended(at=NOON, step="slept", attempt=1),
            facts.StepRetried(at=NOON, step="later", attempt=4, due=far),
            facts.StepCancelled(at=NOON, step="dead", attempt=1),
            facts.StepFailed(at=NOON, step="again", attempt=1, error=facts.ErrorInfo(code="x", message="y")),
            facts.RunResumed(at=NOON, reopened=(("again", 2),)),
        )
        sql = "SELECT step, status, attempt, worker FROM stages ORDER BY step"
        rows = [
            ("dead", "cancelled", 1, "holder"),
            ("later", "retrying", 4, ""),
            ("slept", "suspended", 1, ""),
        ]
        waiting = [("again", "scheduled", 2, ""), *rows[:2], ("now", "scheduled", 1, ""), rows[2]]
        assert await self.query(store, sql) == waiting
        (claimed,) = await store.claim("w", [LANE], 1)
        assert claimed.run.id == "r"
        running = await self.query(store, sql)
        assert [status for _, status, _, _ in running] == [
            "running",
            "cancelled",
            "retrying",
            "running",
            "suspended",
        ]
        assert [row[3] for row in running] == ["w", "holder", "w", "w", "w"]

    async def _happened(self, store: Store, *recorded: facts.Fact) -> None:
        await opened(store, "r")
        middle = len(recorded) // 2
        for some in (recorded[:middle], recorded[middle:]):
            position = (await run_of(store, "r")).position
            await store.commit([going_on("r", position, *some, was=PENDING if position == 1 else RUNNING)])
