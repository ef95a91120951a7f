"""`show` of a run with children, which wait for answers of people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import END, START, State, StateGraph, interrupt
from holdfast.blocking import Engine
from holdfast.registry import Registry
from tests.e2e.cli.calling import Call


@pytest.fixture
def asking(folder: Path) -> Iterator[str]:
    """A run whose grandchild waits for an answer, in the database that commands take by default."""

    def ask(state: State) -> dict[str, object]:
        return {"answer": interrupt("approve")}

    def around(name: str, node: object) -> StateGraph:
        made = StateGraph(name).add_node(name, node)  # type: ignore[arg-type]  # a function, or a graph
        return made.add_edge(START, name).add_edge(name, END)

    graph = around("review", around("legal", around("ask", ask)))
    with Engine(observers=(), registry=Registry()) as engine:
        run = engine.start(graph, id="order-7")
        while not engine.interrupts():
            run.refresh()
        yield run.id


def test_a_run_is_shown_with_its_children(call: Call, asking: str) -> None:
    done = call("show", asking)
    assert done.code == 0
    assert "child runs" in done.out
    child, grandchild = (line for line in done.out.splitlines() if "~1  " in line)
    assert "└─ ◷ order-7/review~1  waiting" in child
    assert "run order-7/review~1/legal~1" in child
    assert "   └─ ◷ order-7/review~1/legal~1  waiting" in grandchild
    assert "signal approve" in grandchild

    shown = call("show", asking, "--json").document
    (child,) = shown["children"]
    assert (shown["parent"], child["id"], child["parent"]) == (None, "order-7/review~1", "order-7")
    assert [each["id"] for each in child["children"]] == ["order-7/review~1/legal~1"]
    assert "order-7/review~1" in call("show", child["children"][0]["id"]).out


def test_what_a_child_asks_is_listed_with_how_to_answer(call: Call, asking: str) -> None:
    out = call("interrupts").out
    assert "review: ask" in out
    assert "holdfast signal order-7/review~1/legal~1 approve" in out.replace("'", "")
