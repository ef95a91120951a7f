"""Workflows of each pattern whose journals are kept, see test_stored_journals.

`python -m tests.regression.recorded NAME` writes the journal of one anew. That is for new workflows: a journal that is
kept was written by an earlier version, and must be understood as it is.
"""

from __future__ import annotations

import asyncio
import operator
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypedDict

import msgspec

from holdfast import (
    END,
    START,
    DAGWorkflow,
    Engine,
    RetryPolicy,
    RunStatus,
    Saga,
    Send,
    StateGraph,
    StateMachine,
)
from holdfast.errors import ActionFailed, InvalidTransition
from holdfast.machines import assign
from holdfast.registry import Registry
from tests.graphs import until

NOW: Final = RetryPolicy(attempts=1)
FOLDER: Final = Path(__file__).parent / "journals"


class Recorded(msgspec.Struct):
    """The commits of a run as they were written, and the state after each of them."""

    commits: list[list[Any]]
    states: list[Any]


class Totals(TypedDict, total=False):
    """The state of the graph."""

    n: int
    log: Annotated[list[str], operator.add]


def graph() -> StateGraph:
    """Return a graph with a fan-out, a reducer and a cycle."""
    made = StateGraph("kept-graph", Totals)
    made.add_node("split", lambda s: {"n": s.get("n", 0) + 1, "log": ["split"]})
    made.add_node("part", lambda s: {"log": [f"part {s['item']}"]})
    made.add_node("join", lambda s: {"log": [f"join {s['n']}"]})
    made.add_edge(START, "split")
    made.add_conditional_edge("split", lambda _: [Send("part", {"item": i}) for i in range(2)], ["part"])
    made.add_edge("part", "join")
    return made.add_conditional_edge("join", lambda s: END if s["n"] >= 2 else "split", ["split", END])


def dag() -> DAGWorkflow:
    """Return a DAG with a map, a failure that is handled, and a task that is skipped."""
    made = DAGWorkflow(name="kept-dag")
    made.add_task("list", lambda: [1, 2, 3])
    made.add_task("square", lambda item: item * item, map_over="list")
    made.add_task("bad", fails)
    made.add_task("alarm", lambda: "rung", depends_on=["bad"], trigger_rule="all_failed")
    made.add_task("never", lambda: None, depends_on=["square"], trigger_rule="one_failed")
    return made


def fails() -> None:
    """Fail."""
    raise ConnectionError("nobody answers")


def machine() -> StateMachine:
    """Return a machine with a history, a guard, actions, a failure, a clock and an event that is put aside."""
    made = StateMachine("kept-machine", initial="idle", context={"n": 0, "items": []}, unhandled="defer")
    made.add_state("work", entry=lambda c: {"n": c["n"] + 1}, exit=lambda c: c["items"].append("left"))
    made.add_state("first", parent="work").add_state("second", parent="work")
    made.add_state("before", parent="work", history="shallow", initial="first")
    made.add_state("done", final=True)
    made.add_transition("idle", "work", "start", guard=lambda _, event: event.data == "go")
    made.add_transition("first", "second", "next", action=assign({"at": "second"}))
    made.add_transition("work", "pause", "hold")
    made.add_transition("pause", "before", "on")
    made.add_transition("second", "idle", "break", action=fails)
    made.add_transition("pause", "pause", after=1_000_000)
    return made.add_transition("work", "done", "end")


EVENTS: Final = (
    ("start", "no"),
    ("on", None),
    ("start", "go"),
    ("next", None),
    ("hold", None),
    ("break", None),
    ("end", None),
)


def saga() -> Saga:
    """Return a saga with a parallel group and items, that goes back."""
    made = Saga("kept-saga")
    made.add_step("charge", forward=lambda: {"receipt": 7}, compensate=lambda output: output)
    made.add_step("seats", forward=lambda item: f"seat {item}", foreach=lambda: [1, 2], compensate=bool)
    made.add_step("mail", forward=lambda: "sent", compensate=fails, retry=NOW)
    return made.add_step("ship", forward=fails)


WORKFLOWS: Final[dict[str, Callable[[], Any]]] = {
    "graph": graph,
    "dag": dag,
    "machine": machine,
    "saga": saga,
}


def without_tracebacks(value: Any) -> Any:
    """Return a JSON value without the texts that name files of this machine."""
    if isinstance(value, list):
        return [without_tracebacks(each) for each in value]
    if isinstance(value, dict):
        return {key: without_tracebacks(each) for key, each in value.items() if key != "traceback"}
    return value


async def record(name: str) -> None:
    """Run a workflow, and keep its journal."""
    async with Engine("sqlite:///:memory:", registry=Registry(), observers=()) as engine:
        run = await engine.start(WORKFLOWS[name](), id=name)
        for event, data in EVENTS if name == "machine" else ():
            try:
                await asyncio.wait_for(run.send(event, data), 5)
            except (InvalidTransition, ActionFailed, TimeoutError) as error:
                print(event, repr(error))

        async def ended() -> bool:
            return (await run.refresh()).status in (RunStatus.COMPLETED, RunStatus.FAILED)

        await until(ended)
        rows = await engine.store.journal(run.id)
        states = [await engine.state(run.id, at=row.position + row.count - 1) for row in rows]
    kept = Recorded([without_tracebacks(msgspec.json.decode(row.facts)) for row in rows], states)
    path = FOLDER / f"{name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1]))
