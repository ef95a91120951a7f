"""Heartbeats: what a long step leaves for its next attempt, and the end of one that fell silent."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from holdfast import DefinitionError, RetryPolicy, RunFailed, State, StateGraph, StepContext
from holdfast.errors import PayloadRejected
from holdfast.registry import Registry
from holdfast.testing.world import World
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, nothing, sequence

TWICE = RetryPolicy(attempts=2, backoff=0.01)


async def test_a_killed_attempt_leaves_its_details_to_the_next() -> None:
    found: list[tuple[int, Any]] = []

    async def copy(state: State, step: StepContext) -> dict[str, int]:
        found.append((step.attempt, step.heartbeat_details))
        for page in range((step.heartbeat_details or {"page": 0})["page"], 20):
            step.heartbeat({"page": page})
            await asyncio.sleep(0.7)
        return {"pages": 20}

    async with World() as world:
        first = await world.engine(registry=Registry())
        run = await first.start(sequence("copy", copy=copy))
        await world.sleep(5)
        world.crash(first)
        second = await world.engine()
        assert await second.result(run.id) == {"pages": 20}
        events = [event.type async for event in second.events(run.id)]
    (one, none), (two, details) = found
    assert (one, none, two) == (1, None, 2)
    assert 4 <= details["page"] <= 7, "at most the last second is not stored"
    assert "stage.progress" not in events, "a beat is no progress"


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
async def test_a_failed_attempt_leaves_what_it_said_last(
    url: str, open_engine: OpenEngine, *, plain: bool
) -> None:
    found: list[Any] = []

    def beat(state: State, step: StepContext) -> None:
        found.append(step.heartbeat_details)
        if step.attempt == 1:
            for page in range(5):
                step.heartbeat([page, "é"])
            step.heartbeat()
            raise ValueError("once")

    async def beat_async(state: State, step: StepContext) -> None:
        beat(state, step)

    engine = await open_engine(url)
    run = await engine.start(sequence("beats", beat=(beat if plain else beat_async, {"retry": TWICE})))
    await run.result(timeout=PATIENCE)
    assert found == [None, [4, "é"]]
    recorded = [fact for fact in await run.journal() if fact["fact"] == "StepProgressed"]
    assert recorded[-1]["data"] == [4, "é"]
    assert len(recorded) == 2, "the first, and what was said last"


async def test_a_resumed_step_knows_what_its_last_attempt_said() -> None:
    found: list[Any] = []

    async def beat(state: State, step: StepContext) -> None:
        found.append(step.heartbeat_details)
        step.heartbeat("here")
        if step.attempt == 1:
            raise ValueError("mend me")

    async with World() as world:
        engine = await world.engine(registry=Registry())
        run = await engine.start(sequence("resumed", beat=beat))
        await engine.wait(run.id)
        await engine.resume(run.id)
        await engine.result(run.id)
    assert found == [None, "here"]


async def test_a_silent_attempt_has_failed_and_is_tried_again() -> None:
    attempts: list[tuple[int, float]] = []

    async with World() as world:

        async def hang(state: State, step: StepContext) -> dict[str, int]:
            attempts.append((step.attempt, world.now))
            for beat in range(4):
                await asyncio.sleep(2)
                step.progress(beat) if beat % 2 else step.heartbeat()
            if step.attempt == 1:
                await asyncio.sleep(1000)
            return {"attempt": step.attempt}

        graph = sequence("silent", hang=(hang, {"heartbeat_timeout": 3, "retry": TWICE}))
        engine = await world.engine(registry=Registry())
        run = await engine.start(graph)
        assert await engine.result(run.id) == {"attempt": 2}
        (retried,) = [fact for fact in await run.journal() if fact["fact"] == "StepRetried"]
    assert retried["error"]["code"] == "heartbeat_timed_out"
    assert retried["error"]["message"] == "attempt 1 gave no sign of life for 3 s"
    (_, begun), (_, again) = attempts
    assert 10.9 < again - begun < 11.5


async def test_a_plain_step_that_falls_silent_fails_its_run(url: str, open_engine: OpenEngine) -> None:
    def hang(state: State, step: StepContext) -> None:
        while not step.cancelled:
            time.sleep(0.01)

    engine = await open_engine(url)
    run = await engine.start(sequence("hangs", hang=(hang, {"heartbeat_timeout": 0.05})))
    with pytest.raises(RunFailed) as failed:
        await run.result(timeout=PATIENCE)
    assert failed.value.error.code == "heartbeat_timed_out"


@pytest.mark.parametrize(
    ("details", "says"),
    [(object(), "heartbeat of 'beat'"), ("x" * 70_000, "70,002 bytes"), ({"key": "t0p-secret"}, "'token'")],
    ids=["unstorable", "large", "secret"],
)
async def test_details_that_cannot_be_stored_are_refused_at_the_call(
    url: str, open_engine: OpenEngine, details: Any, says: str
) -> None:
    refused: list[PayloadRejected] = []

    def beat(state: State, step: StepContext) -> None:
        with pytest.raises(PayloadRejected) as error:
            step.heartbeat(details)
        refused.append(error.value)

    engine = await open_engine(url)
    run = await engine.start(sequence("refused", beat=beat), secrets={"token": "t0p-secret"})
    await run.result(timeout=PATIENCE)
    assert says in str(refused[0])
    assert "t0p" not in str(refused[0])
    assert all(fact["fact"] != "StepProgressed" for fact in await run.journal())


@pytest.mark.parametrize("timeout", [0, -1, "3", float("nan"), True])
def test_a_heartbeat_timeout_is_checked(timeout: Any) -> None:
    with pytest.raises(DefinitionError, match="heartbeat_timeout"):
        StateGraph("checked").add_node("beat", nothing, heartbeat_timeout=timeout)
