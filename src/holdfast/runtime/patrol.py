"""The patrol: frees the jobs of workers that died, and forgets workers that stopped long ago."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from holdfast.model.ids import SECOND, Instant, RunId, WorkerId
from holdfast.runtime.host import Host
from holdfast.store.port import Store
from holdfast.store.rows import WorkerRow

logger: Final = logging.getLogger("holdfast")

KEPT: Final = 24 * 3600 * SECOND
"""For so long people can see that a worker has stopped."""

KEPT_EXPIRED: Final = 30 * KEPT
"""One whose lease was taken may only be asleep. Until it knows, its row is what keeps it from claiming."""


class Patrol:
    """Walks over all workers of the store on behalf of one of them."""

    def __init__(self, store: Store, host: Host, worker: WorkerId) -> None:
        """Keep where to look."""
        self._store = store
        self._host = host
        self._worker = worker

    async def walk(self) -> Sequence[WorkerRow]:
        """Return the workers that live; those that do not are seen to.

        A worker that died on this host is known at once, any other when its lease is over.
        """
        now = self._store.now()
        rows = await self._store.workers()
        died: dict[WorkerId, str] = {}
        expired, living = [], []
        for row in rows:
            if row.stopped_at:
                continue
            if row.id != self._worker and self._host.saw_die(row.boot, row.namespace, row.lock):
                died[row.id] = row.lock
            elif row.id != self._worker and row.leased_until < now:
                expired.append(row.id)
            else:
                living.append(row)
        if died:
            _tell(list(died), await self._store.reclaim(list(died), "died"))
            for lock in died.values():
                self._host.forget(lock)
        if expired:
            _tell(expired, await self._store.reclaim(expired, "expired"))
        if outdated := forgettable(rows, now):
            await self._store.dismiss(outdated)
        return living


def forgettable(rows: Sequence[WorkerRow], now: Instant) -> list[WorkerId]:
    """Return the workers that stopped long ago, but for the last ones to list a workflow: who starts runs needs these.

    Pure; whoever else patrols keeps the same ones.
    """
    listed: set[str] = set()
    forgotten = []
    for row in sorted(rows, key=lambda row: (row.stopped_at or now, row.id), reverse=True):
        if is_outdated(row, now) and row.workflows.keys() <= listed:
            forgotten.append(row.id)
        else:
            listed |= row.workflows.keys()
    return forgotten


def is_outdated(row: WorkerRow, now: Instant) -> bool:
    """Tell whether a worker stopped so long ago that nobody need know of it, but for what it listed."""
    if not row.stopped_at:
        return False
    return now - row.stopped_at > (KEPT if row.leased_until >= row.stopped_at else KEPT_EXPIRED)


def _tell(workers: Sequence[WorkerId], runs: Sequence[RunId]) -> None:
    if runs:
        count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
        logger.warning("worker %s died and left %s to be taken up", ", ".join(workers), count)
