"""The passes of a W(10) cell, the same for every engine.

One is timed, one has its commits counted, and one has its statements counted on the wire: one run at a time on
PostgreSQL, over an engine opened for it. A cell gives a context manager that opens its engine on a URL (empty: on a
file) and yields what executes one run.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager

from bench import observe, server
from bench.measure import COUNTED_RUNS, NODES, AsyncExecute, Execute, Load, Probe, wave
from bench.wire import Wire

Opened = Callable[[str], AbstractAsyncContextManager[AsyncExecute]]
OpenedThreads = Callable[[str], AbstractContextManager[Execute]]


class Passes:
    """`path` is the file for engines that are given no URL."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.probe = Probe()
        self.path = arguments.directory / "bench.db"
        self._url = arguments.url
        self._concurrency = arguments.concurrency
        self._load = Load(self.probe, arguments.concurrency, arguments.seconds)

    async def timed(self, opened: Opened) -> dict[str, float]:
        async with opened(self._url) as execute:
            return (await self._load.measure(execute)).metrics()

    async def measure(self, opened: Opened) -> dict[str, float]:
        async with opened(self._url) as execute:
            metrics = (await self._load.measure(execute)).metrics() | await self._count_commits(execute)
        if self._listens:
            with Wire(self._url) as wire:
                async with opened(wire.url) as execute:
                    metrics |= await self._count_statements(wire, execute)
        return metrics

    def measure_threads(self, opened: OpenedThreads) -> dict[str, float]:
        """The same for an engine whose API is synchronous."""
        with opened(self._url) as execute:
            metrics = self._load.measure_threads(execute).metrics()
            metrics |= asyncio.run(self._count_commits(_in_thread(execute)))
        if self._listens:
            with Wire(self._url) as wire, opened(wire.url) as execute:
                metrics |= asyncio.run(self._count_statements(wire, _in_thread(execute)))
        return metrics

    @property
    def _listens(self) -> bool:
        return bool(self._url) and self._concurrency == 1

    async def _count_commits(self, execute: AsyncExecute) -> dict[str, float]:
        transactions = server.Transactions(self._url) if self._url else observe.Transactions(self.path)
        if self._concurrency > 1:
            await wave(execute, self.probe.new_runs(self._concurrency))
            return {"commits_per_step": transactions.count() / (self._concurrency * NODES)}
        commits: list[int] = []
        for run in self.probe.new_runs(COUNTED_RUNS):
            before = transactions.count()
            await execute(run)
            commits.append(transactions.count() - before)
        # The median: housekeeping may commit in between, the run's own commits are alike.
        per_run = statistics.median(commits)
        return {"commits_per_step": per_run / NODES, "commits_per_run": per_run}

    async def _count_statements(self, wire: Wire, execute: AsyncExecute) -> dict[str, float]:
        await wave(execute, self.probe.new_runs(1))  # connects and prepares
        before = wire.read()
        for run in self.probe.new_runs(COUNTED_RUNS):
            await execute(run)
        return wire.read().since(before).per(COUNTED_RUNS * NODES)


def _in_thread(execute: Execute) -> AsyncExecute:
    return lambda run: asyncio.to_thread(execute, run)
