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
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop it where it is, until `thaw`."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self.alive:
            self._process.send_signal(number)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

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
    """Wait for a run's result, and let it go on as often as somebody or something has stopped it.

    Three kills from outside look as if the run was to blame.
    """
    row = await engine.get(run)

    async def settled() -> bool:
        await row.refresh()
        return row.status is RunStatus.PAUSED or row.completed_at is not None

    while True:
        await until(settled)
        if row.status not in (RunStatus.PAUSED, RunStatus.CANCELLED):
            return await engine.result(run)
        assert row.error is None or row.error.code == "poison"
        await engine.resume(run)


ENDS = ("RunCompleted", "RunFailed", "RunCancelled")


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

        Positions have no gap; the run began once and has ended; a step ends once unless a resume opens it again, and
        none is open at an end; attempts rise by one; what is completed began, and no attempt began twice.
        """
        assert [fact["position"] for fact in self.facts] == list(range(1, len(self.facts) + 1))
        kinds = self.kinds()
        assert kinds.index("RunStarted") == 0
        assert kinds.count("RunStarted") == 1
        assert kinds[-1] in ENDS
        attempts: dict[str, int] = {}
        opened: set[str] = set()
        for before, fact in zip([None, *kinds], self.facts, strict=False):
            assert before not in ENDS or fact["fact"] == "RunResumed", "nothing follows an end but a resume"
            self._follow(fact, attempts, opened, begun)
        for (run, step, attempt), times in begun.items():
            if run == self.run:
                assert times == 1, f"attempt {attempt} of {step} began {times} times"
                assert attempt <= attempts[step]

    def _follow(
        self,
        fact: dict[str, Any],
        attempts: dict[str, int],
        opened: set[str],
        begun: Counter[tuple[str, str, int]],
    ) -> None:
        step = fact.get("step", "")
        match fact["fact"]:
            case "StepScheduled":
                assert step not in attempts, f"{step} was scheduled twice"
                attempts[step] = 1
                opened.add(step)
            case "StepRetried":
                assert step in opened
                attempts[step] += 1
                assert fact["attempt"] == attempts[step]
            case "StepCompleted" | "StepFailed" | "StepCancelled":
                assert step in opened, f"{step} ended twice"
                assert fact["attempt"] == attempts[step]
                opened.remove(step)
                if fact["fact"] == "StepCompleted" and step != "START#1":
                    assert begun[self.run, step, fact["attempt"]] == 1
            case "RunResumed":
                for name, attempt in fact.get("reopened", ()):
                    attempts[name] += 1
                    assert attempt == attempts[name]
                    opened.add(name)
            case "RunCompleted" | "RunFailed" | "RunCancelled":
                assert opened == set(), "a step is open at the end"


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
        runs = [run async for run in await engine.runs(limit=1000)]
        for run, facts in zip(runs, await asyncio.gather(*(run.journal() for run in runs)), strict=True):
            checked[run.id] = Journal(run.id, facts)
            checked[run.id].check(begun)
    return checked
