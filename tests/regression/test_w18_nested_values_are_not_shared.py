"""W18: immutability was shallow: a node that changed a nested value changed the state of others, and that of a failure.

Each state decodes what it reads for itself; in development and in tests a change in place is found and refused.
"""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import Engine, RunFailed, State, StepContext
from tests.graphs import Gate, parallel, sequence


def as_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine believe that this is no test."""
    monkeypatch.delenv("HOLDFAST_DEV", raising=False)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")


PAGES: dict[str, Any] = {"pages": [{"number": 1, "marks": ["SECRET"]}]}


def spoil(state: State) -> dict[str, int]:
    state["pages"][0]["marks"].append("spoilt")
    state["pages"].clear()
    return {"spoilt": 1}


async def test_a_change_in_place_reaches_nobody(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    as_in_production(monkeypatch)
    gate = Gate()

    def first(state: State) -> dict[str, int]:
        answer = spoil(state)
        gate.open()
        return answer

    def other(state: State) -> dict[str, Any]:
        gate.wait()
        return {"seen": state["pages"]}

    graph = parallel("w18", first=first, other=other)
    assert await engine.execute(graph, PAGES) == {**PAGES, "spoilt": 1, "seen": PAGES["pages"]}


async def test_a_node_is_tried_again_on_the_state_it_was_given(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_in_production(monkeypatch)

    def node(state: State, step: StepContext) -> dict[str, Any]:
        if step.attempt == 1:
            spoil(state)
            raise ConnectionError
        return {"seen": state["pages"]}

    run = await engine.start(sequence("w18", node=node), PAGES)
    with pytest.raises(RunFailed) as caught:
        await run.result()
    assert caught.value.state == PAGES
    await run.resume()
    assert (await run.result())["seen"] == PAGES["pages"]


async def test_in_tests_a_change_in_place_is_refused_naming_the_key(engine: Engine) -> None:
    with pytest.raises(RunFailed, match="'spoil' changed the value of 'pages' in place") as caught:
        await engine.execute(sequence("w18", spoil=spoil), PAGES)
    assert caught.value.state == PAGES


async def test_what_a_node_returned_is_not_tied_to_what_it_keeps(engine: Engine) -> None:
    kept: list[int] = [1]

    def node(state: State) -> dict[str, list[int]]:
        return {"items": kept}

    def later(state: State) -> dict[str, list[int]]:
        kept.append(2)
        return {"seen": state["items"]}

    assert await engine.execute(sequence("w18", node=node, later=later)) == {"items": [1], "seen": [1]}
