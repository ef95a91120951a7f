"""Observers: readers of committed events that can neither change nor slow a run.

Each observer is fed by a task of its own with a cursor of its own, and gets every event of the commits that this
engine makes, in order per run, none twice. One that raises is reported and goes on, one that is slow or hangs only
falls behind itself. An `async def on_event` runs on the engine's loop and must not block it; a plain `def` runs in a
thread. Events are made of facts, which hold no secrets.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from itertools import count
from typing import Any, ClassVar, Final

from holdfast.errors import DefinitionError
from holdfast.model.event import RunEvent
from holdfast.model.ids import RunId
from holdfast.model.run import RunStatus
from holdfast.runtime.calling import in_thread, is_own
from holdfast.runtime.threads import Threads

logger: Final = logging.getLogger("holdfast.observers")

CLOSING: Final = 1.0
"""How many seconds an observer has to end when it must."""


class Observer:
    """Reads events. Derive from it and write `on_event`, as `async def` or, for code that blocks, as plain `def`."""

    reads_values: ClassVar[bool] = True
    """False: it never looks at `event.data`, only at `event.envelope`; large values are then not fetched for it."""

    def wants(self, type: str) -> bool:
        """Tell whether events of this type are of interest; what is not wanted is never made. Asked often."""
        return True

    def on_event(self, event: RunEvent) -> Awaitable[None] | None:
        """Take an event. What it raises is reported and changes nothing."""

    def close(self) -> Awaitable[None] | None:
        """Let go: the engine has closed and no more events will come. Must not block."""


class NoopObserver(Observer):
    """Takes no notice of anything."""

    def wants(self, type: str) -> bool:
        """Want nothing."""
        return False


# --- logging

_LEVELS: Final = {
    "run.failed": logging.ERROR,
    "stage.failed": logging.ERROR,
    "run.paused": logging.WARNING,
    "stage.retried": logging.WARNING,
}

_CHANGES: Final = {
    "run.started": (RunStatus.PENDING, RunStatus.RUNNING),
    "run.paused": (RunStatus.RUNNING, RunStatus.PAUSED),
    "run.resumed": (RunStatus.PAUSED, RunStatus.RUNNING),
    "run.completed": (RunStatus.RUNNING, RunStatus.COMPLETED),
    "run.failed": (RunStatus.RUNNING, RunStatus.FAILED),
    "run.cancelled": (RunStatus.RUNNING, RunStatus.CANCELLED),
}
"""From which status to which an event takes a run, as far as nothing else is known."""

_STOPPED: Final = frozenset({RunStatus.PAUSED, RunStatus.FAILED, RunStatus.CANCELLED})
_REMEMBERED: Final = 10_000
_SHOWN: Final = (
    "iteration",
    "attempt",
    "duration",
    "percent",
    "from_node",
    "to_node",
    "result",
    "until",
    "reason",
)


class LoggingObserver(Observer):
    """Writes a log record per event: failures as errors, retries and pauses as warnings, runs as info, others as debug.

    A record has the event's place and key fields as attributes (`run_id`, `event`, `position`, `subject`, `attempt`,
    `error`, ...), and `from`, `to` and `reason` when the run's status changes. The user's values are not logged.
    """

    reads_values = False

    def __init__(self, logger: logging.Logger | None = None) -> None:
        """Write to `logger`, by default `holdfast.runs`."""
        self._logger = logger or logging.getLogger("holdfast.runs")
        self._stopped: dict[RunId, RunStatus] = {}

    def wants(self, type: str) -> bool:
        """Want what the logger lets pass."""
        return self._logger.isEnabledFor(level_of(type))

    async def on_event(self, event: RunEvent) -> None:
        """Write the event's record."""
        level = level_of(event.type)
        if not self._logger.isEnabledFor(level):
            return
        fields = _log_fields(event)
        if event.type in _CHANGES:
            fields |= self._change(event)
        detail = " ".join(f"{key}={value}" for key, value in fields.items() if value not in (None, ""))
        place = {"run_id": event.run_id, "event": event.type, "position": event.position}
        self._logger.log(level, "%s %s %s", event.type, event.run_id, detail, extra=place | fields)

    def _change(self, event: RunEvent) -> dict[str, Any]:
        before, after = _CHANGES[event.type]
        before = self._stopped.pop(event.run_id, before)
        if after in _STOPPED:
            self._stopped[event.run_id] = after
            if len(self._stopped) > _REMEMBERED:
                del self._stopped[next(iter(self._stopped))]
        error = event.envelope.get("error") or {}
        return {
            "from": str(before),
            "to": str(after),
            "reason": event.envelope.get("reason") or error.get("message", ""),
        }


def level_of(type: str) -> int:
    """Return the level at which an event of this type is logged."""
    return _LEVELS.get(type) or (logging.INFO if type.startswith("run.") else logging.DEBUG)


def _log_fields(event: RunEvent) -> dict[str, Any]:
    """Return the key fields under names that a log record does not use itself, as it does `name`."""
    envelope = event.envelope
    subject = next(
        (envelope[key] for key in ("name", "stage", "workflow", "source", "type") if envelope.get(key)), None
    )
    fields = {"subject": subject} | {key: envelope[key] for key in _SHOWN if key in envelope}
    if envelope.get("error"):
        fields |= {"error": envelope["error"]["message"], "error_type": envelope["error"]["type"]}
    return fields


# --- one for several, and a stream


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


# --- by name

ObserverLike = str | Observer | type[Observer]
"""What may stand for an observer: its name in the registry, itself, or a class to make one of."""

_registry: Final[dict[str, Observer | type[Observer]]] = {
    "noop": NoopObserver,
    "logging": LoggingObserver,
    "slog": LoggingObserver,
}
_lock: Final = threading.Lock()


def register_observer(name: str, observer: Observer | type[Observer]) -> None:
    """Let `observer` be given by name; it replaces one of that name. Of a class, each use makes an instance."""
    with _lock:
        _registry[name] = observer


def get_observer(name: str) -> Observer:
    """Return the observer of that name. Raises DefinitionError when there is none."""
    with _lock:
        found, known = _registry.get(name), ", ".join(sorted(_registry))
    if found is None:
        raise DefinitionError(
            f"unknown observer: {name}",
            fix=f"Known are {known}. Add others with register_observer(name, observer).",
        )
    return found() if isinstance(found, type) else found


def resolve(observers: Iterable[ObserverLike | None]) -> list[tuple[str, Observer]]:
    """Return the observers, each with a name that no other of them has; None is left out."""
    resolved: dict[str, Observer] = {}
    for given in observers:
        if given is not None:
            observer = _instance(given)
            name = given if isinstance(given, str) else type(observer).__name__
            numbered = (f"{name}-{number}" if number > 1 else name for number in count(1))
            resolved[next(free for free in numbered if free not in resolved)] = observer
    return list(resolved.items())


def _instance(given: object) -> Observer:
    made = get_observer(given) if isinstance(given, str) else given() if isinstance(given, type) else given
    if isinstance(made, Observer):
        return made
    raise DefinitionError(
        f"not an observer: {given!r:.80}", fix="Give a name, or an instance or class derived from Observer."
    )


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
