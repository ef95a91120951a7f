"""A process that dies amid the items of a node: the next one does only those that had not finished."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.crash.processes import KILLED, Runs, engine_on, recovered, run_child

COUNT = 6
COMMITS = 15
"""What an undisturbed run takes at most: its start, 6 items two by two or one by one, 6 steps of a chain, two ends."""

SQUARES = [n * n for n in range(COUNT)]


def begun(log: Path) -> Counter[tuple[str, int]]:
    """How often the code of each item began."""
    return Counter((kind, int(number)) for kind, number in map(str.split, log.read_text().splitlines()))


async def finished(url: str) -> set[tuple[str, int]]:
    """The items whose results the journal has."""
    async with engine_on(url, workers=False) as engine:
        assert await engine.store.check() == []
        runs = (await engine.runs()).items
        facts: list[dict[str, Any]] = await runs[0].journal() if runs else []
    ended = [fact["step"] for fact in facts if fact["fact"] == "StepCompleted" and "/" in fact["step"]]
    kept = set()
    for step in ended:
        kind, _, number = step.partition("/")[2].partition("#")
        index = int(number) - 1
        kept.add((kind, index if kind == "square" else SQUARES[index]))
    assert len(kept) == len(ended), "an item was recorded twice"
    return kept


async def test_undisturbed(url: str, tmp_path: Path) -> None:
    runs: Runs = {"items": ("items", {"log": str(tmp_path / "side-effects.log"), "count": COUNT})}
    assert await run_child(url, runs) == 0
    async with engine_on(url, workers=False) as engine:
        commits = len(await engine.store.journal("items"))
    assert COMMITS - 3 <= commits <= COMMITS, "otherwise the kills below would miss the last ones"


@pytest.mark.parametrize("n", range(1, COMMITS + 1))
@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_the_nth_commit(url: str, tmp_path: Path, when: str, n: int) -> None:
    log = tmp_path / "side-effects.log"
    log.touch()
    runs: Runs = {"items": ("items", {"log": str(log), "count": COUNT})}
    assert await run_child(url, runs, "--kill", when, "commit", n) in (KILLED, 0)
    kept, first = await finished(url), begun(log)
    assert kept <= first.keys()
    assert sum(first.values()) - len(kept) <= 2, "no more were in flight than there are workers"

    result = {"items": {"squares": SQUARES, "sum": sum(SQUARES)}}
    assert await recovered(url, runs) == result
    times = begun(log)
    everything = {("square", n) for n in range(COUNT)} | {("add", n) for n in SQUARES}
    assert times.keys() == await finished(url) == everything
    for item, count in times.items():
        assert count == 1 + (item in first and item not in kept), item


async def test_killed_again_and_again(url: str, tmp_path: Path) -> None:
    log = tmp_path / "side-effects.log"
    log.touch()
    runs: Runs = {"items": ("items", {"log": str(log), "count": COUNT})}
    for _ in range(2):
        assert await run_child(url, runs, "--kill", "before", "commit", 3) == KILLED
        kept = await finished(url)
        before = begun(log)
    assert (await recovered(url, runs))["items"]["sum"] == sum(SQUARES)
    assert [item for item in kept if begun(log)[item] != before[item]] == []
