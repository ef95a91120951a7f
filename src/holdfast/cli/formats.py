"""Values as people read them: durations, times, ids and user values in a line."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from holdfast.model.event import to_json

SHORT_ID: Final = 12
LINE: Final = 100
"""Characters that a line of JSON may have."""
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400
_FRAME: Final = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.+)$', re.MULTILINE)


def duration(seconds: float | None) -> str:
    """Return a duration in at most seven characters: 4ms, 0.41s, 12.3s, 2m03s, 1h02m, 3d04h; empty for None."""
    if seconds is None:
        return ""
    if seconds < 0.0005:  # noqa: PLR2004 - half of what is shown
        return "<1ms"
    if seconds < 0.0995:  # noqa: PLR2004 - from here on two digits of a second say more
        return f"{seconds * 1000:.0f}ms"
    if seconds < 9.995:  # noqa: PLR2004 - as above
        return f"{seconds:.2f}s"
    if seconds < 59.95:  # noqa: PLR2004 - as above
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"


def between(begun: datetime | None, ended: datetime | None, now: datetime | None = None) -> float | None:
    """Return the seconds from one moment to another, to `now` when there is no end yet; None without a begin."""
    end = ended or now
    return None if begun is None or end is None else max(0.0, (end - begun).total_seconds())


def countdown(moment: datetime, now: datetime) -> str:
    """Return how long it is until a moment."""
    return duration(max(0.0, (moment - now).total_seconds()))


def ago(moment: datetime, now: datetime) -> str:
    """Return how long a moment is past, or its date when that is more than a month."""
    seconds = (now - moment).total_seconds()
    if seconds < 1:
        return "now"
    if seconds > 30 * _DAY:
        return f"{moment.astimezone():%Y-%m-%d}"
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit} ago"
    return f"{seconds:.0f}s ago"


def clock(moment: datetime) -> str:
    """Return the local time of day of a moment."""
    return f"{moment.astimezone():%H:%M:%S}"


def stamp(moment: datetime | None) -> str:
    """Return date and time of a moment in local time; empty for None."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def utc_now() -> datetime:
    """Return the moment."""
    return datetime.now(UTC)


def one_line(value: Any, limit: int = 60) -> str:
    """Return a user's value as JSON on one line, cut to `limit` characters; empty for None."""
    return "" if value is None else cut(to_json(value).decode(), limit)


def pretty(value: Any) -> str:
    """Return a user's value as JSON, with what fits into a line on one line."""
    return _pretty(msgspec.json.decode(to_json(value)), "")


def _pretty(value: Any, indent: str) -> str:
    line = msgspec.json.format(msgspec.json.encode(value), indent=0).decode()
    if len(line) + len(indent) <= LINE or not isinstance(value, dict | list) or not value:
        return line
    deeper = indent + "  "
    if isinstance(value, dict):
        items = [f"{to_json(key).decode()}: {_pretty(item, deeper)}" for key, item in value.items()]
        opening, closing = "{", "}"
    else:
        items = [_pretty(item, deeper) for item in value]
        opening, closing = "[", "]"
    inside = ",\n".join(f"{deeper}{item}" for item in items)
    return f"{opening}\n{inside}\n{indent}{closing}"


def cut(text: str, limit: int) -> str:
    """Return the first line of a text, cut to `limit` characters."""
    line = text.strip().partition("\n")[0].strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def stage_label(name: str, iteration: int, *, numbered: bool = False) -> str:
    """Return how a stage is called: its name, with its number from the second execution on or when all are numbered."""
    return f"{name} #{iteration}" if numbered or iteration > 1 else name


def plural(count: int, noun: str, nouns: str = "") -> str:
    """Return a count with its noun: 1 run, 2 runs."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def place_of(traceback: str) -> str:
    """Return where in the user's code an error rose, as `file:line in function`; empty when nobody knows."""
    frames = [
        match for match in _FRAME.finditer(traceback) if "/holdfast/" not in match["file"].replace("\\", "/")
    ]
    return f"{frames[-1]['file']}:{frames[-1]['line']} in {frames[-1]['name']}" if frames else ""


def moment_of(text: str, now: datetime) -> datetime | None:
    """Return what `2h`, `30m`, `7d` (before now), a date or a time in ISO 8601 mean; None when it is none of these."""
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip()):
        names = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
        with suppress(OverflowError):
            return now - timedelta(**{names[match[2]]: float(match[1])})
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return moment.astimezone() if moment.tzinfo is None else moment


def size(count: int) -> str:
    """Return a number of bytes with its unit."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:  # noqa: PLR2004 - of the units' definition
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
