"""The circuit breaker as pure functions over a row, which all processes share.

Closed, calls go through and their results are counted. Open, none goes through until `reset_timeout` is over.
Half-open, some go through as probes; when all of them end well it is closed, when one fails it is open again.
A person may force it open, or disable it: then all calls go through and none is counted, until it is told otherwise.
Each change of state begins a new epoch, and the result of a call that was let through in an earlier one counts no more.
(The three states are Nygard's, "Release It!", 2007; permits and windows as in resilience4j.)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from holdfast.core.guarding import Guard
from holdfast.model.checks import COUNT, LABEL, LIMIT, Kind, is_number, setting, whole
from holdfast.model.ids import Instant, microseconds, moment

State = Literal["closed", "open", "half_open", "forced_open", "disabled"]
Forced = Literal["forced_open", "disabled", "closed"]
"""How a person may have it; closed, it goes on by itself."""
Result = Literal["passed", "failed", "unknown"]
"""What became of a call; unknown is one that was cancelled, or that raised what the breaker does not count."""

BUCKETS: Final = 10
"""A window of time is counted in so many parts, and forgets one part at a time."""

MOST_CALLS: Final = 1000


def _is_class(given: object) -> bool:
    return isinstance(given, type) and issubclass(given, BaseException)


_CLASSES: Final = Kind(
    lambda given: isinstance(given, tuple) and all(map(_is_class, given)), "a tuple of exception classes"
)
_KINDS: Final = {
    "name": LABEL,
    "threshold": COUNT,
    "reset_timeout": LIMIT,
    "half_open": whole(1, "a whole number of at least 1: how many probes decide"),
    "window": Kind(
        lambda given: (
            given is None
            or (type(given) is int and 1 <= given <= MOST_CALLS)
            or (isinstance(given, timedelta) and LIMIT.holds(given))
        ),
        f"a number of calls from 1 to {MOST_CALLS}, or a timedelta",
    ),
    "failure_rate": Kind(lambda n: is_number(n) and 0 < n <= 1, "a share above 0, at most 1"),
    "minimum_calls": COUNT.or_none(),
    "probe_timeout": LIMIT.or_none(),
    "count": _CLASSES,
    "ignore": _CLASSES,
}


@dataclass(frozen=True, slots=True)
class CircuitBreaker(Guard):
    """Lets no calls through for `reset_timeout` after `threshold` failures in a row; then `half_open` probes decide.

    All breakers of one `name` are one: in an engine's store for all its processes, else in this process. With a
    `window`, a number of calls or a timedelta, it opens when `failure_rate` of the calls in it failed, and at least
    `minimum_calls` (else `threshold`) were made. A probe that has not ended after `probe_timeout`, else
    `reset_timeout`, is given up. Exceptions of the classes in `count` and not in `ignore` are failures. While it is
    open, `execute` raises CircuitOpen, whose `retry_after` says for how long. Durations are seconds or timedelta.
    """

    name: str
    threshold: int = 5
    reset_timeout: float | timedelta = 60.0
    half_open: int = 1
    window: int | timedelta | None = None
    failure_rate: float = 0.5
    minimum_calls: int | None = None
    probe_timeout: float | timedelta | None = None
    count: tuple[type[BaseException], ...] = (Exception,)
    ignore: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what makes no breaker, naming the field."""
        for field, kind in _KINDS.items():
            setting("CircuitBreaker", field, getattr(self, field), kind)

    @property
    def reset(self) -> int:
        """How long it stays open, in microseconds."""
        return microseconds(self.reset_timeout)

    @property
    def patience(self) -> int:
        """How long a probe may take before another one is let through, in microseconds."""
        return self.reset if self.probe_timeout is None else microseconds(self.probe_timeout)

    def result(self, error: BaseException | None) -> Result:
        """Return what the end of a call counts as."""
        if error is None:
            return "passed"
        counts = isinstance(error, self.count) and not isinstance(error, self.ignore)
        return "failed" if counts else "unknown"


class BreakerRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A breaker as it is kept. `changed` is when it came into its state, `probes` until when each probe may take.

    `failures` counts those in a row; `calls` are the latest ones of a window of calls, "0" for each that failed;
    `buckets` the parts of a window of time: (number of the part, passed, failed). `until` is when an open one lapses,
    `opened` how often it opened.
    """

    state: State = "closed"
    epoch: int = 0
    changed: Instant = 0
    failures: int = 0
    calls: str = ""
    buckets: tuple[tuple[int, int, int], ...] = ()
    probes: tuple[Instant, ...] = ()
    passed: int = 0
    until: Instant = 0
    opened: int = 0

    @property
    def is_passable(self) -> bool:
        """Tell whether calls go through without a change of the row."""
        return self.state in ("closed", "disabled")


class BreakerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A breaker as its row tells: its state, since when, and how often it opened by itself.

    `failures` are those in a row, or in its window. An open one lets a probe through from `retry_at` on.
    """

    name: str
    state: State
    since: datetime | None = None
    failures: int = 0
    opened: int = 0
    retry_at: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the breaker as JSON knows it."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields


def info_of(name: str, row: BreakerRow) -> BreakerInfo:
    """Return what a row says of the breaker of that name."""
    return BreakerInfo(
        name=name,
        state=row.state,
        since=moment(row.changed) if row.changed else None,
        failures=row.failures or row.calls.count("0") or sum(bad for _, _, bad in row.buckets),
        opened=row.opened,
        retry_at=moment(row.until) if row.until else None,
    )


def force(row: BreakerRow, state: Forced, now: Instant) -> BreakerRow:
    """Return the row after a person said how the breaker stands from now on; unchanged when it stands so. Pure."""
    return row if row.state == state else _next(row, state, now)


class Ticket(msgspec.Struct, frozen=True):
    """A call that was let through: in which epoch, and if it is a probe until when it may take."""

    epoch: int
    probe: Instant = 0


def admit(settings: CircuitBreaker, row: BreakerRow, now: Instant) -> tuple[BreakerRow, Ticket | int]:
    """Return the row after a call was let through or refused: its ticket, or the microseconds to wait. Pure.

    A closed breaker stays as it is. A clock that was set back lets nothing through early and blocks for no longer than
    from the start.
    """
    match row.state:
        case "closed" | "disabled":
            return row, Ticket(row.epoch)
        case "forced_open":
            return row, settings.reset
        case "open":
            if now < row.changed:
                row = msgspec.structs.replace(row, changed=now, until=now + settings.reset)
            left = row.changed + settings.reset - now
            if left > 0:
                return row, left
            row = _next(row, "half_open", now)
        case "half_open":
            if any(not 0 < until - now <= settings.patience for until in row.probes):
                row = _next(row, "half_open", now)  # a probe hangs, or its worker died
    if len(row.probes) + row.passed >= settings.half_open:
        return row, min(row.probes, default=now + settings.patience) - now
    until = now + settings.patience
    return msgspec.structs.replace(row, probes=(*row.probes, until)), Ticket(row.epoch, until)


def report(
    settings: CircuitBreaker, row: BreakerRow, ticket: Ticket, result: Result, now: Instant
) -> BreakerRow:
    """Return the row after a call ended; unchanged when the call is of an earlier epoch. Pure."""
    if ticket.epoch != row.epoch:
        return row
    if row.state == "closed":
        if result == "unknown":
            return row
        row = _counted(settings, row, result == "passed", now)
        return _opened(settings, row, now) if _is_too_much(settings, row) else row
    if row.state != "half_open" or ticket.probe not in row.probes:
        return row
    if result == "failed":
        return _opened(settings, row, now)
    left = list(row.probes)
    left.remove(ticket.probe)
    if result == "unknown":
        return msgspec.structs.replace(row, probes=tuple(left))
    if row.passed + 1 >= settings.half_open:
        return _next(row, "closed", now)
    return msgspec.structs.replace(row, probes=tuple(left), passed=row.passed + 1)


def says_nothing(settings: CircuitBreaker, row: BreakerRow, ticket: Ticket, result: Result) -> bool:
    """Tell whether a result need not be kept, whatever else is: it changes nothing in a row such as this one."""
    if ticket.epoch != row.epoch or row.state != "closed":
        return ticket.epoch != row.epoch or row.is_passable
    return result == "unknown" or (settings.window is None and result == "passed" and not row.failures)


def _next(row: BreakerRow, state: State, now: Instant) -> BreakerRow:
    return BreakerRow(state, row.epoch + 1, now, opened=row.opened)


def _opened(settings: CircuitBreaker, row: BreakerRow, now: Instant) -> BreakerRow:
    return BreakerRow("open", row.epoch + 1, now, until=now + settings.reset, opened=row.opened + 1)


def _counted(settings: CircuitBreaker, row: BreakerRow, passed: bool, now: Instant) -> BreakerRow:  # noqa: FBT001
    if settings.window is None:
        failures = 0 if passed else row.failures + 1
        return row if failures == row.failures else msgspec.structs.replace(row, failures=failures)
    if isinstance(settings.window, int):
        calls = (row.calls + ("1" if passed else "0"))[-settings.window :]
        return msgspec.structs.replace(row, calls=calls)
    part = max(1, microseconds(settings.window) // BUCKETS)
    number = now // part
    # Parts after this one are of a clock that was set back since; they would never grow old.
    kept = [bucket for bucket in row.buckets if number - BUCKETS < bucket[0] < number]
    _, good, bad = next((bucket for bucket in row.buckets if bucket[0] == number), (number, 0, 0))
    kept.append((number, good + passed, bad + (not passed)))
    return msgspec.structs.replace(row, buckets=tuple(kept))


def _is_too_much(settings: CircuitBreaker, row: BreakerRow) -> bool:
    if settings.window is None:
        return row.failures >= settings.threshold
    if isinstance(settings.window, int):
        total, failed = len(row.calls), row.calls.count("0")
    else:
        failed = sum(bad for _, _, bad in row.buckets)
        total = failed + sum(good for _, good, _ in row.buckets)
    least = settings.threshold if settings.minimum_calls is None else settings.minimum_calls
    if isinstance(settings.window, int):
        least = min(least, settings.window)
    return total >= least and failed > 0 and failed >= settings.failure_rate * total
