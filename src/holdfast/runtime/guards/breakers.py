"""A circuit breaker at run time: what of it this loop knows, and the results that are still to be told."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from holdfast.core.breaker import BreakerRow, CircuitBreaker, Result, Ticket, admit, report, says_nothing
from holdfast.errors import CircuitOpen, StoreError
from holdfast.model.ids import SECOND, Instant
from holdfast.runtime.guards.rows import FRESH, SharedRow

logger: Final = logging.getLogger("holdfast")

AGAIN: Final = 0.5
"""Seconds after which what could not be told is told again."""


class BreakerGate:
    """Lets calls through a breaker, and tells it what became of them.

    While the breaker is closed and was looked at just now, nothing is read or written for a call that passes.
    """

    def __init__(self, settings: CircuitBreaker, row: SharedRow[BreakerRow]) -> None:
        """Begin with nothing known."""
        self.settings: Final = settings
        self._row = row
        self._loop = asyncio.get_running_loop()
        self._pending: list[tuple[Ticket, Result, Instant]] = []
        self._reckoned = 0
        self._said = "closed"
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None

    # --- admitting

    def pass_at_once(self) -> Ticket | None:
        """Return a ticket if one can be had without asking anybody."""
        row = self._row
        if self._pending or not row.value.is_passable or not row.is_fresh:
            return None
        return Ticket(row.value.epoch)

    async def pass_through(self) -> Ticket:
        """Return a ticket; raises CircuitOpen, StoreError. Who is cancelled meanwhile leaves none behind."""
        asking = asyncio.ensure_future(self._row.change(self._admit, self._kept))
        try:
            answer = await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(self._give_back)
            raise
        if isinstance(answer, Ticket):
            return answer
        raise CircuitOpen(retry_after=answer / SECOND)

    def _admit(self, row: BreakerRow, now: Instant) -> tuple[BreakerRow, Ticket | int]:
        return admit(self.settings, self._told(row), now)

    def _give_back(self, asking: asyncio.Future[Ticket | int]) -> None:
        if asking.cancelled() or asking.exception() is not None:
            return
        answer = asking.result()
        if isinstance(answer, Ticket):
            self.tell(answer, "unknown")

    # --- telling

    def tell(self, ticket: Ticket, result: Result) -> None:
        """Take what became of a call; nothing is written when it changes nothing."""
        row = self._row.value
        if says_nothing(self.settings, row, ticket, result):
            return
        self._pending.append((ticket, result, self._row.now()))
        urgent = result == "failed" or ticket.probe or row.failures
        self._tell_in(0 if urgent else FRESH / SECOND)

    def _tell_in(self, pause: float) -> None:
        if self._telling is not None:
            return  # it looks again before it ends
        if self._timer is not None:
            if pause:
                return
            self._timer.cancel()
        self._timer = self._loop.call_later(pause, self._begin) if pause else None
        if not pause:
            self._begin()

    def _begin(self) -> None:
        self._timer = None
        self._telling = self._loop.create_task(self._tell(), name=f"breaker {self.settings.name}")

    async def _tell(self) -> None:
        pause = 0.0
        try:
            while self._pending:
                await self._row.change(lambda row, _: (self._told(row), None), self._kept)
        except StoreError as error:
            logger.warning("circuit breaker %s waits for the store: %s", self.settings.name, error)
            pause = AGAIN
        finally:
            self._telling = None
        if pause:
            self._tell_in(pause)

    def _told(self, row: BreakerRow) -> BreakerRow:
        self._reckoned = len(self._pending)
        for ticket, result, at in self._pending:
            row = report(self.settings, row, ticket, result, at)
        return row

    def _kept(self) -> None:
        del self._pending[: self._reckoned]
        row, name = self._row.value, self.settings.name
        if row.state != self._said:
            place = {"event": f"breaker.{row.state}", "subject": name, "was": self._said, "epoch": row.epoch}
            self._said = row.state
            logger.warning("circuit breaker %s is %s", name, row.state.replace("_", "-"), extra=place)

    async def close(self) -> None:
        """Tell what is not told yet, once."""
        if self._timer is not None:
            self._timer.cancel()
            self._begin()
        if self._telling is not None:
            await asyncio.wait((self._telling,))
        if self._timer is not None:
            self._timer.cancel()
