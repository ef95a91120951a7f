"""Which store a URL means. Only this file names databases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from holdfast.errors import RequestError, StoreUnavailable
from holdfast.model.ids import Instant
from holdfast.store.port import Store

_FORMS: Final = "Use sqlite:///relative/path.db, sqlite:////absolute/path.db or sqlite:///:memory:."


def open_store(url: str, clock: Callable[[], Instant] | None = None) -> Store:
    """Return the store of a URL; call its `open` next. Raises RequestError for a URL that means none."""
    path = _sqlite_path(url)
    from holdfast.store.sqlite.store import SqliteStore, system_clock  # noqa: PLC0415 - loads only what is used

    return SqliteStore(path, clock or system_clock)


def file_of(url: str) -> Path | None:
    """Return the file that holds the database; None when it is not in a file."""
    path = _sqlite_path(url)
    return None if path == ":memory:" else Path(path).absolute()


def schema_of(url: str) -> tuple[int, int]:
    """Return the number of a database's schema, 0 when it has none, and that of this code. Changes nothing."""
    file = file_of(url)
    from holdfast.store.sqlite.connection import MEMORY, read_schema  # noqa: PLC0415 - as above

    return read_schema(MEMORY if file is None else str(file))


def _sqlite_path(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if scheme in ("postgres", "postgresql"):
        raise StoreUnavailable("there is no PostgreSQL store yet", fix=_FORMS)
    if not separator or scheme != "sqlite":
        raise RequestError(f"unknown store: {_shown(url)}", fix=_FORMS)
    path = unquote(rest.removeprefix("/"))
    if not rest.startswith("/") or not path or path.endswith("/") or "\0" in path or "?" in rest:
        raise RequestError(f"malformed store URL: {_shown(url)}", fix=_FORMS)
    return path


def _shown(url: str) -> str:
    """Return the URL without what may be a password."""
    scheme, separator, rest = url.partition("://")
    _, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{'***@' if at else ''}{place}"
