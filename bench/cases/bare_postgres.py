"""The bare PostgreSQL: rows of about 200 bytes, inserted and committed one by one or in groups of 100.

It is the physical limit beside which the engines stand: one connection of psycopg 3, as Holdfast uses it, a
prepared statement that commits by itself (one round trip), no engine.
"""

from __future__ import annotations

import json
import time
from typing import Any

import psycopg

from bench.measure import Window, case_parser, emit, initial_state
from bench.server import connect

GROUP_ROWS = 100
WARM_UP_SECONDS = 0.2
SCHEMA = "CREATE TABLE journal (run bigint, position bigint, body bytea, PRIMARY KEY (run, position))"
SINGLE = "INSERT INTO journal VALUES (%b, %b, %b)"
GROUPED = "INSERT INTO journal SELECT * FROM unnest(%b::bigint[], %b::bigint[], %b::bytea[])"


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--mode", choices=["single", "grouped"], required=True)
    arguments = parser.parse_args()
    rows_per_commit = 1 if arguments.mode == "single" else GROUP_ROWS
    with connect(arguments.url) as connection:
        window = measure(connection, rows_per_commit, arguments.seconds)
    emit(window.metrics() | {"commits_per_step": 1 / rows_per_commit})


def measure(connection: psycopg.Connection[Any], rows_per_commit: int, seconds: float) -> Window:
    connection.execute(SCHEMA)
    insert(connection, 0, rows_per_commit, WARM_UP_SECONDS)
    return insert(connection, 1, rows_per_commit, seconds)


def insert(connection: psycopg.Connection[Any], run: int, rows_per_commit: int, seconds: float) -> Window:
    body = json.dumps(initial_state(0)).encode()
    latencies: list[float] = []
    position = 0
    begun, cpu = time.perf_counter(), time.process_time()
    while (started := time.perf_counter()) - begun < seconds:
        if rows_per_commit == 1:
            connection.execute(SINGLE, (run, position, body), prepare=True)
        else:
            columns = zip(*[(run, position + index, body) for index in range(rows_per_commit)], strict=True)
            connection.execute(GROUPED, [list(column) for column in columns], prepare=True)
        latencies.append(time.perf_counter() - started)
        position += rows_per_commit
    return Window(position, started - begun, time.process_time() - cpu, latencies)


if __name__ == "__main__":
    main()
