"""`dead-letters`: runs that failed for good, from the terminal, on each store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cli.calling import Call

MODULE = """
from pathlib import Path
from holdfast import END, START, State, workflow_factory

def ask(state):
    if not Path("up").exists():
        raise OSError("the service is down")
    return {"answer": 42}

@workflow_factory("service", replace=True)
def service(graph, runtime, params: dict):
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask").add_edge("ask", END)
    return State()
"""


@pytest.fixture(autouse=True)
def module(folder: Path) -> None:
    (folder / "services.py").write_text(MODULE)


@pytest.mark.usefixtures("each_store")
def test_a_run_that_failed_is_listed_shown_redriven_and_put_away(call: Call, folder: Path) -> None:
    for name in "abc":
        assert call("run", "services:service", "--id", name).code == 1
    listed = call("dead-letters")
    assert listed.code == 0
    for text in ("a", "service", "ask", "step_failed", "the service is down", "dead-letters show"):
        assert text in listed.out
    listed = call("dead-letters", "--json", "--code", "step_failed").document
    assert ([each["id"] for each in listed["items"]], listed["total"]) == (["c", "b", "a"], 3)
    page = call("dead-letters", "--json", "--limit", "2").document
    rest = call("dead-letters", "--json", "--limit", "2", "--after", page["next"]).document
    assert [each["id"] for each in (*page["items"], *rest["items"])] == ["c", "b", "a"]
    assert rest["next"] is None
    assert f"--limit 2 --after {page['next']}" in call("dead-letters", "--limit", "2").out
    assert call("dead-letters", "stop").code == 0
    shown = call("dead-letters", "show", "a", "--json").document
    assert (shown["input"], shown["redrives"], shown["history"][0]["message"]) == (
        {},
        0,
        "the service is down",
    )
    assert "step_failed" in call("dead-letters", "show", "a").out
    assert call("dead-letters", "discard", "a").code == 0
    assert call("dead-letters", "redrive", "a", "--json").error["code"] == "invalid_status"
    (folder / "up").touch()
    assert "run b goes on" in call("dead-letters", "redrive", "b").out
    assert "1 redriven" in call("dead-letters", "redrive", "--all", "--rate", "50").out
    for name in "bc":
        assert call("resume", name, "--app", "services").code == 0
    assert "No dead letters" in call("dead-letters").out


@pytest.mark.parametrize(
    "words", [["redrive"], ["list", "a"], ["show", "a", "--all"], ["--all"], ["stop", "a"]], ids=" ".join
)
def test_wrong_use_says_what_to_write(call: Call, words: list[str]) -> None:
    assert call("run", "services:service", "--id", "a").code == 1
    wrong = call("dead-letters", *words)
    assert (wrong.code, "holdfast dead-letters" in wrong.err) == (2, True)


def test_a_healthy_run_and_an_unknown_one_are_refused(call: Call, folder: Path) -> None:
    (folder / "up").touch()
    assert call("run", "services:service", "--id", "a").code == 0
    assert "is completed; it is no dead letter" in call("dead-letters", "redrive", "a").err
    assert call("dead-letters", "redrive", "unknown").code == 3
