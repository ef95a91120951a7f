"""A process that dies amid a machine: the next one finishes the transition, and what was done counts once."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.crash.processes import KILLED, Runs, engine_on, recovered, run_child
from tests.crash.test_children import begun

STEPS = [
    *("pack#1", "arrive#1", "ring#1", "leave#1"),
    *("pack#2", "arrive#2", "ring#2", "leave#2", "break#1", "leave#3", "mend#1"),
]
TRAIL = ["pack", "arrive", "ring", "leave", "pack", "arrive", "ring", "leave", "mend"]
"""What `leave` did before `break` failed does not count: that transition was not taken."""
COMMITS = 18
"""More than an undisturbed run takes."""
LONG = "HOLDFAST_TEST_LONG" in os.environ


async def journal(url: str) -> list[dict[str, Any]]:
    async with engine_on(url, workers=False) as engine:
        assert await engine.store.check() == []
        return await engine.journal("m") if await engine.count() else []


def ended(facts: list[dict[str, Any]]) -> list[str]:
    """The actions whose ends the journal has, in order."""
    return [f["step"] for f in facts if f["fact"] in ("StepCompleted", "StepFailed") and ":" not in f["step"]]


async def check(url: str, folder: Path, *kill: object) -> None:
    """Have a process die over the machine, and a second one finish it; check what each action did."""
    log = folder / "side-effects.log"
    runs: Runs = {"m": ("errands", {"log": str(log)})}
    assert await run_child(url, runs, "--kill", *kill) in (KILLED, 0)
    done, first = ended(await journal(url)), {step for _, step in begun(log)}
    assert done == STEPS[: len(done)]
    assert set(done) <= first

    context = {"log": str(log), "rounds": 2, "trail": TRAIL}
    assert await recovered(url, runs) == {"m": {"state": "end", "context": context}}
    facts = await journal(url)
    assert ended(facts) == STEPS
    clocks = [fact for fact in facts if fact["fact"] == "StepCompleted" and fact["step"].startswith("timer:")]
    assert len(clocks) == 2, "each clock rang once"
    for (_, step), count in begun(log).items():
        assert count == 1 + (step in first and step not in done), step


@pytest.mark.parametrize("n", range(1, COMMITS + 1, 1 if LONG else 4))
@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_the_nth_commit(url: str, tmp_path: Path, when: str, n: int) -> None:
    await check(url, tmp_path, when, "commit", n)


@pytest.mark.parametrize("seed", range(100 if LONG else 2))
async def test_killed_at_some_write(url: str, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    await check(url, tmp_path, chance.choice(["before", "after"]), "any", chance.randint(1, 3 * COMMITS))
