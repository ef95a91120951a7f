"""A run killed with SIGKILL at any moment and taken up in a new process ends as one that nobody disturbed."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from tests.crash.processes import KILLED, Runs, check_all, child, engine_on, recovered, run_child
from tests.crash.workflows import WIDE_RESULT
from tests.graphs import LONG

COMMITS = 18
"""At least as many as an undisturbed run of `wide` takes; kills at later ones just do not happen."""


def wide_runs(log: Path, count: int = 1) -> Runs:
    return {f"wide-{n}": ("wide", {"log": str(log), "size": 3}) for n in range(count)}


def undisturbed(log: Path, runs: Runs) -> dict[str, Any]:
    return {run: {**WIDE_RESULT, "log": str(log)} for run in runs}


async def test_undisturbed(url: str, log: Path) -> None:
    runs = wide_runs(log)
    assert await run_child(url, runs) == 0
    assert await recovered(url, runs) == undisturbed(log, runs)
    (journal,) = (await check_all(url, log)).values()
    assert journal.lost == []
    async with engine_on(url, workers=False) as engine:
        commits = len(await engine.store.journal("wide-0"))
    # Otherwise the kills below would miss the last ones.
    assert 10 < commits <= COMMITS


@pytest.mark.parametrize("n", range(1, COMMITS + 1))
@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_the_nth_commit(url: str, log: Path, when: str, n: int) -> None:
    runs = wide_runs(log)
    code = await run_child(url, runs, "--kill", when, "commit", n)
    assert code in (KILLED, 0)
    assert await recovered(url, runs) == undisturbed(log, runs)
    await check_all(url, log)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["enlist", "claim", "release", "reclaim", "deliver", "move_due"])
async def test_killed_at_the_first_write_of_each_other_kind(
    url: str, log: Path, verb: str, when: str
) -> None:
    runs = wide_runs(log, 3)
    # Two slots for three runs: one must be claimed. The first kill leaves something to reclaim.
    await run_child(url, runs, "--kill", "after", "commit", 7, "--slots", 2)
    code = await run_child(url, runs, "--kill", when, verb, 1, "--slots", 2)
    assert code in (KILLED, 0)
    assert await recovered(url, runs) == undisturbed(log, runs)
    await check_all(url, log)


@pytest.mark.parametrize("seed", range(40 if LONG else 3))
async def test_killed_at_random_moments(url: str, log: Path, seed: int) -> None:
    chance = random.Random(seed)
    runs = wide_runs(log, 8)
    for _ in range(chance.randint(2, 4)):
        async with child(url, runs) as running:
            await running.until("open")
            # The moment of the kill is what is tried; nothing is waited for.
            await asyncio.sleep(chance.uniform(0, 0.15))
    assert await recovered(url, runs) == undisturbed(log, runs)
    await check_all(url, log)


@pytest.mark.parametrize(("first", "second"), [(3, 1), (5, 4), (8, 2)])
async def test_killed_twice_in_a_row(url: str, log: Path, first: int, second: int) -> None:
    runs = wide_runs(log)
    assert await run_child(url, runs, "--kill", "after", "commit", first) == KILLED
    assert await run_child(url, runs, "--kill", "before", "commit", second) == KILLED
    assert await recovered(url, runs) == undisturbed(log, runs)
    (journal,) = (await check_all(url, log)).values()
    assert journal.lost


@pytest.mark.parametrize("n", [2, 5, 8])
async def test_killed_while_another_process_takes_over_at_once(url: str, log: Path, n: int) -> None:
    runs = wide_runs(log, 2)
    async with engine_on(url) as engine:
        assert await run_child(url, runs, "--kill", "after", "commit", n) == KILLED
        for run, (workflow, params) in runs.items():
            await engine.start(workflow, params, id=run)
        results = {run: await engine.result(run, timeout=10) for run in runs}
    assert results == undisturbed(log, runs)
    await check_all(url, log)


async def test_two_processes_share_the_work_and_one_dies(url: str, log: Path) -> None:
    runs = {f"slow-{n}": ("slow", {"log": str(log), "seconds": 0.1}) for n in range(12)}
    async with child(url, runs, "--slots", 3) as first, child(url, None, "--slots", 3) as second:
        await first.until("started")
        await second.until("started")
        first.kill()
        assert await second.ended() == 0
    results = await recovered(url, runs)
    assert results == {run: {"done": ["one", "two", "three"]} for run in runs}
    await check_all(url, log)


async def test_a_lost_attempt_is_recorded_with_its_reason(url: str, log: Path) -> None:
    runs: Runs = {"slow": ("slow", {"log": str(log), "seconds": 0.2})}
    async with child(url, runs) as running:
        await running.until("started")
        async with asyncio.timeout(10):
            while not log.read_text():
                await asyncio.sleep(0.005)
    assert await recovered(url, runs) == {"slow": {"done": ["one", "two", "three"]}}
    journal = (await check_all(url, log))["slow"]
    assert journal.lost == ["one#1"]
    async with engine_on(url, workers=False) as engine:
        first, *rest = await engine.stages("slow")
    assert [(one.number, one.status, one.reason) for one in first.attempts] == [
        (1, "failed", "worker lost"),
        (2, "completed", ""),
    ]
    assert [stage.attempt for stage in rest] == [1, 1]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", range(1, 80) if LONG else [5, 9])
async def test_killed_at_any_write(url: str, log: Path, when: str, n: int) -> None:
    runs = wide_runs(log, 2)
    code = await run_child(url, runs, "--kill", when, "any", n)
    assert code in (KILLED, 0)
    assert await recovered(url, runs) == undisturbed(log, runs)
    await check_all(url, log)
