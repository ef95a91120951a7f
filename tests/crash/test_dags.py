"""A process that dies amid a DAG: the next one goes on with maps, skips and handled failures where they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.crash.processes import KILLED, Runs, engine_on, recovered, run_child
from tests.crash.test_children import begun

STEPS = {"list#1", "bad#1", "sum#1", "alarm#1", *(f"square#{n}" for n in range(1, 7))}
RESULT = {"list": [0, 1, 2, 3, 4, 5], "square": [0, 1, 4, 9, 16, 25], "sum": 55, "alarm": "rung"}
COMMITS = 14
"""More than an undisturbed run takes."""


async def ended(url: str) -> set[str]:
    """The steps whose ends the journal has; each ends once."""
    async with engine_on(url, workers=False) as engine:
        assert await engine.store.check() == []
        if not await engine.count():
            return set()
        facts: list[dict[str, Any]] = await engine.journal("d")
        ends = [fact["step"] for fact in facts if fact["fact"] in ("StepCompleted", "StepFailed")]
        assert len(ends) == len(set(ends)), "a step was recorded twice"
        return set(ends)


@pytest.mark.parametrize("n", range(1, COMMITS + 1))
@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_the_nth_commit(url: str, tmp_path: Path, when: str, n: int) -> None:
    log = tmp_path / "side-effects.log"
    runs: Runs = {"d": ("tasks", {"log": str(log)})}
    assert await run_child(url, runs, "--kill", when, "commit", n) in (KILLED, 0)
    done, first = await ended(url), {step for _, step in begun(log)}
    assert done <= first

    assert await recovered(url, runs) == {"d": RESULT}
    assert await ended(url) == STEPS
    for (_, step), count in begun(log).items():
        assert count == 1 + (step in first and step not in done), step
