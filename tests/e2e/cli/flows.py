"""Workflows that the tests of the command line run. What a node does goes to `effects.txt` in the current directory."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from holdfast import END, START, RetryPolicy, Runtime, Send, State, StateGraph, StepContext, workflow_factory

runtime = Runtime(greeting="hello")


def nothing(state: State) -> dict[str, Any]:
    return {}


def twice(state: State) -> dict[str, Any]:
    print("a node prints")
    return {"twice": 2 * state["pages"]}


class Order(TypedDict):
    pages: int
    title: NotRequired[str]


def effect(line: str) -> None:
    with Path("effects.txt").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def first(state: State) -> dict[str, Any]:
    effect("first")
    return {"first": True}


@workflow_factory("greet", "greets with a service of the runtime")
def greet(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
    graph.add_node("say", lambda s: {"said": f"{runtime.greeting} {s['name']}"})
    graph.add_edge(START, "say")
    graph.add_edge("say", END)
    return State({"name": params.get("name", "you")})


@workflow_factory("order", "has typed params", params=Order)
def order(graph: StateGraph, runtime: Runtime, params: Order) -> State:
    graph.add_node("count", twice)
    graph.add_edge(START, "count")
    graph.add_edge("count", END)
    return State(dict(params))


def two_steps(name: str, second: Any, retry: RetryPolicy | None = None) -> None:
    """Register `first`, then `second`."""

    @workflow_factory(name)
    def build(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
        graph.add_node("first", first)
        graph.add_node("second", second, retry=retry)
        graph.add_edge(START, "first")
        graph.add_edge("first", "second")
        graph.add_edge("second", END)
        return State(params)


async def slow(state: State, step: StepContext) -> dict[str, Any]:
    """Takes `seconds`, unless there is a file `quick`."""
    effect("second")
    for done in range(100):
        step.progress(done, "working")
        await asyncio.sleep(0 if Path("quick").exists() else state.get("seconds", 10) / 100)
    return {"second": True}


def fails(state: State) -> dict[str, Any]:
    if Path("mended").exists():
        return {"second": True}
    raise RuntimeError("the printer is on fire")


def stubborn(state: State) -> None:
    """Holds its thread and does not hear that it shall end."""
    effect("second")
    time.sleep(30)


def closes(state: State) -> None:
    """Takes standard output away."""
    sys.stdout.close()
    time.sleep(30)


async def blocks(state: State) -> None:
    """Holds the event loop."""
    effect("second")
    time.sleep(30)  # noqa: ASYNC251 - that is the point


def whispers(state: State) -> dict[str, Any]:
    return {"length": len(state.get_secret("token") or "")}


async def slow_whispers(state: State, step: StepContext) -> dict[str, Any]:
    await slow(state, step)
    return whispers(state)


two_steps("slow", slow)
two_steps("unstorable", lambda _: {"handle": object()})
two_steps("fails", fails)
two_steps("flaky", fails, RetryPolicy(attempts=2, backoff=0.05))
two_steps("stubborn", stubborn)
two_steps("blocks", blocks)
two_steps("closes", closes)
two_steps("immense", lambda _: {"number": 16**5000})
two_steps("whispers", whispers)
two_steps("slow-whispers", slow_whispers)


@workflow_factory("invalid")
def invalid(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
    graph.add_node("first", first)
    graph.add_node("lost", first)
    graph.add_edge(START, "first")
    graph.add_edge("first", END)
    return State({})


@workflow_factory("picky")
def picky(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
    raise LookupError("no such document")


@workflow_factory("wide")
def wide(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
    graph.add_node("item", nothing)
    graph.add_node("sum", lambda s: {"sum": s["n"]})
    graph.add_node("never", first)
    graph.add_conditional_edge(START, lambda s: [Send("item", {"i": i}) for i in range(s["n"])], ["item"])
    graph.add_edge("item", "never", when=lambda s: s["n"] < 0, name="negative")
    graph.add_edge("item", "sum")
    graph.add_edge("never", END)
    graph.add_edge("sum", END)
    return State({"n": params["n"]})


pipeline = StateGraph()
pipeline.add_node("only", nothing)
pipeline.add_edge(START, "only")
pipeline.add_edge("only", END)


reel = StateGraph("film")
reel.add_node("only", nothing)
reel.add_edge(START, "only")
reel.add_edge("only", END)


@workflow_factory("named-so")
def called_so(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
    return greet(graph, runtime, params)


def undecorated(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
    graph.add_node("slow", slow)
    graph.add_edge(START, "slow")
    graph.add_edge("slow", END)
    return State(params)


not_a_workflow = 7
