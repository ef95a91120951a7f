"""The part of the store port that is beside runs: workers, settings, rows that processes share, results, chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from holdfast.model.cache import CacheEntry
from holdfast.model.ids import Instant, RunId, WorkerId
from holdfast.store.rows import CacheListed, CacheQuery, Chunk, ChunkRow, LimitRow, WorkerRow


class Beside(Protocol):
    """What a store keeps beside runs. All raise `StoreUnavailable` as the port says."""

    async def enlist(self, worker: WorkerRow) -> None:
        """Insert or replace the worker's row."""

    async def workers(self) -> Sequence[WorkerRow]:
        """Return all workers that are listed, the stopped ones, too."""

    async def dismiss(self, workers: Sequence[WorkerId]) -> None:
        """Forget workers that have stopped; what they listed goes with them. One that has not stopped stays."""

    async def wait(self, timeout: float) -> bool:
        """Return True soon after another process may have written, False after `timeout` seconds."""

    async def check(self) -> Sequence[str]:
        """Return what is wrong with the database; empty when it is sound."""

    async def save_profile(self, workflow: str, name: str, body: bytes | None) -> None:
        """Keep a workflow's profile, JSON, in place of one of that name; forget that one for None."""

    async def profiles(self, workflow: str) -> Mapping[str, bytes]:
        """Return a workflow's profiles by name, in order."""

    async def discard(self, run: RunId, position: int) -> bool:
        """Put a dead letter away: a failed run that is at `position`; False when it is not. Idempotent."""

    async def forget(self, before: Instant, limit: int = 1000) -> int:
        """Set up to `limit` ids free of runs that were deleted before an instant; returns how many."""

    async def limit(self, name: str) -> LimitRow | None:
        """Return a row that processes change together, as it was written last; None when there is none."""

    async def limits(self, prefix: str) -> Mapping[str, LimitRow]:
        """Return the rows whose names begin so, by their names, in order."""

    async def set_limit(self, name: str, version: int, body: bytes) -> bool:
        """Write such a row, JSON, and raise its version, if it is at `version` still, 0 for none; False if it is not.

        Of all who write at one version, one succeeds.
        """

    async def stream(self, chunks: Sequence[Chunk]) -> Mapping[RunId, int]:
        """Keep what steps of known runs send to readers, before any later commit; return the position of each run."""

    async def chunks(self, run: RunId, after: int = 0, limit: int = 1000) -> Sequence[ChunkRow]:
        """Return the run's chunks numbered after `after`, in order; none appears later before one of them."""

    async def cached(self, keys: Sequence[str]) -> Mapping[str, CacheEntry]:
        """Return the results that are kept under these keys, expired ones, too."""

    async def cached_last(self, families: Sequence[str]) -> Mapping[str, CacheEntry]:
        """Return of each of these families the entry that was kept last, by family and without its body."""

    async def cache(
        self, query: CacheQuery, limit: int = 100, after: tuple[Instant, str] | None = None
    ) -> Sequence[CacheListed]:
        """Return the results that match, the newest first, from after one with that (at, key)."""

    async def clear_cache(self, query: CacheQuery, limit: int = 1000) -> int:
        """Forget up to `limit` results that match; returns how many."""

    async def forget_cached(self, before: Instant, limit: int = 1000) -> int:
        """Forget up to `limit` results that expired before an instant; returns how many."""
