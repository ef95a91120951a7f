"""A real PostgreSQL for the tests: the one that is named, the one that runs here, or one from PyPI. Never none.

Each process of the suite has a database of its own, emptied before each test. Databases that an aborted run left are
dropped by the next one: whoever uses one holds a lock named after it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from holdfast.store.open import shown
from holdfast.store.postgres.place import Place
from holdfast.store.postgres.schema import OLDEST, prepare
from tests.servers.cluster import cluster

PREFIX = "holdfast_test_"
LOCK = 1215261798
LARGE = 16 << 20

Connection = psycopg.Connection[tuple[Any, ...]]


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of a server where databases may be made."""
    if given := os.environ.get("HOLDFAST_TEST_POSTGRES"):
        yield given
        return
    for url in local_urls():
        if is_ours_to_use(url):
            yield url
            return
    with cluster() as own:
        yield own.url


def is_ours_to_use(url: str) -> bool:
    """Whether a server is there that lets us make databases and roles."""
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            may = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
            return may == (True,) and connection.info.server_version >= OLDEST * 10000
    except psycopg.OperationalError:
        return False


def local_urls() -> Iterator[str]:
    for user in ("postgres", getpass.getuser()):
        for folder in ("/var/run/postgresql", tempfile.gettempdir()):
            if Path(folder, ".s.PGSQL.5432").exists():
                yield f"postgresql://{user}@/postgres?host={folder}"
        yield f"postgresql://{user}@127.0.0.1:5432/postgres"


@contextlib.contextmanager
def database(url: str) -> Iterator[str]:
    """The URL of a new database, dropped in the end."""
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", (LOCK, name))
        create = sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0")
        connection.execute(create.format(sql.Identifier(name)))
        try:
            yield with_database(url, name)
        finally:
            drop(connection, name)


def drop_leftovers(url: str) -> None:
    """Drop the databases whose processes are gone."""
    with psycopg.connect(url, autocommit=True) as connection:
        names = connection.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (PREFIX,)
        )
        for (name,) in names.fetchall():
            free = connection.execute(
                "SELECT pg_try_advisory_lock(%s, hashtext(%s))", (LOCK, name)
            ).fetchone()
            if free == (True,):
                drop(connection, name)
                connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", (LOCK, name))


def drop(connection: Connection, name: str) -> None:
    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def with_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


class Emptied:
    """A database with today's schema that is emptied again and again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection: Connection = psycopg.connect(url, autocommit=True)
        self._tables: list[sql.Identifier] = []
        self._make()

    def _make(self) -> None:
        prepare(Place(self.url, shown(self.url)))
        tables = self._connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'holdfast'"
            " AND tablename NOT IN ('schema_version', 'eras')"
        ).fetchall()
        self._tables = [sql.Identifier("holdfast", name) for (name,) in tables]

    def empty(self) -> str:
        """End whoever is still connected, and delete all rows."""
        self._connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        if self._connection.execute("SELECT to_regclass('holdfast.schema_version')").fetchone() == (None,):
            self._make()
        self._connection.execute("DELETE FROM holdfast.eras WHERE era > 0")
        size = self._connection.execute("SELECT pg_relation_size('holdfast.journal')").fetchone()
        if size is not None and size[0] > LARGE:
            self._connection.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(self._tables)))
        else:  # a hundred times faster than making new files for each table and index
            with self._connection.transaction():
                for table in self._tables:
                    self._connection.execute(sql.SQL("DELETE FROM {}").format(table))
        return self.url

    def close(self) -> None:
        self._connection.close()
