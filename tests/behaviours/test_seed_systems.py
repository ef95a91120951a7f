"""What the systems that this project takes up were tested for: their behaviours, restated for graphs and items.

One test for each of their test files, or for a part of one. Predicates, states and messages have their own tests in
tests/unit; the event names are ours.
"""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import pytest

from holdfast import (
    END,
    START,
    ChainConfig,
    CheckpointConfig,
    DefinitionError,
    Engine,
    GraphConfig,
    MultiObserver,
    Observer,
    ParallelConfig,
    RunFailed,
    State,
    StateGraph,
    chain_node,
    conditional_node,
    parallel_node,
    process_chain,
    process_conditional,
    process_parallel,
)
from holdfast.core.checkpoints import MemoryCheckpointStore
from holdfast.errors import ChainError, ConditionalError, ParallelError
from holdfast.model.event import RunEvent
from tests.graphs import sequence, until


class Log(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    n: int


def say(name: str) -> Any:
    return lambda _: {"log": [name]}


# --- graphs


async def test_a_graph_tells_of_each_thing_it_does_in_order(engine: Engine) -> None:
    """graph_test: two nodes, the exact order of events."""
    run = await engine.start(sequence("two", a=say("a"), b=say("b")))
    told = [(e.type, e.data.get("name") or e.data.get("to_node")) async for e in run.events()]
    assert told == [
        ("run.started", None),
        ("decision", "a"),
        ("stage.scheduled", "a"),
        ("stage.completed", "a"),
        ("decision", "b"),
        ("stage.scheduled", "b"),
        ("stage.completed", "b"),
        ("decision", END),
        ("run.completed", None),
    ]


async def test_edges_choose_loops_end_and_exits_are_several(engine: Engine) -> None:
    """graph_test: conditional routing both ways; a cycle that its predicate ends; two exits."""
    graph = StateGraph("ways", Log)
    for name in ("count", "even", "odd"):
        graph.add_node(name, say(name))
    graph.add_node("more", lambda s: {"n": s["n"] + 1})
    graph.set_entry_point("more").add_edge("more", "count")
    graph.add_edge("count", "more", when=lambda s: s["n"] < 3)
    graph.add_edge("count", "even", when=lambda s: s["n"] % 2 == 0).add_edge("count", "odd")
    graph.set_exit_point("even").set_exit_point("odd")
    assert await engine.execute(graph, {"n": 0}) == {"n": 3, "log": ["count", "count", "count", "odd"]}
    assert await engine.execute(graph, {"n": 3}) == {"n": 4, "log": ["count", "even"]}


async def test_a_loop_without_an_end_is_ended(engine: Engine) -> None:
    """graph_test: max_iterations 5 on a loop of two nodes."""
    graph = StateGraph("loop", config=GraphConfig(max_iterations=5))
    graph.add_node("a", lambda _: None).add_node("b", lambda _: None)
    graph.add_edge(START, "a").add_edge("a", "b").add_edge("b", "a", when=lambda _: True).add_edge("b", END)
    with pytest.raises(RunFailed, match=r"max iterations \(5\) exceeded") as failed:
        await engine.execute(graph)
    assert failed.value.path == ("a", "b", "a", "b", "a")


async def test_a_failed_node_is_told_with_all_that_is_known(engine: Engine) -> None:
    """graph_test: the node's name, the path, the last good state, and the cause itself."""

    class Broken(Exception):
        pass

    def broken(state: State) -> None:
        raise Broken("out of ink")

    with pytest.raises(RunFailed, match=r"failed at b: .*Broken: out of ink") as failed:
        await engine.execute(sequence("fails", schema=Log, a=say("a"), b=broken))
    error = failed.value
    assert (error.stage, error.path, error.state) == ("b", ("a", "b"), {"log": ["a"]})
    assert isinstance(error.__cause__, Broken)


async def test_no_way_on_is_an_error_that_says_so(engine: Engine) -> None:
    """graph_test: no edge holds. Without a default the graph does not even begin."""
    graph = StateGraph("stuck").add_node("a", lambda _: None).add_node("b", lambda _: None)
    graph.add_edge(START, "a").add_conditional_edge("a", lambda _: [], ["b"]).add_edge("b", END)
    with pytest.raises(RunFailed, match="no way on"):
        await engine.execute(graph)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda g: g.add_node("", say("x")), "name"),
        (lambda g: g.add_node("x", None), "x"),
        (lambda g: g.add_node("a", say("a")), "'a'"),
        (lambda g: g.add_edge("", "a"), "''"),
        (lambda g: g.add_edge("a", ""), "''"),
        (lambda g: g.set_entry_point("b"), "'b'"),
        (lambda g: g.set_entry_point("a").set_entry_point("a"), "entry point is 'a' already"),
        (lambda g: g.set_exit_point("nobody"), "'nobody'"),
        (lambda g: g.add_edge(START, "a").add_edge("a", "nobody").validate(), "'nobody'"),
        (lambda g: g.validate(), "a"),
        (lambda _: StateGraph("empty").validate(), "node"),
    ],
    ids=[
        "empty",
        "no function",
        "twice",
        "from nowhere",
        "to nowhere",
        "entry",
        "entries",
        "exit",
        "edge",
        "no entry",
        "no nodes",
    ],
)
def test_what_makes_no_graph_is_refused_by_name(build: Any, told: str) -> None:
    """graph_test: empty, missing, double and unknown names; no nodes, no entry, no exit."""
    graph = StateGraph("bad").add_node("a", say("a"))
    with pytest.raises(DefinitionError, match=told):
        build(graph).validate()


# --- checkpoints


async def test_checkpoints_are_kept_as_they_are_configured(engine: Engine) -> None:
    """checkpoint_test: interval 0, preserve on and off, at the last node, one record for a run."""
    for interval, preserve, kept in ((1, True, ["c"]), (1, False, []), (0, True, []), (2, True, ["b"])):
        store = MemoryCheckpointStore()
        config = GraphConfig(checkpoint=CheckpointConfig(interval=interval, preserve=preserve))
        graph = StateGraph(f"kept-{interval}-{preserve}", Log, config, checkpoint_store=store)
        graph.add_sequence([("a", say("a")), ("b", say("b")), ("c", say("c"))]).add_edge(START, "a").add_edge(
            "c", END
        )
        run = await engine.start(graph)
        assert await run.result() == {"log": ["a", "b", "c"]}
        await engine.settle()
        assert [store.load(each).checkpoint_node for each in store.list()] == kept


async def test_a_resume_goes_on_after_the_last_good_node(engine: Engine) -> None:
    """checkpoint_test: the run's id is kept, finished nodes are not run again."""
    ran: list[str] = []

    def node(name: str) -> Any:
        def run(state: State) -> dict[str, Any]:
            ran.append(name)
            if ran == ["a", "b"]:
                raise OSError("once")
            return {"log": [name]}

        return run

    run = await engine.start(sequence("resumed", schema=Log, a=node("a"), b=node("b"), c=node("c")))
    await run.wait()
    again = await engine.resume(run.id)
    assert (again.id, await again.result()) == (run.id, {"log": ["a", "b", "c"]})
    assert ran == ["a", "b", "b", "c"]


# --- items


async def test_chains(engine: Engine) -> None:
    """chain_test: folds, nothing, one, an error with its place, progress, states between, 1,000 items."""
    assert (
        await process_chain("abc", "start", lambda item, text: f"{text}->{item}")
    ).final == "start->a->b->c"
    nothing = await process_chain([], 7, lambda item, total: total + item)
    assert (nothing.final, nothing.steps) == (7, 0)
    told: list[tuple[int, int, str]] = []

    def fail_at_c(item: str, text: str) -> str:
        if item == "c":
            raise OSError("no c")
        return text + item

    with pytest.raises(ChainError, match="chain failed at step 2") as failed:
        await process_chain("abc", "", fail_at_c, None, lambda *given: told.append(given))
    error = failed.value
    assert (error.step_index, error.item, error.state, type(error.__cause__)) == (2, "c", "ab", OSError)
    assert told == [(1, 3, "a"), (2, 3, "ab")]
    with pytest.raises(DefinitionError, match="failed to resolve observer: unknown observer: nobody"):
        await process_chain("a", "", fail_at_c, ChainConfig(observer="nobody"))
    assert (await process_chain(range(1000), 0, lambda item, total: total + item)).final == 499_500


async def test_parallel_items() -> None:
    """parallel_test: order whoever ends first; half fail, all fail; at most so many at once; the texts of errors."""
    done: list[asyncio.Event] = [asyncio.Event() for _ in range(20)]

    async def backwards(item: int) -> int:
        if item < 19:
            await done[item + 1].wait()
        done[item].set()
        return item * 2

    wide = ParallelConfig(max_workers=20)
    assert (await process_parallel(range(20), backwards, wide)).results == [item * 2 for item in range(20)]

    def odd_fails(item: int) -> int:
        if item % 2:
            raise ValueError("odd") if item < 6 else TypeError("odd and large")
        return item * 2

    collecting = ParallelConfig(fail_fast=False)
    half = await process_parallel(range(10), odd_fails, collecting)
    assert half.results == [0, 4, 8, 12, 16]
    assert [(error.index, error.item) for error in half.errors] == [(n, n) for n in (1, 3, 5, 7, 9)]
    with pytest.raises(ParallelError) as failed:
        await process_parallel([1, 3, 5, 7], odd_fails, collecting)
    for text in ("4 items failed", "2 error types", "(3 items)"):
        assert text in str(failed.value)
    with pytest.raises(ParallelError, match="item 0: odd"):
        await process_parallel([1], odd_fails, collecting)
    running, most = 0, 0

    async def counted(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await process_parallel(range(30), counted, ParallelConfig(max_workers=2))
    assert most == 2
    assert (await process_parallel([], counted)).results == []


async def test_choices() -> None:
    """conditional_test: by the state, by default, without one, and what fails keeps its cause."""
    routes = {"big": lambda n: n * 10}
    assert await process_conditional(7, lambda n: "big" if n > 5 else "small", routes) == 70
    assert await process_conditional(1, lambda _: "small", routes, lambda n: -n) == -1
    with pytest.raises(ConditionalError, match="route 'small' not found and no default handler") as failed:
        await process_conditional(1, lambda _: "small", routes)
    assert failed.value.state == 1

    def broken(_: int) -> str:
        raise OSError("no idea")

    with pytest.raises(ConditionalError) as failed:
        await process_conditional(1, broken, routes)
    assert (failed.value.route, type(failed.value.__cause__)) == ("", OSError)


async def test_item_nodes_compose_in_a_graph(engine: Engine) -> None:
    """integration_test: chain, then parallel, then conditional: 3 steps, a sum of 12, success."""
    graph = StateGraph("composed")
    graph.add_node(
        "chain", chain_node([1, 2, 3], lambda n, s: s.merge({"count": s.get("count", 0) + 1, "last": n}))
    )
    graph.add_node("double", parallel_node([1, 2, 3], lambda n: n * 2, lambda r, _: {"sum": sum(r.results)}))
    graph.add_node(
        "verdict",
        conditional_node(
            lambda s: "good" if s["sum"] == 12 else "bad",
            {"good": lambda _: {"verdict": "success"}, "bad": lambda _: {"verdict": "failure"}},
        ),
    )
    graph.add_edge(START, "chain").add_sequence(["chain", "double", "verdict"]).add_edge("verdict", END)
    expected = {"count": 3, "last": 3, "sum": 12, "verdict": "success"}
    assert await engine.execute(graph) == expected


# --- observers


async def test_several_observers_see_all_of_many_runs_at_once(engine: Engine) -> None:
    """observability: ten observers, a hundred runs at once, nothing lost; None is left out."""

    class Counting(Observer):
        def __init__(self) -> None:
            self.completed = 0

        async def on_event(self, event: RunEvent) -> None:
            self.completed += event.type == "run.completed"

    counting = [Counting() for _ in range(10)]
    graph = StateGraph("many", observer=MultiObserver(*counting, None))
    graph.add_node("only", lambda _: None).set_entry_point("only").set_exit_point("only")
    runs = [await engine.start(graph) for _ in range(100)]
    for run in runs:
        await run.wait()
    await until(lambda: sum(each.completed for each in counting) == 1000)
