"""The program of a graph: given some facts, when these arrive, then this is recorded."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Annotated, Any, TypedDict

import msgspec
import pytest

from holdfast.core.ledger import OpenStep
from holdfast.core.program import END, START, fold
from holdfast.core.work import Blobs
from holdfast.errors import NondeterminismError
from holdfast.model import facts
from holdfast.model.facts import EdgeTried
from holdfast.model.state import split_large
from holdfast.model.values import encode_map, pack
from holdfast.patterns.graph.builder import StateGraph
from holdfast.patterns.graph.configs import GraphConfig
from holdfast.patterns.graph.edges import Send
from holdfast.patterns.graph.program import GraphProgram
from tests.unit.given import NOON, SECOND, Given, given, kinds

STARTED = facts.RunStarted(workflow="graph")
BEGUN = facts.StepScheduled(step="START#1", name=START)


class Log(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    best: Annotated[int, max]


def program(
    graph: StateGraph, first: Mapping[str, Any] | None = None, blobs: Blobs | None = None
) -> GraphProgram:
    return GraphProgram(graph, lambda: first or {}, Blobs() if blobs is None else blobs)


def node(_: Any) -> None:
    """Never called here: what nodes return is what the tests say."""


def graph(*nodes: str, schema: Any = None, config: GraphConfig | None = None) -> StateGraph:
    made = StateGraph("graph", schema=schema, config=config)
    for name in nodes:
        made.add_node(name, node)
    return made


def line(*nodes: str, schema: Any = None) -> StateGraph:
    made = graph(*nodes, schema=schema)
    for source, target in zip((START, *nodes), (*nodes, END), strict=True):
        made.add_edge(source, target)
    return made


def done(step: str, attempt: int = 1, gone: tuple[str, ...] = (), **changes: Any) -> facts.StepCompleted:
    name = step if "#" in step else f"{step}#1"
    return facts.StepCompleted(step=name, attempt=attempt, gone=gone, data=pack(encode_map(changes)))


def begun(made: StateGraph, **first: Any) -> Given:
    """A run whose factory has just made this state."""
    return given(program(made), [STARTED]).when().then(BEGUN).when(done(START, **first))


def to(*steps: str) -> list[facts.StepScheduled]:
    parts = [step.partition("#") for step in (step if "#" in step else f"{step}#1" for step in steps)]
    return [facts.StepScheduled(step=f"{n}#{i}", name=n, iteration=int(i)) for n, _, i in parts]


def always(source: str, *targets: str) -> facts.DecisionMade:
    return facts.DecisionMade(source=source, edges=tuple(EdgeTried(t, reason="always") for t in targets))


def ended(**state: Any) -> facts.RunCompleted:
    return facts.RunCompleted(data=pack(encode_map(state)))


def state(after: Given) -> dict[str, Any]:
    found: dict[str, Any] = after.program.state(after.progress)
    return found


# --- rounds


def test_a_run_begins_with_its_first_state() -> None:
    after = begun(line("a"), n=1).then(done(START, n=1), always(START, "a"), *to("a"))
    assert state(after) == {"n": 1}


def test_a_result_its_decision_and_what_follows_are_one_advance() -> None:
    after = begun(line("a", "b"), n=1).when(done("a", n=2)).then(done("a", n=2), always("a", "b"), *to("b"))
    after.when(done("b", m=3)).then(done("b", m=3), always("b", END), ended(n=2, m=3))


def test_a_round_waits_for_its_last_result() -> None:
    made = graph("a", "b").add_edge(START, "a").add_edge(START, "b").add_edge("a", END).add_edge("b", END)
    after = begun(made).then(facts.StepCompleted, always(START, "a", "b"), *to("a", "b"))
    after.when(done("b", b=1)).then(done("b", b=1))
    assert state(after) == {}
    after.when(done("a", a=1)).then(done("a", a=1), always("a", END), always("b", END), ended(a=1, b=1))


@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "a", "b"), ("b", "c", "a")])
def test_results_are_merged_as_declared_in_whichever_order_they_come(order: tuple[str, ...]) -> None:
    made = graph("a", "b", "c", schema=Log)
    for name in "cab":
        made.add_edge(START, name).add_edge(name, END)
    after = begun(made, log=["0"], best=5)
    for name in order:
        after.when(done(name, log=[name], best=ord(name)))
    assert state(after) == {"log": ["0", "a", "b", "c"], "best": ord("c")}


def test_two_writers_of_a_key_fail_the_run_with_both_named() -> None:
    made = graph("a", "b").add_edge(START, "a").add_edge(START, "b").add_edge("a", END).add_edge("b", END)
    after = begun(made, n=0).when(done("a", n=1)).when(done("b", n=2))
    after.then(done("b", n=2), facts.RunFailed)
    (failed,) = [fact for fact in after.recorded if isinstance(fact, facts.RunFailed)]
    assert failed.error.code == "write_conflict"
    for word in ("a#1", "b#1", "'n'"):
        assert word in failed.error.message
    assert state(after) == {"n": 0}


def test_one_node_may_write_a_key_again_in_a_later_round() -> None:
    after = begun(line("a", "b"), n=0).when(done("a", n=1)).when(done("b", n=2))
    assert state(after) == {"n": 2}


def test_removed_keys_are_gone() -> None:
    after = begun(line("a"), n=0, m=1).when(done("a", gone=("n",), k=2))
    after.then(done("a", gone=("n",), k=2), always("a", END), ended(m=1, k=2))


def test_a_conflict_takes_back_what_was_reduced_before_it_was_found() -> None:
    made = graph("a", "b", schema=Log).add_edge(START, "a").add_edge(START, "b")
    made.add_edge("a", END).add_edge("b", END)
    after = begun(made, log=["0"]).when(done("a", log=["a"], n=1)).when(done("b", log=["b"], n=2))
    assert kinds(after.recorded) == ["StepCompleted", "RunFailed"]
    assert state(after) == {"log": ["0"]}
    # Nor is anything counted twice when the run is resumed and the round merged once more.
    after.when(facts.RunResumed(key="r"))
    assert kinds(after.recorded) == ["RunResumed", "RunFailed"]
    assert state(after) == {"log": ["0"]}


def test_a_reducer_that_raises_is_the_fault_of_the_run() -> None:
    class Odd(TypedDict):
        n: Annotated[int, lambda old, _: old.missing]

    after = begun(line("a", schema=Odd), n=1).when(done("a", n=2))
    (_, failed) = after.recorded
    assert isinstance(failed, facts.RunFailed)
    assert failed.error.code == "reducer_failed"
    assert "'n'" in failed.error.message
    assert "AttributeError" in failed.error.message


# --- failing and resuming


def fail(step: str, attempt: int = 1) -> facts.StepFailed:
    error = facts.ErrorInfo(code="step_failed", message=f"{step} failed", step=f"{step}#1", name=step)
    return facts.StepFailed(step=f"{step}#1", attempt=attempt, error=error)


def both() -> StateGraph:
    return graph("a", "b").add_edge(START, "a").add_edge(START, "b").add_edge("a", END).add_edge("b", END)


def test_a_failure_lets_the_others_of_its_round_end_and_merges_nothing() -> None:
    after = begun(both(), n=0).when(fail("a")).then(fail("a"))
    after.when(done("b", b=1)).then(done("b", b=1), facts.RunFailed(error=fail("a").error))
    assert state(after) == {"n": 0}


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_of_two_failures_the_first_declared_is_told(order: str) -> None:
    after = begun(both())
    for name in order:
        after.when(fail(name))
    assert after.recorded[-1] == facts.RunFailed(at=after.now, error=fail("a").error)


def test_a_resume_runs_what_failed_and_not_what_was_done() -> None:
    after = begun(both()).when(done("b", b=1)).when(fail("a"))
    after.when(facts.RunResumed(key="r")).then(facts.RunResumed(key="r", reopened=(("a#1", 2),)))
    after.when(done("a", attempt=2, a=1))
    after.then(done("a", attempt=2, a=1), always("a", END), always("b", END), ended(a=1, b=1))


def test_a_resume_of_a_failed_beginning_makes_the_first_state_anew() -> None:
    error = facts.ErrorInfo(code="step_failed", message="no document", step="START#1", name=START)
    failed = facts.StepFailed(step="START#1", attempt=1, error=error)
    after = (
        given(program(line("a")), [STARTED]).when().when(failed).then(failed, facts.RunFailed(error=error))
    )
    after.when(facts.RunResumed(key="r")).when(done(START, attempt=2)).then(
        facts.StepCompleted, always(START, "a"), *to("a")
    )


# --- decisions


def test_edges_with_when_are_tried_in_order_and_told() -> None:
    made = graph("a", "b", "c").add_edge(START, "a").add_edge("b", END).add_edge("c", END)
    made.add_edge("a", "b", when=lambda s: s["n"] > 1, name="more").add_edge("a", "c")
    tried = (
        EdgeTried("b", "more", result=False, reason="did not hold"),
        EdgeTried("c", "", reason="default: no other edge held"),
    )
    begun(made).when(done("a", n=1)).then(
        done("a", n=1), facts.DecisionMade(source="a", edges=tried), *to("c")
    )


@pytest.mark.parametrize(
    "router",
    [lambda _: "nowhere", lambda s: s["missing"], lambda _: [Send("a", {"x": object()})], lambda _: 1 / 0],
    ids=["unknown", "key", "payload", "raises"],
)
def test_a_router_at_fault_fails_the_run_and_a_resume_asks_it_again(router: Any) -> None:
    broken = [True]
    made = graph("a", "b").add_edge(START, "a").add_edge("b", END)
    made.add_conditional_edge("a", lambda s: router(s) if broken else "b", ["b", "a"])
    after = begun(made).when(done("a", n=1))
    after.then(done("a", n=1), facts.RunFailed)
    assert after.recorded[-1].error.code == "edge_failed"  # type: ignore[attr-defined]
    broken.clear()
    after.when(facts.RunResumed(key="r")).then(facts.RunResumed, facts.DecisionMade, *to("b"))


def test_a_decision_is_not_asked_for_again_once_it_is_recorded() -> None:
    asked: list[int] = []
    made = graph("a", "b").add_edge(START, "a").add_edge("b", END)

    def route(_: Any) -> str:
        asked.append(1)
        return "b"

    made.add_conditional_edge("a", route, ["b"])
    after = begun(made).when(done("a"))
    journal = [STARTED, BEGUN, done(START), always(START, "a"), *to("a"), *after.recorded]
    given(program(made), journal).when().then()
    assert asked == [1]


def test_no_way_on_is_a_fault_that_says_so() -> None:
    made = graph("a").add_edge(START, "a").add_conditional_edge("a", lambda _: [], ["a", END])
    after = begun(made).when(done("a"))
    assert "named no target" in after.recorded[-1].error.message  # type: ignore[attr-defined]


# --- joins


def test_a_join_waits_across_rounds() -> None:
    made = graph("a", "b", "c", "join").add_edge(START, "a").add_edge(START, "b").add_edge("b", "c")
    made.add_edge(["a", "c"], "join").add_edge("join", END)
    after = begun(made).when(done("a")).when(done("b"))
    waits = EdgeTried("join", "join", result=False, reason="waits for c")
    after.then(done("b"), facts.DecisionMade(source="a", edges=(waits,)), always("b", "c"), *to("c"))
    met = EdgeTried("join", "join", reason="all have ended")
    after.when(done("c")).then(done("c"), facts.DecisionMade(source="c", edges=(met,)), *to("join"))
    after.when(done("join")).then(done("join"), always("join", END), ended())


def test_a_join_begins_anew_when_its_target_was_scheduled() -> None:
    made = graph("a", "b", "join").add_edge(START, "a").add_edge(START, "b").add_edge(["a", "b"], "join")
    made.add_conditional_edge("join", lambda _: ["a"], ["a", END])
    after = begun(made).when(done("a"), done("b")).when(done("join")).when(done("a#2"))
    assert "'join' waits for b" in after.recorded[-1].error.message  # type: ignore[attr-defined]


# --- fan-out


def fan(count: int) -> StateGraph:
    made = (
        graph("plan", "item", "sum", schema=Log)
        .add_edge(START, "plan")
        .add_edge("item", "sum")
        .add_edge("sum", END)
    )
    return made.add_conditional_edge(
        "plan", lambda _: [Send("item", {"n": n}) for n in range(count)], ["item"]
    )


def test_each_item_is_a_step_with_its_own_input() -> None:
    after = begun(fan(3)).when(done("plan"))
    decision, *steps = after.recorded[1:]
    assert isinstance(decision, facts.DecisionMade)
    assert decision.edges == (EdgeTried("item", "", reason="sent by the router", count=3),)
    assert [(s.step, bytes(s.data)) for s in steps] == [  # type: ignore[attr-defined]
        (f"item#{n + 1}", b'{"n":%d}' % n) for n in range(3)
    ]


def test_items_are_merged_in_the_order_they_were_sent() -> None:
    after = begun(fan(12)).when(done("plan"))
    after.when(*[done(f"item#{n}", log=[str(n)]) for n in range(12, 0, -1)])
    assert state(after) == {"log": [str(n) for n in range(1, 13)]}
    assert after.recorded[-1] == facts.StepScheduled(at=after.now, step="sum#1", name="sum")


def test_the_items_of_a_later_round_count_on() -> None:
    made = graph("item").add_edge("item", END)
    made.add_conditional_edge(START, lambda _: [Send("item", {}), Send("item", {})], ["item"])
    made.edges.pop("item")
    made.add_conditional_edge("item", lambda _: [Send("item", {})], ["item", END])
    after = begun(made).when(done("item#1"), done("item#2"))
    assert after.recorded[-1].step == "item#3"  # type: ignore[attr-defined]


def test_ten_thousand_items_are_scheduled_and_merged_in_proportion() -> None:
    after = begun(fan(10_000)).when(done("plan"))
    assert len(after.recorded) == 10_002
    after.when(*[done(f"item#{n}", log=["x"]) for n in range(1, 10_001)])
    assert len(state(after)["log"]) == 10_000


# --- loops


def test_iterations_are_counted_and_bounded() -> None:
    made = graph("a", config=GraphConfig(max_iterations=2)).add_edge(START, "a")
    made.add_conditional_edge("a", lambda _: "a", ["a", END])
    after = begun(made).when(done("a")).then(done("a"), facts.DecisionMade, *to("a#2"))
    after.when(done("a#2")).then(done("a#2"), facts.RunFailed)
    assert after.recorded[-1].error.message == "max iterations (2) exceeded"  # type: ignore[attr-defined]


# --- progress


def test_a_fold_of_a_prefix_goes_on_like_the_whole() -> None:
    made = fan(3)
    whole = begun(made, log=["0"]).when(done("plan")).when(done("item#2", log=["2"]))
    again = program(made)
    stored = whole.program.encode(whole.progress)
    loaded = again.decode(stored)
    assert again.encode(loaded) == stored
    rest: list[facts.Fact] = [done("item#1", log=["1"]), done("item#3", log=["3"])]
    assert again.state(fold(again, loaded, rest)) == {"log": ["0", "1", "2", "3"]}


def test_a_step_that_is_open_in_a_stored_fold_sees_the_state() -> None:
    seen: list[dict[str, Any]] = []
    made = StateGraph("graph").add_node("a", lambda state: seen.append(dict(state)))
    made.add_edge(START, "a").add_edge("a", END)
    whole = begun(made, total=7)
    again = program(made)
    loaded = again.decode(whole.program.encode(whole.progress))
    context: Any = SimpleNamespace(secrets={}, run_id="run")
    again.work(loaded, loaded.ledger.open["a#1"]).call(context)
    assert seen == [{"total": 7}]


def test_large_values_stand_apart() -> None:
    blobs = Blobs()
    made = line("a")
    after = given(program(made, blobs=blobs), [STARTED]).when()
    text = "x" * 100_000
    inline, large = split_large(encode_map({"text": text}), 65_536)
    blobs.add(large)
    after.when(facts.StepCompleted(step="START#1", attempt=1, data=pack(inline)))
    assert state(after) == {"text": text}
    assert max(len(msgspec.json.encode(fact)) for fact in after.recorded) < 1000


def test_a_round_with_a_node_that_the_graph_does_not_have_cannot_be_decided() -> None:
    pair = graph("a", "b").add_edge(START, "a").add_edge(START, "b").add_edge("a", END).add_edge("b", END)
    journal = [STARTED, BEGUN, done(START), always(START, "a", "b"), *to("a", "b"), done("a")]
    other = program(line("b"))
    after = given(other, journal)
    with pytest.raises(NondeterminismError, match="node 'a'; the graph has only b"):
        other.work(after.progress, after.ledger.open["b#1"])
    # A fork may begin where all have ended and nothing is decided.
    after.when(done("b")).then(done("b"), facts.RunPaused)
    (parked,) = [fact for fact in after.recorded if isinstance(fact, facts.RunPaused)]
    assert parked.error is not None
    assert parked.error.code == NondeterminismError.code
    assert "node 'a'; the graph has only b" in parked.reason
    # As much is known of a stored fold, and with the old code it goes on.
    assert other.decode(other.encode(after.progress)).unknown == "a"
    old = given(program(pair), [*journal, *after.recorded]).when(facts.RunResumed(key="r"))
    old.then(facts.RunResumed, always("a", END), always("b", END), ended())
    # A round that the graph knows is decided, whatever came before it.
    later = given(program(line("a", "c")), [STARTED, BEGUN, done(START), *to("b"), done("b"), *to("c")])
    later.when(done("c")).then(done("c"), always("c", END), ended())


def test_a_step_that_the_graph_does_not_know_does_not_fit() -> None:
    made = program(line("a"))
    with pytest.raises(NondeterminismError, match="node 'b'; the graph has only a"):
        made.work(made.start(), OpenStep("b#1", "b"))


def test_a_definition_that_cannot_be_built_decides_nothing_between_rounds() -> None:
    journal = [STARTED, BEGUN, done(START), always(START, "a"), *to("a"), done("a")]
    broken = GraphProgram(StateGraph("graph"), dict, Blobs(), problem=ImportError("gone"))
    given(broken, journal).when().then()


def test_time_comes_from_facts_alone() -> None:
    after = begun(line("a"))
    assert {fact.at for fact in after.recorded} <= {after.now}
    assert after.ledger.now == after.now == NOON + 2 * SECOND
