"""W2: a stream dropped events when 100 were queued, the last one too, and could not be taken up again.

Events are read from the journal: a slow reader misses none, gets the end, and goes on from any position, for runs that
were resumed or are driven elsewhere, too.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from holdfast import END, START, Engine, Send, State, StateGraph, StepContext, StreamingObserver
from holdfast.model.event import RunEvent
from holdfast.registry import Registry
from tests.conftest import OpenEngine
from tests.crash.processes import child, engine_on
from tests.graphs import PATIENCE, sequence

ITEMS = 300


def wide(name: str = "w02") -> StateGraph:
    graph = StateGraph(name)

    async def item(state: State) -> dict[str, int]:
        return {f"item {state['index']}": state["index"]}

    graph.add_node("item", item)
    graph.add_conditional_edge(START, lambda _: [Send("item", {"index": n}) for n in range(ITEMS)], ["item"])
    return graph.add_edge("item", END)


async def test_a_reader_that_is_slower_than_the_run_misses_nothing(engine: Engine) -> None:
    run = await engine.start(wide())
    seen: list[RunEvent] = []
    async with asyncio.timeout(PATIENCE):
        async for event in run.events():
            await asyncio.sleep(0)
            seen.append(event)
            if len(seen) == 1:
                await engine.wait(run.id)  # all of it has happened before the second event is read
    assert [event.type for event in seen].count("stage.completed") == ITEMS
    assert seen[-1].type == "run.completed"
    positions = [event.position for event in seen]
    assert positions == sorted(set(positions))


async def test_a_stream_of_a_full_buffer_drops_nothing(any_url: str, open_engine: OpenEngine) -> None:
    stream = StreamingObserver(buffer=1)
    engine = await open_engine(any_url, observers=[stream])
    run = await engine.start(wide())
    await run.wait()

    async def read() -> list[RunEvent]:
        return [event async for event in stream.events()]

    reading = asyncio.create_task(read())
    await engine.close()
    heard = await asyncio.wait_for(reading, PATIENCE)
    assert [event.type for event in heard].count("stage.completed") == ITEMS
    assert heard[-1].type == "run.completed"


async def test_a_reader_that_was_cut_off_goes_on_where_it_was(engine: Engine) -> None:
    run = await engine.start(wide())
    seen: list[RunEvent] = []
    async with asyncio.timeout(PATIENCE):
        while not seen or seen[-1].type != "run.completed":
            after = seen[-1].position if seen else 0
            count = 0
            async for event in run.events(after=after):
                seen.append(event)
                count += 1
                if count == 50:
                    break
    assert seen == [event async for event in run.events()]


async def test_the_events_of_a_resume_are_streamed(engine: Engine) -> None:
    def node(state: State, step: StepContext) -> None:
        if step.attempt == 1:
            raise ConnectionError

    run = await engine.start(sequence("w02", node=node))
    await run.wait()
    await run.resume()
    types = [event.type async for event in run.events(types=["run.failed", "run.resumed", "run.completed"])]
    # The end of a stream is the end of the run as it stands; here that may be either.
    if types == ["run.failed"]:
        types += [
            event.type
            async for event in run.events(after=run.position, types=["run.resumed", "run.completed"])
        ]
    assert types == ["run.failed", "run.resumed", "run.completed"]


async def test_the_events_of_a_run_that_is_driven_elsewhere_are_streamed(url: str, tmp_path: Path) -> None:
    async with (
        engine_on(url, workers=False, registry=Registry()) as client,
        child(url, None, "--stay") as worker,
    ):
        await worker.until("open")
        run = await client.start("wide", {"log": str(tmp_path / "log"), "size": 3})
        async with asyncio.timeout(PATIENCE):
            types = [event.type async for event in run.events()]
    assert types.count("stage.completed") == 11
    assert types[-1] == "run.completed"
