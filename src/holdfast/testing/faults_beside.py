"""The part of a faulty store that is beside runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from holdfast.model.cache import CacheEntry
from holdfast.model.ids import Instant, RunId
from holdfast.store.port import Store
from holdfast.store.rows import CacheListed, CacheQuery, Chunk, ChunkRow, LimitRow

T = TypeVar("T")


class FaultyBeside(ABC):
    """What a store keeps beside runs, with faults."""

    _inner: Store

    @abstractmethod
    async def _read(self, read: Callable[[], Awaitable[T]]) -> T: ...

    @abstractmethod
    async def _write(self, work: Callable[[], Awaitable[T]], *more: Any) -> T: ...

    async def save_profile(self, workflow: str, name: str, body: bytes | None) -> None:
        """As the port says."""
        await self._write(lambda: self._inner.save_profile(workflow, name, body))

    async def profiles(self, workflow: str) -> Mapping[str, bytes]:
        """As the port says."""
        return await self._read(lambda: self._inner.profiles(workflow))

    async def limit(self, name: str) -> LimitRow | None:
        """As the port says."""
        return await self._read(lambda: self._inner.limit(name))

    async def limits(self, prefix: str) -> Mapping[str, LimitRow]:
        """As the port says."""
        return await self._read(lambda: self._inner.limits(prefix))

    async def set_limit(self, name: str, version: int, body: bytes) -> bool:
        """As the port says."""
        return await self._write(lambda: self._inner.set_limit(name, version, body))

    async def discard(self, run: RunId, position: int) -> bool:
        """As the port says."""
        return await self._write(lambda: self._inner.discard(run, position))

    async def forget(self, before: Instant, limit: int = 1000) -> int:
        """As the port says."""
        return await self._write(lambda: self._inner.forget(before, limit))

    async def stream(self, chunks: Sequence[Chunk]) -> Mapping[RunId, int]:
        """As the port says."""
        return await self._write(lambda: self._inner.stream(chunks))

    async def chunks(self, run: RunId, after: int = 0, limit: int = 1000) -> Sequence[ChunkRow]:
        """As the port says."""
        return await self._read(lambda: self._inner.chunks(run, after, limit))

    async def cached(self, keys: Sequence[str]) -> Mapping[str, CacheEntry]:
        """As the port says."""
        return await self._read(lambda: self._inner.cached(keys))

    async def cached_last(self, families: Sequence[str]) -> Mapping[str, CacheEntry]:
        """As the port says."""
        return await self._read(lambda: self._inner.cached_last(families))

    async def cache(
        self, query: CacheQuery, limit: int = 100, after: tuple[Instant, str] | None = None
    ) -> Sequence[CacheListed]:
        """As the port says."""
        return await self._read(lambda: self._inner.cache(query, limit, after))

    async def clear_cache(self, query: CacheQuery, limit: int = 1000) -> int:
        """As the port says."""
        return await self._write(lambda: self._inner.clear_cache(query, limit))

    async def forget_cached(self, before: Instant, limit: int = 1000) -> int:
        """As the port says."""
        return await self._write(lambda: self._inner.forget_cached(before, limit))
