"""W22: results depended on who ended first: merged in random order, and told in random order.

What a round gives is merged in the order in which its nodes stand, whatever ends when.
"""

from __future__ import annotations

import asyncio
import operator
import random
from typing import Annotated, Any, TypedDict

import pytest

from holdfast import END, START, Engine, ParallelConfig, Send, State, StateGraph, process_parallel
from holdfast.errors import ParallelError
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


@pytest.mark.parametrize("seed", range(50 if LONG else 5))
async def test_parallel_items_do_not_depend_on_who_ends_first(seed: int) -> None:
    """Results, errors and progress have one order, and no worker takes an item after a failure."""
    chance = random.Random(seed)
    begun: list[int] = []
    told: list[int] = []

    async def task(item: int) -> int:
        begun.append(item)
        for _ in range(chance.randint(0, 20)):
            await asyncio.sleep(0)
        if item % 7 == 6:
            raise ValueError(f"no {item}")
        return item

    collecting = ParallelConfig(max_workers=5, fail_fast=False)
    done = await process_parallel(range(40), task, collecting, lambda count, *_: told.append(count))
    assert done.results == [item for item in range(40) if item % 7 != 6]
    assert [error.index for error in done.errors] == [6, 13, 20, 27, 34]
    assert told == list(range(1, 36))
    assert begun == list(range(40))

    begun.clear()
    with pytest.raises(ParallelError) as caught:
        await process_parallel(range(40), task, ParallelConfig(max_workers=5))
    ended = len(caught.value.errors) + len(caught.value.result.results)
    assert begun == list(range(ended))
