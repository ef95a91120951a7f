"""What a database can hold must not depend on which one it is: the same values pass, the same are refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from holdfast import DefinitionError, Engine, GraphConfig, PayloadRejected, RunStatus, State, StepContext
from holdfast.registry import as_workflow
from tests.conftest import OpenEngine
from tests.graphs import nothing, sequence
from tests.stored import rows

WIDEST = "".join(chr(0x1F300 + n) for n in range(200))
"""As many characters as a name may have, each of four bytes, so that nothing can be compressed."""

VALUES: dict[str, Any] = {
    "NUL": ["a\0b", {"\0": "\0\0"}, "\\u0000", "\\\0"],
    "not in the basic plane": "\U0001f600\u2028\ufffe" * 5000,
    "whole numbers": [2**63 - 1, -(2**63), 2**64, 10**40, -1],
    "numbers": [1e308, 5e-324, -0.0, 0.1 + 0.2, float("inf")],
    "deep": {"a": [[[[[[[[[[{"b": [{"c": [[]]}]}]]]]]]]]]]},
    "bytes": bytes(range(256)) * 1000,
    "large": "x" * 3_000_000,
    "many": list(range(20_000)),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_a_value_comes_back_as_it_was(url: str, open_engine: OpenEngine, value: Any) -> None:
    engine = await open_engine(url)
    run = await engine.start(sequence("values", node=lambda s: {"out": s["given"]}), {"given": value})
    result = await run.result()
    assert result == {"given": value, "out": value}
    assert repr(result["out"]) == repr(value)
    await engine.close()
    reader = await open_engine(url, workers=False)
    assert await reader.result(run.id) == result
    assert (await reader.stages(run.id, inputs=True))[0].output == {"out": value}
    assert len(rows(url, "SELECT * FROM stages")) == 1, "the views can be read, too"


async def test_texts_that_no_json_holds_are_told(url: str, open_engine: OpenEngine) -> None:
    def node(state: State, step: StepContext) -> None:
        step.progress(50, "half \0 \ud800")
        raise ValueError("bad \0 \ud800 end")

    engine = await open_engine(url)
    run = await engine.start(sequence("texts", node=node), id="texts")
    await run.wait()
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error.message == "bad \0 \\ud800 end"
    ((error,),) = rows(url, "SELECT error FROM stages")
    assert "end" in error


async def test_names_may_be_as_wide_as_can_be(engine: Engine) -> None:
    graph = sequence(WIDEST, node=nothing)
    run = await engine.start(graph, id="i" * 200, queue=WIDEST, tags=[WIDEST, WIDEST[::-1]], delay=3600)
    await engine.signal(run.id, WIDEST, {"n": 1}, key=WIDEST)
    await engine.signal(run.id, WIDEST, {"n": 1}, key=WIDEST)
    found = await engine.runs(workflow=WIDEST, tags=[WIDEST])
    assert [each.id for each in found.items] == [run.id]
    assert len(await engine.store.inbox(run.id)) == 1
    assert await engine.store.check() == []


@pytest.mark.parametrize("name", ["a\0b", "x" * 201, "\ud800", ""], ids=["NUL", "long", "surrogate", "empty"])
async def test_a_name_that_not_every_database_holds_is_refused(engine: Engine, name: str) -> None:
    graph = sequence("names", node=nothing)
    run = await engine.start(graph, delay=3600)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "queue": lambda: engine.start(graph, queue=name),
        "tags": lambda: engine.start(graph, tags=["fine", name]),
        "name": lambda: engine.signal(run.id, name),
        "key": lambda: engine.signal(run.id, "fine", key=name),
        "workflow": lambda: engine.runs(workflow=name),
    }
    for field, call in calls.items():
        with pytest.raises(PayloadRejected, match=field) as caught:
            await call()
        assert caught.value.field == field
        assert caught.value.fix
    with pytest.raises(DefinitionError):
        engine.registry.add(as_workflow(sequence(name, node=nothing)))
    assert await engine.count() == 1


async def test_a_long_journal_is_read_in_pieces_and_whole(engine: Engine) -> None:
    graph = sequence("long", config=GraphConfig(max_iterations=2000), node=lambda s: {"n": s["n"] + 1})
    graph.edges.pop("node")
    graph.add_conditional_edge("node", lambda s: "node" if s["n"] < 1500 else "END", ["node", "END"])
    run = await engine.start(graph, {"n": 0})
    assert await run.result() == {"n": 1500}
    whole = await run.journal()
    assert [fact["position"] for fact in whole] == list(range(1, len(whole) + 1))
    assert len(await run.stages()) == 1500
    events = [event.position async for event in run.events()]
    assert events == sorted(events)
    assert await engine.store.check() == []
