"""Which jobs a worker claims: those of its queues, or those of a few runs and their children alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from holdfast.core.program import Workflow
from holdfast.model.ids import RunId, WorkerId
from holdfast.model.run import ENDED, RunRow, RunStatus
from holdfast.store.port import Store
from holdfast.store.rows import Claimed, RunQuery

LOOK_SECONDS: Final = 0.5
"""How often a run that seems to be held is asked for again, and children are looked for."""

_UNENDED: Final = frozenset(RunStatus) - ENDED

Workflows = Callable[[], Mapping[str, Workflow]]


class Claims(Protocol):
    """What a worker claims. Only the worker's keeper takes, and one at a time."""

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that the worker is listed with: others count on it to serve them."""

    def opened(self, run: RunId) -> None:
        """Take note that a run is being started here."""

    def serves(self, row: RunRow) -> bool:
        """Tell whether the worker may hold a run."""

    async def take(self, limit: int, *, suspects: bool = False) -> Sequence[Claimed]:
        """Claim up to `limit` ready jobs; with `suspects` of runs that must be held alone, else of the others."""

    async def suspect(self) -> RunId | None:
        """Return a run that would be claimed and must be held alone; it is not claimed."""


class Lanes:
    """Everything that is ready in some queues, of the workflows that are known."""

    def __init__(self, store: Store, worker: WorkerId, queues: Sequence[str], workflows: Workflows) -> None:
        """Keep where to look."""
        self.queues: Final = tuple(queues)
        self._store = store
        self._worker = worker
        self._workflows = workflows

    def opened(self, run: RunId) -> None:
        """Nothing: its queue says whether it is claimed."""

    def serves(self, row: RunRow) -> bool:
        """Tell whether the run's workflow is known and its queue is served."""
        return row.workflow in self._workflows() and row.queue in self.queues

    async def take(self, limit: int, *, suspects: bool = False) -> Sequence[Claimed]:
        """Claim what is ready, larger priority first, then the older job."""
        lanes = self._lanes()
        return await self._store.claim(self._worker, lanes, limit, suspects=suspects) if lanes else ()

    async def suspect(self) -> RunId | None:
        """Return the first of those that must be held alone."""
        return next(iter(await self._store.ready(self._lanes(), 1, suspects=True)), None)

    def _lanes(self) -> list[tuple[str, str]]:
        return [(queue, name) for queue in self.queues for name in self._workflows()]


class Family:
    """A few runs, those that are started here, and the children of them all; whatever their queues and deaths."""

    queues: Final = ()

    def __init__(
        self,
        members: set[RunId],
        store: Store,
        worker: WorkerId,
        workflows: Workflows,
        held: Mapping[RunId, object],
    ) -> None:
        """Keep the live set of ids: it may grow. `held` are the runs that the worker holds."""
        self._members = members
        self._store = store
        self._worker = worker
        self._workflows = workflows
        self._held = held
        self._tried: dict[RunId, float] = {}
        self._looked = 0.0

    def opened(self, run: RunId) -> None:
        """Count the run as one of the family."""
        self._members.add(run)

    def serves(self, row: RunRow) -> bool:
        """Tell whether the run is of the family and its workflow is known."""
        return row.id in self._members and row.workflow in self._workflows()

    async def take(self, limit: int, *, suspects: bool = False) -> Sequence[Claimed]:
        """Claim members that are ready. Whatever deaths they have seen: nobody else suffers from them here."""
        if suspects:
            return ()
        await self._look_for_children()
        claimed: list[Claimed] = []
        for run in sorted(self._members - self._held.keys())[:limit]:
            row = await self._store.run(run)
            if row is None or not self.serves(row) or not await self._is_ready(row):
                continue
            self._tried[run] = time.monotonic()
            taken = await self._store.claim_run(self._worker, run)
            claimed += [] if taken is None else [taken]
        return claimed

    async def suspect(self) -> RunId | None:
        """Return None: the process has no other runs."""
        return None

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
