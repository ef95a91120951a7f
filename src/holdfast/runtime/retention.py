"""Deletes ended runs that are kept long enough, a few at a time, on behalf of all workers of a store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import msgspec

from holdfast.core.limits import Bulkhead
from holdfast.core.policy import Policy
from holdfast.core.retention import Retention, Rule, rules_of
from holdfast.errors import BulkheadFull, StoreError
from holdfast.model.ids import Instant, microseconds
from holdfast.model.run import RunRow
from holdfast.runtime.guards.gates import Gates
from holdfast.store.port import Store
from holdfast.store.rows import RunQuery

logger: Final = logging.getLogger("holdfast")

PERIOD: Final = 60.0
"""Seconds between two rounds."""

BATCH: Final = 50
"""Runs that are looked for at once; each is deleted in a transaction of its own."""

TOMBSTONES: Final = 1000
"""Ids of deleted runs that are set free in one round at most."""

REST: Final = 0.02
"""Seconds between two deletions, so that commits need not wait for many."""

_ONE: Final = Bulkhead(1, name="holdfast.retention", max_wait=0)

Delete = Callable[[RunRow], Awaitable[None]]


class Retaining:
    """Deletes what a setting says, round by round. One worker of all does so at a time."""

    def __init__(self, store: Store, gates: Gates, setting: Retention, delete: Delete) -> None:
        """`delete` deletes one run, and whatever else is kept of it."""
        self._store = store
        self._gates = gates
        self._setting = setting
        self._delete = delete
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._keep(), name="holdfast-retention")

    async def close(self) -> None:
        """End; a deletion that is under way is let end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self.round()
            except StoreError as error:
                logger.warning("retention waits for the store: %s", error)
            except Exception:
                logger.exception("retention goes on after an internal error")

    async def round(self) -> int:
        """Delete what may go now; returns how many runs. Nothing while another worker does so."""
        if not await self._is_due():
            return 0
        try:
            passage = await self._gates.enter(Policy(bulkhead=_ONE), "")
        except BulkheadFull:
            return 0
        try:
            return await self._round()
        finally:
            passage.close(None)

    async def _is_due(self) -> bool:
        """Tell whether there is anything to do; mostly there is not, and then nothing is written."""
        now = self._store.now()
        for rule in rules_of(self._setting, now):
            async for _ in self._gone(rule):
                return True
        return await self._forget(now, 1) > 0

    async def _forget(self, now: Instant, limit: int) -> int:
        if self._setting.age is None:
            return 0
        return await self._store.forget(now - microseconds(self._setting.age), limit)

    async def _round(self) -> int:
        count, now = 0, self._store.now()
        for rule in rules_of(self._setting, now):
            of_rule = 0
            async for row in self._gone(rule):
                await asyncio.shield(self._delete(row))
                of_rule += 1
                await asyncio.sleep(REST)
            if of_rule:
                logger.info("retention deleted %d %s runs", of_rule, rule.status.value)
            count += of_rule
        await self._forget(now, TOMBSTONES)
        return count

    async def _gone(self, rule: Rule) -> AsyncIterator[RunRow]:
        """Yield the runs that may go, the oldest first."""
        query = RunQuery(status=frozenset({rule.status}), ascending=True, limit=BATCH)
        if rule.keep is None:
            query = msgspec.structs.replace(query, ended_before=rule.before, until=rule.before)
            async for row in self._all(query):
                yield row
            return
        for workflow in await self._workflows(query):
            of_one = msgspec.structs.replace(query, workflow=workflow, ended_before=self._store.now() + 1)
            left = await self._store.count(of_one) - rule.keep
            async for row in self._all(of_one):
                if left <= 0:
                    break
                left -= 1
                yield row

    async def _workflows(self, query: RunQuery) -> list[str]:
        listed = {name for worker in await self._store.workers() for name in worker.workflows}
        found = await self._store.runs(query)
        return sorted(listed | {row.workflow for row in found})

    async def _all(self, query: RunQuery) -> AsyncIterator[RunRow]:
        while rows := await self._store.runs(query):
            for row in rows:
                yield row
            query = msgspec.structs.replace(query, after=(rows[-1].created_at, rows[-1].id))
