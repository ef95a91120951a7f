"""W7: only the process that ran a run could cancel it, and not before its task had begun.

A cancel is a fact in the store: from any process, at any time, also while nobody has begun.
"""

from __future__ import annotations

from pathlib import Path

from holdfast import Engine, RunStatus
from holdfast.registry import Registry, as_workflow
from tests.conftest import OpenEngine
from tests.crash.processes import child
from tests.elsewhere import elsewhere
from tests.graphs import PATIENCE, nothing, sequence, until


async def cancel(url: str, run: str) -> str:
    async with Engine(url, workers=False, observers=()) as engine:
        return (await engine.cancel(run)).status


async def test_another_process_cancels_a_running_node(
    url: str, tmp_path: Path, open_engine: OpenEngine
) -> None:
    log = tmp_path / "log"
    log.touch()
    client = await open_engine(url, workers=False)
    async with child(url, {"w07": ("slow", {"log": str(log), "seconds": 60})}) as worker:
        await until(lambda: bool(log.read_text()))
        assert await elsewhere(cancel, url, "w07") in ("running", "cancelled")
        assert (await client.wait("w07", timeout=PATIENCE)).status is RunStatus.CANCELLED
        assert await worker.ended() == 0


async def test_a_run_that_nobody_has_begun_is_cancelled(url: str, open_engine: OpenEngine) -> None:
    client = await open_engine(url, workers=False, registry=Registry())
    run = await client.start(sequence("w07", node=nothing))
    assert await elsewhere(cancel, url, run.id) == "pending"
    registry = Registry()
    registry.add(as_workflow(sequence("w07", node=nothing)))
    await open_engine(url, registry=registry)
    assert (await run.wait(timeout=PATIENCE)).status is RunStatus.CANCELLED
    assert await run.stages() == []


async def test_a_cancel_right_after_the_start_is_never_refused(engine: Engine) -> None:
    for n in range(20):
        run = await engine.start(sequence("w07", a=nothing, b=nothing), {"n": n})
        await run.cancel()
        assert (await run.wait()).status in (RunStatus.CANCELLED, RunStatus.COMPLETED)
