"""Starting, killing and judging: what crash tests share."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from holdfast import Engine, RunStatus
from holdfast.registry import Registry
from tests.crash.workflows import registered
from tests.graphs import PATIENCE, until
from tests.places import ROOT

KILLED = -signal.SIGKILL
Runs = Mapping[str, tuple[str, dict[str, Any]]]


class Child:
    """A process of `tests.crash.program`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def until(self, word: str) -> None:
        """Wait until the program says so; fails when it ends before."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while line := await self._process.stdout.readline():
                if line.decode().strip() == word:
                    return
        raise AssertionError(f"the program ended with {await self._process.wait()} and never said {word}")

    def kill(self) -> None:
        """Kill it at once, if it still runs."""
        if self._process.returncode is None:
            self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()

    async def ended(self) -> int:
        """Wait for its end and return its code."""
        async with asyncio.timeout(PATIENCE):
            # Its output is read to the end, lest it blocks; then its code is there.
            await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode


@asynccontextmanager
async def child(url: str, runs: Runs | None = None, *options: object) -> AsyncIterator[Child]:
    """Run the program; it is killed in the end if it is still there."""
    command = [
        sys.executable,
        "-m",
        "tests.crash.program",
        url,
        "--runs",
        json.dumps(runs or {}),
        *map(str, options),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    running = Child(process)
    try:
        yield running
    finally:
        running.kill()
        await running.ended()


async def run_child(url: str, runs: Runs | None = None, *options: object) -> int:
    """Run the program to its end, whatever that is, and return its code."""
    async with child(url, runs, *options) as running:
        return await running.ended()


def engine_on(url: str, **options: Any) -> Engine:
    """An engine of this process on the file, with the workflows of the one that died."""
    registry: Registry = registered()
    return Engine(url, **{"registry": registry, "observers": (), **options})


async def recovered(url: str, runs: Runs) -> dict[str, Any]:
    """Open an engine in this process, start what is not there, wait for all, and return the results."""
    async with engine_on(url) as engine, asyncio.timeout(PATIENCE):
        for run, (workflow, params) in runs.items():
            await engine.start(workflow, params, id=run)
        return {run: await _result(engine, run) for run in runs}


async def _result(engine: Engine, run: str) -> Any:
    """Wait for a run's result. Three kills from outside look as if the run was to blame; a person lets it go on."""
    row = await engine.get(run)

    async def settled() -> bool:
        await row.refresh()
        return row.status is RunStatus.PAUSED or row.completed_at is not None

    await until(settled)
    if row.status is RunStatus.PAUSED:
        assert row.error is not None
        assert row.error.code == "poison"
        await engine.resume(run)
    return await engine.result(run)


class Journal:
    """One run's facts, with what must hold of them whatever happened."""

    def __init__(self, run: str, facts: list[dict[str, Any]]) -> None:
        self.run = run
        self.facts = facts

    def kinds(self) -> list[str]:
        return [fact["fact"] for fact in self.facts]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fact for fact in self.facts if fact["fact"] == kind]

    @property
    def lost(self) -> list[str]:
        """The steps of which an attempt was lost with its worker."""
        return [fact["step"] for fact in self.of("StepRetried") if fact.get("reason") == "worker lost"]

    def check(self, begun: Counter[tuple[str, str, int]]) -> None:
        """Check that nothing was lost, repeated or torn.

        Positions have no gap; there is one beginning and one end; each step finished once, its attempts rising by
        one; each finished attempt began, and no attempt began twice.
        """
        assert [fact["position"] for fact in self.facts] == list(range(1, len(self.facts) + 1))
        kinds = self.kinds()
        assert kinds[0] == "RunStarted"
        assert kinds.count("RunStarted") == 1
        assert kinds[-1] == "RunCompleted"
        assert sum(kind in ("RunCompleted", "RunFailed", "RunCancelled") for kind in kinds) == 1
        finished: set[str] = set()
        attempts: dict[str, int] = {}
        for fact in self.facts:
            match fact["fact"]:
                case "StepScheduled":
                    assert fact["step"] not in attempts
                    attempts[fact["step"]] = 1
                case "StepRetried":
                    assert fact["step"] not in finished
                    attempts[fact["step"]] += 1
                    assert fact["attempt"] == attempts[fact["step"]]
                case "StepCompleted":
                    assert fact["step"] not in finished
                    finished.add(fact["step"])
                    assert fact["attempt"] == attempts[fact["step"]]
                    if fact["step"] != "START#1":
                        assert begun[self.run, fact["step"], fact["attempt"]] == 1
        assert finished == set(attempts)
        for (run, step, attempt), times in begun.items():
            if run == self.run:
                assert times == 1, f"attempt {attempt} of {step} began {times} times"
                assert attempt <= attempts[step]


def read_log(log: Path) -> Counter[tuple[str, str, int]]:
    """How often each attempt of each step began."""
    lines = log.read_text().split("\n")
    assert lines.pop() == "", "a line was torn"
    return Counter((run, step, int(attempt)) for run, step, attempt, _ in map(str.split, lines))


async def check_all(url: str, log: Path) -> dict[str, Journal]:
    """Check the database and every run's journal against the log; returns the journals."""
    begun = read_log(log)
    checked: dict[str, Journal] = defaultdict()
    async with engine_on(url, workers=False) as engine:
        assert await engine.store.check() == []
        for run in (await engine.runs(limit=1000)).items:
            checked[run.id] = Journal(run.id, await run.journal())
            checked[run.id].check(begun)
    return checked
