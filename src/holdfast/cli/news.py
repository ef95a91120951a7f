"""What a worker tells while it works: one piece of news after the other, as JSON lines or as lines for people.

A piece is a dict with a `type`. Those of several processes go through their parent, which adds `process`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from holdfast.cli.formats import clock, cut, duration, plural, utc_now
from holdfast.cli.marks import MARKS, NEWS
from holdfast.cli.output import Output, Part
from holdfast.model.event import to_json

News = Mapping[str, Any]
Tell = Callable[[News], None]

_REMEMBERED: Final = 10_000
_LEVELS: Final = {"warning": "yellow", "error": "red", "critical": "red"}


def news(type_: str, **fields: Any) -> dict[str, Any]:
    """Return a piece of news of this moment."""
    return {"type": type_, "time": utc_now(), **fields}


class NewsHandler(logging.Handler):
    """Makes news of log records: of the runs that are taken and end, and of every warning."""

    def __init__(self, tell: Tell) -> None:
        """Tell there."""
        super().__init__(logging.INFO)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of the record; must not raise."""
        try:
            self._tell(_of_record(record))
        except Exception:  # noqa: BLE001 - a log line must stop no run
            self.handleError(record)


def _of_record(record: logging.LogRecord) -> dict[str, Any]:
    fields = vars(record)
    event = fields.get("event", "")
    if event.startswith("run."):
        told = news(event, run_id=fields["run_id"])
        told |= {key: fields[key] for key in ("reason", "error", "error_type") if fields.get(key)}
        return told | ({"workflow": fields["subject"]} if event in ("run.taken", "run.started") else {})
    if event.startswith("stage."):
        told = news(event, run_id=fields["run_id"], stage=fields["subject"], attempt=fields.get("attempt"))
        return told | {key: fields[key] for key in ("reason", "error", "error_type") if fields.get(key)}
    return news("log", level=record.levelname.lower(), message=record.getMessage())


def as_json(out: Output) -> Tell:
    """Return how to tell in JSON lines."""
    return lambda piece: out.raw(to_json(piece))


class Teller:
    """Tells people."""

    def __init__(self, out: Output, processes: int = 1) -> None:
        """With several processes each line names its own."""
        self._out = out
        self._several = processes > 1
        self._runs: dict[tuple[int, str], tuple[str, datetime]] = {}
        self._introduced = False

    def __call__(self, piece: News) -> None:
        """Write what has happened."""
        kind = piece["type"]
        if kind == "worker.started":
            self._started(piece)
        elif kind.startswith("run."):
            self._of_run(piece)
        elif kind.startswith("stage."):
            self._of_stage(piece)
        elif kind == "worker.draining":
            held = plural(piece["runs"], "run")
            self._line(piece, ("draining: ", "yellow"), f"{held} held, running steps get {piece['grace']:g}s")
        elif kind == "worker.stopped":
            self._line(piece, ("stopped", "yellow"), ": what has not ended stays for other workers")
        elif kind == "process.ended":
            again = f"; started again in {piece['wait']:g}s" if piece["wait"] is not None else ""
            self._line(piece, (f"process {piece['pid']} ended with {piece['how']}{again}", "red"))
        else:
            level = piece["level"]
            self._line(piece, (f"{level}: ", _LEVELS.get(level, "")), piece["message"])

    def _started(self, piece: News) -> None:
        out = self._out
        if not self._introduced:
            self._introduced = True
            out.say(("store      ", "bright_black"), piece["store"])
            out.say(("workflows  ", "bright_black"), ", ".join(piece["workflows"]))
            out.say(("queues     ", "bright_black"), ", ".join(piece["queues"]))
            out.say(("at once    ", "bright_black"), plural(piece["concurrency"], "run"), self._each())
        self._line(piece, ("serving", "green"), f" as {piece['worker']}, pid {piece['pid']}")

    def _each(self) -> str:
        return " in each process" if self._several else ""

    def _of_run(self, piece: News) -> None:
        run, kind = piece["run_id"], piece["type"].removeprefix("run.")
        key = (piece.get("process", 0), run)
        now = _moment(piece["time"])
        if kind in ("taken", "started"):
            if len(self._runs) >= _REMEMBERED:
                del self._runs[next(iter(self._runs))]
            self._runs[key] = (piece["workflow"], now)
            self._line(piece, NEWS, " ", (run, "bold"), f"  {piece['workflow']}  {kind}")
            return
        workflow, begun = (
            self._runs.pop(key, ("", None)) if kind in MARKS else self._runs.get(key, ("", None))
        )
        took = f" in {duration(max(0.0, (now - begun).total_seconds()))}" if begun and kind in MARKS else ""
        why = piece.get("reason") or piece.get("error") or ""
        end = f": {cut(why, 120)}" if why and kind != "completed" else ""
        mark, color = MARKS.get(kind, NEWS)
        named = f"  {workflow}" if workflow else ""
        self._line(piece, (mark, color), " ", (run, "bold"), f"{named}  ", (kind, color), f"{took}{end}")

    def _of_stage(self, piece: News) -> None:
        what = piece["type"].removeprefix("stage.")
        mark, color = MARKS["retrying" if what == "retried" else what]
        attempt = f" as attempt {piece['attempt']}" if what == "retried" else ""
        why = piece.get("error") or piece.get("reason") or ""
        named = (piece["run_id"], "bold")
        told = f"{attempt}{f': {cut(why, 120)}' if why else ''}"
        self._line(piece, (mark, color), " ", named, f"  {piece['stage']}  ", (what, color), told)

    def _line(self, piece: News, *parts: Part) -> None:
        number = (f"[{piece['process']}] ", "bright_black") if "process" in piece and self._several else ""
        self._out.say((f"{clock(_moment(piece['time']))} ", "bright_black"), number, *parts)


def _moment(given: datetime | str) -> datetime:
    return datetime.fromisoformat(given) if isinstance(given, str) else given
