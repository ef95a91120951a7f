"""A retry budget at run time: first tries are counted here and told now and then, each try more asks the row."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from holdfast.core.limits import BudgetRow, earn, spend
from holdfast.core.retries import RetryBudget
from holdfast.errors import StoreError
from holdfast.model.ids import Instant
from holdfast.runtime.guards.rows import SharedRow

logger: Final = logging.getLogger("holdfast")

TELL: Final = 1.0
"""Seconds for which first tries are only counted here, so that they cost nothing."""


class BudgetGate:
    """Lets tries more than one through as far as the first ones allow, whichever process made these."""

    def __init__(self, settings: RetryBudget, row: SharedRow[BudgetRow]) -> None:
        """Begin with nothing counted."""
        self.settings: Final = settings
        self._row = row
        self._loop = asyncio.get_running_loop()
        self._firsts = 0
        self._reckoned = 0
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None

    def earn(self) -> None:
        """Take note of a first try."""
        self._firsts += 1
        if self._timer is None:
            self._timer = self._loop.call_later(TELL, self._begin)

    async def spend(self) -> bool:
        """Tell whether one more try may be made. Raises StoreError."""
        return await self._row.change(self._spent, self._kept)

    def _spent(self, row: BudgetRow, _: Instant) -> tuple[BudgetRow, bool]:
        self._reckoned = self._firsts
        return spend(self.settings, row, self._firsts)

    def _earned(self, row: BudgetRow, _: Instant) -> tuple[BudgetRow, None]:
        self._reckoned = self._firsts
        return earn(self.settings, row, self._firsts), None

    def _kept(self) -> None:
        self._firsts -= self._reckoned

    def _begin(self) -> None:
        self._timer = None
        if self._firsts:
            self._telling = self._loop.create_task(self._tell(), name=f"retry budget {self.settings.name}")

    async def _tell(self) -> None:
        try:
            await self._row.change(self._earned, self._kept)
        except StoreError as error:
            logger.warning("retry budget %s waits for the store: %s", self.settings.name, error)

    async def close(self) -> None:
        """Tell what is not told yet, once."""
        if self._timer is not None:
            self._timer.cancel()
            self._begin()
        if self._telling is not None:
            await asyncio.wait((self._telling,))
