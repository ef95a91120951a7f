"""Observers: readers of committed events that can neither change nor slow a run. Who they are, and their names.

How they are fed is in `runtime.observing`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterable
from itertools import count
from typing import Any, ClassVar, Final

from holdfast.errors import DefinitionError
from holdfast.model.event import RunEvent
from holdfast.model.ids import RunId
from holdfast.model.run import RunStatus


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
        if "next_at" in event.envelope:
            before = RunStatus.RUNNING  # it goes on by itself
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


# --- by name

ObserverLike = str | Observer | type[Observer]
"""What may stand for an observer: its name in the registry, itself, or a class to make one of."""

_registry: Final[dict[str, Observer | type[Observer]]] = {
    "noop": NoopObserver,
    "logging": LoggingObserver,
    "slog": LoggingObserver,
}


def register_observer(name: str, observer: Observer | type[Observer]) -> None:
    """Let `observer` be given by name; it replaces one of that name. Of a class, each use makes an instance.

    Thread-safe.
    """
    _registry[name] = observer


def get_observer(name: str) -> Observer:
    """Return the observer of that name. Raises DefinitionError when there is none."""
    found = _registry.get(name)
    if found is None:
        raise DefinitionError(
            f"unknown observer: {name}",
            fix=f"Known are {', '.join(sorted(_registry))}. Add others with register_observer(name, observer).",
        )
    return found() if isinstance(found, type) else found


def resolve(observers: Iterable[ObserverLike | None]) -> list[tuple[str, Observer]]:
    """Return the observers, each with a name that no other of them has; None is left out."""
    resolved: dict[str, Observer] = {}
    for given in observers:
        if given is not None:
            observer = instance_of(given)
            name = given if isinstance(given, str) else type(observer).__name__
            numbered = (f"{name}-{number}" if number > 1 else name for number in count(1))
            resolved[next(free for free in numbered if free not in resolved)] = observer
    return list(resolved.items())


def instance_of(given: object) -> Observer:
    """Return the observer that is given, by its name, itself, or a class to make one of."""
    made = get_observer(given) if isinstance(given, str) else given() if isinstance(given, type) else given
    if isinstance(made, Observer):
        return made
    raise DefinitionError(
        f"not an observer: {given!r:.80}", fix="Give a name, or an instance or class derived from Observer."
    )


def observer_of(workflow: object) -> ObserverLike | None:
    """Return the observer that a workflow brings along for its own runs."""
    found: ObserverLike | None = getattr(workflow, "observer", None)
    return found


def check_observer(given: ObserverLike | None) -> ObserverLike | None:
    """Return what was given for an observer. Raises DefinitionError for an unknown name, and for what is none."""
    if isinstance(given, str):
        try:
            get_observer(given)
        except DefinitionError as error:
            raise DefinitionError(f"failed to resolve observer: {error}", fix=error.fix) from error
    elif given is not None and not (isinstance(given, type) and issubclass(given, Observer)):
        instance_of(given)
    return given
