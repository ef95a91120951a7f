"""What a database holds, read with a connection of its own and without the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

Rows = list[tuple[Any, ...]]


def rows(url: str, sql: str, *values: Any) -> Rows:
    """What a statement with `?` for its values answers."""
    with _connection(url) as connection:
        return _rows(url, connection, sql, *values)


def mentions(url: str, text: str) -> dict[str, int]:
    """In which columns a text is found, and in how many rows."""
    with _connection(url) as connection:
        found = {
            f"{table}.{column}": _rows(
                url,
                connection,
                f"SELECT count(*) FROM {table} WHERE CAST({column} AS TEXT) LIKE ?",  # noqa: S608
                f"%{text}%",
            )[0][0]
            for table, column, _ in _columns(url, connection)
        }
    return {name: count for name, count in found.items() if count}


def contents(url: str) -> dict[str, bytes]:
    """All that is there: the files in the folder of a SQLite database, or the columns of one on PostgreSQL."""
    if _is_file(url):
        folder = _file(url).parent
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with _connection(url) as connection:
        return {
            f"{table}.{column}": b"\n".join(
                value if isinstance(value, bytes) else str(value).encode()
                for (value,) in _rows(
                    url,
                    connection,
                    f"SELECT {column if kind == 'bytea' else f'CAST({column} AS TEXT)'} FROM {table}",  # noqa: S608
                )
            )
            for table, column, kind in _columns(url, connection)
        }


def _columns(url: str, connection: Any) -> Rows:
    """Each table's columns with their types."""
    if _is_file(url):
        return _rows(
            url,
            connection,
            "SELECT t.name, c.name, c.type FROM sqlite_master AS t, pragma_table_info(t.name) AS c"
            " WHERE t.type = 'table'",
        )
    return _rows(
        url,
        connection,
        "SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns AS c"
        " JOIN information_schema.tables AS t USING (table_schema, table_name)"
        " WHERE c.table_schema = 'holdfast' AND t.table_type = 'BASE TABLE'",
    )


@contextmanager
def _connection(url: str) -> Iterator[Any]:
    if _is_file(url):
        with closing(sqlite3.connect(_file(url))) as file:
            yield file
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET search_path = holdfast")
            yield connection


def _rows(url: str, connection: Any, sql: str, *values: Any) -> Rows:
    found: Rows = connection.execute(sql if _is_file(url) else sql.replace("?", "%s"), values).fetchall()
    return found


def _is_file(url: str) -> bool:
    return url.startswith("sqlite:")


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))
