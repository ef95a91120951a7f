"""The pipeline: it builds, tests and installs a real package; what fails is not published and costs nothing twice."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

from examples.ci_pipeline import demo
from examples.ci_pipeline.workflow import NAME, PACKAGE, verdict
from examples.commands import CommandFailed, run
from holdfast import Engine

pytestmark = pytest.mark.timeout(240)


async def test_the_demo_resumes_at_the_shelf_and_stops_the_bug() -> None:
    console = Console(file=io.StringIO(), width=160)

    assert await demo.main(console) == 0

    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "tidetable-1.0.0-py3-none-any.whl" in printed
    assert "run again: publish" in printed
    assert "test_twelfths: Ran 3 tests" in printed


async def test_a_bug_fails_the_tests_that_see_it_and_nothing_is_published(url: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source)
    module = source / "src" / "tidetable" / "twelfths.py"
    module.write_text(module.read_text("utf-8").replace("6, 9", "5, 9"), "utf-8")
    (tmp_path / "shelf").mkdir()
    async with Engine(url, observers=()) as engine:
        started = await engine.start(NAME, demo.params(tmp_path, source, "work"))
        ended = await started.wait()
        stages = await ended.stages()

    assert ended.status == "failed"
    failed = [stage for stage in stages if stage.status == "failed"]
    assert [stage.name for stage in failed] == ["test"]
    assert failed[0].error is not None
    assert "FAILED (failures=2)" in failed[0].error.message.splitlines()[0]
    assert "test_it_rises_fastest_in_the_middle" in failed[0].error.message
    [judged] = [stage for stage in stages if stage.name == "verdict"]
    assert judged.output == {"lint": True, "test": False, "smoke": True}
    assert "publish" not in {stage.name for stage in stages}
    assert list((tmp_path / "shelf").iterdir()) == []


def test_a_map_of_tests_is_passed_when_each_is() -> None:
    assert verdict(["a", "b"], "", ["a", "b"], "") == {"lint": True, "test": True, "smoke": True}
    assert verdict(["a", "b"], "", ["a"], "")["test"] is False
    assert verdict(None, None, None, None) == {"lint": False, "test": False, "smoke": False}


async def test_a_command_that_fails_says_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="ended with 3: the last words"):
        await run(sys.executable, "-c", "print('the last words'); raise SystemExit(3)", folder=tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="asks the system for a process by its number")
async def test_a_cancelled_command_is_gone(tmp_path: Path) -> None:
    program = "import os, time; open('pid', 'w').write(f'{os.getpid()} '); time.sleep(600)"
    running = asyncio.ensure_future(run(sys.executable, "-c", program, folder=tmp_path))
    file = tmp_path / "pid"
    while not file.exists() or not file.read_text().endswith(" "):
        await asyncio.sleep(0.01)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)
