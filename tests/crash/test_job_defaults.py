"""kill -9 while a run waits to be tried again, and while its hook runs: no try is lost or given, no hook left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast import RunFailed
from tests.crash.processes import Child, Journal, Runs, check_all, child, engine_on, read_log, recovered
from tests.graphs import until


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.touch()
    return path


def given(log: Path, **params: Any) -> Runs:
    return {"s": ("supervised", {"log": str(log), "failures": 1, "seconds": 0, **params})}


async def killed(running: Child) -> None:
    running.kill()
    await running.ended()


async def test_a_run_that_waits_to_be_tried_again_waits_on(url: str, log: Path) -> None:
    runs = given(log, failures=1)
    async with child(url, runs) as running, engine_on(url, workers=False) as client:
        await running.until("started")

        async def waits() -> bool:
            return "RunResumed" in Journal("s", await client.journal("s")).kinds()

        await until(waits)
        await killed(running)
    result = await recovered(url, runs)
    journal = (await check_all(url, log))["s"]
    (resumed,) = journal.of("RunResumed")
    (failed,) = journal.of("StepFailed")
    assert resumed["due"] - failed["at"] == 1_200_000
    (completed,) = [fact for fact in journal.of("StepCompleted") if fact["step"] == "fail#1"]
    assert completed["started"] >= resumed["due"]
    assert result == {"s": {"attempt": completed["attempt"]}}
    assert [fact["name"] for fact in journal.of("StepScheduled")][-1] == "run:on_success"


@pytest.mark.parametrize("failures", [0, 9], ids=["on_success", "on_failure"])
async def test_a_hook_whose_worker_is_killed_runs_again_and_is_in_the_record_once(
    url: str, log: Path, failures: int
) -> None:
    runs = given(log, failures=failures, seconds=1)
    hook = "run:on_failure#1" if failures else "run:on_success#1"
    async with child(url, runs) as running:
        await until(lambda: any(step == hook for _, step, _ in read_log(log)))
        await killed(running)
    if failures:
        with pytest.raises(RunFailed, match="attempt 3 fails"):
            await recovered(url, runs)
    else:
        assert await recovered(url, runs) == {"s": {"attempt": 1}}
    journal = (await check_all(url, log))["s"]
    assert journal.lost == [hook]
    (completed,) = [fact for fact in journal.of("StepCompleted") if fact["step"] == hook]
    assert (completed["attempt"], completed["data"]) == (2, "RunFailed" if failures else "dict")
    assert len(journal.of("RunResumed")) == (2 if failures else 0)
