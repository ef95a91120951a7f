"""The SQL files: well numbered, well named, and every statement finds its rows by an index."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.store.migrate import load_migrations
from holdfast.store.sql import load_queries
from holdfast.store.sqlite.connection import MEMORY, prepare
from holdfast.store.sqlite.queries import SQL

WHOLE_TABLES = {
    "cache_clear",  # forgets everything unless filtered, some rows at a time
    "cache_list",  # lists everything unless filtered
    "leaving_next",  # is empty, but while a large run is deleted
    "limits_select",  # a row for each guard
    "journal_broken",  # a check reads everything
    "run_count",  # counts everything unless filtered
    "run_list",  # is sorted and limited by what is appended
    "worker_select",  # lists everything
}


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = prepare(MEMORY, lambda: 0)
    yield connection
    connection.close()


@pytest.mark.parametrize("name", SQL)
def test_a_statement_finds_its_rows_by_an_index(database: sqlite3.Connection, name: str) -> None:
    plan = [
        row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", [None] * parameters(SQL[name]))
    ]
    scans = [step for step in plan if re.match(r"SCAN (?!CONSTANT|family|json_each)", step)]
    assert bool(scans) == (name in WHOLE_TABLES)


def test_the_status_alone_touches_no_index(database: sqlite3.Connection) -> None:
    """The UPDATE of most commits must not set a column that an index holds."""
    written = set(re.findall(r"(\w+) = ", SQL["run_advance"].partition("WHERE")[0]))
    indexed = {
        row[2]
        for (index,) in database.execute(
            "SELECT name FROM sqlite_master WHERE tbl_name = 'workflow_runs' AND type = 'index'"
        )
        for row in database.execute(f"PRAGMA index_info({index})")
    }
    assert "status" in indexed
    assert written & indexed == set()


def test_all_that_belongs_to_a_run_goes_with_it(database: sqlite3.Connection) -> None:
    owned = {"journal", "checkpoints", "payloads", "inbox", "jobs", "run_tags"}
    for table in owned:
        ((_, _, parent, column, _, _, on_delete, _),) = database.execute(
            f"PRAGMA foreign_key_list({table})"
        ).fetchall()
        assert (parent, column, on_delete) == ("workflow_runs", "run", "CASCADE")


def test_statements_have_names_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "some.sql"
    file.write_text("-- text\n-- a_one: it\nSELECT 1;\n\n-- b: that\n-- more\nSELECT\n2\n")
    assert load_queries(file) == {"a_one": "SELECT 1", "b": "-- more\nSELECT\n2"}
    file.write_text("-- a: it\nSELECT 1\n-- a: it\nSELECT 2\n")
    with pytest.raises(ValueError, match="two statements"):
        load_queries(file)


def test_migrations_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text("-- min_code: 1\nSELECT 1;\n")
    (tmp_path / "notes.txt").write_text("not one")
    (tmp_path / "0003_third.sql").write_text("-- min_code: 2\nSELECT 1;\n")
    with pytest.raises(ValueError, match="not numbered"):
        load_migrations(tmp_path)
    (tmp_path / "0002_second.sql").write_text("SELECT 1;\n")
    with pytest.raises(ValueError, match="min_code"):
        load_migrations(tmp_path)
    (tmp_path / "0002_second.sql").write_text("-- min_code: 1\nSELECT 1;\n")
    assert [(each.version, each.min_code) for each in load_migrations(tmp_path)] == [(1, 1), (2, 1), (3, 2)]


def parameters(statement: str) -> int:
    """How many values a statement takes."""
    numbered = [int(number) for number in re.findall(r"\?(\d+)", statement)]
    return max(numbered) if numbered else statement.count("?")
