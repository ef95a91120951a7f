"""W22: results depended on who ended first: merged in random order, and told in random order.

What a round gives is merged in the order in which its nodes stand, whatever ends when.
"""

from __future__ import annotations

import asyncio
import operator
import random
from typing import Annotated, Any, TypedDict

import pytest

from holdfast import END, START, Engine, Send, State, StateGraph
from tests.graphs import LONG


class Found(TypedDict, total=False):
    trail: Annotated[list[str], operator.add]
    marks: Annotated[dict[str, str], operator.or_]


def graph(chance: random.Random) -> StateGraph:
    """Branches and a fan-out whose nodes take as many turns of the loop as chance will have it."""

    async def dawdle() -> None:
        for _ in range(chance.randint(0, 30)):
            await asyncio.sleep(0)

    def node(name: str) -> Any:
        async def run(state: State) -> dict[str, Any]:
            await dawdle()
            return {"trail": [name], "marks": {"last": name, name: "seen"}}

        return run

    async def item(state: State) -> dict[str, Any]:
        await dawdle()
        return {"trail": [f"item {state['n']}"], "marks": {"last": f"item {state['n']}"}}

    made = StateGraph("w22", schema=Found)
    for name in "abcde":
        made.add_node(name, node(name))
        made.add_edge(START, name)
    made.add_node("item", item).add_node("end", node("end"))
    made.add_edge(list("abcd"), "end")
    made.add_conditional_edge("e", lambda _: [Send("item", {"n": n}) for n in range(10)], ["item"])
    return made.add_edge("item", END).add_edge("end", END)


@pytest.mark.parametrize("seed", range(100 if LONG else 8))
async def test_the_result_does_not_depend_on_who_ends_first(engine: Engine, seed: int) -> None:
    run = await engine.start(graph(random.Random(seed)))
    trail = [*"abcde", *(f"item {n}" for n in range(10)), "end"]
    marks = {**dict.fromkeys("abcde", "seen"), "end": "seen", "last": "end"}
    assert await run.result() == {"trail": trail, "marks": marks}
    told = [(d.from_node, d.to_node, d.result) for d in await run.decisions()]
    assert told == [
        *((START, name, True) for name in "abcde"),
        *(
            ("a", "end", True),
            ("b", "end", True),
            ("c", "end", True),
            ("d", "end", True),
            ("e", "item", True),
        ),
        *(("item", END, True), ("end", END, True)),
    ]
    assert [stage.name for stage in await run.stages()] == [*"abcde", *["item"] * 10, "end"]
