"""Deletes ended runs that are kept long enough, a few at a time, on behalf of all workers of a store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from holdfast.core.jobs import Job
from holdfast.core.limits import Bulkhead
from holdfast.core.policy import Policy
from holdfast.core.program import Workflow
from holdfast.core.retention import Retention, Rule, rules_of
from holdfast.errors import BulkheadFull, StoreError
from holdfast.model.ids import SECOND, Instant, microseconds
from holdfast.model.run import RunRow, RunStatus
from holdfast.runtime.guards.gates import Gates
from holdfast.runtime.patrol import is_outdated
from holdfast.store.port import Store
from holdfast.store.rows import Delivered, RunQuery

logger: Final = logging.getLogger("holdfast")

PERIOD: Final = 60.0
"""Seconds between two rounds."""

BATCH: Final = 50
"""Runs that are looked for at once; each is deleted in a transaction of its own."""

TOMBSTONES: Final = 1000
"""Ids of deleted runs that are set free in one round at most."""

RESULTS: Final = 200
"""Results of the cache that are forgotten in one transaction."""

STALE: Final = 24 * 3600 * SECOND
"""For so long a result that expired tells why it was not taken."""

REST: Final = 0.02
"""Seconds between two deletions, so that commits need not wait for many."""

_ONE: Final = Bulkhead(1, name="holdfast.retention", max_wait=0)

KEEPS: Final = "x-holdfast-retention"
"""Stands in the schema that workers list of a workflow that says how long its runs are kept."""

Delete = Callable[[RunRow], Awaitable[Delivered]]


class _Lot(NamedTuple):
    """Which runs a setting is for: those of one workflow, or of all but some."""

    setting: Retention
    workflow: str | None = None
    besides: frozenset[str] = frozenset()


class Retaining:
    """Deletes what a setting says, round by round. One worker of all does so at a time.

    Workflows may have settings of their own. Runs of those that only other workers know are left to these.
    """

    def __init__(
        self,
        store: Store,
        gates: Gates,
        setting: Retention,
        workflows: Callable[[], Mapping[str, Workflow]],
        delete: Delete,
    ) -> None:
        """`workflows` gives those that are registered here. `delete` deletes one run, and what else is kept of it."""
        self._store = store
        self._gates = gates
        self._setting = setting
        self._known = workflows
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
        for lot in await self._lots():
            for rule in rules_of(lot.setting, now):
                async for _ in self._gone(lot, rule):
                    return True
        return await self._forget(now, 1) > 0 or await self._store.forget_cached(now - STALE, 1) > 0

    async def _lots(self) -> list[_Lot]:
        known = self._known()
        own = [
            _Lot(setting, name)
            for name, workflow in known.items()
            if (setting := _own_setting(workflow)) is not None
        ]
        now = self._store.now()
        workers = [each for each in await self._store.workers() if not is_outdated(each, now)]
        theirs = {
            name
            for each in workers
            for name, listed in each.workflows.items()
            if KEEPS.encode() in bytes(listed)
        }
        besides = (theirs - known.keys()) | {lot.workflow for lot in own if lot.workflow is not None}
        return [_Lot(self._setting, besides=frozenset(besides)), *own]

    async def _forget(self, now: Instant, limit: int) -> int:
        if self._setting.age is None:
            return 0
        return await self._store.forget(now - microseconds(self._setting.age), limit)

    async def _round(self) -> int:
        count, now = 0, self._store.now()
        for lot in await self._lots():
            for rule in rules_of(lot.setting, now):
                count += await self._delete_all(lot, rule)
        await self._forget(now, TOMBSTONES)
        forgotten = RESULTS
        while forgotten == RESULTS:
            forgotten = await self._store.forget_cached(now - STALE, RESULTS)
            await asyncio.sleep(REST)
        return count

    async def _delete_all(self, lot: _Lot, rule: Rule) -> int:
        count = 0
        async for row in self._gone(lot, rule):
            answer = await asyncio.shield(self._delete(row))
            if answer.outcome == "delivered":
                count += 1
                _tell(row)
            await asyncio.sleep(REST)
        if count:
            of = "" if lot.workflow is None else f" of {lot.workflow}"
            logger.info("retention deleted %d %s runs%s", count, rule.status.value, of)
        return count

    async def _gone(self, lot: _Lot, rule: Rule) -> AsyncIterator[RunRow]:
        """Yield the runs that may go, the oldest first."""
        query = RunQuery(
            workflow=lot.workflow,
            besides=lot.besides,
            status=frozenset({rule.status}),
            ascending=True,
            limit=BATCH,
        )
        if rule.keep is None:
            query = msgspec.structs.replace(query, ended_before=rule.before, until=rule.before)
            async for row in self._all(query):
                yield row
            return
        for workflow in await self._workflows(query):
            of_one = msgspec.structs.replace(
                query, workflow=workflow, besides=frozenset(), ended_before=self._store.now() + 1
            )
            left = await self._store.count(of_one) - rule.keep
            async for row in self._all(of_one):
                if left <= 0:
                    break
                left -= 1
                yield row

    async def _workflows(self, query: RunQuery) -> list[str]:
        """Return the workflows that have runs of the query."""
        if query.workflow is not None:
            return [query.workflow]
        names = set(self._known()) - query.besides
        while True:
            others = msgspec.structs.replace(query, besides=query.besides | names, limit=1)
            found = await self._store.runs(others)
            if not found:
                return sorted(names)
            names.add(found[0].workflow)

    async def _all(self, query: RunQuery) -> AsyncIterator[RunRow]:
        while rows := await self._store.runs(query):
            for row in rows:
                yield row
            query = msgspec.structs.replace(query, after=(rows[-1].created_at, rows[-1].id))


def _tell(row: RunRow) -> None:
    """Say which dead letter is gone: nobody else will."""
    if row.status is RunStatus.FAILED:
        place = {"event": "letter.deleted", "run_id": row.id, "subject": row.workflow}
        code = "" if row.error is None else row.error.code
        logger.info(
            "retention deleted run %s of %s, which failed: %s", row.id, row.workflow, code, extra=place
        )


def listing(workflow: Workflow) -> dict[str, Any]:
    """Return what workers list of a workflow: the schema of its params, and whether it says how long runs are kept."""
    schema = workflow.schema()
    return schema if _own_setting(workflow) is None else {**schema, KEEPS: True}


def _own_setting(workflow: Workflow) -> Retention | None:
    job: Job | None = getattr(workflow, "job", None)
    return None if job is None else job.retention
