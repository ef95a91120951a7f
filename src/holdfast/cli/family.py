"""A store that gives out the jobs of one run and its children alone.

`holdfast run` is not a worker: it must not begin steps of runs that somebody else left behind, only to end them when
its own is done. Everything but claiming goes to the store as it is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from holdfast.model.commit import Commit, Committed, Conflict
from holdfast.model.ids import RunId, WorkerId
from holdfast.model.run import ENDED, RunRow, RunStatus
from holdfast.store.port import Store
from holdfast.store.rows import Claimed, RunQuery, WorkerRow

LOOK_SECONDS: Final = 0.5
"""How often a run that seems to be held is asked for again, and children are looked for."""

_UNENDED: Final = frozenset(RunStatus) - ENDED


class FamilyStore:
    """Wraps a store. A run is of the family when it was opened here, taken in, or is a child of one that is."""

    def __init__(self, store: Store) -> None:
        """Begin without a run."""
        self._store = store
        self._members: set[RunId] = set()
        self._held: set[RunId] = set()
        self._tried: dict[RunId, float] = {}
        self._looked = 0.0

    def __getattr__(self, name: str) -> Any:
        """Give what the store has."""
        return getattr(self._store, name)

    def take_in(self, run: RunId) -> None:
        """Count a run as one of the family."""
        self._members.add(run)

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Committed | Conflict]:
        """Commit, and learn which runs are opened, held and released here."""
        answers = await self._store.commit(commits)
        for commit, answer in zip(commits, answers, strict=True):
            if isinstance(answer, Conflict) or answer.released or commit.status in ENDED:
                self._held.discard(commit.run)
            elif commit.opened is not None:
                self._members.add(commit.run)
                if commit.status is not RunStatus.PENDING:
                    self._held.add(commit.run)
        return answers

    async def claim(
        self,
        worker: WorkerId,
        lanes: Sequence[tuple[str, str]],
        limit: int,
        suspects: bool = False,  # noqa: FBT001, FBT002 - as the port says
    ) -> Sequence[Claimed]:
        """Take the jobs of the family that are ready, whatever deaths they have seen: nobody else suffers from them."""
        if suspects:
            return []
        await self._look_for_children()
        known = {workflow for _, workflow in lanes}  # whatever the queue: the run was asked for by name
        claimed = []
        for run in sorted(self._members - self._held)[:limit]:
            row = await self._store.run(run)
            if row is not None and row.workflow in known and await self._is_ready(row):
                taken = await self.claim_run(worker, run)
                claimed += [] if taken is None else [taken]
        return claimed

    async def claim_run(self, worker: WorkerId, run: RunId) -> Claimed | None:
        """Take the job of one run, if it is of the family."""
        if run not in self._members:
            return None
        self._tried[run] = time.monotonic()
        taken = await self._store.claim_run(worker, run)
        if taken is not None:
            self._held.add(run)
        return taken

    async def release(self, worker: WorkerId, runs: Sequence[RunId]) -> None:
        """Give jobs back."""
        self._held.difference_update(runs)
        await self._store.release(worker, runs)

    async def enlist(self, worker: WorkerRow) -> None:
        """Keep the worker's row; it serves no queue. A worker that lost its lease enlists anew and holds nothing."""
        self._held.clear()
        await self._store.enlist(msgspec.structs.replace(worker, queues=()))

    async def reclaim(
        self, workers: Sequence[WorkerId], reason: Literal["died", "expired"]
    ) -> Sequence[RunId]:
        """Free the jobs of dead workers; returns those of the family, which go on here."""
        return [run for run in await self._store.reclaim(workers, reason) if run in self._members]

    async def _is_ready(self, row: RunRow) -> bool:
        """Tell whether asking for the job makes sense: a waiting run has none until something is due."""
        if row.status in ENDED:
            return False
        if row.status is RunStatus.PENDING or row.id not in self._tried:
            return True
        if row.status is RunStatus.WAITING:
            return "a worker" in row.waiting_on or bool(await self._store.inbox(row.id))
        return time.monotonic() - self._tried[row.id] > LOOK_SECONDS

    async def _look_for_children(self) -> None:
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        rows = await self._store.runs(RunQuery(status=_UNENDED, limit=1000))
        self._members.update(row.id for row in rows if row.parent in self._members)
