"""A run's path over its graph, asked of the run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast import END, START, Engine, Send, State, StateGraph
from holdfast.blocking import Engine as BlockingEngine
from holdfast.errors import RequestError, WorkflowNotFound
from holdfast.registry import Registry
from tests.graphs import Gate, sequence


@pytest.fixture
async def engine() -> Any:
    async with Engine("sqlite:///:memory:", registry=Registry()) as opened:
        yield opened


def fail(state: State) -> None:
    raise ValueError("no")


async def test_a_run_is_drawn_with_what_it_did(engine: Engine) -> None:
    graph = StateGraph("drawn").add_node("item", lambda _: None).add_node("sum", fail).add_node("never", fail)
    graph.add_conditional_edge(START, lambda _: [Send("item", {"n": n}) for n in range(3)], ["item", "never"])
    graph.add_edge("item", "sum").add_edge("sum", END).add_edge("never", END)
    run = await engine.start(graph)
    await run.wait()
    boxes = {box.key: (box.tone, box.note) for box in (await engine.picture(run.id)).boxes}
    assert boxes["item"][0] == "completed"
    assert boxes["item"][1].startswith("3× ")  # noqa: RUF001
    assert boxes["sum"][0] == "failed"
    assert boxes["sum"][1].endswith(", 1 failed")
    assert boxes["never"] == ("idle", "")
    assert (boxes[START][0], boxes[END][0]) == ("completed", "idle")
    mermaid = await run.to_mermaid()
    assert "class n1,legend_failed failed" in mermaid
    assert "linkStyle 0 stroke:#1a7f43" in mermaid
    assert (await run.to_svg()).startswith("<svg ")


async def test_a_run_that_goes_on_is_drawn_as_it_is(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("going", first=lambda _: None, second=lambda _: gate.wait()))
    await gate.until_reached()
    tones = {box.key: box.tone for box in (await engine.picture(run.id)).boxes}
    assert tones == {START: "completed", "first": "completed", "second": "running", END: "idle"}
    gate.open()
    await run.wait()
    assert {box.tone for box in (await engine.picture(run.id)).boxes} == {"completed"}


async def test_without_the_workflow_there_is_no_picture(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Engine(url, registry=Registry()) as engine:
        run = await engine.start(sequence("there", a=lambda _: None))
        await run.wait()
    async with Engine(url, registry=Registry(), workers=False) as client:
        with pytest.raises(WorkflowNotFound, match="'there' is not registered"):
            await client.picture(run.id)


async def test_what_is_no_graph_has_no_picture(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from holdfast.patterns.graph.factory import GraphWorkflow

    run = await engine.start(sequence("plain", a=lambda _: None))
    await run.wait()
    monkeypatch.delattr(GraphWorkflow, "picture")
    with pytest.raises(RequestError, match="plain is no graph"):
        await run.to_mermaid()


def test_the_blocking_engine_draws_too() -> None:
    with BlockingEngine("sqlite:///:memory:", registry=Registry()) as engine:
        run = engine.start(sequence("blocking", a=lambda _: asyncio.run(asyncio.sleep(0))))
        run.wait()
        assert "class start,n0,finish,legend_completed completed" in run.to_mermaid()
        assert run.to_svg().endswith("</svg>\n")
