"""A store that does what it is asked to and says that it could not: for each kind of call, every second time."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from holdfast.registry import Registry
from holdfast.store.open import open_store
from tests.crash.lies import make_lie
from tests.crash.load import insist
from tests.crash.processes import engine_on
from tests.crash.verdict import check_store
from tests.crash.workflows import WIDE_RESULT
from tests.graphs import LONG

VERBS = (
    *("commit", "claim", "inbox", "load", "move_due", "release"),
    *("woken", "held", "ready", "workers", "next_due", "wait"),
)
RUNS = 4


@pytest.mark.parametrize("verb", VERBS if LONG else VERBS[:1])
async def test_a_worker_works_on_when_answers_are_lost(url: str, log: Path, verb: str) -> None:
    store = open_store(url)
    first = verb == "release"  # all others are called to open the engine, which may fail then
    told = make_lie(store, lambda each, n: each == verb and n % 2 == first)
    runs = [f"run-{n}" for n in range(RUNS)]
    async with (
        engine_on(url, workers=False, registry=Registry()) as client,
        engine_on(url, store=store, concurrency=3),
    ):
        for run in runs:
            await client.start("wide", {"log": str(log), "size": 3}, id=run)
        await client.start("flaky", {"log": str(log), "backoff": 1.1}, id="timer")
        results = await asyncio.gather(*(client.result(run) for run in runs))
        assert await client.result("timer") == {"done": True}
        assert results == [{**WIDE_RESULT, "log": str(log)}] * RUNS
    await check_store(url, log)
    assert told[verb]


@pytest.mark.parametrize("verb", ["commit", "deliver"])
async def test_a_client_may_insist_when_answers_are_lost(
    url: str, log: Path, gate: dict[str, str], verb: str
) -> None:
    store = open_store(url)
    told = make_lie(store, lambda each, n: each == verb and n % 2 == 1)
    async with (
        engine_on(url) as worker,
        engine_on(url, workers=False, store=store, registry=Registry()) as client,
    ):
        for run in ("one", "two"):
            await insist(partial(client.start, "gated", gate, id=run))
            await insist(partial(client.pause, run))
            await insist(partial(client.signal, run, "hello", 1, key="k"))
            await insist(partial(client.resume, run))
        Path(gate["gate"]).touch()
        results = [await worker.result(run) for run in ("one", "two")]
        signals = [(await worker.get(run)).journal() for run in ("one", "two")]
        for facts in await asyncio.gather(*signals):
            assert [fact["key"] for fact in facts if fact["fact"] == "SignalReceived"] == ["k"]
    assert results == [{"attempt": 1}] * 2
    assert told[verb] >= 2
    await check_store(url, log)
