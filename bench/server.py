"""The PostgreSQL server that the cells share, and a database of its own for each of them.

`$HOLDFAST_TEST_POSTGRES` names it, else it is the local one. Its settings are stated in the report's head; they
are the same for every engine, and none of them sets its own `synchronous_commit`.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

LOCAL = "postgresql://postgres@127.0.0.1:5432/postgres"
SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "ssl")
CONNECT_SECONDS = 5


def find() -> str:
    """Return the server's URL. Raises psycopg.OperationalError when it cannot be reached."""
    url = os.environ.get("HOLDFAST_TEST_POSTGRES") or LOCAL
    with connect(url):
        return url


def connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS)


def settings(url: str) -> dict[str, str]:
    with connect(url) as connection:
        return {name: str(connection.execute(f"SHOW {name}").fetchone()[0]) for name in SETTINGS}  # type: ignore[index]


@contextlib.contextmanager
def database(server: str) -> Iterator[str]:
    """Make an empty database, yield its URL, and drop it with whatever is still connected to it."""
    name = f"holdfast_bench_{uuid.uuid4().hex[:12]}"
    with connect(server) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield with_parameters(server, dbname=name)
        finally:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )


def with_parameters(url: str, **changes: str) -> str:
    """Return the URL with other parts, named as libpq names them: host, port, dbname, sslmode..."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items()} | changes
    user, password, host = parts.pop("user", ""), parts.pop("password", ""), parts.pop("host", "localhost")
    port, dbname = parts.pop("port", ""), parts.pop("dbname", "")
    who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    if host.startswith("/"):  # a directory with a socket
        parts["host"], host = host, ""
    where = host + (f":{port}" if port else "")
    rest = f"?{urlencode(parts)}" if parts else ""
    return f"postgresql://{who + '@' if who else ''}{where}/{quote(dbname, safe='')}{rest}"


class Transactions:
    """Counts the transactions that wrote, by the server's own counter, from its making on.

    The counter is the whole server's: nobody else should be writing to it.
    """

    def __init__(self, url: str) -> None:
        self._connection = connect(url)
        self._begin = self._next()

    def count(self) -> int:
        return self._next() - self._begin

    def close(self) -> None:
        self._connection.close()

    def _next(self) -> int:
        found = self._connection.execute(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        ).fetchone()
        return int(found[0])  # type: ignore[index]
