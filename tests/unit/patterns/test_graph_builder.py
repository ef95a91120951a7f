"""Building a graph: what is taken, what is refused, and what it looks like."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypedDict

import pytest

from holdfast import END, START, CheckpointConfig, DefinitionError, GraphConfig, RetryPolicy, StateGraph
from holdfast.patterns.graph.builder import Join
from holdfast.patterns.graph.configs import Config
from holdfast.patterns.graph.edges import router_of
from holdfast.patterns.graph.factory import GraphWorkflow, from_graph
from holdfast.patterns.graph.nodes import Node
from holdfast.predicates import always
from tests.graphs import nothing


class Schema(TypedDict):
    n: int


def small(name: str = "small") -> StateGraph:
    return (
        StateGraph(name).add_node("a", nothing).add_node("b", nothing).add_edge(START, "a").add_edge("a", "b")
    )


# --- nodes


class Callable1:
    def __call__(self, state: Any) -> None: ...


class Async1:
    async def __call__(self, state: Any, step: Any) -> None: ...


async def asynchronous(state: Any) -> None: ...


async def with_step(state: Any, step: Any) -> None: ...


def optional(state: Any, step: Any = None) -> None: ...


def other_default(state: Any, threshold: float = 0.5) -> None: ...


def variadic(*given: Any) -> None: ...


def keywords(state: Any, *, limit: int = 3) -> None: ...


@pytest.mark.parametrize(
    ("fn", "is_async", "takes_step"),
    [
        (nothing, False, False),
        (asynchronous, True, False),
        (with_step, True, True),
        (lambda s: s, False, False),
        (lambda s, step: (s, step), False, True),
        (optional, False, True),
        (other_default, False, False),
        (variadic, False, False),
        (keywords, False, False),
        (Callable1(), False, False),
        (Async1(), True, True),
        (functools.partial(with_step), True, True),
        (functools.partial(other_default, threshold=1), False, False),
        (dict, False, False),
    ],
    ids=[
        *(
            "plain",
            "async",
            "async step",
            "lambda",
            "lambda step",
            "optional",
            "default",
            "variadic",
            "keywords",
        ),
        *("object", "async object", "partial async", "partial", "builtin"),
    ],
)
def test_a_node_is_anything_that_takes_a_state(
    fn: Callable[..., Any], is_async: bool, takes_step: bool
) -> None:
    node = Node("n", fn, 0, None, None)
    assert (node.is_async, node.takes_step) == (is_async, takes_step)


@pytest.mark.parametrize(
    "fn",
    [None, 5, b"detect", lambda: None, lambda *, a: a],
    ids=["none", "number", "bytes", "no parameter", "keyword"],
)
def test_what_cannot_be_called_with_a_state_is_no_node(fn: Any) -> None:
    with pytest.raises(DefinitionError, match="node 'n'") as caught:
        StateGraph().add_node("n", fn)
    assert caught.value.fix


@pytest.mark.parametrize("name", ["", "  ", "START", "END", "a#1", "a\nb", 5, None], ids=repr)
def test_a_bad_name_is_refused(name: Any) -> None:
    with pytest.raises(DefinitionError, match="name"):
        StateGraph().add_node(name, nothing)


def test_names_of_any_script_are_fine() -> None:
    StateGraph().add_node("prüfen, 検査 (2)", nothing)


def test_policies_are_kept() -> None:
    policy = RetryPolicy()
    node = StateGraph().add_node("n", nothing, retry=policy, timeout=timedelta(seconds=90)).nodes["n"]
    assert (node.retry, node.timeout) == (policy, 90.0)
    for options in ({"timeout": 0}, {"timeout": -1}, {"retry": 3}):
        with pytest.raises(DefinitionError, match="node 'm'"):
            StateGraph().add_node("m", nothing, **options)  # type: ignore[arg-type]


# --- edges


def test_a_join_into_the_end_is_an_edge_from_each() -> None:
    made = small().add_edge(["a", "b"], END)
    assert made.joins == []
    assert [edge.target for edge in made.edges["b"]] == [END]


def test_a_join_needs_sources_and_no_when() -> None:
    for sources, when in (([], None), (["a"], lambda _: True)):
        with pytest.raises(DefinitionError, match="the join into 'b'"):
            small().add_edge(sources, "b", when=when)
    with pytest.raises(DefinitionError, match="'x': no such node"):
        small().add_edge(["a", "x"], "b")


def test_a_join_is_named_by_all_its_sources_in_any_order() -> None:
    assert Join(frozenset("ba"), "c").key == Join(frozenset("ab"), "c").key == "a+b>c"


def test_an_exit_point_may_be_set_twice_and_an_entry_point_not() -> None:
    made = small().set_exit_point("b").set_exit_point("b")
    assert len(made.edges["b"]) == 1
    with pytest.raises(DefinitionError, match="entry point is 'a' already"):
        made.set_entry_point("b")


def test_predicates_name_their_edges() -> None:
    def is_ready(state: Any) -> bool:
        return True

    made = small().add_edge("b", END, when=is_ready).add_edge("b", "a", when=lambda _: True)
    assert [edge.name for edge in made.edges["b"]] == ["is_ready", ""]
    assert small().add_edge("b", END, when=is_ready, name="ready").edges["b"][0].name == "ready"


def test_routers_map_answers_to_nodes() -> None:
    assert router_of("a", str, {True: "b", "x": END}).targets == {True: "b", "x": END}
    assert router_of("a", str, ["b", END]).targets == {"b": "b", END: END}
    wrong: list[Any] = [[], None, "b", 5]
    for targets in wrong:
        with pytest.raises(DefinitionError, match="no targets"):
            router_of("a", str, targets)
    with pytest.raises(DefinitionError, match="not callable"):
        router_of("a", "b", ["b"])  # type: ignore[arg-type]


# --- structure


def test_the_hash_changes_with_the_structure_and_not_with_the_code() -> None:
    one = small().add_edge("b", END)
    other = StateGraph("small").add_node("a", lambda _: {"other": 1}).add_node("b", nothing)
    other.add_edge(START, "a").add_edge("a", "b").add_edge("b", END)
    assert one.hash == other.hash
    hashes = {
        one.hash,
        small("else").add_edge("b", END).hash,
        small().add_edge("b", END, name="named").hash,
        small().add_edge("b", END, when=bool).hash,
        small().add_edge("b", "a").hash,
        small().add_conditional_edge("b", str, [END]).hash,
        small().add_edge(["a", "b"], "a").hash,
    }
    assert len(hashes) == 7


def test_the_structure_is_plain_data() -> None:
    made = small().add_conditional_edge("b", str, {"x": END, "y": "a"}).add_edge(["a", "b"], "a")
    assert made.to_dict() == {
        "name": "small",
        "nodes": ["a", "b"],
        "edges": [
            {"from": START, "to": "a", "name": "", "when": False},
            {"from": "a", "to": "b", "name": "", "when": False},
        ],
        "routers": [{"from": "b", "name": "str", "targets": [END, "a"]}],
        "joins": [{"from": ["a", "b"], "to": "a"}],
        "reducers": [],
    }


def test_pictures() -> None:
    made = small('a "quoted" name').add_edge("b", END, when=bool, name="ok & <done>").add_edge("b", "a")
    mermaid = made.to_mermaid()
    assert mermaid.startswith("flowchart TD\n")
    for text in (
        "start([START])",
        'n0["a"]',
        "start --> n0",
        "n0 --> n1",
        '|"ok &amp; &lt;done>"| finish',
        '|"else"| n0',
    ):
        assert text in mermaid
    dot = made.to_dot()
    assert dot.startswith('digraph "a \\"quoted\\" name" {')
    assert dot.rstrip().endswith("}")
    assert '"a" -> "b"' in dot


def test_a_graph_shows_its_name_and_size() -> None:
    assert repr(small()) == "StateGraph('small', 2 nodes)"


# --- configs


def test_what_the_other_was_given_wins_also_when_it_is_nothing() -> None:
    base = GraphConfig(name="base", max_iterations=5, checkpoint=CheckpointConfig(interval=3, preserve=False))
    merged = base.merge(GraphConfig(name=None, max_iterations=0, checkpoint=CheckpointConfig(preserve=True)))
    assert (merged.name, merged.max_iterations, merged.observer) == (None, 0, "logging")
    assert (merged.checkpoint.interval, merged.checkpoint.preserve) == (3, True)
    assert base.merge(GraphConfig()) == base


def test_a_config_is_frozen_and_knows_its_settings() -> None:
    with pytest.raises(AttributeError, match="frozen"):
        GraphConfig().max_iterations = 5
    with pytest.raises(DefinitionError, match="no setting 'max_iteration'") as caught:
        GraphConfig(max_iteration=5)
    assert "max_iterations" in caught.value.fix


def test_configs_are_values() -> None:
    assert GraphConfig(name="a") == GraphConfig(name="a")
    assert hash(GraphConfig(name="a")) == hash(GraphConfig(name="a"))
    assert GraphConfig(name="a") != GraphConfig(name="b")
    assert GraphConfig() != CheckpointConfig()
    assert repr(GraphConfig(name="a")) == "GraphConfig(name='a')"
    assert isinstance(GraphConfig(), Config)
    assert GraphConfig().to_dict()["checkpoint"] == {"store": None, "interval": 1, "preserve": True}


# --- workflows of graphs


def test_a_workflow_of_a_graph_has_its_name_schema_and_config() -> None:
    made = StateGraph(
        "small", schema=Schema, config=GraphConfig(max_iterations=3), version="2", description="Small"
    )
    made.add_node("a", nothing).set_entry_point("a").set_exit_point("a")
    workflow = from_graph(made)
    assert (workflow.name, workflow.version, workflow.description) == ("small", "2", "Small")
    built, first = workflow.graph(None, {"n": 1})
    assert first == {"n": 1}
    assert built.config.max_iterations == 3
    assert built.hash == made.hash


def test_a_graph_without_a_name_is_no_workflow() -> None:
    with pytest.raises(DefinitionError, match="no name"):
        from_graph(small("").add_edge("b", END))


def test_an_async_factory_is_refused() -> None:
    async def factory(graph: StateGraph, runtime: Any, params: Any) -> None: ...

    with pytest.raises(DefinitionError, match="the factory of 'w' is async"):
        GraphWorkflow("w", factory).graph(None, {})


def test_a_workflow_may_have_another_name() -> None:
    def factory(graph: StateGraph, runtime: Any, params: Any) -> dict[str, Any]:
        """Say what it does.

        And more.
        """
        return {}

    workflow = GraphWorkflow(
        "one", factory, params=Schema, version="3", queue="q", priority=2, timeout=timedelta(minutes=1)
    )
    other = workflow.renamed("two")
    assert (other.name, other.description, other.version, other.queue) == (
        "two",
        "Say what it does.",
        "3",
        "q",
    )
    assert (other.priority, other.timeout, other.check({"n": 5})) == (2, 60.0, {"n": 5})
    assert other.schema()["required"] == ["n"]


# --- ambiguous edges, and sequences


def test_an_edge_is_added_once() -> None:
    with pytest.raises(DefinitionError, match="edge 'a' -> 'b' is there already"):
        small().add_edge("a", "b")
    made = small().add_edge("a", END, when=bool).add_edge(["b"], END).add_edge(["b"], END)
    assert [edge.target for edge in made.edges["a"]] == ["b", END]
    assert [edge.target for edge in made.edges["b"]] == [END]


def test_a_condition_stands_on_one_edge() -> None:
    made = small().add_edge("b", END, when=bool)
    with pytest.raises(DefinitionError, match="'b' -> 'END' and 'b' -> 'a' have the same condition"):
        made.add_edge("b", "a", when=bool)
    assert len(made.edges["b"]) == 1


@pytest.mark.parametrize("order", [[None, bool, None], [bool, None, None], [None, None, bool]], ids=str)
def test_a_second_default_is_refused_in_any_order(order: list[Any]) -> None:
    made = small().add_node("c", nothing)
    *first, (target, last) = zip(["a", "c", END], order, strict=True)
    for to, when in first:
        made.add_edge("b", to, when=when)
    with pytest.raises(DefinitionError, match="node 'b' has two default edges"):
        made.add_edge("b", target, when=last)


def test_an_edge_that_always_holds_is_the_last() -> None:
    made = small().add_edge("b", END, when=always)
    made.validate()
    made.add_edge("b", "a", when=bool)
    with pytest.raises(DefinitionError, match="'b' -> 'a' is never taken: the one to 'END' always holds"):
        made.validate()
    with pytest.raises(DefinitionError, match="'b' -> 'a' is never taken"):
        small().add_edge("b", "a").add_edge("b", END, when=always).validate()


def test_a_sequence_takes_names_functions_and_pairs() -> None:
    made = StateGraph("s").add_node("first", nothing).add_sequence(["first", nothing, ("last", nothing)])
    assert list(made.nodes) == ["first", "nothing", "last"]
    assert [(source, edge.target) for source, edges in made.edges.items() for edge in edges] == [
        ("first", "nothing"),
        ("nothing", "last"),
    ]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([], "fewer than two"),
        (["a"], "fewer than two"),
        (["b", "x"], "'x': no such node"),
        ([("new", nothing), "x"], "'x': no such node"),
        ([("new", nothing), ("a", nothing)], "'a' is there already"),
        ([("new", nothing), "a", "b"], "'a' -> 'b' is there already"),
        ([nothing, lambda state: state], "no place for <function"),
        ([nothing, ("x", 5)], r"no place for \('x', 5\)"),
        ([nothing, 5], "no place for 5"),
    ],
    ids=["none", "one", "unknown", "unknown after new", "taken", "twice", "lambda", "no function", "number"],
)
def test_a_sequence_is_added_whole_or_not_at_all(nodes: Any, message: str) -> None:
    made = small()
    before = made.to_dict()
    with pytest.raises(DefinitionError, match=message):
        made.add_sequence(nodes)
    assert made.to_dict() == before
