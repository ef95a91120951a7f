"""How every engine is measured: the same work, the same clock, the same load.

The work is W(10): ten trivial nodes in sequence over about 200 bytes of JSON state, each changing two small
keys. The load is waves: `concurrency` runs are started together, the next wave when all have ended, until the
window has passed. Each node notes the clock when it starts; the latency of a step is the time from one node's
start to the next one's start in the same run, so it holds the commit and the scheduling, whoever does them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

NODES = 10
WARM_UP_RUNS = 5
COUNTED_RUNS = 10
PADDING = "Durable per node; what was committed is never lost, what was not is run again. " * 2

Change = dict[str, Any]
AsyncExecute = Callable[[int], Awaitable[object]]
Execute = Callable[[int], object]


def initial_state(run: int) -> Change:
    """The state a run begins with: about 200 bytes as JSON."""
    return {"run": run, "count": 0, "last": "", "text": PADDING[:145]}


class Probe:
    """The node starts of every run, from which latencies are read afterwards."""

    def __init__(self) -> None:
        self._starts: list[list[float]] = []

    def new_runs(self, count: int) -> range:
        first = len(self._starts)
        self._starts.extend([] for _ in range(count))
        return range(first, first + count)

    def mark(self, run: int) -> None:
        self._starts[run].append(time.perf_counter())

    def node(self, index: int) -> Callable[[Any], Change]:
        """The work of one node, the same for every engine: mark the start, change two small keys."""
        name = f"n{index}"

        def work(state: Any) -> Change:
            self.mark(state["run"])
            return {"count": state["count"] + 1, "last": name}

        return work

    def async_node(self, index: int) -> Callable[[Any], Awaitable[Change]]:
        work = self.node(index)

        async def async_work(state: Any) -> Change:
            return work(state)

        return async_work

    def latencies(self, runs: range) -> list[float]:
        """Seconds from each node's start to the next one's; raises when a node ran other than once."""
        found: list[float] = []
        for run in runs:
            starts = self._starts[run]
            if len(starts) != NODES:
                message = f"run {run} ran {len(starts)} nodes, not {NODES}"
                raise RuntimeError(message)
            found.extend(after - before for before, after in pairwise(starts))
        return found


@dataclass
class Window:
    """What one measured window gave."""

    steps: int
    seconds: float
    cpu_seconds: float
    latencies: list[float]

    def metrics(self) -> dict[str, float]:
        return {
            "steps": self.steps,
            "steps_per_second": self.steps / self.seconds,
            "p50_ms": 1000 * quantile(self.latencies, 0.50),
            "p99_ms": 1000 * quantile(self.latencies, 0.99),
            "cpu_us_per_step": 1e6 * self.cpu_seconds / self.steps,
        }


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Load:
    """Waves of runs against one engine; `execute` takes a run's number and returns when the run has ended."""

    def __init__(self, probe: Probe, concurrency: int, seconds: float) -> None:
        self._probe = probe
        self._concurrency = concurrency
        self._seconds = seconds

    async def measure(self, execute: AsyncExecute) -> Window:
        await wave(execute, self._probe.new_runs(min(WARM_UP_RUNS, self._concurrency)))
        gc.collect()
        begun, cpu = time.perf_counter(), time.process_time()
        first = last = self._probe.new_runs(0).start
        while (ended := time.perf_counter()) - begun < self._seconds:
            last = await wave(execute, self._probe.new_runs(self._concurrency))
        return self._window(range(first, last), ended - begun, time.process_time() - cpu)

    def measure_threads(self, execute: Execute) -> Window:
        """The same for an engine whose API is synchronous: one thread per concurrent run."""
        with ThreadPoolExecutor(self._concurrency) as pool:
            list(pool.map(execute, self._probe.new_runs(min(WARM_UP_RUNS, self._concurrency))))
            gc.collect()
            begun, cpu = time.perf_counter(), time.process_time()
            first = last = self._probe.new_runs(0).start
            while (ended := time.perf_counter()) - begun < self._seconds:
                runs = self._probe.new_runs(self._concurrency)
                list(pool.map(execute, runs))
                last = runs.stop
            return self._window(range(first, last), ended - begun, time.process_time() - cpu)

    def _window(self, runs: range, seconds: float, cpu_seconds: float) -> Window:
        return Window(NODES * len(runs), seconds, cpu_seconds, self._probe.latencies(runs))


async def wave(execute: AsyncExecute, runs: range) -> int:
    """Run them all at once; returns the number after the last."""
    await asyncio.gather(*(execute(run) for run in runs))
    return runs.stop


def median_seconds(times: Sequence[float]) -> float:
    return statistics.median(times)


def resident_mb() -> float:
    """This process's resident memory; the peak where the system does not tell the present."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def case_parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that every case takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--directory", type=Path, required=True, help="where files go")
    parser.add_argument("--url", default="", help="an empty PostgreSQL database, for the cells that use one")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--quick", action="store_true")
    return parser


def emit(metrics: dict[str, Any]) -> None:
    """The case's answer: one line of JSON, the last on standard output."""
    print(json.dumps(metrics), flush=True)
