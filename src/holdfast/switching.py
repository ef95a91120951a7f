"""Breakers of an engine: listed, forced open, disabled, and let go on by themselves."""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.burying import Burying
from holdfast.core.breaker import BreakerInfo, BreakerRow, Forced, force, info_of
from holdfast.model.checks import LABEL, Kind, argument
from holdfast.runtime.guards.rows import SharedRow

PREFIX: Final = "breaker:"

_STATE: Final = Kind(
    lambda given: given in ("forced_open", "disabled", "closed"), "forced_open, disabled or closed"
)
_ROW: Final = msgspec.json.Decoder(BreakerRow)


class Switching(Burying):
    """What can be done about circuit breakers."""

    async def breakers(self) -> list[BreakerInfo]:
        """Return the breakers of this store that ever counted a failure or were forced, in the order of their names."""
        self._open  # noqa: B018 - raises when the engine is closed
        rows = await self._store.limits(PREFIX)
        return [info_of(name.removeprefix(PREFIX), _ROW.decode(row.body)) for name, row in rows.items()]

    async def force_breaker(self, name: str, state: Forced) -> BreakerInfo:
        """Have a breaker let nothing through ("forced_open"), or all ("disabled"), until it is told otherwise.

        "closed" has it go on by itself, from closed. It holds in all processes of the store within a tenth of a second,
        also for a breaker that is used later. What calls come to that were let through before counts no more.
        """
        argument("name", name, LABEL)
        argument("state", state, _STATE)
        self._open  # noqa: B018
        row = SharedRow(self._store, PREFIX + name, BreakerRow(), self._store.now)
        await row.change(lambda before, now: (force(before, state, now), None))
        return info_of(name, row.value)
