"""Which store a URL means. Only this file names databases."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from holdfast.errors import RequestError, StoreUnavailable
from holdfast.model.ids import Instant
from holdfast.store.port import Store

_FORMS: Final = (
    "Use sqlite:///relative/path.db, sqlite:////absolute/path.db, sqlite:///:memory: or "
    "postgresql://user:password@host:5432/database."
)
_POSTGRES: Final = ("postgres", "postgresql")
_HIDDEN: Final = re.compile(r"(?<=[?&])((?:ssl)?password|passfile)=[^&#]*")


def open_store(url: str, clock: Callable[[], Instant] | None = None) -> Store:
    """Return the store of a URL; call its `open` next. Raises RequestError for a URL that means none."""
    if _is_postgres(url):
        _require_driver()
        from holdfast.store.postgres.store import PostgresStore  # noqa: PLC0415 - loads only what is used

        return PostgresStore(url, shown(url), clock)
    path = _sqlite_path(url)
    from holdfast.store.sqlite.store import SqliteStore, system_clock  # noqa: PLC0415 - as above

    return SqliteStore(path, clock or system_clock)


def file_of(url: str) -> Path | None:
    """Return the file that holds the database; None when it is not in a file."""
    if _is_postgres(url):
        return None
    path = _sqlite_path(url)
    return None if path == ":memory:" else Path(path).absolute()


def is_in_memory(url: str) -> bool:
    """Tell whether the database lives and dies with its process."""
    return not _is_postgres(url) and file_of(url) is None


def schema_of(url: str) -> tuple[int, int]:
    """Return the number of a database's schema, 0 when it has none, and that of this code. Changes nothing."""
    if _is_postgres(url):
        _require_driver()
        from holdfast.store.postgres import place, schema  # noqa: PLC0415 - as above

        return schema.read_schema(place.Place(url, shown(url)))
    file = file_of(url)
    from holdfast.store.sqlite.connection import MEMORY, read_schema  # noqa: PLC0415 - as above

    return read_schema(MEMORY if file is None else str(file))


def shown(url: str) -> str:
    """Return a URL without what may be a password."""
    scheme, separator, rest = url.partition("://")
    rest = _HIDDEN.sub(r"\1=***", rest)
    before, at, place = rest.rpartition("@")
    if not at or not _is_postgres(url):
        return f"{scheme}{separator}{'***@' if at else ''}{place}"
    user, colon, _ = before.partition(":")
    return f"{scheme}{separator}{user}{':***' if colon else ''}@{place}"


def _is_postgres(url: str) -> bool:
    return url.partition("://")[0] in _POSTGRES and "://" in url


def _require_driver() -> None:
    try:
        import psycopg  # noqa: F401, PLC0415 - an extra, asked for only where it is needed
    except ImportError as error:
        raise StoreUnavailable(
            f"PostgreSQL needs the package psycopg ({error})", fix='Run `pip install "holdfast[postgres]"`.'
        ) from None


def _sqlite_path(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme != "sqlite":
        raise RequestError(f"unknown store: {shown(url)}", fix=_FORMS)
    path = unquote(rest.removeprefix("/"))
    if not rest.startswith("/") or not path or path.endswith("/") or "\0" in path or "?" in rest:
        raise RequestError(f"malformed store URL: {shown(url)}", fix=_FORMS)
    return path
