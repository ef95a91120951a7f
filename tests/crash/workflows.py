"""The workflows that crash tests run, in the process that dies and in the one that goes on.

Every start of a node's code appends one line to the log: run, step, attempt and process. O_APPEND makes a line whole or
absent, so after any kill the log holds what really began.
"""

from __future__ import annotations

import asyncio
import operator
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

from holdfast import (
    END,
    START,
    ChainConfig,
    DAGWorkflow,
    ParallelConfig,
    RetryPolicy,
    Saga,
    Send,
    State,
    StateGraph,
    StateMachine,
    StepContext,
    chain_node,
    parallel_node,
    step_context,
)
from holdfast.machines import ALWAYS, action, assign
from holdfast.model.run import EndingRun
from holdfast.patterns.graph.factory import GraphWorkflow
from holdfast.registry import Registry, as_workflow

Nap = Callable[[float], None]


def write_line(log: str, *words: object) -> None:
    """Append a line in one system call."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(file)


def began(log: str, step: StepContext) -> None:
    """Tell that a node's code begins."""
    write_line(log, step.run_id, step.step_id, step.attempt, os.getpid())


class Work(TypedDict, total=False):
    """The state of the wide graph: two reduced keys, the rest written by one node each."""

    log: str
    size: int
    trail: Annotated[list[str], operator.add]
    squares: Annotated[list[int], operator.add]
    left: int
    right: int
    deep: int
    rounds: int
    total: int
    label: str
    number: int


def wide(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
    """Parallel branches of unequal length, a fan-out, a join, a loop, and two nodes that fail at first."""

    def node(name: str, change: Callable[[State, StepContext], Mapping[str, Any]]) -> Callable[..., Any]:
        def run(state: State, step: StepContext) -> Mapping[str, Any]:
            began(params["log"], step)
            return {"trail": [name], **change(state, step)}

        run.__name__ = name
        return run

    def asynchronous(
        name: str, change: Callable[[State, StepContext], Mapping[str, Any]]
    ) -> Callable[..., Any]:
        async def run(state: State, step: StepContext) -> Mapping[str, Any]:
            began(params["log"], step)
            return {"trail": [name], **change(state, step)}

        run.__name__ = name
        return run

    def fragile(state: State, step: StepContext) -> Mapping[str, Any]:
        if step.attempt < 3:
            raise ConnectionError(f"attempt {step.attempt} of {step.name} fails")
        return {"deep": 7}

    again = RetryPolicy(attempts=4, backoff=0.01, jitter="none")
    graph.add_node("split", node("split", lambda *_: {"rounds": 0}))
    graph.add_node("left", asynchronous("left", lambda s, _: {"left": s["size"]}))
    graph.add_node("right", node("right", lambda s, _: {"right": s["size"] * 10}))
    graph.add_node("deep", node("deep", fragile), retry=again)
    graph.add_node(
        "square", asynchronous("square", lambda s, _: {"squares": [s["number"] ** 2]}), retry=again
    )
    graph.add_node("merge", node("merge", lambda s, _: {"total": s["left"] + s["right"] + s["deep"]}))
    graph.add_node("loop", node("loop", lambda s, _: {"rounds": s["rounds"] + 1}))
    graph.add_node(
        "end",
        asynchronous("end", lambda s, _: {"label": f"{s['total']}/{sum(s['squares'])}/{s['rounds']}"}),
    )
    graph.add_edge(START, "split")
    graph.add_edge("split", "left")
    graph.add_edge("split", "right")
    graph.add_edge("right", "deep")
    graph.add_edge(["left", "deep"], "merge")
    graph.add_conditional_edge(
        "merge", lambda s: [Send("square", {"number": n}) for n in range(s["size"])], ["square"]
    )
    graph.add_edge("square", "loop")
    graph.add_conditional_edge("loop", lambda s: "loop" if s["rounds"] < 2 else "end", ["loop", "end"])
    graph.add_edge("end", END)
    return State({"log": params["log"], "size": params["size"]})


WIDE_RESULT = {
    "size": 3,
    "trail": ["split", "left", "right", "deep", "merge", "square", "square", "square", "loop", "loop", "end"],
    "squares": [0, 1, 4],
    "left": 3,
    "right": 30,
    "deep": 7,
    "rounds": 2,
    "total": 40,
    "label": "40/5/2",
}
"""What a run of `wide` with size 3 ends with, whatever happened to it."""


def slow(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
    """Three nodes that take their time, in threads."""

    def nap(state: State, step: StepContext) -> Mapping[str, Any]:
        began(params["log"], step)
        end = time.monotonic() + params["seconds"]
        while time.monotonic() < end and not step.cancelled:
            time.sleep(0.005)
        return {"done": [*state.get("done", []), step.name]}

    last = START
    for name in ("one", "two", "three"):
        graph.add_node(name, nap)
        graph.add_edge(last, name)
        last = name
    graph.add_edge(last, END)
    return State({})


def poison(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
    """A good node, then one that kills its process as long as the file `poison` is there."""

    def good(state: State, step: StepContext) -> None:
        began(params["log"], step)

    def kill(state: State, step: StepContext) -> None:
        began(params["log"], step)
        if Path(params["poison"]).exists():
            os.kill(os.getpid(), signal.SIGKILL)

    graph.add_node("good", good)
    graph.add_node("kill", kill)
    graph.add_edge(START, "good").add_edge("good", "kill").add_edge("kill", END)
    return State({})


def poison_factory(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
    """A workflow that kills its process before there is a graph."""
    write_line(params["log"], "factory", os.getpid())
    if Path(params["poison"]).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    graph.add_node("good", lambda _: {"good": True})
    graph.add_edge(START, "good").add_edge("good", END)
    return State({})


def patient(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
    """A node that fails twice and waits between its tries for as long as the params say."""

    def fail(state: State, step: StepContext) -> Mapping[str, Any]:
        began(params["log"], step)
        if step.attempt < 3:
            raise ConnectionError(f"attempt {step.attempt} fails")
        return {"attempt": step.attempt}

    policy = RetryPolicy(attempts=3, backoff=params["backoff"], factor=1.0, jitter="none")
    graph.add_node("fail", fail, retry=policy)
    graph.add_edge(START, "fail").add_edge("fail", END)
    return State({})


def supervised(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
    """A node that fails so often, in a run that is tried three times; see `remember`."""

    def fail(state: State, step: StepContext) -> Mapping[str, Any]:
        began(params["log"], step)
        if step.attempt <= params["failures"]:
            raise ConnectionError(f"attempt {step.attempt} fails")
        return {"attempt": step.attempt}

    graph.add_node("fail", fail)
    graph.add_edge(START, "fail").add_edge("fail", END)
    return State({})


async def remember(run: EndingRun, outcome: Any) -> str:
    """A hook that takes as long as the params of its run say."""
    began(run.params["log"], step_context())
    await asyncio.sleep(run.params["seconds"])
    return type(outcome).__name__


TRIES = RetryPolicy(attempts=3, backoff=1.2, factor=1.0, jitter="none")


def items(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
    """Items in parallel, then a chain. Each start of an item's code is one line of the log."""

    def square(number: int) -> int:
        write_line(params["log"], "square", number)
        return number * number

    async def add(number: int, state: State) -> State:
        write_line(params["log"], "add", number)
        return state.set("sum", state.get("sum", 0) + number)

    limited = ParallelConfig(max_workers=2, observer=None)
    squares = parallel_node(
        range(params["count"]), square, lambda done, _: {"squares": done.results}, limited
    )
    graph.add_node("squares", squares)
    graph.add_node("total", chain_node("squares", add, ChainConfig(observer=None)))
    graph.add_edge(START, "squares").add_edge("squares", "total").add_edge("total", END)
    return State({})


def flaky(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
    """A node that fails twice, waits between its tries, and tells nothing of that in its result."""

    async def fail(state: State, step: StepContext) -> Mapping[str, Any]:
        began(params["log"], step)
        if step.attempt < 3:
            raise ConnectionError(f"attempt {step.attempt} fails")
        return {"done": True}

    policy = RetryPolicy(attempts=3, backoff=params["backoff"], factor=1.0, jitter="none")
    graph.add_node("fail", fail, retry=policy)
    graph.add_edge(START, "fail").add_edge("fail", END)
    return State({})


def doomed(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
    """Two branches, of which one fails for good."""

    async def fail(state: State, step: StepContext) -> None:
        began(params["log"], step)
        raise ValueError(f"{step.run_id} is doomed")

    async def good(state: State, step: StepContext) -> Mapping[str, Any]:
        began(params["log"], step)
        return {"good": True}

    graph.add_node("fail", fail, retry=RetryPolicy(attempts=2, backoff=0.01, jitter="none"))
    graph.add_node("good", good)
    graph.add_edge(START, "fail").add_edge(START, "good").add_edge("fail", END).add_edge("good", END)
    return State({})


def gated(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
    """A node that waits until a file is there, and leaves a trace when it has seen it."""

    async def wait(state: State, step: StepContext) -> Mapping[str, Any]:
        began(params["log"], step)
        while not Path(params["gate"]).exists():
            await asyncio.sleep(0.2)  # a thousand of these wait at once
        write_line(params["passed"], step.run_id, step.attempt, os.getpid())
        return {"attempt": step.attempt}

    graph.add_node("wait", wait)
    graph.add_edge(START, "wait").add_edge("wait", END)
    return State({})


def stubborn(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
    """As `gated`, in a thread, which nobody can end."""

    def wait(state: State, step: StepContext) -> Mapping[str, Any]:
        began(params["log"], step)
        while not Path(params["gate"]).exists():
            time.sleep(0.02)
        write_line(params["passed"], step.run_id, step.attempt, os.getpid())
        return {"attempt": step.attempt}

    graph.add_node("wait", wait)
    graph.add_edge(START, "wait").add_edge("wait", END)
    return State({})


def nested(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
    """Two graphs in one round, one of them with a graph of its own, then a node that sees what all of them wrote."""

    def node(amount: int) -> Callable[..., Any]:
        async def run(state: State, step: StepContext) -> Mapping[str, Any]:
            began(params["log"], step)
            return {"trail": [step.name], "rounds": amount}

        return run

    def inner(name: str, *nodes: tuple[str, Any]) -> StateGraph:
        made = StateGraph(name, schema=Trail)
        last = START
        for label, each in nodes:
            made.add_node(label, each).add_edge(last, label)
            last = label
        return made.add_edge(last, END)

    deep = inner("deep", ("dive", node(params["size"])), ("rise", node(params["size"])))
    graph.add_node("first", node(0))
    graph.add_node("left", inner("left", ("l1", node(1)), ("l2", node(2))))
    graph.add_node("right", inner("right", ("r1", node(3)), ("deep", deep)))
    graph.add_node("last", node(9))
    graph.add_edge(START, "first").add_edge("first", "left").add_edge("first", "right")
    graph.add_edge(["left", "right"], "last").add_edge("last", END)
    return State({"log": params["log"]})


class Trail(TypedDict, total=False):
    """What all graphs of `nested` share, and a key that each has for itself."""

    trail: Annotated[list[str], operator.add]
    rounds: Annotated[int, max]


class NestedWork(Trail, total=False):
    """The state of the outermost graph of `nested`."""

    log: str


def undone(name: str) -> Saga:
    """Three steps with compensations and one that fails: every compensation takes effect once per key.

    The effects of compensations are told by their keys, as a payment service would that gets one twice.
    """
    saga = Saga(name)

    def add(label: str) -> None:
        async def forward(params: dict[str, Any], step: StepContext) -> str:
            began(params["log"], step)
            return f"{label} done"

        async def compensate(
            params: dict[str, Any], step: StepContext, output: str, idempotency_key: str
        ) -> None:
            began(params["log"], step)
            write_line(params["effects"], idempotency_key, output.replace(" ", "-"))
            while step.step_id == params.get("hangs_at") and not Path(params["gate"]).exists():
                await asyncio.sleep(0.02)

        saga.add_step(label, forward=forward, compensate=compensate)

    for label in ("charge", "reserve", "pack"):
        add(label)

    async def ship(params: dict[str, Any], step: StepContext) -> None:
        began(params["log"], step)
        raise ValueError("no carrier")

    return saga.add_step("ship", forward=ship)


def tasks() -> DAGWorkflow:
    """A DAG with a map, a task that is skipped, and one that runs after a failure; each start of code is logged."""

    def work(value: Any) -> Callable[..., Any]:
        async def run(params: dict[str, Any], step: StepContext, *given: Any) -> Any:
            began(params["log"], step)
            await asyncio.sleep(0)
            return value(*given) if callable(value) else value

        return run

    def fail(params: dict[str, Any], step: StepContext) -> None:
        began(params["log"], step)
        raise ValueError("broken on purpose")

    async def square(item: int, params: dict[str, Any], step: StepContext) -> int:
        began(params["log"], step)
        await asyncio.sleep(0)
        return item * item

    dag = DAGWorkflow(name="tasks", max_parallel=3)
    dag.add_task("list", work(list(range(6))))
    dag.add_task("bad", fail)
    dag.add_task("square", square, map_over="list")
    dag.add_task("sum", work(sum), depends_on=["square"])
    dag.add_task("never", work("never"), depends_on=["square"], trigger_rule="one_failed")
    dag.add_task("alarm", work("rung"), depends_on=["bad"], trigger_rule="all_failed")
    return dag


def errands() -> StateMachine:
    """Two rounds of actions and a clock, then one that fails and is answered; each start of code is logged."""

    def does(label: str) -> Any:
        async def act(context: dict[str, Any]) -> dict[str, Any]:
            began(context["log"], step_context())
            await asyncio.sleep(0)
            if label == "break":
                raise ValueError("broken on purpose")
            return {"trail": [*context["trail"], label]}

        return action(act, label)

    machine = StateMachine("errands", initial="begin", context={"trail": [], "rounds": 0})
    machine.add_state("work", entry=does("arrive"), exit=does("leave"))
    machine.add_state("first", parent="work").add_state("second", parent="work")
    machine.add_state("end", final=True)
    counted = assign(lambda context: {"rounds": context["rounds"] + 1})
    machine.add_transition("begin", "work", ALWAYS, action=[does("pack"), counted])
    machine.add_transition("first", "second", after=0.01, action=does("ring"))
    machine.add_transition("second", "begin", ALWAYS, guard=lambda context: context["rounds"] < 2)
    machine.add_transition(
        "second", "end", ALWAYS, guard=lambda context: context["rounds"] == 2, action=does("break")
    )
    return machine.add_transition("second", "end", "error.execution", action=does("mend"))


def registered() -> Registry:
    """A registry with all of them."""
    registry = Registry()
    registry.add(GraphWorkflow("wide", wide, schema=Work))
    registry.add(GraphWorkflow("nested", nested, schema=NestedWork))
    registry.add(tasks())
    for factory in (slow, poison, poison_factory, patient, items, flaky, doomed, gated, stubborn):
        registry.add(GraphWorkflow(factory.__name__, factory))
    registry.add(
        GraphWorkflow("supervised", supervised, retry=TRIES, on_success=remember, on_failure=remember)
    )
    registry.add(undone("undone"))
    registry.add(as_workflow(errands()))
    return registry
