"""A process that dies amid a saga, also in the middle of a compensation: the next one takes back what is left."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from holdfast import RunStatus
from tests.crash.processes import KILLED, Runs, child, engine_on, run_child
from tests.graphs import PATIENCE, until

COMPENSATIONS = ["compensate:pack#1", "compensate:reserve#1", "compensate:charge#1"]
STEPS = ["charge#1", "reserve#1", "pack#1", "ship#1", *COMPENSATIONS]
EFFECTS = {f"s:{step}" for step in COMPENSATIONS}
COMMITS = 9
"""More than an undisturbed run takes: one to begin with, and one for each step and each compensation."""


def runs_of(folder: Path) -> Runs:
    params = {"log": str(folder / "began.log"), "effects": str(folder / "effects.log")}
    return {"s": ("undone", params)}


def begun(folder: Path) -> list[str]:
    log = folder / "began.log"
    return [line.split()[1] for line in log.read_text().splitlines()] if log.exists() else []


async def finished(url: str, runs: Runs, folder: Path) -> list[dict[str, Any]]:
    """Let an engine of this process bring the saga to its end; check what holds of it, and return its journal."""
    async with engine_on(url) as engine:
        workflow, params = runs["s"]
        await engine.start(workflow, params, id="s")
        run = await engine.wait("s", PATIENCE)
        assert run.status is RunStatus.FAILED
        assert run.error is not None
        assert (run.error.message, run.error.compensated) == ("no carrier", ("pack", "reserve", "charge"))
        journal = await run.journal()
        assert await engine.store.check() == []
    effects = [line.split() for line in (folder / "effects.log").read_text().splitlines()]
    assert {key for key, _ in effects} == EFFECTS, "each compensation has one key, whatever happened"
    assert {output for _, output in effects} == {"pack-done", "reserve-done", "charge-done"}
    ends = [fact["step"] for fact in journal if fact["fact"] == "StepCompleted"]
    assert ends == ["charge#1", "reserve#1", "pack#1", *COMPENSATIONS]
    return journal


@pytest.mark.parametrize("n", range(1, COMMITS + 1))
@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_the_nth_commit(url: str, tmp_path: Path, when: str, n: int) -> None:
    runs = runs_of(tmp_path)
    assert await run_child(url, runs, "--kill", when, "commit", n) in (KILLED, 0)
    before = Counter(begun(tmp_path))
    await finished(url, runs, tmp_path)
    times = Counter(begun(tmp_path))
    assert set(times) == set(STEPS)
    assert all(count <= 2 for count in times.values())
    assert sum(times.values()) <= len(STEPS) + 1, f"only what was running is run again: {times - before}"


async def test_killed_in_the_middle_of_a_compensation(url: str, tmp_path: Path) -> None:
    runs = runs_of(tmp_path)
    gate = tmp_path / "gate"
    workflow, params = runs["s"]
    runs = {"s": (workflow, {**params, "hangs_at": "compensate:reserve#1", "gate": str(gate)})}
    async with child(url, runs) as process:
        await until(lambda: "compensate:reserve#1" in begun(tmp_path))
        process.kill()
        await process.ended()
    gate.touch()
    journal = await finished(url, runs, tmp_path)
    lost = [fact for fact in journal if fact["fact"] == "StepRetried"]
    assert [(fact["step"], fact["reason"]) for fact in lost] == [("compensate:reserve#1", "worker lost")]
    assert Counter(begun(tmp_path))["compensate:reserve#1"] == 2
    assert Counter(begun(tmp_path))["compensate:pack#1"] == 1, "what is undone stays so"
