"""`interrupts`, `fork`, `diff`: what runs ask, and branching off from the past of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import END, START, StateGraph, interrupt
from holdfast.blocking import Engine
from holdfast.registry import Registry
from tests.e2e.cli.calling import Call

MODULE = """
from holdfast import END, START, State, register, workflow_factory

@workflow_factory("buy", replace=True)
def buy(graph, runtime, params: dict):
    graph.add_node("pay", lambda state: {"paid": state["cents"]}).add_edge(START, "pay").add_edge("pay", END)
    return State({"cents": params["cents"]})
"""


@pytest.fixture
def asking(folder: Path) -> Iterator[str]:
    """A run that waits for an answer, in the database that commands take by default."""

    def ask(state: object) -> dict[str, object]:
        return {"answer": interrupt("approve", {"cents": 7}, timeout=3600)}

    graph = StateGraph("asks").add_node("ask", ask).add_edge(START, "ask").add_edge("ask", END)
    with Engine(observers=(), registry=Registry()) as engine:
        run = engine.start(graph, id="order-7")
        while not run.waiting_on:
            run.refresh()
        yield run.id


def test_what_is_asked_is_listed_with_how_to_answer(call: Call, asking: str) -> None:
    done = call("interrupts")
    assert done.code == 0
    for text in (asking, "asks: ask", "approve", '{"cents":7}', "holdfast signal order-7 approve"):
        assert text in done.out
    (found,) = call("interrupts", "--json").document
    assert (found["run_id"], found["name"], found["payload"]) == (asking, "approve", {"cents": 7})
    assert call("interrupts", "--workflow", "other").out == "No run asks anything.\n"
    assert call("signal", asking, "approve", "true").code == 0
    assert call("result", asking, "--wait", "--timeout", "20").out.strip() == '{"answer": true}'
    assert call("interrupts", "--json").document == []


def test_a_run_is_forked_and_compared(call: Call, folder: Path) -> None:
    (folder / "shop.py").write_text(MODULE)
    assert call("run", "shop:buy", "--param", "cents=7", "--id", "order-7").code == 0
    forked = call("fork", "order-7", "--at", "4", "--set", "cents=9", "--app", "shop")
    assert forked.code == 0
    assert "begins as order-7 did up to position 4" in forked.out
    made = call("fork", "order-7", "--at", "4", "--set", "cents=9", "--app", "shop", "--json").document["id"]
    source, fork = (call("show", run, "--json").document for run in ("order-7", made))
    assert (source["forked_from"], fork["forked_from"]) == (None, {"run": "order-7", "at": 4})
    assert fork["created_at"] > source["completed_at"]
    assert "from order-7 at position 4" in call("show", made).out
    assert call("resume", made, "--app", "shop").last_line == '{"cents": 9, "paid": 9}'
    told = call("diff", "order-7", made, "--app", "shop").out
    for text in ("the first 3 facts are the same", "went on with pay", "cents", "paid"):
        assert text in told
    same = call("diff", "order-7", "order-7", "--app", "shop", "--json").document
    assert (same["state"], same["left_path"]) == ([], [])


def test_what_cannot_be_forked_is_refused(call: Call, folder: Path) -> None:
    (folder / "shop.py").write_text(MODULE)
    assert call("run", "shop:buy", "--param", "cents=7", "--id", "order-7").code == 0
    assert call("fork", "nobody").code == 3
    beyond = call("fork", "order-7", "--at", "99")
    assert beyond.code == 2
    assert "has no position 99" in beyond.err
    assert "--app MODULE" in call("fork", "order-7", "--set", "cents=9").err
    assert call("diff", "order-7", "nobody").code == 3
