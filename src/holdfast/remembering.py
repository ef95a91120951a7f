"""The cache of an engine's store: its results listed and cleared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from holdfast.core.caching import SCOPE
from holdfast.model.checks import LABEL, argument, whole
from holdfast.model.event import plain
from holdfast.model.ids import moment
from holdfast.store.rows import CacheListed, CacheQuery
from holdfast.switching import Switching

BATCH: Final = 200
"""So many results are forgotten in one transaction."""

_MOST: Final = whole(1, "how many at most")
_NAME: Final = LABEL.or_none()
_SCOPE: Final = SCOPE.or_none()


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedResult:
    """A result in the cache: of which step, which run made it and when, until when it is of use, its size in bytes.

    `key` is a hash. What the result is stays where it is.
    """

    key: str
    scope: str
    workflow: str
    step: str
    run_id: str
    at: datetime
    expires_at: datetime | None
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as values that JSON knows."""
        shown: dict[str, Any] = plain(asdict(self))
        return shown


class Remembering(Switching):
    """What can be done about the results in the cache."""

    async def cached(
        self,
        workflow: str | None = None,
        step: str | None = None,
        scope: str | None = None,
        limit: int = 100,
    ) -> list[CachedResult]:
        """Return results in the cache, the newest first: of a workflow, of a step of that name, of a scope, or all."""
        query = _query(workflow, step, scope)
        argument("limit", limit, _MOST)
        self._open  # noqa: B018 - raises when the engine is closed
        return [_shown(row) for row in await self._store.cache(query, limit)]

    async def clear_cache(
        self, workflow: str | None = None, step: str | None = None, scope: str | None = None
    ) -> int:
        """Forget results of a workflow, of a step of that name, of a scope, or all; returns how many.

        Steps that took such a result keep it. One that ends meanwhile may keep its own.
        """
        query = _query(workflow, step, scope)
        self._open  # noqa: B018
        total = 0
        while (count := await self._store.clear_cache(query, BATCH)) > 0:
            total += count
        return total


def _query(workflow: str | None, step: str | None, scope: str | None) -> CacheQuery:
    argument("workflow", workflow, _NAME)
    argument("step", step, _NAME)
    argument("scope", scope, _SCOPE)
    return CacheQuery(workflow=workflow, step=step, scope=scope)


def _shown(row: CacheListed) -> CachedResult:
    return CachedResult(
        key=row.key,
        scope=row.scope,
        workflow=row.workflow,
        step=row.step,
        run_id=row.run,
        at=moment(row.at),
        expires_at=moment(row.expires) if row.expires else None,
        size=row.size,
    )
