"""Deleting an ended run with its descendants, and telling the checkpoint stores that were fed with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from holdfast.core.program import Workflow
from holdfast.model.ids import RunId
from holdfast.model.run import RunRow
from holdfast.runtime.checkpoints import Checkpoints
from holdfast.runtime.loading import own_definition
from holdfast.store.port import Store
from holdfast.store.rows import Delivered, RunQuery

PAGE = 1000


class Forgetting:
    """Deletes runs, on behalf of people and of retention."""

    def __init__(
        self,
        store: Store,
        checkpoints: Checkpoints,
        workflows: Callable[[], Mapping[str, Workflow]],
        services: Any,
    ) -> None:
        """Keep who is to be told."""
        self._store = store
        self._checkpoints = checkpoints
        self._workflows = workflows
        self._services = services

    async def delete(self, row: RunRow) -> Delivered:
        """Delete an ended run with its descendants, unless one of these goes on; then tell, children after parents."""
        told = await self._told(row)
        answer = await self._store.delete(row.id)
        if answer.outcome == "delivered":
            for run, workflow in told:
                await self._checkpoints.delete(workflow, run)
        return answer

    async def _told(self, row: RunRow) -> list[tuple[RunId, Workflow | None]]:
        """Return the run and its descendants with what they are runs of; the run alone where no store is fed."""
        root = self._workflows().get(row.workflow)
        found: list[tuple[RunId, Workflow | None]] = [(row.id, root)]
        if not self._checkpoints.feeds:
            return found
        parents = [row.id]
        while parents:
            query = RunQuery(parent=parents.pop(0), ascending=True, limit=PAGE)
            while children := await self._store.runs(query):
                for child in children:
                    found.append((child.id, await self._definition(child)))
                    parents.append(child.id)
                query = msgspec.structs.replace(query, after=(children[-1].created_at, children[-1].id))
        return found

    async def _definition(self, child: RunRow) -> Workflow | None:
        workflow = self._workflows().get(child.workflow)
        if workflow is None:
            return None
        try:
            return await own_definition(self._store, child, workflow, self._services)
        except Exception:  # noqa: BLE001 - today's code may have no such part, or its factory may raise
            return None
