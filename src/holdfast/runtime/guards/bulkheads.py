"""A bulkhead at run time: the places that this loop holds, who is in them, and who waits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from holdfast.core.limits import LEASE, Bulkhead, BulkheadRow, hold
from holdfast.errors import BulkheadFull, StoreError
from holdfast.model.ids import SECOND, Instant, WorkerId
from holdfast.runtime.guards.rows import SharedRow

logger: Final = logging.getLogger("holdfast")

LOOK: Final = 0.05
"""Seconds between two looks for places that others gave back."""

AGAIN: Final = 0.5
"""Seconds after which the store is asked again when it was away."""

LINGER: Final = 0.1
"""Seconds for which places without a call are kept: most calls come one after the other."""


class BulkheadGate:
    """Lets so many calls through at once, in the order in which they came.

    A place that is free here costs nothing; places are given back soon after the last call.
    """

    def __init__(
        self, settings: Bulkhead, row: SharedRow[BulkheadRow], holder: WorkerId, draw: Callable[[], float]
    ) -> None:
        """Begin without places."""
        self.settings: Final = settings
        self._row = row
        self._holder = holder
        self._draw = draw
        self._loop = asyncio.get_running_loop()
        self._places = 0
        self._good_until: Instant = 0
        self._used = 0
        self._peak = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._impatient: list[asyncio.Future[None]] = []
        """Those of them that wait for one answer only."""
        self._tending: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def pass_at_once(self) -> bool:
        """Take a place, if one is free here and nobody waits for it."""
        if self._waiting or self._used >= self._places or self._row.now() >= self._good_until:
            return False
        self._enter()
        return True

    def _enter(self) -> None:
        self._used += 1
        self._peak = max(self._peak, self._used)

    async def pass_through(self, most: float | None) -> None:
        """Wait for a place and take it; raises BulkheadFull when that takes longer than `most` seconds."""
        if self.pass_at_once():
            return
        if most == 0 and self._used >= self.settings.limit:
            raise BulkheadFull(retry_after=LOOK)
        place: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(place)
        if most == 0:
            self._impatient.append(place)
        self._tend()
        try:
            async with asyncio.timeout(most or None):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.leave()
            elif place in self._waiting:
                self._waiting.remove(place)
            if isinstance(error, TimeoutError):
                raise BulkheadFull(retry_after=LOOK) from None
            raise

    def leave(self) -> None:
        """Give the place to who waits, or keep it for a moment."""
        self._used -= 1
        self._hand_out()
        self._changed.set()

    def _hand_out(self) -> None:
        while self._waiting and self._used < self._places:
            place = self._waiting.popleft()
            if not place.done():
                self._enter()
                place.set_result(None)

    def _turn_away(self) -> None:
        """Tell those who do not wait that there is no place."""
        impatient, self._impatient = self._impatient, []
        for place in impatient:
            if not place.done():
                self._waiting.remove(place)
                place.set_exception(BulkheadFull(retry_after=LOOK))

    # --- holding places

    def _tend(self) -> None:
        self._changed.set()
        if self._tending is None:
            self._tending = self._loop.create_task(self._keep(), name=f"bulkhead {self.settings.name}")

    async def _keep(self) -> None:
        """Hold as many places as are needed, until none is."""
        try:
            while self._peak or self._waiting or self._places:
                want = min(self.settings.limit, max(self._peak, self._used + len(self._waiting)))
                self._peak = self._used
                try:
                    if want != self._places or self._is_due:
                        await self._hold(want)
                    self._hand_out()
                    self._turn_away()
                    await self._rest()
                except StoreError as error:
                    logger.warning("bulkhead %s waits for the store: %s", self.settings.name, error)
                    self._turn_away()
                    await asyncio.sleep(AGAIN)
        finally:
            self._tending = None

    @property
    def _is_due(self) -> bool:
        """Tell whether it is time to say that we live."""
        return self._good_until - self._row.now() < LEASE * 2 // 3

    async def _hold(self, want: int) -> None:
        due, places = self._is_due, self._places
        self._places = min(places, want)  # nobody may enter what is being given back

        def reckon(row: BulkheadRow, now: Instant) -> tuple[BulkheadRow, int]:
            changed, mine = hold(self.settings, row, self._holder, want, now)
            return (changed, mine) if due or mine != places else (row, mine)

        at = self._row.now()
        self._places = await self._row.change(reckon)
        if due or self._places != places:
            self._good_until = at + LEASE

    async def _rest(self) -> None:
        """Wait until there may be something to say: a wish for more, places left over, or that we live."""
        self._changed.clear()
        if self._waiting and self._places < self.settings.limit:
            pause = LOOK * (0.5 + self._draw())
        elif self._used < self._places:
            pause = LINGER
        else:
            pause = LEASE / SECOND / 3
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._changed.wait()

    async def close(self) -> None:
        """Give all places back."""
        for place in self._waiting:
            place.cancel()
        self._waiting.clear()
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.wait((self._tending,))
            with contextlib.suppress(StoreError):  # else the lease runs out
                await self._hold(0)
