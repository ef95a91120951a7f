"""What tests of the engine need: a store and a registry of their own, and engines that close themselves."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import Engine, blocking
from holdfast.registry import Registry

pytest_plugins = ["tests.servers.fixtures"]

OpenEngine = Callable[..., Awaitable[Engine]]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A suite that runs in the background ignores Ctrl-C, and its child processes would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def no_embedded_engine_is_left() -> Iterator[None]:
    """Close the engine of `graph.execute` after each file: while it waits it draws random numbers, which are judged."""
    yield
    while blocking._embedded:
        blocking.portal.call(blocking._embedded.pop()._of.close)


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture(params=["file_url", "postgres_url"], ids=["file", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store that processes can share, of each kind in turn."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def registry() -> Registry:
    """A registry that knows nothing."""
    return Registry()


@pytest.fixture
async def open_engine(registry: Registry) -> AsyncIterator[OpenEngine]:
    """Gives a function that opens an engine, quiet and with the test's registry; all are closed in the end."""
    opened: list[Engine] = []

    async def open_(url: str, **options: Any) -> Engine:
        engine = Engine(url, **{"observers": (), "registry": registry, **options})
        opened.append(engine)
        return await engine.open()

    yield open_
    for engine in reversed(opened):
        await engine.close(grace=0)


@pytest.fixture
def memory_url() -> str:
    """The URL of a store that ends with its engine."""
    return "sqlite:///:memory:"


@pytest.fixture(params=["file_url", "memory_url", "postgres_url"], ids=["file", "memory", "postgres"])
def any_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store, of each kind in turn."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
async def engine(any_url: str, open_engine: OpenEngine) -> Engine:
    """An open engine with workers, on each kind of store in turn."""
    return await open_engine(any_url)
