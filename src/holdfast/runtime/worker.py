"""A worker: claims jobs of the workflows it knows, drives their runs, and frees the jobs of workers that died.

Its holdings are the runs it drives, its keeper fills them. Its lease is one row, renewed from a thread that a blocked
loop cannot stall; the same thread tells when a node blocks the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from holdfast.core.program import Workflow
from holdfast.errors import StoreError
from holdfast.model.ids import Instant, RunId
from holdfast.runtime.claims import Claims, Family, Lanes
from holdfast.runtime.committer import Committer
from holdfast.runtime.driver import Driver
from holdfast.runtime.held import Held
from holdfast.runtime.holdings import Holdings
from holdfast.runtime.host import Host, Lock
from holdfast.runtime.keeper import PATROL_SECONDS, Keeper
from holdfast.runtime.patrol import Patrol
from holdfast.runtime.retention import listing
from holdfast.runtime.secrets import SecretMemory
from holdfast.store.port import Store
from holdfast.store.rows import WorkerRow

logger: Final = logging.getLogger("holdfast")

GOODBYES: Final = (0.0, 0.1, 0.4, 1.0)
"""Seconds before each try to tell the store that the worker stops."""


class Worker:
    """Drives up to `slots` runs of the workflows that `workflows` returns: of its queues, or a few runs `only`."""

    def __init__(
        self,
        store: Store,
        driver: Driver,
        committer: Committer,
        *,
        slots: int,
        queues: Sequence[str],
        only: set[RunId] | None,
        workflows: Callable[[], Mapping[str, Workflow]],
        secrets: SecretMemory,
        host: Host,
    ) -> None:
        """Begin with nothing held."""
        self.id: Final = committer.worker
        self.queues: Final = tuple(queues)
        self.holdings: Final = Holdings(
            store, driver, committer, slots=slots, workflows=workflows, secrets=secrets
        )
        self.claims: Final[Claims] = (
            Lanes(store, self.id, queues, workflows)
            if only is None
            else Family(only, store, self.id, workflows, self.holdings.held)
        )
        patrol = Patrol(store, host, self.id)
        self.keeper: Final = Keeper(
            store, self.holdings, patrol, self.id, claims=self.claims, secrets=secrets
        )
        self._store = store
        self._workflows = workflows
        self._loop = asyncio.get_running_loop()
        self._host = host
        self._watch = host.watch(self)
        self._lock: Lock | None = None
        self._began: Instant = 0

    @property
    def held(self) -> Mapping[RunId, Held]:
        """The runs that are held."""
        return self.holdings.held

    # --- life

    async def open(self) -> None:
        """Enlist, free what dead workers left, and begin to claim."""
        self._began = self._store.now()
        self._lock = self._host.lock(self.id)
        await self._store.enlist(self._row())
        await self.keeper.open()
        self._watch.start()

    async def close(self, grace: float) -> None:
        """Stop claiming, give running steps `grace` seconds, and leave every unfinished run to whoever comes next."""
        self.holdings.stop()
        await self.keeper.close()
        async with self.keeper.listening():
            await self.holdings.close(grace)
        self._watch.stop()
        await self._leave()
        self.holdings.held.clear()
        if self._lock is not None:
            self._lock.close()

    async def _leave(self) -> None:
        """Give back what is ours in the store and list the worker as stopped; nobody must wait for its lease then.

        A store that stays away longer than a moment keeps nobody from closing: the lease runs out by itself.
        """
        for pause in GOODBYES:
            await asyncio.sleep(pause)
            with contextlib.suppress(StoreError):
                await self._store.release(self.id, await self._store.held(self.id))
                await self._store.enlist(msgspec.structs.replace(self._row(), stopped_at=self._store.now()))
                return

    def _row(self) -> WorkerRow:
        schemas = {
            name: msgspec.Raw(msgspec.json.encode(listing(w))) for name, w in self._workflows().items()
        }
        return WorkerRow(
            id=self.id,
            host=self._host.name,
            boot=self._host.boot,
            namespace=self._host.namespace,
            pid=self._host.pid,
            lock=str(self._lock.path) if self._lock else "",
            queues=self.claims.queues,
            workflows=schemas,
            started_at=self._began,
            leased_until=self._store.now() + self._host.lease,
        )

    async def registered(self) -> None:
        """List the workflows anew and claim their jobs."""
        while True:
            try:
                await self._store.enlist(self._row())
            except StoreError as error:
                logger.error("worker %s cannot enlist: %s", self.id, error)  # noqa: TRY400 - the text says it all
                await asyncio.sleep(PATROL_SECONDS)
            else:
                self.keeper.hint()
                return

    # --- the lease

    def lost_lease(self) -> None:
        """Drop every run: the lease was over, others may hold them. Then begin anew."""
        logger.error(
            "worker %s lost its lease; it drops its %d runs and begins anew", self.id, len(self.held)
        )
        self.holdings.lose_all()
        self._loop.create_task(self.registered())

    def renew(self) -> bool:
        """Renew the lease; called from the watch's thread."""
        return self._store.renew(self.id, self._store.now() + self._host.lease)

    def on_loop(self, call: Callable[[], None]) -> None:
        """Call on the loop, from a thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def doing(self) -> str:
        """Return the name of the task that runs on the loop now, if any; called from the watch's thread."""
        task = asyncio.current_task(self._loop)
        return task.get_name() if task is not None else ""
