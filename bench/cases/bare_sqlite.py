"""The bare database: rows of about 200 bytes, inserted and committed one by one or in groups of 100.

It is the physical limit beside which the engines stand: WAL, `synchronous=FULL`, one connection, no engine.
"""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

from bench.measure import Window, case_parser, emit, initial_state

GROUP_ROWS = 100
SCHEMA = """
CREATE TABLE journal (
    run INTEGER, position INTEGER, body BLOB, PRIMARY KEY (run, position)
) WITHOUT ROWID
"""


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--mode", choices=["single", "grouped"], required=True)
    arguments = parser.parse_args()
    connection = open_database(arguments.directory / "bare.db")
    rows_per_commit = 1 if arguments.mode == "single" else GROUP_ROWS
    measure(connection, rows_per_commit, 0.2)
    emit(
        measure(connection, rows_per_commit, arguments.seconds).metrics()
        | {"commits_per_step": 1 / rows_per_commit}
    )


def open_database(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(SCHEMA)
    return connection


def measure(connection: sqlite3.Connection, rows_per_commit: int, seconds: float) -> Window:
    body = json.dumps(initial_state(0)).encode()
    (run,) = connection.execute("SELECT coalesce(max(run), 0) + 1 FROM journal").fetchone()
    latencies: list[float] = []
    position = 0
    begun, cpu = time.perf_counter(), time.process_time()
    while (started := time.perf_counter()) - begun < seconds:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO journal VALUES (?, ?, ?)",
            [(run, position + index, body) for index in range(rows_per_commit)],
        )
        connection.execute("COMMIT")
        latencies.append(time.perf_counter() - started)
        position += rows_per_commit
    return Window(position, started - begun, time.process_time() - cpu, latencies)


if __name__ == "__main__":
    main()
