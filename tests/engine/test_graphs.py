"""State graphs under an engine: rounds, merges, joins, fan-outs, decisions."""

from __future__ import annotations

import asyncio
import operator
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, TypedDict

import pytest

from holdfast import (
    END,
    START,
    DefinitionError,
    Engine,
    GraphConfig,
    RunFailed,
    RunStatus,
    Send,
    State,
    StateGraph,
    StepContext,
)
from tests.graphs import Gate, nothing, parallel, sequence, until


class Trail(TypedDict, total=False):
    trail: Annotated[list[str], operator.add]
    total: Annotated[int, operator.add]
    best: Annotated[int, max]
    n: int


def mark(name: str) -> Callable[[State], dict[str, Any]]:
    """A node that leaves its name."""
    return lambda _: {"trail": [name]}


# --- one round


async def test_all_nodes_of_a_round_see_the_same_state(engine: Engine) -> None:
    graph = parallel(
        "same",
        a=lambda s: {"a": s["n"] + 1, "a_saw": sorted(s)},
        b=lambda s: {"b": s["n"] + 2, "b_saw": sorted(s)},
    )
    assert await engine.execute(graph, {"n": 1}) == {"n": 1, "a": 2, "b": 3, "a_saw": ["n"], "b_saw": ["n"]}


async def test_results_are_merged_as_declared_whoever_ends_first(engine: Engine) -> None:
    first, second = Gate(), Gate()

    async def slow(state: State) -> dict[str, Any]:
        await first.passed()
        return {"trail": ["slow"]}

    async def quick(state: State) -> dict[str, Any]:
        second.reached.set()
        return {"trail": ["quick"]}

    run = await engine.start(parallel("order", schema=Trail, slow=slow, quick=quick))
    await second.until_reached()
    await until(lambda: _completed(engine, run.id, "quick#1"))
    first.open()
    assert (await run.result())["trail"] == ["slow", "quick"]


async def _completed(engine: Engine, run: str, step: str) -> bool:
    return any(f["fact"] == "StepCompleted" and f["step"] == step for f in await engine.journal(run))


async def test_two_writers_of_a_key_fail_the_run_naming_key_and_nodes(engine: Engine) -> None:
    graph = parallel("clash", one=lambda _: {"n": 1}, two=lambda _: {"n": 2})
    with pytest.raises(RunFailed) as caught:
        await engine.execute(graph, {"n": 0})
    message = str(caught.value)
    assert "'n'" in message
    assert "one" in message
    assert "two" in message
    assert "Annotated" in message
    assert caught.value.state == {"n": 0}, "the state before the round"
    assert caught.value.error.code == "write_conflict"


async def test_one_who_writes_and_one_who_removes_are_a_conflict_too(engine: Engine) -> None:
    graph = parallel("clash", one=lambda _: {"n": 1}, two=lambda s: s.delete("n"))
    with pytest.raises(RunFailed, match="'n'"):
        await engine.execute(graph, {"n": 0})


@pytest.mark.parametrize("deletes", ["one", "two"])
async def test_one_who_writes_a_reduced_key_and_one_who_removes_it_are_a_conflict(
    engine: Engine, deletes: str
) -> None:
    def node(name: str) -> Callable[[State], Any]:
        return (lambda s: s.delete("trail")) if name == deletes else mark(name)

    graph = parallel("torn", schema=Trail, one=node("one"), two=node("two"))
    with pytest.raises(RunFailed) as caught:
        await engine.execute(graph, {"trail": ["0"]})
    assert caught.value.error.code == "write_conflict"
    assert f"{deletes}#1 deleted 'trail'" in str(caught.value)
    assert {"one#1", "two#1"} <= set(str(caught.value).split())
    assert caught.value.state == {"trail": ["0"]}, "the state before the round"


async def test_a_node_alone_may_remove_a_reduced_key(engine: Engine) -> None:
    graph = sequence("reset", schema=Trail, drop=lambda s: s.delete("trail"), mark=mark("b"))
    assert await engine.execute(graph, {"trail": ["0"]}) == {"trail": ["b"]}


async def test_a_failed_merge_leaves_reduced_keys_as_they_were(engine: Engine) -> None:
    graph = StateGraph("half", schema=Trail)
    graph.add_node("first", mark("first"))
    graph.add_node("x", lambda _: {"trail": ["x"], "total": 5, "n": 1})
    graph.add_node("y", lambda _: {"trail": ["y"], "total": 6, "n": 2})
    graph.add_edge(START, "first").add_edge("first", "x").add_edge("first", "y")
    graph.add_edge("x", END).add_edge("y", END)
    run = await (await engine.start(graph, {"trail": ["0"], "total": 1})).wait()
    assert run.status is RunStatus.FAILED
    assert await run.state() == {"trail": ["0", "first"], "total": 1}


async def test_removed_keys_are_gone(engine: Engine) -> None:
    graph = sequence("gone", drop=lambda s: s.delete("a").set("c", 3), keep=lambda s: {"seen": sorted(s)})
    assert await engine.execute(graph, {"a": 1, "b": 2}) == {"b": 2, "c": 3, "seen": ["b", "c"]}


async def test_a_node_may_return_nothing_a_mapping_or_a_state(engine: Engine) -> None:
    graph = sequence(
        "kinds", nothing=nothing, mapping=lambda _: {"m": 1}, state=lambda s: s.set("s", s["m"] + 1)
    )
    assert await engine.execute(graph) == {"m": 1, "s": 2}


async def test_a_state_made_anew_is_merged_like_a_mapping(engine: Engine) -> None:
    graph = sequence("anew", node=lambda _: State({"b": 2}))
    assert await engine.execute(graph, {"a": 1}) == {"a": 1, "b": 2}


# --- reducers


async def test_reducers_fold_in_declared_order(engine: Engine) -> None:
    graph = parallel(
        "reduce",
        schema=Trail,
        a=lambda _: {"trail": ["a"], "total": 1, "best": 4},
        b=lambda _: {"trail": ["b"], "total": 2, "best": 9},
        c=lambda _: {"trail": ["c"], "total": 3, "best": 5},
    )
    expected = {"trail": ["0", "a", "b", "c"], "total": 16, "best": 9}
    assert await engine.execute(graph, {"trail": ["0"], "total": 10, "best": 3}) == expected


async def test_a_reducer_that_raises_fails_the_run_naming_the_key(engine: Engine) -> None:
    class Odd(TypedDict, total=False):
        items: Annotated[list[int], lambda old, _: old.missing]

    with pytest.raises(RunFailed, match="the reducer of 'items' raised AttributeError"):
        await engine.execute(sequence("odd", schema=Odd, node=lambda _: {"items": [1]}), {"items": []})


async def test_a_reducer_that_makes_what_cannot_be_stored_fails_the_run_naming_the_key(
    engine: Engine,
) -> None:
    class Odd(TypedDict, total=False):
        items: Annotated[list[Any], lambda old, _: [*old, object()]]

    with pytest.raises(RunFailed, match="the reducer of 'items' returned what cannot be stored"):
        await engine.execute(sequence("odd", schema=Odd, node=lambda _: {"items": [1]}), {"items": []})


# --- joins


def unequal() -> StateGraph:
    """Three branches of one, two and three nodes that meet."""
    graph = StateGraph("unequal", schema=Trail)
    for name in ("a", "b1", "b2", "c1", "c2", "c3", "join"):
        graph.add_node(name, mark(name))
    for src, dst in [("b1", "b2"), ("c1", "c2"), ("c2", "c3"), ("join", END)]:
        graph.add_edge(src, dst)
    for first in ("a", "b1", "c1"):
        graph.add_edge(START, first)
    return graph.add_edge(["a", "b2", "c3"], "join")


async def test_a_join_waits_across_rounds_for_branches_of_unequal_length(engine: Engine) -> None:
    run = await engine.start(unequal())
    assert (await run.result())["trail"] == ["a", "b1", "c1", "b2", "c2", "c3", "join"]
    assert [stage.name for stage in await run.stages()].count("join") == 1
    reasons = [(d.from_node, d.result, d.reason) for d in await run.decisions() if d.to_node == "join"]
    assert reasons == [
        ("a", False, "waits for b2, c3"),
        ("b2", False, "waits for c3"),
        ("c3", True, "all have ended"),
    ]


async def test_a_node_reached_by_several_edges_runs_once_per_round(engine: Engine) -> None:
    graph = StateGraph("diamond", schema=Trail)
    for name in ("left", "right", "meet"):
        graph.add_node(name, mark(name))
    graph.add_edge(START, "left").add_edge(START, "right").add_edge("left", "meet").add_edge("right", "meet")
    graph.add_edge("meet", END)
    assert (await engine.execute(graph))["trail"] == ["left", "right", "meet"]


async def test_a_join_that_can_never_be_met_fails_and_says_for_whom_it_waits(engine: Engine) -> None:
    graph = StateGraph("stuck")
    for name in ("a", "b", "c", "join"):
        graph.add_node(name, nothing)
    graph.add_conditional_edge(START, lambda _: "a", ["a", "b"])
    graph.add_edge(["a", "b"], "join").add_edge("join", "c").add_edge("c", END)
    with pytest.raises(RunFailed, match="'join' waits for b"):
        await engine.execute(graph)


async def test_a_join_in_a_loop_waits_anew_each_time(engine: Engine) -> None:
    graph = StateGraph("loop", schema=Trail)
    for name in ("split", "a", "b", "join"):
        graph.add_node(name, mark(name))
    graph.add_edge(START, "split").add_edge("split", "a").add_edge("split", "b").add_edge(["a", "b"], "join")
    graph.add_conditional_edge("join", lambda s: END if len(s["trail"]) > 4 else "split", [END, "split"])
    assert (await engine.execute(graph))["trail"] == ["split", "a", "b", "join"] * 2


# --- fan-out


async def test_send_runs_a_node_once_per_item_with_its_own_state_in_order(engine: Engine) -> None:
    def spread(state: State) -> list[Send]:
        return [Send("item", {"index": n}) for n in range(20)]

    async def item(state: State) -> dict[str, Any]:
        assert set(state) == {"index"}
        # The later an item, the sooner it ends.
        for _ in range(20 - state["index"]):
            await asyncio.sleep(0)
        return {"trail": [str(state["index"])], "total": state["index"]}

    graph = StateGraph("spread", schema=Trail)
    graph.add_node("plan", nothing).add_node("item", item).add_node("sum", lambda s: {"n": len(s["trail"])})
    graph.add_edge(START, "plan").add_conditional_edge("plan", spread, ["item"]).add_edge("item", "sum")
    graph.add_edge("sum", END)
    run = await engine.start(graph)
    assert await run.result() == {"trail": [str(n) for n in range(20)], "total": 190, "n": 20}
    items = [stage for stage in await run.stages() if stage.name == "item"]
    assert [(stage.iteration, stage.input) for stage in items] == [(n + 1, {"index": n}) for n in range(20)]
    (decision,) = [d for d in await run.decisions() if d.from_node == "plan"]
    assert (decision.to_node, decision.count) == ("item", 20)


async def test_send_over_nothing_needs_another_way_on(engine: Engine) -> None:
    graph = StateGraph("empty")
    graph.add_node("item", nothing)
    graph.add_conditional_edge(START, lambda s: [Send("item", {}) for _ in s["items"]] or END, ["item", END])
    graph.add_edge("item", END)
    assert await engine.execute(graph, {"items": []}) == {"items": []}
    graph.routers[START].clear()
    graph.add_conditional_edge(START, lambda _: [], ["item", END])
    with pytest.raises(RunFailed, match="named no target"):
        await engine.execute(graph, {"items": []}, id="stuck")


async def test_a_send_that_cannot_be_stored_fails_the_run_naming_the_key(engine: Engine) -> None:
    graph = sequence("bad", plan=nothing, item=nothing)
    graph.edges.pop("plan")
    graph.add_conditional_edge("plan", lambda _: [Send("item", {"k": [object()]})], ["item"])
    with pytest.raises(RunFailed, match=r"'item'.*k\[0\] is of type object"):
        await engine.execute(graph)


# --- decisions


async def test_every_edge_that_was_tried_is_told_with_its_reason(engine: Engine) -> None:
    def is_large(state: State) -> bool:
        return bool(state["n"] > 10)

    def is_even(state: State) -> bool:
        return bool(state["n"] % 2 == 0)

    graph = StateGraph("decide")
    for name in ("start", "large", "even", "odd", "other"):
        graph.add_node(name, nothing)
    graph.add_edge(START, "start")
    graph.add_edge("start", "large", when=is_large)
    graph.add_edge("start", "even", when=is_even, name="an even number")
    graph.add_edge("start", "odd")
    graph.add_edge("start", "other", when=lambda s: s["n"] == 3)
    for name in ("large", "even", "odd", "other"):
        graph.add_edge(name, END)

    async def told(n: int) -> list[tuple[str | None, str, bool, str]]:
        run = await engine.start(graph, {"n": n})
        await run.wait()
        return [
            (d.to_node, d.name, d.result, d.reason) for d in await run.decisions() if d.from_node == "start"
        ]

    assert await told(4) == [
        ("large", "is_large", False, "did not hold"),
        ("even", "an even number", True, "held"),
        ("odd", "", False, "default not needed"),
        ("other", "", False, "not tried: an earlier edge held"),
    ]
    assert await told(5) == [
        ("large", "is_large", False, "did not hold"),
        ("even", "an even number", False, "did not hold"),
        ("odd", "", True, "default: no other edge held"),
        ("other", "", False, "did not hold"),
    ]


async def test_a_router_maps_its_answers_and_may_take_several_ways(engine: Engine) -> None:
    graph = StateGraph("routes", schema=Trail)
    for name in ("a", "b", "c"):
        graph.add_node(name, mark(name)).add_edge(name, END)
    graph.add_conditional_edge(START, lambda _: [True, 2], {True: "a", 2: "c", "x": "b"})
    run = await engine.start(graph)
    assert (await run.result())["trail"] == ["a", "c"]
    told = [(d.to_node, d.result, d.reason) for d in await run.decisions() if d.from_node == START]
    assert told == [
        ("a", True, "returned by the router"),
        ("c", True, "returned by the router"),
        ("b", False, "not returned by the router"),
    ]


@pytest.mark.parametrize(
    ("router", "message"),
    [
        (lambda s: s["missing"], "router raised KeyError.*the state has no key 'missing'"),
        (lambda _: "elsewhere", "returned 'elsewhere', which is none of its targets"),
        (lambda _: Send("elsewhere", {}), "sent to 'elsewhere', which is none of its targets"),
        (lambda _: {}, "none of its targets"),
        (lambda _: sys.exit(3), "router raised SystemExit"),
    ],
    ids=["raises", "unknown", "sends-unknown", "unhashable", "exits"],
)
async def test_a_router_at_fault_fails_the_run_naming_the_edge(
    engine: Engine, router: Callable[[State], Any], message: str
) -> None:
    graph = sequence("routes", a=nothing, b=nothing)
    graph.edges.pop("a")
    graph.add_conditional_edge("a", router, ["b"])
    run = await engine.start(graph)
    with pytest.raises(RunFailed, match=f"conditional edge from 'a': .*{message}") as caught:
        await run.result()
    assert caught.value.error.code == "edge_failed"
    # What ran before it is kept.
    assert [stage.status for stage in await run.stages()] == ["completed"]


async def test_a_predicate_at_fault_fails_the_run_naming_the_edge(engine: Engine) -> None:
    graph = sequence("routes", a=nothing, b=nothing)
    graph.edges.pop("a")
    graph.add_edge("a", "b", when=lambda s: s["missing"] > 1).add_edge("a", END)
    with pytest.raises(RunFailed, match=r"edge 'a' -> 'b': predicate raised KeyError.*no key 'missing'"):
        await engine.execute(graph)


async def test_a_router_sees_no_secrets(engine: Engine) -> None:
    seen: list[str | None] = []
    graph = sequence("routes", a=nothing, b=nothing)
    graph.edges.pop("a")

    def route(state: State) -> str:
        seen.append(state.get_secret("token"))
        return "b"

    graph.add_conditional_edge("a", route, ["b"])
    await engine.execute(graph, secrets={"token": "correct horse"})
    assert seen == [None]


# --- loops


async def test_a_loop_counts_its_iterations_and_is_bounded(engine: Engine) -> None:
    graph = sequence("loop", config=GraphConfig(max_iterations=7), count=lambda s: {"n": s.get("n", 0) + 1})
    graph.edges.pop("count")
    graph.add_conditional_edge("count", lambda s: END if s["n"] >= s["until"] else "count", ["count", END])
    run = await engine.start(graph, {"until": 7})
    assert (await run.result())["n"] == 7
    assert [stage.iteration for stage in await run.stages()] == [1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(RunFailed, match=r"max iterations \(7\) exceeded") as caught:
        await engine.execute(graph, {"until": 8})
    assert caught.value.state is not None
    assert caught.value.state["n"] == 7


# --- how nodes run


async def test_plain_nodes_of_a_round_really_run_at_once(engine: Engine) -> None:
    # Each waits for the other: one after the other they would never pass.
    barrier = threading.Barrier(3)

    def meet(state: State) -> None:
        barrier.wait(10)

    await engine.execute(parallel("meet", a=meet, b=meet, c=meet))


async def test_plain_nodes_do_not_hold_the_loop(engine: Engine) -> None:
    gate = Gate()
    slow = await engine.start(sequence("slow", node=lambda _: gate.wait()))
    await gate.until_reached()
    assert await engine.execute(sequence("quick", node=lambda _: {"ok": True})) == {"ok": True}
    gate.open()
    await slow.wait()


async def test_async_nodes_run_on_the_loop_of_the_engine(engine: Engine) -> None:
    loop, seen = asyncio.get_running_loop(), []

    async def node(state: State) -> None:
        seen.append(asyncio.get_running_loop())
        await asyncio.sleep(0)

    await engine.execute(sequence("async", node=node))
    assert seen == [loop]


async def test_a_plain_node_may_return_an_awaitable(engine: Engine) -> None:
    async def later(state: State) -> dict[str, int]:
        await asyncio.sleep(0)
        return {"n": 1}

    assert await engine.execute(sequence("late", node=partial(later))) == {"n": 1}


async def test_types_come_back_as_they_were(engine: Engine) -> None:
    moment = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
    values = {"when": moment, "pair": (1, 2), "set": {1}, "bytes": b"\0\xff", "n": 5, "x": 1.0, "none": None}

    def check(state: State) -> dict[str, Any]:
        assert state["when"] == moment
        return {"kinds": [type(state[key]).__name__ for key in values]}

    result = await engine.execute(sequence("types", make=lambda _: values, check=check))
    assert result["kinds"] == ["datetime", "tuple", "set", "bytes", "int", "float", "NoneType"]
    assert {key: result[key] for key in values} == values
    assert type(result["n"]) is int
    assert type(result["x"]) is float


async def test_large_values_pass_through_the_state_and_the_result(engine: Engine) -> None:
    large = "x" * 200_000
    graph = sequence("large", make=lambda _: {"text": large}, use=lambda s: {"length": len(s["text"])})
    run = await engine.start(graph)
    assert await run.result() == {"text": large, "length": 200_000}
    assert (await run.state())["text"] == large
    # The journal holds a reference, not the value.
    assert sum(len(row.facts) for row in await engine.store.journal(run.id)) < 50_000


# --- schemas


async def test_a_value_of_the_wrong_type_fails_its_node_naming_key_and_types(engine: Engine) -> None:
    graph = sequence("typed", schema=Trail, node=lambda _: {"n": "five"})
    with pytest.raises(RunFailed, match=r"n.*expected int, got str") as caught:
        await engine.execute(graph)
    assert caught.value.stage == "node"
    assert caught.value.error.code == "payload_rejected"


async def test_a_key_that_the_schema_does_not_have_fails_its_node(engine: Engine) -> None:
    with pytest.raises(RunFailed, match="'m'"):
        await engine.execute(sequence("typed", schema=Trail, node=lambda _: {"m": 1}))


async def test_the_step_is_the_second_parameter(engine: Engine) -> None:
    seen: list[StepContext] = []
    run = await engine.start(sequence("step", node=lambda _, step: seen.append(step)))
    await run.wait()
    (step,) = seen
    assert (step.run_id, step.name, step.attempt) == (run.id, "node", 1)
    assert step.idempotency_key.startswith(run.id)


async def test_a_deferred_node_runs_once_after_branches_of_unequal_length(engine: Engine) -> None:
    ran: list[str] = []

    def node(name: str) -> Any:
        return lambda _: ran.append(name)

    graph = StateGraph("defers")
    for name in ("long", "longer", "longest", "short"):
        graph.add_node(name, node(name))
    graph.add_node("last", node("last"), defer=True)
    graph.add_edge(START, "long").add_edge(START, "short")
    graph.add_sequence(["long", "longer", "longest", "last"]).add_edge("short", "last").add_edge("last", END)
    await engine.execute(graph)
    assert ran.count("last") == 1
    assert ran[-1] == "last"


async def test_a_deferred_node_is_run_though_all_others_have_ended_the_run(engine: Engine) -> None:
    ran: list[str] = []
    graph = StateGraph("defers").add_node("work", lambda _: ran.append("work"))
    graph.add_node("clean", lambda _: ran.append("clean"), defer=True)
    graph.add_edge(START, "work").add_edge(START, "clean").add_edge("work", END).add_edge("clean", END)
    await engine.execute(graph)
    assert ran == ["work", "clean"]


def test_whether_a_node_is_deferred_is_yes_or_no() -> None:
    with pytest.raises(DefinitionError, match="defer"):
        StateGraph("defers").add_node("work", lambda _: None, defer="yes")  # type: ignore[arg-type]


async def test_a_graph_that_is_given_and_grows_has_its_new_nodes_in_the_next_run(engine: Engine) -> None:
    graph = StateGraph("grows").add_node("a", lambda _: {"a": 1})
    graph.add_edge(START, "a").add_edge("a", END)
    assert await engine.execute(graph, {}) == {"a": 1}
    graph.add_node("b", lambda _: {"b": 2}).add_edge(START, "b").add_edge("b", END)
    assert await engine.execute(graph, {}) == {"a": 1, "b": 2}
