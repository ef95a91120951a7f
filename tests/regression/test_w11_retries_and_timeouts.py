"""W11: there were no retries, no timeouts and no keys; whatever failed, failed its run, and what hung, hung for ever.

A node has a policy and a timeout, a run has one, attempts are counted in the journal and hold across processes.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from holdfast import Engine, RetryPolicy, RunFailed, RunTimedOut, State, StepContext
from tests.crash.processes import check_all, child, engine_on, read_log, recovered
from tests.graphs import PATIENCE, sequence, until

POLICY = RetryPolicy(attempts=3, backoff=0.02, factor=3, jitter="none")


async def test_attempts_back_off_by_their_policy(engine: Engine) -> None:
    keys: list[str] = []

    def node(state: State, step: StepContext) -> dict[str, int]:
        keys.append(step.idempotency_key)
        if step.attempt < 3:
            raise ConnectionError(step.attempt)
        return {"attempt": step.attempt}

    run = await engine.start(sequence("w11", node=(node, {"retry": POLICY})))
    assert await run.result() == {"attempt": 3}
    waits = [fact["due"] - fact["at"] for fact in await run.journal() if fact["fact"] == "StepRetried"]
    assert waits == [20_000, 60_000]
    assert len(keys) == 3
    assert len(set(keys)) == 1, "what a node does elsewhere can be told apart by one key"


async def test_a_node_that_hangs_is_given_up(engine: Engine) -> None:
    async def hang(state: State) -> None:
        await asyncio.sleep(PATIENCE)

    def hang_in_a_thread(state: State, step: StepContext) -> None:
        end = time.monotonic() + PATIENCE
        while not step.cancelled and time.monotonic() < end:
            time.sleep(0.005)

    for name, node in (("async", hang), ("plain", hang_in_a_thread)):
        run = await engine.start(sequence(name, node=(node, {"timeout": 0.05, "retry": POLICY})))
        with pytest.raises(RunFailed, match="took longer than") as caught:
            await run.result()
        assert caught.value.attempt == 3


async def test_a_run_that_hangs_is_given_up(engine: Engine) -> None:
    async def hang(state: State) -> None:
        await asyncio.sleep(PATIENCE)

    with pytest.raises(RunTimedOut):
        await engine.execute(sequence("w11", node=hang), timeout=0.1)


async def test_attempts_are_counted_across_processes(url: str, tmp_path: Path) -> None:
    """B-R7: a kill during an attempt or a back-off neither gives a try nor takes one."""
    log = tmp_path / "log"
    log.touch()
    runs = {"w11": ("patient", {"log": str(log), "backoff": 0.3})}
    for attempt in (1, 2):
        async with child(url, runs) as running:
            await until(lambda attempt=attempt: _begun(log) >= attempt)  # type: ignore[misc]
            running.kill()
    result = await recovered(url, runs)
    await check_all(url, log)
    async with engine_on(url, workers=False) as engine:
        (stage,) = await engine.stages("w11")
    assert [one.number for one in stage.attempts] == list(range(1, stage.attempt + 1))
    # Three, or four when the last kill came after a failure and the recovery when the next try was due.
    assert stage.attempt in (3, 4)
    assert result == {"w11": {"attempt": stage.attempt}}


def _begun(log: Path) -> int:
    return len(read_log(log))
