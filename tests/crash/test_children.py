"""A process that dies amid graphs in graphs: the next one goes on with parents and children where they were."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from holdfast import RunStatus
from holdfast.store.rows import RunQuery
from tests.crash.processes import KILLED, Runs, engine_on, recovered, run_child

FAMILY = {"n", "n/left~1", "n/right~1", "n/right~1/deep~1"}
STEPS = {
    *(("n", "first#1"), ("n", "last#1"), ("n/left~1", "l1#1"), ("n/left~1", "l2#1")),
    *(("n/right~1", "r1#1"), ("n/right~1/deep~1", "dive#1"), ("n/right~1/deep~1", "rise#1")),
}
RESULT = {
    "trail": ["first", "l1", "l2", "r1", "dive", "rise", "last"],
    "rounds": 9,
}
COMMITS = 26
"""More than an undisturbed family takes."""


def begun(log: Path) -> Counter[tuple[str, str]]:
    """How often the code of each step began."""
    lines = map(str.split, log.read_text().splitlines()) if log.exists() else ()
    return Counter((run, step) for run, step, *_ in lines)


async def kept(url: str) -> set[tuple[str, str]]:
    """The steps of code whose results the journals have; each run begins once, each step ends well once."""
    async with engine_on(url, workers=False) as engine:
        assert await engine.store.check() == []
        done: list[tuple[str, str]] = []
        for row in await engine.store.runs(RunQuery()):
            facts: list[dict[str, Any]] = await engine.journal(row.id)
            assert [fact["fact"] for fact in facts].count("RunStarted") == 1
            ends = [fact["step"] for fact in facts if fact["fact"] == "StepCompleted"]
            assert len(ends) == len(set(ends)), "a step was recorded twice"
            done += [(row.id, step) for step in ends]
    return set(done) & STEPS


@pytest.mark.parametrize("n", range(1, COMMITS + 1, 2))
@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_the_nth_commit(url: str, tmp_path: Path, when: str, n: int) -> None:
    log = tmp_path / "side-effects.log"
    runs: Runs = {"n": ("nested", {"log": str(log), "size": 4})}
    assert await run_child(url, runs, "--kill", when, "commit", n) in (KILLED, 0)
    done, first = await kept(url), begun(log)
    assert done <= first.keys()

    result = {"n": {"log": str(log), **RESULT}}
    assert await recovered(url, runs) == result
    times = begun(log)
    assert times.keys() == await kept(url) == STEPS
    for step, count in times.items():
        assert count == 1 + (step in first and step not in done), step
    async with engine_on(url, workers=False) as engine:
        rows = await engine.store.runs(RunQuery())
        assert {row.id for row in rows} == FAMILY
        assert {row.status for row in rows} == {RunStatus.COMPLETED}


async def test_killed_again_and_again(url: str, tmp_path: Path) -> None:
    log = tmp_path / "side-effects.log"
    runs: Runs = {"n": ("nested", {"log": str(log), "size": 4})}
    for _ in range(2):
        assert await run_child(url, runs, "--kill", "before", "commit", 6) in (KILLED, 0)
    assert (await recovered(url, runs))["n"]["trail"] == RESULT["trail"]
    assert await kept(url) == STEPS
