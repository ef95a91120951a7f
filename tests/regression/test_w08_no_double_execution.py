"""W8: two resumes at once both ran the run, and nothing kept a process that had lost it from writing.

A resume answers one position, a holder writes under its epoch: one of two wins, and who lost a run cannot write to it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from holdfast import Engine, RunStatus, State, StepContext
from holdfast.registry import Registry, as_workflow
from tests.conftest import OpenEngine
from tests.crash.processes import Journal, child, engine_on, read_log
from tests.elsewhere import elsewhere
from tests.graphs import PATIENCE, sequence, until


async def resume(url: str, times: int) -> None:
    async with Engine(url, workers=False, observers=()) as engine:
        await asyncio.gather(*[engine.resume("w08") for _ in range(times)])


async def test_resumes_from_many_processes_are_one(url: str, open_engine: OpenEngine) -> None:
    calls: list[int] = []

    def node(state: State, step: StepContext) -> dict[str, int]:
        calls.append(step.attempt)
        if step.attempt == 1:
            raise ConnectionError
        return {"n": 1}

    registry = Registry()
    registry.add(as_workflow(sequence("w08", node=node)))
    engine = await open_engine(url, registry=registry)
    await (await engine.start("w08", id="w08")).wait()
    await engine.close()
    await asyncio.gather(*[elsewhere(resume, url, 5) for _ in range(3)])
    engine = await open_engine(url, registry=registry)
    assert await engine.result("w08", timeout=PATIENCE) == {"n": 1}
    assert calls == [1, 2]
    run = await engine.get("w08")
    assert [fact["fact"] for fact in await run.journal()].count("RunResumed") == 1
    assert run.error is None
    assert run.started_at is not None
    assert run.started_at < (run.completed_at or run.started_at)


async def test_a_process_that_was_asleep_and_lost_its_run_cannot_write_to_it(
    url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.touch()
    runs = {"w08": ("slow", {"log": str(log), "seconds": 0.3})}
    async with child(url, runs, "--stay") as sleeper:
        await until(lambda: bool(log.read_text()))
        os.kill(sleeper.pid, signal.SIGSTOP)
        async with engine_on(url) as engine:
            (asleep,) = [worker.id for worker in await engine.store.workers() if worker.pid == sleeper.pid]
            # What the patrol does when the lease of thirty seconds is over.
            assert await engine.store.reclaim([asleep], "died") == ["w08"]
            os.kill(sleeper.pid, signal.SIGCONT)
            assert (await engine.wait("w08", timeout=PATIENCE)).status is RunStatus.COMPLETED
            await until(lambda: _steps_begun(log) == {"one#1", "two#1", "three#1"})
            journal = Journal("w08", await engine.journal("w08"))
        sleeper.terminate()
        assert await sleeper.ended() == 0
    journal.check(read_log(log))
    assert journal.lost == ["one#1"]


def _steps_begun(log: Path) -> set[str]:
    return {step for _, step, _ in read_log(log)}
