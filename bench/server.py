"""The PostgreSQL server that the cells share: the one of the tests, see `tests/servers/postgres.py`.

Each cell has a database of its own. The server's settings are stated in the report's head; they are the same for every
engine, and none of them sets its own `synchronous_commit`.
"""

from __future__ import annotations

from typing import Any

import psycopg

from tests.servers.postgres import database, server

__all__ = ["Transactions", "connect", "database", "server", "settings"]

SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "ssl")


def connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True)


def settings(url: str) -> dict[str, str]:
    with connect(url) as connection:
        return {name: str(connection.execute(f"SHOW {name}").fetchone()[0]) for name in SETTINGS}  # type: ignore[index]


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
