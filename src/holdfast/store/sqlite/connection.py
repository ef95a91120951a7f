"""A connection to a SQLite file that is ours, or a clear reason why there is none.

Nothing is written to a file before it is known to be new or Holdfast's. Waiting for another process's lock is done
by the callers: `busy_timeout` is 0, since SQLite sleeps with the event loop in its hand.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from holdfast.errors import StoreUnavailable
from holdfast.store.migrate import load_migrations, pending
from holdfast.store.sqlite.failures import explained, insist
from holdfast.store.sqlite.filesystem import network_type

MEMORY: Final = ":memory:"
OLDEST: Final = (3, 35, 0)
APPLICATION_ID: Final = 1215261796

_MIGRATIONS: Final = Path(__file__).with_name("migrations")
_HEADER: Final = b"SQLite format 3\0"
_HEADER_SIZE: Final = 100


def connect(path: str) -> sqlite3.Connection:
    """Return a connection with our settings. The file must have been examined before."""
    connection = sqlite3.connect(
        path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        if path != MEMORY:
            insist(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchall())
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -16000")
            connection.execute("PRAGMA journal_size_limit = 67108864")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: str) -> sqlite3.Connection:
    """Return a connection that cannot write. Readers meet a lock only while a crashed process's log is recovered."""
    connection = connect(path)
    connection.execute("PRAGMA busy_timeout = 1000")
    connection.execute("PRAGMA query_only = ON")
    return connection


def prepare(path: str, now: Callable[[], int]) -> sqlite3.Connection:
    """Return the writing connection to a database with today's schema, made or upgraded if need be."""
    if sqlite3.sqlite_version_info < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise StoreUnavailable(
            f"SQLite {sqlite3.sqlite_version} is older than {needed}", fix="Use a newer Python."
        )
    try:
        if path != MEMORY:
            _examine(Path(path))
        connection = connect(path)
    except sqlite3.Error as error:
        raise explained(error, path) from error
    try:
        upgrade(connection, path, now())
    except BaseException:
        connection.close()
        raise
    return connection


def upgrade(connection: sqlite3.Connection, path: str, now: int) -> None:
    """Bring the schema to today's in one transaction. Processes that do it at once wait for each other."""
    known = load_migrations(_MIGRATIONS)
    try:
        if not pending(known, insist(lambda: _applied(connection)), path):
            return
        insist(lambda: connection.execute("BEGIN IMMEDIATE"))
        try:
            for migration in pending(known, _applied(connection), path):
                _run(connection, migration.script)
                connection.execute(
                    "INSERT INTO schema_version (version, min_code, applied_at) VALUES (?, ?, ?)",
                    (migration.version, migration.min_code, now),
                )
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise explained(error, path) from error


def read_schema(path: str) -> tuple[int, int]:
    """Return the number of a file's schema, 0 when it has none, and that of this code. Changes nothing."""
    newest = load_migrations(_MIGRATIONS)[-1].version
    if path == MEMORY:
        return newest, newest
    try:
        _examine(Path(path))
        uri = f"{Path(path).absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5.0)) as connection:
            return max((version for version, _ in _applied(connection)), default=0), newest
    except sqlite3.Error as error:
        raise explained(error, path) from error


def _applied(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'").fetchone():
        return []
    return connection.execute("SELECT version, min_code FROM schema_version").fetchall()


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Run the statements of a script. `executescript` would commit the transaction first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _examine(path: Path) -> None:
    """Raise StoreUnavailable unless the file may be ours: absent, empty, or a whole database of Holdfast."""
    folder = path.parent
    if not folder.is_dir():
        raise StoreUnavailable(
            f"there is no directory {folder} for the database {path}", fix=f"Run `mkdir -p {folder}`."
        )
    if kind := network_type(folder):
        raise StoreUnavailable(
            f"the database {path} is on a network file system ({kind}), where SQLite's locks do not hold",
            fix="Use a local disk, or PostgreSQL for workers on many machines.",
        )
    _check_rights(path, folder)
    if path.exists() and path.stat().st_size:
        _check_header(path)
        _check_owner(path)


def _check_rights(path: Path, folder: Path) -> None:
    if path.is_dir():
        raise StoreUnavailable(f"the database {path} is a directory", fix="Give the path of a file in it.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreUnavailable(
            f"the directory {folder} of the database {path} is read-only",
            fix="Give this user the right to write the directory; SQLite keeps files beside the database.",
        )
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise StoreUnavailable(
            f"the database {path} is read-only", fix="Give this user the right to write the file."
        )


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(_HEADER_SIZE)
    if head[:16] != _HEADER:
        raise StoreUnavailable(f"the file {path} is no SQLite database", fix="Give the path of another file.")
    with contextlib.suppress(FileNotFoundError):
        if path.with_name(path.name + "-wal").stat().st_size:
            return  # missing pages may be in the log: somebody copies them over, or died while doing so
    size, expected = path.stat().st_size, _size_in(head)
    if size < expected:
        raise StoreUnavailable(
            f"the database {path} is truncated: {size} bytes of {expected}", fix="Restore it from a backup."
        )


def _size_in(head: bytes) -> int:
    """Return how long a file with this header must be, as far as the header tells."""
    if len(head) < _HEADER_SIZE:
        return _HEADER_SIZE
    page_size = int.from_bytes(head[16:18], "big")
    if head[24:28] != head[92:96]:
        return _HEADER_SIZE  # a very old SQLite wrote last and left the number of pages as it was
    pages = max(1, int.from_bytes(head[28:32], "big"))
    return (65536 if page_size == 1 else page_size) * pages


def _check_owner(path: Path) -> None:
    """Look without a change whether Holdfast made the file."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0, isolation_level=None
    )
    try:
        connection.execute("BEGIN")  # one view, since another process may be making the schema
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    finally:
        connection.close()
    if objects and application != APPLICATION_ID:
        raise StoreUnavailable(
            f"the database {path} belongs to another program: it has tables and none of Holdfast's",
            fix="Give the path of another file; Holdfast keeps its runs in a file of their own.",
        )
