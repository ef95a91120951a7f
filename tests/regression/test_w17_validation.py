"""W17: a graph was hardly looked at before it ran: dead ends and missing defaults showed at run time.

All problems are found before the run and reported together; what is wrong by itself is refused where it is written.
"""

from __future__ import annotations

import pytest

from holdfast import END, START, DefinitionError, Engine, StateGraph
from tests.graphs import nothing


def graph(*nodes: str) -> StateGraph:
    made = StateGraph("w17")
    for node in nodes:
        made.add_node(node, nothing)
    return made


def no_default() -> StateGraph:
    made = graph("a", "b").add_edge(START, "a").add_edge("b", END)
    return made.add_edge("a", "b", when=lambda s: s["x"])


def trapped() -> StateGraph:
    made = graph("a", "b", "c").add_edge(START, "a").add_edge("b", "c").add_edge("c", "b")
    return made.add_conditional_edge("a", lambda _: END, ["b", END])


@pytest.mark.parametrize(
    ("made", "problems"),
    [
        (StateGraph("w17"), ["it has no nodes"]),
        (graph("a", "b").add_edge("a", "b").add_edge("b", END), ["it has no entry: add an edge from START"]),
        (graph("a").add_edge(START, "a"), ["'a' is a dead end", "there is no way to END"]),
        (graph("a", "b").add_edge(START, "a").add_edge("a", "b"), ["'b' is a dead end", "no way to END"]),
        (graph("a", "b").add_edge(START, "a").add_edge("a", END).add_edge("b", END), ["'b' is unreachable"]),
        (graph("a").add_edge(START, "a").add_edge("a", "a"), ["no way to END"]),
        (no_default(), ["'a' has edges with `when` but no default"]),
        (trapped(), ["'b' has no way to END", "'c' has no way to END"]),
        (
            graph("a", "b", "c").add_edge(START, "a").add_edge("a", END).add_edge("b", "c"),
            ["'b' is unreachable", "'c' is unreachable", "'c' is a dead end"],
        ),
    ],
    ids=[
        "empty",
        "no entry",
        "dead end",
        "far dead end",
        "unreachable",
        "circle",
        "no default",
        "trap",
        "several",
    ],
)
def test_all_problems_are_reported_together(made: StateGraph, problems: list[str]) -> None:
    with pytest.raises(DefinitionError, match="w17") as caught:
        made.validate()
    assert [problem for problem in problems if problem not in str(caught.value)] == []
    assert caught.value.fix


def test_nothing_is_wrong_with_a_sound_graph() -> None:
    made = graph("a", "b", "c", "join").add_edge(START, "a").add_edge("a", "b").add_edge("a", "c")
    made.add_edge(["b", "c"], "join").add_conditional_edge("join", lambda _: END, ["a", END])
    made.validate()


async def test_a_graph_with_problems_never_runs(engine: Engine) -> None:
    with pytest.raises(DefinitionError, match="dead end"):
        await engine.start(graph("a").add_edge(START, "a"))
    assert await engine.count() == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda g: g.add_node("a", nothing), "'a' is there already"),
        (lambda g: g.add_node("", nothing), "name is empty"),
        (lambda g: g.add_node("START", nothing), "cannot be named 'START'"),
        (lambda g: g.add_node("x", 5), "not callable"),
        (lambda g: g.add_node("x", lambda: None), "cannot be called with"),
        (lambda g: g.add_node("x", nothing, timeout=0), "timeout=0"),
        (lambda g: g.add_edge("a", "nobody"), "'nobody': no such node"),
        (lambda g: g.add_edge("nobody", "a"), "'nobody': no such node"),
        (lambda g: g.add_edge("a", "b", when=5), "not callable"),
        (lambda g: g.add_conditional_edge("a", lambda _: "x", ["x"]), "'x': no such node"),
        (lambda g: g.add_conditional_edge("a", lambda _: "b", []), "no targets"),
        (lambda g: g.set_entry_point("a").set_entry_point("b"), "entry point is 'a' already"),
        (
            lambda g: g.add_edge("a", "b", when=bool).add_edge("a", END).add_edge("a", "a"),
            "two default edges",
        ),
    ],
    ids=[
        *("twice", "empty", "reserved", "no function", "no parameter", "no time", "unknown target"),
        *("unknown source", "no predicate", "unknown route", "no routes", "two entries", "two defaults"),
    ],
)
def test_what_is_wrong_by_itself_is_refused_where_it_is_written(wrong: object, message: str) -> None:
    with pytest.raises(DefinitionError, match=message) as caught:
        wrong(graph("a", "b"))  # type: ignore[operator]
    assert caught.value.fix
