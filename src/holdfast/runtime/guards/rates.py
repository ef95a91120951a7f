"""A rate limit at run time: the permits that this loop took and has not used yet."""

from __future__ import annotations

import asyncio
from typing import Final

from holdfast.core.limits import RateLimit, RateRow, line_up, take
from holdfast.errors import RateLimited
from holdfast.model.ids import SECOND, Instant, seconds
from holdfast.runtime.guards.rows import SharedRow


class RateGate:
    """Lets calls through at a rate, in the order in which they came.

    Permits are taken in batches that grow as they are used up in time; what is not used in time is lost.
    """

    def __init__(self, settings: RateLimit, row: SharedRow[RateRow], lease: int) -> None:
        """`lease` is for how long a permit is good; 0 when nobody else takes from the row."""
        self.settings: Final = settings
        self._row = row
        self._lease = lease
        self._permits = 0
        self._good_until: Instant = 0
        self._batch = 1
        self._turn = asyncio.Lock()

    def pass_at_once(self) -> bool:
        """Use a permit, if one is here and nobody waits for it."""
        if self._turn.locked() or not self._has_one:
            return False
        self._permits -= 1
        return True

    @property
    def _has_one(self) -> bool:
        # One that nobody else could have taken is used where it is taken, by the same clock.
        return self._permits > 0 and (not self._lease or self._row.now() <= self._good_until)

    async def pass_through(self, most: float | None) -> None:
        """Wait for a permit and use it; raises RateLimited when that takes longer than `most` seconds, StoreError."""
        if self._turn.locked() and most == 0:
            raise self._refusal()
        if most is None or not self._turn.locked():
            async with self._turn:
                await self._use_one(most)
            return
        try:
            async with asyncio.timeout(most):
                async with self._turn:
                    await self._use_one(None)
        except TimeoutError:
            raise self._refusal() from None

    async def _use_one(self, most: float | None) -> None:
        begun = self._row.now()
        while not self._has_one:
            wait = await self._take() / SECOND
            left = None if most is None else most - (self._row.now() - begun) / SECOND
            if wait and left is not None and wait > left:
                raise self._refusal(wait)
            if wait:
                await asyncio.sleep(wait)
        self._permits -= 1

    async def _take(self) -> int:
        """Take a batch of permits; returns the microseconds to wait when there are none."""
        if self._lease:
            # What was left over is lost: so many were not needed.
            self._batch = max(1, self._batch // 2 if self._permits else min(self._batch * 2, self._most))
        self._permits = 0

        def reckon(row: RateRow, now: Instant) -> tuple[RateRow, tuple[int, int, Instant]]:
            row, count, wait = take(self.settings, row, now, self._batch, self._lease)
            return row, (count, wait, now + self._lease)

        self._permits, wait, self._good_until = await self._row.change(reckon)
        return wait

    @property
    def _most(self) -> int:
        return max(1, (self.settings.tolerance // self.settings.spacing + 1) // 4)

    def _refusal(self, wait: float | None = None) -> RateLimited:
        return RateLimited(
            retry_after=seconds(self.settings.per) / self.settings.limit if wait is None else wait
        )

    async def line_up(self) -> float:
        """Return in how many seconds a call that will not wait here may come again; each is told another time."""
        return await self._row.change(lambda row, now: line_up(self.settings, row, now, self._lease)) / SECOND
