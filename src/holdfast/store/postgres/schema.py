"""The schema `holdfast`: made, upgraded and checked before a store is used, on a connection of its own that blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psycopg

from holdfast.errors import StoreUnavailable
from holdfast.store.migrate import load_migrations, pending
from holdfast.store.postgres.failures import explained, unconnected
from holdfast.store.postgres.place import Place

OLDEST: Final = 14
_LOCK: Final = 1215261797

# Read from the catalogs: `to_regclass` may go by what the server remembers from before we waited for the lock.
_SCHEMA: Final = "SELECT 1 FROM pg_namespace WHERE nspname = 'holdfast'"
_TABLE: Final = "SELECT 1 FROM pg_tables WHERE schemaname = 'holdfast' AND tablename = 'schema_version'"

_MIGRATIONS: Final = Path(__file__).with_name("migrations")

Connection = psycopg.Connection[tuple[Any, ...]]


def connect(place: Place) -> Connection:
    """Return a connection that blocks its thread. Raises StoreUnavailable."""
    try:
        return psycopg.connect(place.conninfo, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise unconnected(error, place.shown) from None


def prepare(place: Place) -> int:
    """Make or upgrade the schema, if need be; returns the era. Raises StoreUnavailable, SchemaTooNew."""
    with connect(place) as connection:
        try:
            _check_server(connection, place.shown)
            upgrade(connection, place.shown)
            ((era,),) = connection.execute("SELECT holdfast.begin_era()").fetchall()
            return int(era)
        except psycopg.Error as error:
            raise explained(error, place.shown) from error


def read_schema(place: Place) -> tuple[int, int]:
    """Return the number of a database's schema, 0 when it has none, and that of this code. Changes nothing."""
    with connect(place) as connection:
        try:
            applied = _applied(connection)
        except psycopg.Error as error:
            raise explained(error, place.shown) from error
    return max((version for version, _ in applied), default=0), load_migrations(_MIGRATIONS)[-1].version


def upgrade(connection: Connection, where: str) -> None:
    """Bring the schema to today's in one transaction. Processes that do it at once wait for each other."""
    known = load_migrations(_MIGRATIONS)
    if not pending(known, _applied(connection), where):
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute("SET LOCAL client_min_messages = warning")
        missing = pending(known, _applied(connection), where)
        if missing and not connection.execute(_SCHEMA).fetchone():
            _create_schema(connection, where)
        for migration in missing:
            connection.execute(migration.script.encode())
            connection.execute(
                "INSERT INTO holdfast.schema_version (version, min_code, applied_at)"
                " VALUES (%s, %s, (extract(epoch FROM now()) * 1000000)::bigint)",
                (migration.version, migration.min_code),
            )


def _create_schema(connection: Connection, where: str) -> None:
    try:
        connection.execute("CREATE SCHEMA holdfast")
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreUnavailable(
            f"the database {where} does not let this user make the schema holdfast ({error.diag.message_primary})",
            fix="GRANT CREATE ON DATABASE … TO this user, or have its owner run CREATE SCHEMA holdfast AUTHORIZATION.",
        ) from error


def _applied(connection: Connection) -> Sequence[tuple[int, int]]:
    if not connection.execute(_TABLE).fetchone():
        return []
    rows = connection.execute("SELECT version, min_code FROM holdfast.schema_version").fetchall()
    return [(version, min_code) for version, min_code in rows]


def _check_server(connection: Connection, where: str) -> None:
    """Raise StoreUnavailable unless the server is one that we can work with."""
    major = connection.info.server_version // 10000
    if major < OLDEST:
        raise StoreUnavailable(
            f"the database {where} runs on PostgreSQL {major}", fix=f"Use PostgreSQL {OLDEST} or later."
        )
    row = connection.execute(
        "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,"
        " current_setting('server_encoding')"
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM gives one row
    read_only, encoding = row
    if read_only:
        raise StoreUnavailable(
            f"the database {where} is read-only, perhaps a standby",
            fix="Name the primary in the URL, for instance host=a,b with target_session_attrs=read-write.",
        )
    if encoding != "UTF8":
        raise StoreUnavailable(
            f"the database {where} has the encoding {encoding}",
            fix="Use a database made with `createdb --encoding UTF8 --template template0`.",
        )
