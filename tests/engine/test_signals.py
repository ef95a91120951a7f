"""Signals, secrets that nodes make, large items, and names that mean something else."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import (
    END,
    START,
    DefinitionError,
    Engine,
    InvalidStatus,
    PayloadRejected,
    RunNotFound,
    RunStatus,
    RunTimedOut,
    Send,
    State,
    StateGraph,
    StepContext,
)
from holdfast.registry import Registry
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, Gate, nothing, sequence, until


async def signals(engine: Engine, run: str) -> list[dict[str, Any]]:
    return [fact for fact in await engine.journal(run) if fact["fact"] == "SignalReceived"]


async def test_a_signal_is_recorded_once_per_key(url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(url)
    client = await open_engine(url, workers=False, registry=Registry())
    gate = Gate()
    run = await engine.start(sequence("signals", node=lambda _: gate.wait()))
    await gate.until_reached()
    for sender in (engine, client, engine):
        await sender.signal(run.id, "approved", {"by": "Ada"}, key="approval-7")
    await client.signal(run.id, "approved", {"by": "Grace"})

    async def both_are_in() -> bool:
        return len(await signals(engine, run.id)) == 2

    await until(both_are_in)
    # Again, when the first has long been taken.
    await engine.signal(run.id, "approved", {"by": "Ada"}, key="approval-7")
    gate.open()
    await run.wait()
    assert [fact["data"]["by"] for fact in await signals(engine, run.id)] == ["Ada", "Grace"]
    assert [event.data async for event in run.events(types=["signal"])] == [{"name": "approved"}] * 2


async def test_a_signal_that_cannot_be_delivered_is_refused(engine: Engine) -> None:
    run = await engine.start(sequence("signals", node=nothing))
    await run.wait()
    with pytest.raises(InvalidStatus, match="is completed"):
        await run.signal("late")
    with pytest.raises(RunNotFound):
        await engine.signal("nobody", "x")
    waiting = await engine.start(sequence("signals", node=nothing), delay=60)
    with pytest.raises(PayloadRejected, match="name"):
        await waiting.signal("")
    with pytest.raises(PayloadRejected, match=r"signal 'x'.*\[1\]"):
        await waiting.signal("x", [1, object()])
    await waiting.cancel()


async def test_a_run_that_timed_out_goes_on_when_it_is_resumed(engine: Engine) -> None:
    gate = Gate()

    async def node(state: State, step: StepContext) -> dict[str, int]:
        if step.attempt == 1:
            await gate.passed()
        return {"attempt": step.attempt}

    run = await engine.start(sequence("late", node=node), timeout=0.1)
    with pytest.raises(RunTimedOut):
        await run.result()
    await run.resume()
    assert await run.result() == {"attempt": 2}


# --- secrets that a node makes


async def test_a_secret_that_a_node_sets_is_seen_by_the_next_and_stored_nowhere(engine: Engine) -> None:
    secret = "a-session-made-on-the-way"

    def log_in(state: State) -> State:
        return state.set_secret("session", secret).set("user", "ada")

    def use(state: State) -> dict[str, bool]:
        return {"same": state.get_secret("session") == secret}

    run = await engine.start(sequence("session", log_in=log_in, use=use))
    assert await run.result() == {"user": "ada", "same": True}
    assert secret not in repr(await run.journal())


# --- large items


async def test_large_items_of_a_fan_out_pass(any_url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(any_url)
    pages = [str(n) * 100_000 for n in range(3)]

    def count(state: State, step: StepContext) -> dict[str, int]:
        if step.attempt == 1:
            raise ConnectionError
        return {f"page {state['page'][0]}": len(state["page"])}

    graph = StateGraph("pages").add_node("count", count)
    graph.add_conditional_edge(START, lambda _: [Send("count", {"page": page}) for page in pages], ["count"])
    graph.add_edge("count", END)
    run = await engine.start(graph)
    await run.wait()
    await run.resume()  # the items come from the store now
    assert await run.result(timeout=PATIENCE) == {f"page {n}": 100_000 for n in range(3)}
    assert [len(stage.input["page"]) for stage in await run.stages()] == [100_000] * 3
    assert sum(len(row.facts) for row in await engine.store.journal(run.id)) < 30_000


# --- names


@pytest.mark.parametrize("name", ["timer:tomorrow", "signal:approved"])
def test_a_node_may_not_be_named_like_a_wait(name: str) -> None:
    with pytest.raises(DefinitionError, match="name"):
        StateGraph().add_node(name, nothing)


async def test_a_node_may_have_a_colon_in_its_name(engine: Engine) -> None:
    run = await engine.start(sequence("names", **{"ocr: page 1/2 (é)": lambda _: {"n": 1}}))
    await run.wait()
    assert run.status is RunStatus.COMPLETED
    assert [stage.name for stage in await run.stages()] == ["ocr: page 1/2 (é)"]
