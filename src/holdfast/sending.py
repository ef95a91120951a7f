"""Sending events to machines, from any process on the store, and telling what became of them."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from holdfast.clearing import Clearing
from holdfast.core.answers import Said, answer_in
from holdfast.core.events import reader
from holdfast.errors import ActionFailed, InvalidStatus, InvalidTransition, RequestError
from holdfast.model import facts
from holdfast.model.checks import DURATION, LABEL, argument
from holdfast.model.ids import RunId, seconds
from holdfast.model.run import ENDED, RunRow, RunStatus
from holdfast.runtime.clock import new_id
from holdfast.runtime.feed import Woken

_TIMEOUT: Final = DURATION.or_none()
_PAGE: Final = 500


class Outcome(msgspec.Struct, frozen=True):
    """What an event came to: where the machine is then, and whether a transition was taken.

    `state` is a tuple where several are active. `deferred` tells that the event is kept for a state that takes it.
    """

    state: str | tuple[str, ...]
    changed: bool
    deferred: bool = False


class Sending(Clearing):
    """What can be said to runs that are machines."""

    @abstractmethod
    async def signal(self, id: RunId, name: str, value: Any = None, key: str | None = None) -> None:
        """Send a run a named value."""

    async def send(
        self,
        id: RunId,
        event: str,
        data: Any = None,
        key: str | None = None,
        timeout: float | timedelta | None = None,
    ) -> Outcome:
        """Send an event to a machine, and return the outcome when its transition, with its actions, is done.

        The same `key` again sends nothing and returns the same outcome. Raises InvalidTransition when the state does
        not allow the event (nothing changes), ActionFailed when an action failed and nothing answers that (the state is
        as it was), RunNotFound, InvalidStatus, TimeoutError after `timeout` (the event stays sent).
        """
        argument("event", event, LABEL)
        argument("timeout", timeout, _TIMEOUT)
        row = await self._machine_row(id)
        waiter = self._open.feed.waiter(id)  # before it is sent: whatever the answer is, it comes later
        try:
            async with asyncio.timeout(None if timeout is None else seconds(timeout)):
                said = None
                if key is not None:
                    said, _ = await self._answered(id, argument("key", key, LABEL), 0)
                if said is None:
                    sent = key or new_id(self._clock)
                    await self._deliver_event(id, event, data, sent)
                    said = await self._answer(id, event, sent, 0 if key else row.position, waiter)
        finally:
            waiter.cancel()
        return _outcome(id, said)

    async def _deliver_event(self, id: RunId, event: str, data: Any, key: str) -> None:
        try:
            await self.signal(id, event, data, key)
        except InvalidStatus:
            row = await self._row(id)
            if row.status is not RunStatus.COMPLETED:
                raise
            raise await self._too_late(row, event) from None

    async def _machine_row(self, id: RunId) -> RunRow:
        row = await self._row(id)
        workflow = self.registry.find(row.workflow)
        if workflow is not None and not row.parent and not getattr(workflow, "answers", False):
            raise RequestError(
                f"run {id!r} is of {row.workflow}, which is no machine",
                fix="Send it a signal: run.signal(name, value).",
            )
        return row

    async def _answer(self, id: RunId, event: str, key: str, after: int, waiter: Woken) -> Said:
        """Wait for the decision that answers an event; raises InvalidTransition when the run ended without one.

        `waiter` was there before the event.
        """
        while True:
            await waiter
            waiter = self._open.feed.waiter(id)
            row = await self._row(id)
            said, after = await self._answered(id, key, after)
            if said is not None or row.status in ENDED:
                waiter.cancel()
                break
        if said is None:
            raise await self._too_late(row, event)
        return said

    async def _answered(self, id: RunId, key: str, after: int) -> tuple[Said | None, int]:
        """Return the answer to an event if it stands after a position, else how far was looked."""
        while rows := await self._store.journal(id, after=after, limit=_PAGE):
            for each in rows:
                said = answer_in(facts.Journal.decode(each.facts), key)
                if said is not None:
                    return said, after
            after = rows[-1].position + rows[-1].count - 1
        return None, after

    async def _too_late(self, row: RunRow, event: str) -> Exception:
        """Return the refusal of an event that came after the end."""
        if row.status is not RunStatus.COMPLETED:
            return InvalidStatus(
                f"run {row.id!r} is {row.status.value}; it takes no event", fix="Resume it first."
            )
        ended, blobs = await self._last(row)
        result = reader(blobs)(ended.data) if isinstance(ended, facts.RunCompleted) else None
        state = result.get("state") if isinstance(result, Mapping) else "ended"
        where = ", ".join(state) if isinstance(state, list) else state
        return InvalidTransition(
            f"Invalid transition: {where} -> {event}", fix="No event leads on from there."
        )


def _outcome(run: RunId, said: Said) -> Outcome:
    state = said.state[0] if len(said.state) == 1 else said.state
    if said.refused:
        raise InvalidTransition(said.refused, fix="Nothing has changed; send what its state allows.")
    if said.error is not None:
        raise ActionFailed(
            f"run {run!r}: {said.error.name or 'an action'} failed: {said.error.type}: {said.error.message}",
            error=said.error,
            state=state,
        )
    return Outcome(state, said.changed, said.deferred)
