"""Calling observers, and those that need a loop: one for several, and a stream.

Each observer is fed by a task of its own with a cursor of its own, and gets every event of the commits that this
engine makes, in order per run, none twice. One that raises is reported and goes on, one that is slow or hangs only
falls behind itself. An `async def on_event` runs on the engine's loop and must not block it; a plain `def` runs in a
thread. Events are made of facts, which hold no secrets.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Final

from holdfast.core.observers import Observer, ObserverLike, resolve
from holdfast.errors import DefinitionError
from holdfast.model.event import RunEvent
from holdfast.runtime.calling import in_thread, is_own
from holdfast.runtime.threads import Threads

logger: Final = logging.getLogger("holdfast.observers")

CLOSING: Final = 1.0
"""How many seconds an observer has to end when it must."""


class MultiObserver(Observer):
    """Hands each event to several observers, one after another; None is left out, one that raises stops no other."""

    def __init__(self, *observers: ObserverLike | None) -> None:
        """Take observers as the engine does: names, instances or classes."""
        self._threads = Threads("holdfast-observer")
        self._callers = [Caller(*named, self._threads) for named in resolve(observers)]
        self.observers = tuple(caller.observer for caller in self._callers)

    def wants(self, type: str) -> bool:
        """Want what one of them wants."""
        return any(observer.wants(type) for observer in self.observers)

    async def on_event(self, event: RunEvent) -> None:
        """Hand the event on, in order."""
        for caller in self._callers:
            if caller.observer.wants(event.type):
                await caller.call([event])

    async def close(self) -> None:
        """Close them all."""
        for caller in self._callers:
            await caller.close()
        self._threads.close()


class StreamingObserver(Observer):
    """Gives events to whoever iterates over `events()`. Drops none: when `buffer` events wait, its cursor waits.

    The iteration ends when the stream or the engine is closed, after the events that wait. Several iterators share
    the events.
    """

    def __init__(self, buffer: int = 100) -> None:
        """Let up to `buffer` events wait in memory; the others wait in the feed and the store."""
        if buffer < 1:
            raise DefinitionError(f"a buffer of {buffer} events", fix="Give a number of at least 1.")
        self._buffer = buffer
        self._events: deque[RunEvent] = deque()
        self._closed = False
        self._filled = asyncio.Event()
        self._freed = asyncio.Event()

    def wants(self, type: str) -> bool:
        """Want everything until it is closed."""
        return not self._closed

    async def on_event(self, event: RunEvent) -> None:
        """Keep the event, as soon as there is room."""
        while len(self._events) >= self._buffer and not self._closed:
            self._freed.clear()
            await self._freed.wait()
        if not self._closed:
            self._events.append(event)
            self._filled.set()

    async def events(self) -> AsyncIterator[RunEvent]:
        """Iterate over the events of all runs of this engine, as they are committed."""
        while True:
            while self._events:
                event = self._events.popleft()
                self._freed.set()
                yield event
            if self._closed:
                return
            self._filled.clear()
            await self._filled.wait()

    def close(self) -> None:
        """End the stream after the events that wait."""
        self._closed = True
        self._filled.set()
        self._freed.set()


# --- calling


class Caller:
    """Calls one observer with one event after another, and reports what it raises."""

    def __init__(self, name: str, observer: Observer, threads: Threads) -> None:
        """Call `observer`, in `threads` when its `on_event` is a plain function."""
        self.name = name
        self.observer = observer
        self.blocks = not inspect.iscoroutinefunction(observer.on_event)
        self._threads = threads

    async def call(self, events: Sequence[RunEvent]) -> None:
        """Hand events over, in order."""
        if self.blocks:
            called = await in_thread(self._threads, lambda: [self._call(event) for event in events])
        else:
            called = map(self._call, events)
        for event, result in zip(events, called, strict=True):
            if result is not None:
                await self._settle(event, result)

    async def close(self) -> None:
        """Let the observer go; what it raises is reported."""
        try:
            result = self.observer.close()
            if result is not None:
                await asyncio.wait_for(result, CLOSING)
        except Exception:
            logger.exception("observer %s did not close", self.name, extra={"observer": self.name})

    def _call(self, event: RunEvent) -> Awaitable[None] | None:
        try:
            result = self.observer.on_event(event)
        except BaseException as error:  # noqa: BLE001 - raised in a thread, or by what was no `async def`
            self._report(event, error)
            return None
        return result if inspect.isawaitable(result) else None

    async def _settle(self, event: RunEvent, result: Awaitable[None]) -> None:
        try:
            await result
        except BaseException as error:
            if is_own(error):
                raise
            self._report(
                event, error
            )  # also sys.exit, or a cancel of its own: an observer ends nothing but itself

    def _report(self, event: RunEvent, error: BaseException) -> None:
        place = {
            "observer": self.name,
            "run_id": event.run_id,
            "event": event.type,
            "position": event.position,
        }
        message = "observer %s raised %s on %s of run %s at position %s"
        detail = (self.name, type(error).__name__, event.type, event.run_id, event.position)
        logger.error(message, *detail, exc_info=error, extra=place)
