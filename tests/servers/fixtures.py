"""Fixtures that give a PostgreSQL, for every test of the suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import model, postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server where databases may be made."""
    with postgres.server() as url:
        postgres.drop_leftovers(url)
        yield url


@pytest.fixture(scope="session")
def emptied_postgres(postgres_server: str) -> Iterator[postgres.Emptied]:
    """This process's database."""
    with postgres.database(postgres_server) as url:
        emptied = postgres.Emptied(url)
        yield emptied
        emptied.close()


@pytest.fixture
def postgres_url(emptied_postgres: postgres.Emptied) -> str:
    """The URL of an empty PostgreSQL store: the schema is there, and no row."""
    return emptied_postgres.empty()


@pytest.fixture
def bare_postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a new database without the schema."""
    with postgres.database(postgres_server) as url:
        yield url


@pytest.fixture
def model_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[model.ModelServer]:
    """A server that speaks the chat protocol of models, asked without the machine's proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with model.serving(model.ModelServer()) as running:
        yield running
