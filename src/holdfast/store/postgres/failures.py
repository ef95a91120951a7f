"""What PostgreSQL's errors mean for us: whom they are about, what the operator can do, and which to try again."""

from __future__ import annotations

import re
from typing import Final

import psycopg

from holdfast.errors import StoreDamaged, StoreError, StoreUnavailable

_RETRY: Final = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock: nothing was written, the next try may pass."""

_RESTARTS: Final = "It may be restarting; work goes on when it is back."
_RIGHTS: Final = "Grant this role the rights on the schema holdfast, or use the role that owns it."
_PRIMARY: Final = "Name the primary in the URL, for instance host=a,b with target_session_attrs=read-write."
_SLOTS: Final = "Raise max_connections, end some clients, or put PgBouncer before the server."

_REASONS: Final = {
    "08": ("lost the connection", _RESTARTS),
    "53100": ("cannot grow: the server's disk is full", "Free some space; what was committed is safe."),
    "53300": ("takes no more connections", _SLOTS),
    "53": ("is short of resources", "Look at the server's log, memory and disk."),
    "55P03": (
        "did not get a lock in time",
        "Look in pg_locks and pg_stat_activity for a session that stays in a transaction.",
    ),
    "57P03": ("does not take connections now", _RESTARTS),
    "57": ("ended the connection or the statement", _RESTARTS),
    "58": ("has an error of its system", "Look at the server's log and its disk."),
    "25006": ("is read-only", _PRIMARY),
    "42501": ("refused that for want of rights", _RIGHTS),
    "XX001": ("is damaged", "Restore it from a backup."),
    "XX002": ("has a damaged index", "Rebuild it: REINDEX SCHEMA holdfast."),
    "42P01": ("lacks tables of Holdfast", "Restore the schema holdfast from a backup."),
    "42883": ("lacks functions of Holdfast", "Restore the schema holdfast from a backup."),
    "3F000": (
        "lacks the schema holdfast",
        "Restore it from a backup, or run `holdfast db upgrade` to begin anew.",
    ),
}
_DAMAGES: Final = frozenset({"XX001", "XX002", "42P01", "42883", "3F000"})

_START: Final = "Check host and port, and that the server runs and listens there."
_REFUSALS: Final = (
    (
        r"invalid .*value|bad value",
        "cannot be asked so: a parameter in its URL is wrong",
        "Correct that parameter; they are those of libpq.",
    ),
    (
        r"password authentication failed|no password supplied",
        "refused the password",
        "Check user and password in the URL, PGPASSWORD or ~/.pgpass.",
    ),
    (
        r"pg_hba\.conf",
        "does not let this user in from here",
        "Add a line to the server's pg_hba.conf, or use another user.",
    ),
    (
        r'role "[^"]*" does not exist',
        "does not know this user",
        "Create it with `createuser`, or name another one in the URL.",
    ),
    (
        r'database "[^"]*" does not exist',
        "has no such database",
        "Create it with `createdb`, or name another one in the URL.",
    ),
    (
        r"permission denied for database",
        "does not let this user use the database",
        "GRANT CONNECT ON DATABASE … TO this user.",
    ),
    (
        r"too many (clients|connections)|remaining connection slots|no more connections allowed",
        "takes no more connections",
        _SLOTS,
    ),
    (r"starting up|shutting down|not yet accepting", "does not take connections now", _RESTARTS),
    (
        r"unsupported startup parameter",
        "is behind a pooler that refuses a startup parameter",
        "Remove that parameter from the URL, or list it in PgBouncer's ignore_startup_parameters.",
    ),
    (
        r"not known|could not translate host name|resolve",
        "has a host name that cannot be resolved",
        "Check the host in the URL.",
    ),
    (r"[Cc]onnection refused|No such file|No route|unreachable", "cannot be reached", _START),
    (r"timeout|timed out", "does not answer", "Check host, port and firewalls."),
    (
        r"SSL|certificate|TLS",
        "does not agree on TLS",
        "Check sslmode, sslrootcert and the server's certificate.",
    ),
    (r"read-only|hot standby|in recovery", "is read-only", _PRIMARY),
)


def is_passing(error: psycopg.Error) -> bool:
    """Tell whether nothing was written and the next try may pass."""
    return error.sqlstate in _RETRY


def is_unavailable(error: psycopg.Error) -> bool:
    """Tell whether the database is to blame, and not the data of one call."""
    return error.sqlstate is None or _reason_of(error.sqlstate) is not None


def explained(error: psycopg.Error, where: str) -> StoreError:
    """Return an error of a statement as one of ours, with the place and what to do."""
    text = _told(error)
    known = ("lost the connection", _RESTARTS) if error.sqlstate is None else _reason_of(error.sqlstate)
    if known is None:
        return StoreError(f"the database {where} refused that: {text}")
    reason, fix = known
    kind = StoreDamaged if error.sqlstate in _DAMAGES else StoreUnavailable
    return kind(f"the database {where} {reason} ({text})", fix=fix)


def unconnected(error: psycopg.Error, where: str) -> StoreUnavailable:
    """Return the reason why there is no connection. The server tells it in words only."""
    text = _told(error)
    for pattern, reason, fix in _REFUSALS:
        if re.search(pattern, text):
            return StoreUnavailable(f"the database {where} {reason} ({text})", fix=fix)
    return StoreUnavailable(f"the database {where} cannot be reached ({text})", fix=_RESTARTS)


def _reason_of(state: str) -> tuple[str, str] | None:
    return _REASONS.get(state) or _REASONS.get(state[:2])


def _told(error: psycopg.Error) -> str:
    """Return what the error says, on one line."""
    said = error.diag.message_primary or str(error)
    return " ".join(said.split())
