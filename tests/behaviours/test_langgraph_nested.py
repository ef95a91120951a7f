"""What users of LangGraph rely on with graphs within graphs, restated: the numbers that `test_langgraph` leaves out."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from holdfast import END, START, Engine, RunStatus, State, StateGraph
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, Gate, sequence


class Trail(TypedDict, total=False):
    """A state with a reduced list, and where to go."""

    trail: Annotated[list[str], operator.add]
    way: str
    n: int


class Step:
    """A node that leaves its name, and counts how often it ran."""

    def __init__(self, name: str, **more: Any) -> None:
        self.name = name
        self.more = more
        self.times = 0
        self.broken = False

    def __call__(self, state: State) -> dict[str, Any]:
        self.times += 1
        if self.broken:
            raise ValueError(f"{self.name} is broken")
        return {"trail": [self.name], **self.more}


def nest(graph: StateGraph, depth: int) -> StateGraph:
    """Return a graph so many levels below another one."""
    for level in range(depth):
        graph = sequence(f"level-{level}", schema=Trail, down=graph)
    return graph


def routed(name: str, inner: StateGraph) -> StateGraph:
    outer = StateGraph(name, schema=Trail).add_node("ask", inner)
    outer.add_node("left", Step("left")).add_node("right", Step("right"))
    outer.add_edge(START, "ask").add_edge("left", END).add_edge("right", END)
    return outer.add_conditional_edge("ask", lambda state: state["way"], ["left", "right"])


async def test_a_child_says_where_its_parent_goes_however_deep_it_is(engine: Engine) -> None:
    """13: what a child writes is seen by the edges of its parent."""
    for depth in (0, 2):
        inner = nest(sequence("inner", schema=Trail, choose=Step("choose", way="right")), depth)
        assert await engine.execute(routed(f"over-{depth}", inner)) == {
            "trail": ["choose", "right"],
            "way": "right",
        }


async def test_a_child_is_as_durable_as_its_parent(url: str, open_engine: OpenEngine) -> None:
    """18: there is no mode to inherit: each step of a child is kept before the next one begins."""
    done, last = Step("done"), Step("last")
    last.broken = True
    outer = sequence(
        "outer", schema=Trail, down=nest(sequence("inner", schema=Trail, done=done, last=last), 1)
    )
    first = await open_engine(url)
    run = await first.start(outer, id="r")
    assert (await run.wait(PATIENCE)).status is RunStatus.FAILED
    await first.close()
    last.broken = False
    second = await open_engine(url)
    await second.resume("r")
    assert await second.result("r", timeout=PATIENCE) == {"trail": ["done", "last"]}
    assert (done.times, last.times) == (1, 2)


async def test_a_child_has_a_state_of_its_own_each_time_it_is_called(engine: Engine) -> None:
    """20: called again it begins anew, with what its parent has now; what it wrote before stays in its run."""

    def count(state: State) -> dict[str, Any]:
        return {"n": state["n"] + 1, "private": state.get("private", 0) + 1}

    inner = sequence("inner", count=count)
    outer = StateGraph("outer", schema=Trail).add_node("call", inner).add_edge(START, "call")
    outer.add_conditional_edge("call", lambda state: "call" if state["n"] < 3 else END, ["call", END])
    run = await engine.start(outer, {"n": 0}, id="r")
    assert await run.result(timeout=PATIENCE) == {"n": 3}
    states = [await engine.state(f"r/call~{visit}") for visit in (1, 2, 3)]
    assert states == [{"n": n, "private": 1} for n in (1, 2, 3)]


async def test_two_nodes_with_one_graph_share_nothing(engine: Engine) -> None:
    """20: a graph is a definition; each node that uses it has a child of its own."""
    inner = sequence("inner", schema=Trail, say=Step("said"))
    outer = StateGraph("outer", schema=Trail)
    for name in ("a", "b"):
        outer.add_node(name, inner).add_edge(START, name).add_edge(name, END)
    run = await engine.start(outer, {"trail": ["begun"]})
    assert await run.result(timeout=PATIENCE) == {"trail": ["begun", "said", "said"]}
    assert [await child.state() for child in await run.children()] == [{"trail": ["begun", "said"]}] * 2


async def test_a_replay_of_three_levels_begins_with_the_state_of_that_moment(engine: Engine) -> None:
    """23: a fork from before the second child keeps the result of the first, and gives the second what was then."""
    first, second = Step("first", n=1), Step("second")
    one = nest(sequence("one", schema=Trail, first=first), 2)
    two = nest(sequence("two", schema=Trail, second=second), 2)
    outer = sequence("outer", schema=Trail, one=one, two=two, last=Step("last", n=9))
    run = await engine.start(outer, id="r")
    assert await run.result(timeout=PATIENCE) == {"trail": ["first", "second", "last"], "n": 9}
    journal = await run.journal()
    begins = next(e["position"] for e in journal if (e["fact"], e.get("step")) == ("StepScheduled", "two#1"))
    fork = await run.fork(at=begins)
    assert await fork.result(timeout=PATIENCE) == {"trail": ["first", "second", "last"], "n": 9}
    assert (first.times, second.times) == (1, 2)
    replayed = await engine.get(f"{fork.id}/two~1")
    assert replayed.params == {"trail": ["first"], "n": 1}


async def test_an_engine_that_drains_amid_a_child_leaves_a_family_that_goes_on(
    url: str, open_engine: OpenEngine
) -> None:
    """27: the step that runs in the child ends and is kept; who opens next goes on with it, then with its parent."""
    gate, after, last = Gate(), Step("after"), Step("last")

    def slow(_: State) -> dict[str, Any]:
        gate.wait()
        return {"trail": ["slow"]}

    inner = sequence("inner", schema=Trail, slow=slow, after=after)
    outer = sequence("outer", schema=Trail, down=inner, last=last)
    first = await open_engine(url)
    run = await first.start(outer)
    await gate.until_reached()
    closing = asyncio.ensure_future(first.close(grace=PATIENCE))
    gate.open()
    await closing
    second = await open_engine(url)
    assert await second.result(run.id, timeout=PATIENCE) == {"trail": ["slow", "after", "last"]}
    assert (after.times, last.times) == (1, 1)
