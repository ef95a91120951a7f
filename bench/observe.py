"""What an engine writes to its SQLite file, seen from outside the engine.

Transactions: in WAL mode, a reader that stays open keeps the log from being restarted, so every commit since
then is a frame with a commit mark in the `-wal` file. (A log that was already copied back may restart once,
right after; the new salts show it.) With a rollback journal, the change counter of the file header counts.
Row data: triggers add up the length of every row inserted or updated. For passes that are not timed.
"""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path
from typing import NamedTuple

WAL_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
CHANGE_COUNTER_OFFSET = 24


class _Log(NamedTuple):
    salts: bytes
    commits: int
    frames: int
    frame_bytes: int


class Transactions:
    """Counts committed transactions and the bytes they wrote to the log, from its making on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = sqlite3.connect(path, isolation_level=None)
        self._wal = self._reader.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        if self._wal:
            self._reader.execute("BEGIN")
            self._reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
            self._begin = _read_log(path)
        else:
            self._begin_counter = _change_counter(path)

    def count(self) -> int:
        if not self._wal:
            return _change_counter(self._path) - self._begin_counter
        now = _read_log(self._path)
        return now.commits - (self._begin.commits if now.salts == self._begin.salts else 0)

    def log_bytes(self) -> int:
        """Bytes of log frames written: whole pages, so far more than the rows in them. 0 without WAL."""
        if not self._wal:
            return 0
        now = _read_log(self._path)
        frames = now.frames - (self._begin.frames if now.salts == self._begin.salts else 0)
        return frames * now.frame_bytes

    def close(self) -> None:
        self._reader.close()


def _read_log(path: Path) -> _Log:
    wal = path.with_name(path.name + "-wal")
    content = wal.read_bytes() if wal.exists() else b""
    if len(content) < WAL_HEADER_BYTES:
        return _Log(b"", 0, 0, 0)
    page_bytes: int = struct.unpack_from(">I", content, 8)[0]
    frame_bytes = FRAME_HEADER_BYTES + page_bytes
    salts = content[16:24]
    commits = frames_committed = 0
    offsets = range(WAL_HEADER_BYTES, len(content) - frame_bytes + 1, frame_bytes)
    for frames, offset in enumerate(offsets, start=1):
        if content[offset + 8 : offset + 16] != salts:
            break  # left over from before the log's last restart
        if content[offset + 4 : offset + 8] != b"\0\0\0\0":
            commits += 1
            frames_committed = frames
    return _Log(salts, commits, frames_committed, frame_bytes)


def _change_counter(path: Path) -> int:
    with path.open("rb") as file:
        file.seek(CHANGE_COUNTER_OFFSET)
        counter: int = struct.unpack(">I", file.read(4))[0]
    return counter


class RowData:
    """Adds up the bytes of all rows written to a file from its making on: column values, numbers as text."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        tables = self._connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
            "AND sql NOT LIKE 'CREATE VIRTUAL%'"
        ).fetchall()
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(
            "CREATE TABLE bench_row_data (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL)"
        )
        for (table,) in tables:
            self._watch(table)
        self._connection.execute("COMMIT")

    def _watch(self, table: str) -> None:
        columns = [row[1] for row in self._connection.execute(f'PRAGMA table_info("{table}")')]
        size = " + ".join(f'coalesce(length(CAST(new."{column}" AS BLOB)), 0)' for column in columns)
        self._connection.execute("INSERT INTO bench_row_data VALUES (?, 0)", (table,))
        for action in ("INSERT", "UPDATE"):
            self._connection.execute(
                f'CREATE TRIGGER "bench_{action}_{table}" AFTER {action} ON "{table}" BEGIN '  # noqa: S608 -- its own names
                f"UPDATE bench_row_data SET bytes = bytes + {size} WHERE name = '{table}'; END"
            )

    def by_table(self) -> dict[str, int]:
        return dict(self._connection.execute("SELECT name, bytes FROM bench_row_data WHERE bytes > 0"))

    def total(self) -> int:
        return sum(self.by_table().values())

    def close(self) -> None:
        self._connection.close()
