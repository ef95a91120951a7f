"""What steps send to readers while they run: beside the journal, in order, in this process and in others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast import Engine, RetryPolicy, RunFailed, State, StepContext, StreamingObserver
from holdfast.model.event import RunEvent
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, Gate, sequence


def shown(events: list[RunEvent]) -> list[Any]:
    """What was sent, and the types of all other events of stages and of the run."""
    return [event.data["chunk"] if event.type == "stage.chunk" else event.type for event in events]


async def test_chunks_stand_in_their_place_among_the_events(engine: Engine) -> None:
    async def talk(state: State, step: StepContext) -> dict[str, str]:
        for word in ("one", {"two": [2, None]}, "three"):
            step.stream(word)
            await asyncio.sleep(0)
        return {"text": "all"}

    def shout(state: State, step: StepContext) -> None:
        step.stream("from a thread")

    run = await engine.start(sequence("talks", talk=talk, shout=shout))
    live = [event async for event in run.events()]
    later = [event async for event in run.events()]
    expected = ["one", {"two": [2, None]}, "three", "stage.completed"]
    kept = [each for each in shown(later) if each != "decision"]
    begin = kept.index("one")
    assert kept[begin : begin + 4] == expected
    assert kept[-4:] == ["stage.scheduled", "from a thread", "stage.completed", "run.completed"]
    assert shown(live) == shown(later)
    chunk = next(event for event in later if event.type == "stage.chunk")
    scheduled = next(event for event in later if event.type == "stage.scheduled")
    assert (chunk.position, chunk.envelope) == (
        scheduled.position,
        {"name": "talk", "iteration": 1, "attempt": 1},
    )
    only = [event.data["chunk"] async for event in run.events(types=["stage.chunk"])]
    assert only == ["one", {"two": [2, None]}, "three", "from a thread"]
    assert [e async for e in run.events(types="stage.chunk", after=later[-1].position)] == []


async def test_a_thousand_chunks_add_no_commit(engine: Engine) -> None:
    async def talk(state: State, step: StepContext) -> None:
        for number in range(state["count"]):
            step.stream(number)
            if number % 100 == 0:
                await asyncio.sleep(0)

    graph = sequence("talks", talk=talk)
    commits = []
    for count in (0, 1000):
        before = engine.store.stats.commits
        run = await engine.start(graph, {"count": count})
        await run.result()
        commits.append(engine.store.stats.commits - before)
        assert [e.data["chunk"] async for e in run.events(types=["stage.chunk"])] == list(range(count))
    assert commits[0] == commits[1]


async def test_a_reader_that_goes_on_from_the_position_of_a_chunk_misses_no_fact(engine: Engine) -> None:
    async def talk(state: State, step: StepContext) -> None:
        step.stream(step.name)
        await asyncio.sleep(0)
        step.stream("again")

    run = await engine.start(sequence("talks", one=talk, two=talk, three=talk))
    whole = [event async for event in run.events()]
    positions = [event.position for event in whole]
    assert positions == sorted(positions)
    for cut, last in enumerate(positions, 1):
        rest = [event async for event in run.events(after=last)]
        missed = [event for event in whole[cut:] if event not in rest]
        assert missed == []
        facts = [event.position for event in rest if not event.type.startswith("stage.chunk")]
        assert all(position > last for position in facts)


async def test_thousands_of_chunks_stay_before_the_facts_that_follow_them(engine: Engine) -> None:
    def talk(state: State, step: StepContext) -> None:
        for number in range(1200):
            step.stream(number)

    run = await engine.start(sequence("talks", one=talk, two=talk))
    await run.result()
    seen = shown([event async for event in run.events()])
    first, second = (index for index, each in enumerate(seen) if each == "stage.completed")
    said = list(range(1200))
    assert [each for each in seen[:first] if isinstance(each, int)] == said
    assert [each for each in seen[first:second] if isinstance(each, int)] == said
    assert [each for each in seen[second:] if isinstance(each, int)] == []


async def test_a_stream_that_nobody_reads_holds_up_nobody(url: str, open_engine: OpenEngine) -> None:
    unread = StreamingObserver(buffer=1)
    engine = await open_engine(url, observers=[unread])

    def talk(state: State, step: StepContext) -> dict[str, int]:
        for number in range(1000):
            step.stream(number)
        return {"said": 1000}

    run = await engine.start(sequence("talks", talk=talk))
    abandoned = run.events()
    await anext(abandoned)
    async with asyncio.timeout(PATIENCE):
        assert await run.result() == {"said": 1000}
        assert (await engine.execute("talks")) == {"said": 1000}
    assert engine.lag()["StreamingObserver"] > 0
    unread.close()


async def test_a_reader_gets_a_chunk_while_the_step_runs(url: str, open_engine: OpenEngine) -> None:
    gate = Gate()

    async def talk(state: State, step: StepContext) -> None:
        step.stream("now")
        await gate.passed()

    engine = await open_engine(url)
    other = await open_engine(url, workers=False)
    run = await engine.start(sequence("talks", talk=talk))
    async with asyncio.timeout(PATIENCE):
        for reader in (engine, other):
            async for event in reader.events(run.id, types=["stage.chunk"]):
                assert event.data["chunk"] == "now"
                break
    gate.open()
    await run.result()


async def test_a_repeated_attempt_begins_anew(engine: Engine) -> None:
    def talk(state: State, step: StepContext) -> None:
        step.stream(f"attempt {step.attempt}")
        if step.attempt == 1:
            raise ConnectionError("lost")
        step.stream("done")

    node = (talk, {"retry": RetryPolicy(attempts=2, backoff=0.01)})
    run = await engine.start(sequence("talks", talk=node))
    await run.result()
    kept = shown([event async for event in run.events() if event.type.startswith("stage.")])
    assert kept == [
        *("stage.scheduled", "attempt 1", "stage.retried"),
        *("stage.chunk_reset", "attempt 2", "done", "stage.completed"),
    ]


async def test_observers_get_chunks_in_their_place(url: str, open_engine: OpenEngine) -> None:
    observer = StreamingObserver()
    engine = await open_engine(url, observers=[observer])

    async def talk(state: State, step: StepContext) -> None:
        step.stream("one")
        step.stream("two")

    run = await engine.start(sequence("talks", talk=talk))
    later = [event async for event in run.events()]
    await engine.close()
    events = [event async for event in observer.events()]
    assert [(event.type, event.position) for event in events] == [(e.type, e.position) for e in later]
    seen = shown(events)
    assert [each for each in seen if each != "decision"][-4:] == [
        "one",
        "two",
        "stage.completed",
        "run.completed",
    ]


@pytest.mark.parametrize(
    ("chunk", "told"),
    [("my t0p-secret", "contains the secret"), (object(), "chunk"), ("x" * 70_000, "70,002 bytes")],
)
async def test_what_may_not_be_sent_fails_the_step(engine: Engine, chunk: Any, told: str) -> None:
    def talk(state: State, step: StepContext) -> None:
        step.stream(chunk)

    run = await engine.start(sequence("talks", talk=talk), secrets={"token": "t0p-secret"})
    with pytest.raises(RunFailed, match=told):
        await run.result()
    assert await engine.store.chunks(run.id) == []


async def test_chunks_go_with_their_run(engine: Engine) -> None:
    def talk(state: State, step: StepContext) -> None:
        step.stream("bye")

    run = await engine.start(sequence("talks", talk=talk))
    await run.result()
    assert len(await engine.store.chunks(run.id)) == 1
    await run.delete()
    assert await engine.store.chunks(run.id) == []
