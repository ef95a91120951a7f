"""W19: deleting a run left its checkpoints behind, and a running one could be deleted.

A run is deleted with all that is its own, in one transaction, when it has ended; its id stays taken for a while.
"""

from __future__ import annotations

import pytest

from holdfast import InvalidStatus, RetryPolicy, State, StepContext
from tests.conftest import OpenEngine
from tests.graphs import Gate, sequence
from tests.stored import mentions


async def test_nothing_is_left_but_the_tombstone(url: str, open_engine: OpenEngine) -> None:
    def fail(state: State, step: StepContext) -> None:
        raise ConnectionError

    engine = await open_engine(url)
    policy = RetryPolicy(attempts=2, backoff=0)
    graph = sequence("w19", large=lambda _: {"text": "x" * 100_000}, fail=(fail, {"retry": policy}))
    run = await engine.start(graph, {"also": "y" * 100_000}, id="w19-doomed", tags=["a", "b"], timeout=60)
    other = await engine.start(graph, {"also": "y" * 100_000}, id="w19-other", tags=["a", "b"])
    await run.wait()
    await other.wait()
    before = mentions(url, "w19-other")
    assert set(mentions(url, "w19-doomed")) >= {
        "workflow_runs.id",
        "journal.run",
        "payloads.run",
        "run_tags.run",
    }
    await run.delete()
    assert mentions(url, "w19-doomed") == {"tombstones.run": 1}
    assert mentions(url, "w19-other") == before
    assert await engine.store.check() == []


async def test_a_run_that_goes_on_is_not_deleted_and_goes_on(url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(url)
    gate = Gate()
    run = await engine.start(sequence("w19", node=lambda _: gate.wait()), id="w19-busy")
    with pytest.raises(InvalidStatus, match="is running"):
        await engine.delete("w19-busy")
    gate.open()
    await run.wait()
    assert run.status == "completed"
