"""What is promised about dead letters and what is deleted: runs that are dead, put away, old, or forgotten."""

# ruff: noqa: S101, PLR2004 - tests: asserts are their way to speak, numbers what they expect
from __future__ import annotations

from typing import Any

from holdfast.model.commit import Dequeue
from holdfast.model.facts import ErrorInfo
from holdfast.model.run import RunStatus
from holdfast.store.port import Store
from holdfast.store.rows import RunQuery
from holdfast.testing.store_cases import CANCELLED, COMPLETED, FAILED, PAUSED, SetClock, effect, held, run_of


async def ended(store: Store, run: str, status: RunStatus, code: str = "step_failed", **row: Any) -> None:
    """Open a run and end it, or park it, with an error of that code."""
    await held(store, run, **row)
    error = None if status is COMPLETED else ErrorInfo(code=code, message="100% down")
    await effect(store, Dequeue(), run=run, status=status, error=error)


async def dead(store: Store, **query: Any) -> list[str]:
    """Return the ids of the dead letters, sorted."""
    return sorted(row.id for row in await store.runs(RunQuery(dead=True, **query)))


class LetterContract:
    """Queries with `dead`, `code` and `ended_before`; `discard` and `forget`."""

    async def test_what_failed_or_killed_its_workers_is_dead(self, store: Store) -> None:
        """A child that failed is not, for its parent is; and not what is paused, cancelled or put away as paused."""
        await ended(store, "failed", FAILED)
        await ended(store, "poison", PAUSED, "poison")
        await ended(store, "parked", PAUSED, "parked")
        await ended(store, "cancelled", CANCELLED)
        await ended(store, "completed", COMPLETED)
        await ended(store, "discarded", FAILED, "discarded")
        await ended(store, "child", FAILED, parent="failed")
        await ended(store, "sick", PAUSED, "poison", parent="waits")
        assert await dead(store) == ["failed", "poison", "sick"]
        assert await dead(store, code="poison") == ["poison", "sick"]
        assert await dead(store, workflow="other") == []
        assert await dead(store, run="failed") == ["failed"]
        assert await store.count(RunQuery(dead=True)) == 3

    async def test_what_is_put_away_is_not_dead_at_that_position(self, store: Store) -> None:
        """At another one it is again; and only a failed run can be put away."""
        await ended(store, "r", FAILED)
        await ended(store, "c", COMPLETED)
        position = (await run_of(store, "r")).position
        assert not await store.discard("r", position + 1)
        assert not await store.discard("c", (await run_of(store, "c")).position)
        assert not await store.discard("unknown", 1)
        assert await dead(store) == ["r"]
        assert await store.discard("r", position)
        assert await store.discard("r", position)
        assert await dead(store) == []
        await store.delete("r")
        assert await store.check() == []

    async def test_old_runs_without_parents_are_found_the_oldest_first(
        self, store: Store, clock: SetClock
    ) -> None:
        """Whatever began before and has not ended so long ago is not."""
        for run in ("a", "b", "c"):
            await ended(store, run, COMPLETED, created_at=clock())
            await ended(store, f"{run}/child", COMPLETED, created_at=clock(), parent=run)
        found = await store.runs(
            RunQuery(status=frozenset({COMPLETED}), ended_before=clock() + 1, ascending=True, limit=2)
        )
        assert [row.id for row in found] == ["a", "b"]
        assert await store.runs(RunQuery(status=frozenset({COMPLETED}), ended_before=clock())) == []

    async def test_ids_of_deleted_runs_are_set_free(self, store: Store, clock: SetClock) -> None:
        """Those deleted before an instant, so many at once."""
        for run in ("a", "b", "c"):
            await ended(store, run, COMPLETED)
            await store.delete(run)
        early = clock.forward(1)
        await ended(store, "late", COMPLETED)
        await store.delete("late")
        assert [await store.forget(early, 2), await store.forget(early, 2), await store.forget(early)] == [
            2,
            1,
            0,
        ]
        await held(store, "a")
