"""kill -9 while dead letters are redriven and while old runs are deleted: nothing is lost, nothing is half done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from holdfast import Engine
from holdfast.model.ids import SECOND
from holdfast.resilience import Retention
from holdfast.store.open import open_store
from holdfast.store.sqlite.store import system_clock
from tests.crash.operators import delivering
from tests.places import ROOT

Open = Callable[..., Awaitable[Engine]]
RUNS = [f"run-{number:02}" for number in range(20)]


def killed_after(url: str, what: str, lines: int) -> list[str]:
    """Start an operator, kill it when it has said so many lines; returns these."""
    command = [sys.executable, "-m", "tests.crash.operators", url, what]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().strip() for _ in range(lines)]
        process.kill()
    return said


async def test_letters_that_were_not_redriven_before_the_kill_are_letters_still(
    open_engine: Open, url: str, tmp_path: Path
) -> None:
    """B-D2: and those that were go on, each once."""
    up = tmp_path / "up"
    first = await open_engine(url)
    for run in RUNS:
        await (await first.start(delivering(up), id=run)).wait()
    await first.close()
    up.touch()
    said = killed_after(url, "redrive", 3)
    assert said == RUNS[:3]
    engine = await open_engine(url)
    engine.registry.lend(engine.registry.find("delivering") or delivering(up).workflow)
    for run in said:
        assert await engine.result(run) == {"delivered": 1}
    left = {letter.id for letter in await engine.dead_letters()}
    assert left >= set(RUNS[4:])
    for run in left:
        await engine.redrive(run)
    for run in RUNS:
        assert await engine.result(run) == {"delivered": 1}
    assert await engine.dead_letters() == []


async def test_runs_are_deleted_whole_or_not_at_all(open_engine: Open, url: str, tmp_path: Path) -> None:
    up = tmp_path / "up"
    up.touch()
    first = await open_engine(url)
    for run in RUNS:
        await (await first.start(delivering(up), id=run)).wait()
    await first.close()
    assert killed_after(url, "delete", 2) == ["deleted"] * 2
    # The lease of the dead one is over on this clock.
    later = open_store(url, lambda: system_clock() + 60 * SECOND)
    engine = await open_engine(url, store=later, retention=Retention(age=1))
    kept = [run async for run in await engine.runs()]
    assert 0 < len(kept) <= len(RUNS) - 2
    for each in kept:
        assert await each.result() == {"delivered": 1}
        assert [stage.name for stage in await each.stages()] == ["deliver"]
    assert await later.check() == []
    retaining = engine._open.retaining
    assert retaining is not None
    assert await retaining.round() == len(kept)
    assert await engine.count() == 0
    assert await later.check() == []
