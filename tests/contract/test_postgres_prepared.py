"""Prepared statements: used where the session keeps them, and done without where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from holdfast.store.postgres.link import Link, Statement
from holdfast.store.postgres.wire import number, rows

TWICE = Statement(b"SELECT 2 * $1", (number(21),), b"holdfast_twice")
KEPT = Statement(b"SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'holdfast%'")


@pytest.fixture
async def link(bare_postgres_url: str) -> AsyncIterator[Link]:
    link = await Link.open(bare_postgres_url)
    yield link
    link.close()


async def value(link: Link, *statements: Statement) -> Any:
    """The value that the last of the statements returns."""
    return rows((await link.send(*statements))[-1])[0][0]


async def test_a_statement_with_a_name_is_prepared_once(link: Link) -> None:
    assert [await value(link, TWICE) for _ in range(3)] == [42, 42, 42]
    assert await value(link, KEPT) == 1


async def test_batches_under_way_go_on_when_the_session_forgot_its_statements(link: Link) -> None:
    await link.send(TWICE)
    await link.send(Statement(b"DEALLOCATE ALL"))
    assert await asyncio.gather(*(value(link, TWICE) for _ in range(3))) == [42, 42, 42]
    assert await value(link, KEPT) == 0


async def test_nothing_of_a_batch_is_written_before_it_goes_out_again(link: Link) -> None:
    await link.send(TWICE, Statement(b"CREATE TABLE told (n bigint)"))
    await link.send(Statement(b"DEALLOCATE ALL"))
    await link.send(Statement(b"INSERT INTO told VALUES (1)"), TWICE)
    assert await value(link, Statement(b"SELECT count(*) FROM told")) == 1


async def test_a_name_that_is_taken_is_no_obstacle(link: Link) -> None:
    await link.send(Statement(b"PREPARE holdfast_twice AS SELECT 2 * $1::bigint"))
    assert await value(link, TWICE) == 42


async def test_another_error_is_told(link: Link) -> None:
    wrong = Statement(b"SELECT 1 / $1", (number(0),), b"holdfast_wrong")
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await link.send(wrong)
    assert await value(link, TWICE) == 42
