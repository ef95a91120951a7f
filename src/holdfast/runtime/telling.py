"""Telling an observer of what no journal records: events of a piece of work in this process.

The observer gets them in order, beside the work. A slow one falls behind and has a moment at the end to catch up, one
that raises is reported; neither changes the work.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from holdfast.core.context import current
from holdfast.core.observers import Observer, get_observer
from holdfast.errors import DefinitionError
from holdfast.model.event import RunEvent
from holdfast.runtime.observers import CLOSING, Caller
from holdfast.runtime.threads import Threads

logger: Final = logging.getLogger("holdfast.observers")


class Teller:
    """Keeps events for one observer; what it does not want is never made."""

    def __init__(self, observer: Observer | None, source: str) -> None:
        """Begin without events. They are those of the run whose step this is, if it is one's."""
        step = current.get()
        self.run_id = "" if step is None else step.run_id
        self.waiting: deque[RunEvent] = deque()
        self.filled = asyncio.Event()
        self.closed = False
        self._observer = observer
        self._source = source
        self._position = 0

    def __call__(self, type: str, **data: Any) -> None:
        """Tell of an event."""
        self._position += 1
        if self._observer is not None and self._observer.wants(type):
            at = datetime.now(UTC)
            self.waiting.append(
                RunEvent(self.run_id, self._position, type, at, {"source": self._source, **data})
            )
            self.filled.set()

    def failed(self, type: str, error: BaseException, **data: Any) -> None:
        """Tell of a failure."""
        told = {"type": error.__class__.__name__, "message": str(error)}
        self(type, **data, error=told)


@asynccontextmanager
async def telling(observer: str | None, source: str) -> AsyncIterator[Teller]:
    """Give a teller for the observer of that name. Raises DefinitionError when there is none of that name."""
    if observer is None:
        yield Teller(None, source)
        return
    try:
        found = get_observer(observer)
    except DefinitionError as error:
        raise DefinitionError(f"failed to resolve observer: {error}", fix=error.fix) from error
    tell = Teller(found, source)
    threads = Threads("holdfast-observer")
    pump = asyncio.create_task(_pump(tell, Caller(observer, found, threads)))
    try:
        yield tell
    finally:
        await _end(tell, pump, observer)
        threads.close()


async def _pump(tell: Teller, caller: Caller) -> None:
    while tell.waiting or not tell.closed:
        await tell.filled.wait()
        tell.filled.clear()
        while tell.waiting:
            await caller.call([tell.waiting[0]])
            tell.waiting.popleft()


async def _end(tell: Teller, pump: asyncio.Task[None], name: str) -> None:
    """Let the observer have what waits, for a moment."""
    tell.closed = True
    tell.filled.set()
    _, late = await asyncio.wait({pump}, timeout=CLOSING)
    if late:
        logger.warning("observer %s did not see the last %s events", name, len(tell.waiting))
        pump.cancel()
