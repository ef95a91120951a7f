"""One-step runs, or bare jobs, on every engine that has a queue, behind one interface."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, cast

from bench.board import Board

ENGINES = ("holdfast", "dbos", "procrastinate", "pgqueuer")
DURABLE_ENGINES = ("holdfast", "dbos")
TASKS = ("work", "begin", "take_up")
STEPS = 3

Enqueue = Callable[[int], Awaitable[object]]


class QueueEngine(Protocol):
    """A module of this package. A job is a number; when its code starts, it marks the board."""

    UNENDED: str
    """The query that counts the jobs that have not ended well."""

    async def fill(self, url: str, jobs: range) -> None:
        """Make the schema, and enqueue the jobs in the quickest way that the engine has. Not timed."""

    def client(self, url: str) -> AbstractAsyncContextManager[Enqueue]:
        """Yield what enqueues one job, as a web server would; the schema is there."""

    async def work(self, url: str, board: Board) -> None:
        """Take jobs until the process is killed."""


class DurableEngine(QueueEngine, Protocol):
    """An engine whose runs have steps. Run r of n marks r, n + r and 2n + r as its three steps start."""

    async def begin(self, url: str, board: Board) -> None:
        """Start the runs; their second steps never end. Until the process is killed."""

    async def take_up(self, url: str, board: Board) -> None:
        """Go on with what was begun, with second steps that end. Until the process is killed."""


def load(name: str) -> QueueEngine:
    return cast("QueueEngine", importlib.import_module(f"bench.engines.{name}"))
