"""W5: a run of a process that died stayed "running" for ever; resume and cancel both refused it.

Whoever opens the store next takes it up by itself and runs it to its end; nobody is asked.
"""

from __future__ import annotations

from pathlib import Path

from holdfast import RunStatus
from tests.crash.processes import KILLED, child, engine_on, run_child
from tests.crash.workflows import WIDE_RESULT
from tests.graphs import until


async def test_opening_the_store_is_all_it_takes(url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    runs = {f"w05-{n}": ("wide", {"log": str(log), "size": 3}) for n in range(3)}
    assert await run_child(url, runs, "--kill", "after", "commit", 9) == KILLED
    async with engine_on(url, workers=False) as client:
        assert {run.status async for run in await client.runs()} <= {RunStatus.RUNNING, RunStatus.WAITING}
    async with engine_on(url) as engine:
        for run in runs:
            assert (await engine.wait(run, timeout=10)).status is RunStatus.COMPLETED
            assert (await engine.result(run))["label"] == WIDE_RESULT["label"]


async def test_a_run_of_a_dead_process_can_be_cancelled(url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    async with child(url, {"w05": ("slow", {"log": str(log), "seconds": 60})}) as running:
        await until(lambda: bool(log.read_text()))
        running.kill()
        await running.ended()
    async with engine_on(url, workers=False) as client:
        await client.cancel("w05")
        async with engine_on(url):
            assert (await client.wait("w05", timeout=10)).status is RunStatus.CANCELLED
