"""What a statement touches does not grow with the runs that wait, are delayed, are ready, or have ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

LONG = bool(os.environ.get("HOLDFAST_TEST_LONG"))
FEW, MANY = 1_000, 1_000_000 if LONG else 30_000

FILL = """
INSERT INTO holdfast.workflow_runs
SELECT kind || n, 'order', '', '', status, 'default', 0, '[]', '{}', '[]', '', 1, 1, '', '[]', NULL, NULL, 1, n,
    0, 0, 0
FROM generate_series(%(begin)s::int, %(end)s::int) AS n,
    (VALUES ('ready', 'pending'), ('waits', 'waiting'), ('ended', 'completed'), ('later', 'pending'))
        AS k (kind, status);
INSERT INTO holdfast.journal (run, position, count, at, epoch, commit_id, worker, facts)
SELECT id, 1, 1, 0, 1, '', 'w', '[]' FROM holdfast.workflow_runs WHERE created_at BETWEEN %(begin)s AND %(end)s;
INSERT INTO holdfast.inbox (run, key, due, at)
SELECT id, 'due', 4000000000000000 + created_at, 0 FROM holdfast.workflow_runs
WHERE created_at BETWEEN %(begin)s AND %(end)s AND id LIKE 'later%%';
INSERT INTO holdfast.jobs (run, queue, workflow, priority, worker)
SELECT id, 'default', 'order', 0, CASE WHEN id LIKE 'waits%%' THEN 'other' ELSE '' END FROM holdfast.workflow_runs
WHERE created_at BETWEEN %(begin)s AND %(end)s AND (id LIKE 'ready%%' OR id LIKE 'waits%%');
"""

ASKED = {
    "claim": "SELECT * FROM holdfast.claim('w', '{default,gpu}', '{order,order}', 10, 0, 1, 1)",
    "claim suspects": "SELECT * FROM holdfast.claim('w', '{gpu}', '{order}', 10, 2, 99, 1)",
    "claim_run": "SELECT * FROM holdfast.claim_run('w', 'waits7', 1)",
    "move_due": "SELECT holdfast.move_due(1, 1000)",
    "next_due": "SELECT min(due) FROM holdfast.inbox WHERE due > 0",
    "woken": "SELECT run FROM holdfast.jobs AS j WHERE worker = 'w' AND worker <> ''"
    " AND EXISTS (SELECT 1 FROM holdfast.inbox AS i WHERE i.run = j.run AND i.due <= 1 OFFSET 0)",
    "deliver": "SELECT * FROM holdfast.deliver('{waits7}', '{k}', '{null}', '{\",waiting,\"}', "
    "'{\",waiting,\"}', '{0}', 1)",
    "advance": "SELECT * FROM holdfast.advance(1, '{waits7,waits8}', '{1,1}', '{1,1}', '{1,1}', '{a,b}', '{1,1}',"
    " '{w,w}', '{\"[]\",\"[]\"}', '{NULL,NULL}', '{\"[]\",\"[]\"}', '{NULL,NULL}', '{NULL,NULL}', 1)",
    "reclaim": "SELECT * FROM holdfast.reclaim('{nobody}', 0, 1)",
    "after": "SELECT * FROM holdfast.journal WHERE (era, tx, seq) > (0, '0', 0) ORDER BY era, tx, seq LIMIT 100",
}  # fmt: skip


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def touched(connection: psycopg.Connection[tuple[Any, ...]], sql: str) -> int:
    """How many pages a statement reads, once its plans are made."""
    pages = 0
    for _ in range(2):
        with connection.transaction(force_rollback=True):
            ((plan,),) = connection.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}".encode()
            ).fetchall()
            pages = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
    return pages


def test_pages_do_not_grow_with_runs(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    def fill(begin: int, end: int) -> None:
        for statement in FILL.split(";\n")[:-1]:
            connection.execute(statement.encode(), {"begin": begin, "end": end})

    fill(1, FEW)
    before = {name: touched(connection, sql) for name, sql in ASKED.items()}
    fill(FEW + 1, MANY)
    after = {name: touched(connection, sql) for name, sql in ASKED.items()}
    connection.execute("ANALYZE")
    analyzed = {name: touched(connection, sql) for name, sql in ASKED.items()}
    for now in (after, analyzed):
        grown = {name: (before[name], now[name]) for name in ASKED if now[name] > 2 * before[name] + 20}
        assert grown == {}
