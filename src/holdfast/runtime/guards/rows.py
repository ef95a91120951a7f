"""Rows that many change: read, reckoned with by a pure function, and written only where nobody else wrote meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from holdfast.model.ids import Instant
from holdfast.store.rows import LimitRow

R = TypeVar("R")
A = TypeVar("A")

FRESH: Final = 100_000
"""Microseconds for which a row is gone by before it is read again."""


class LimitRows(Protocol):
    """Where the rows are: a store, or this process."""

    async def limit(self, name: str) -> LimitRow | None:
        """Return a row; None when there is none."""

    async def set_limit(self, name: str, version: int, body: bytes) -> bool:
        """Write a row that is at `version` still, 0 for none, and raise its version; False when it is not."""


class LocalRows:
    """Rows of this process, for all its loops."""

    def __init__(self) -> None:
        """Begin without rows."""
        self._rows: dict[str, LimitRow] = {}
        self._lock = threading.Lock()

    async def limit(self, name: str) -> LimitRow | None:
        """Return a row."""
        return self._rows.get(name)

    async def set_limit(self, name: str, version: int, body: bytes) -> bool:
        """Write a row that nobody else wrote."""
        with self._lock:
            row = self._rows.get(name)
            if (row.version if row is not None else 0) != version:
                return False
            self._rows[name] = LimitRow(version + 1, body)
            return True


class SharedRow(Generic[R]):
    """One row, as this loop knows it."""

    def __init__(self, rows: LimitRows, name: str, empty: R, now: Callable[[], Instant]) -> None:
        """`empty` is the row that is not there yet."""
        self.value: R = empty
        self.now: Final = now
        self._empty = empty
        self._rows = rows
        self._name = name
        self._decoder = msgspec.json.Decoder(type(empty))
        self._version = 0
        self._read_at: Instant = -1
        self._lock = asyncio.Lock()

    @property
    def is_fresh(self) -> bool:
        """Tell whether the row was read just now."""
        return self._read_at >= 0 and 0 <= self.now() - self._read_at < FRESH

    async def change(
        self, reckon: Callable[[R, Instant], tuple[R, A]], done: Callable[[], None] = lambda: None
    ) -> A:
        """Return what `reckon` answers, when the row that it makes of the present one is written, if it is another.

        Whoever reckons at the same time in whatever process reckons with the row of the one before. `done` is called
        before anyone here reckons again. Raises StoreError; what was reckoned may be written all the same then.
        """
        async with self._lock:
            if not self.is_fresh:
                await self._read()
            while True:
                row, answer = reckon(self.value, self.now())
                if row == self.value:
                    done()
                    return answer
                try:
                    body = msgspec.json.encode(row)
                    written = await self._rows.set_limit(self._name, self._version, body)
                except BaseException:
                    self._read_at = -1  # what became of it is not known
                    raise
                if written:
                    self.value, self._version = row, self._version + 1
                    done()
                    return answer
                await self._read()

    async def _read(self) -> None:
        at = self.now()
        row = await self._rows.limit(self._name)
        self._version = 0 if row is None else row.version
        self.value = self._empty if row is None else self._decoder.decode(row.body)
        self._read_at = at
