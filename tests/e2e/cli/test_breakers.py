"""`breakers`: circuit breakers of a store from the terminal, on each store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cli.calling import Call

MODULE = """
from holdfast import END, START, CircuitBreaker, State, workflow_factory

def ask(state):
    raise OSError("the service is down")

@workflow_factory("service", replace=True)
def service(graph, runtime, params: dict):
    graph.add_node("ask", ask, breaker=CircuitBreaker("payments", threshold=1, reset_timeout=3600))
    graph.add_edge(START, "ask").add_edge("ask", END)
    return State()
"""


@pytest.fixture(autouse=True)
def module(folder: Path) -> None:
    (folder / "services.py").write_text(MODULE)


@pytest.mark.usefixtures("each_store")
def test_breakers_are_listed_and_forced(call: Call) -> None:
    assert call("run", "services:service", "--id", "a").code == 1
    shown = call("breakers").out
    for text in ("payments", "open", "lets one through", "UTC"):
        assert text in shown
    (document,) = call("breakers", "--json").document
    assert (document["name"], document["state"], document["opened"]) == ("payments", "open", 1)
    assert "disabled" in call("breakers", "disable", "payments").out
    assert call("run", "services:service", "--id", "b").code == 1, "it let the call through"
    forced = call("breakers", "open", "payments", "mail", "--json").document
    assert [(each["name"], each["state"]) for each in forced] == [
        ("payments", "forced_open"),
        ("mail", "forced_open"),
    ]
    assert "closed" in call("breakers", "close", "payments").out


@pytest.mark.parametrize("words", [["open"], ["list", "a"], ["break", "a"]], ids=" ".join)
def test_wrong_use_says_what_to_write(call: Call, words: list[str]) -> None:
    wrong = call("breakers", *words)
    assert (wrong.code, "breakers" in wrong.err) == (2, True)
