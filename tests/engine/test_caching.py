"""Results that steps take from the cache instead of running, on each kind of store; and why others ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypedDict

import pytest

from holdfast import (
    END,
    START,
    CachePolicy,
    DAGWorkflow,
    DefinitionError,
    Engine,
    PayloadRejected,
    RetryPolicy,
    RunFailed,
    Send,
    State,
    StateGraph,
    StepContext,
    interrupt,
)
from holdfast.dags import Skip, branch, dag, task
from holdfast.model.audit import Stage
from tests.graphs import PATIENCE, until

LARGE = "x" * 100_000


class Log:
    """Counts what ran. It is no data, so the code that closes over it is the same for every one."""

    def __init__(self) -> None:
        self.calls: Counter[Any] = Counter()

    def __call__(self, what: Any, value: Any) -> Any:
        self.calls[what] += 1
        return value


def etl(log: Log, factor: int = 1, **options: Any) -> DAGWorkflow:
    made = DAGWorkflow(name="etl")
    made.add_task("fetch", lambda day: log("fetch", {"day": day, "n": factor}), cache=True, **options)
    made.add_task("save", lambda fetch: log("save", fetch["n"]), depends_on=["fetch"])
    return made


async def stages(engine: Engine, run: str) -> dict[str, Stage]:
    return {stage.name: stage for stage in await engine.stages(run)}


async def ran(engine: Engine, workflow: Any, params: Any = None, **options: Any) -> dict[str, Stage]:
    """Run to the end; returns the stages by name."""
    run = await engine.start(workflow, params, **options)
    await run.result(PATIENCE)
    return await stages(engine, run.id)


async def test_a_task_with_the_same_inputs_takes_the_result_that_is_there(engine: Engine) -> None:
    log = Log()
    workflow = etl(log)
    first = await engine.start(workflow, {"day": "mon"})
    made = await first.result()
    assert (await stages(engine, first.id))["fetch"].missed == "no entry"
    second = await engine.start(workflow, {"day": "mon"})
    assert await second.result() == made
    assert log.calls == {"fetch": 1, "save": 2}
    told = (await stages(engine, second.id))["fetch"]
    assert (told.cached, told.missed, told.attempt, told.started_at) == (first.id, "", 1, None)
    assert told.output == {"day": "mon", "n": 1}


async def test_a_miss_says_what_is_another_one(engine: Engine) -> None:
    log = Log()
    await ran(engine, etl(log), {"day": "mon"})
    assert (await ran(engine, etl(log), {"day": "tue"}))["fetch"].missed == "inputs differ: 'day'"
    assert (await ran(engine, etl(log, factor=2), {"day": "tue"}))["fetch"].missed == "the code changed"
    both = (await ran(engine, etl(log, factor=3), {"day": "wed"}))["fetch"].missed
    assert both == "the code changed; inputs differ: 'day'"
    assert log.calls["fetch"] == 4


async def test_results_of_earlier_code_are_there_for_who_goes_back_to_it(engine: Engine) -> None:
    log = Log()
    await ran(engine, etl(log), {"day": "mon"})
    await ran(engine, etl(log, factor=2), {"day": "mon"})
    assert (await ran(engine, etl(log), {"day": "mon"}))["fetch"].cached


async def test_a_version_stands_for_the_code(engine: Engine) -> None:
    log = Log()

    def build(factor: int, version: str) -> DAGWorkflow:
        made = DAGWorkflow(name="versioned")
        made.add_task("a", lambda: log("a", factor), cache=CachePolicy(version=version))
        return made

    await ran(engine, build(1, "1"))
    assert (await ran(engine, build(2, "1")))["a"].output == 1
    assert (await ran(engine, build(2, "2")))["a"].missed == "the version changed"


async def test_a_run_of_nothing_but_results_is_one_commit(engine: Engine) -> None:
    log = Log()
    workflow = DAGWorkflow(name="all")
    workflow.add_task("a", lambda: log("a", [1, 2, 3]), cache=True)
    workflow.add_task("each", lambda x: log("each", x * 2), map_over="a", cache=True)
    workflow.add_task("sum", lambda each: log("sum", sum(each)), depends_on=["each"], cache=True)
    await ran(engine, workflow)
    before = engine._store.stats.commits
    run = await engine.start(workflow)
    assert (await run.result())["sum"] == 12
    assert engine._store.stats.commits == before + 1
    assert log.calls == {"a": 1, "each": 3, "sum": 1}


async def test_a_workflow_without_cache_asks_nothing_and_a_map_asks_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ask = engine._store.cached

    async def counting(keys: Any) -> Any:
        asked.append(len(keys))
        return await ask(keys)

    monkeypatch.setattr(engine._store, "cached", counting)
    plain = DAGWorkflow(name="plain")
    plain.add_task("each", lambda x: x, map_over=list(range(200)))
    await ran(engine, plain)
    assert asked == []
    kept = DAGWorkflow(name="kept")
    kept.add_task("each", lambda x: x, map_over=list(range(200)), cache=True)
    await ran(engine, kept)
    await ran(engine, kept)
    assert asked == [200, 200]


async def test_each_item_of_a_map_has_a_result_of_its_own(engine: Engine) -> None:
    log = Log()
    workflow = DAGWorkflow(name="items")
    workflow.add_task("each", lambda x, factor: log(x, x * factor), map_over="ns", cache=True)
    assert (await engine.execute(workflow, {"ns": [1, 2, 3], "factor": 10}))["each"] == [10, 20, 30]
    assert (await engine.execute(workflow, {"ns": [4, 3, 2], "factor": 10}))["each"] == [40, 30, 20]
    assert log.calls == {1: 1, 2: 1, 3: 1, 4: 1}


async def test_a_batch_is_one_result(engine: Engine) -> None:
    log = Log()
    workflow = DAGWorkflow(name="batches")
    workflow.add_task("each", lambda x: log(x, -x), map_over="ns", batch=2, cache=True)
    assert (await engine.execute(workflow, {"ns": [1, 2, 3, 4]}))["each"] == [-1, -2, -3, -4]
    assert (await engine.execute(workflow, {"ns": [3, 4, 9]}))["each"] == [-3, -4, -9]
    assert log.calls == {1: 1, 2: 1, 3: 1, 4: 1, 9: 1}


@pytest.mark.parametrize(
    "value", [None, [], {"b": 1, "a": (2, {3})}, LARGE], ids=["none", "list", "types", "large"]
)
async def test_a_result_outlives_its_run(engine: Engine, value: Any) -> None:
    log = Log()
    workflow = DAGWorkflow(name="values")
    workflow.add_task("a", lambda: log("a", value), cache=CachePolicy(version="1"))
    workflow.add_task("b", lambda a: log("b", a == value), depends_on=["a"])
    first = await engine.start(workflow)
    await first.result()
    await engine.delete(first.id)
    second = await engine.start(workflow)
    assert await second.result() == {"a": value, "b": True}
    assert log.calls == {"a": 1, "b": 2}
    assert (await stages(engine, second.id))["a"].cached == first.id


async def test_the_order_of_keys_is_no_other_input(engine: Engine) -> None:
    log = Log()
    workflow = DAGWorkflow(name="ordered")
    workflow.add_task("a", lambda given: log("a", len(given)), cache=True)
    await ran(engine, workflow, {"given": {"x": 1, "y": {"a": 1, "b": 2}}})
    await ran(engine, workflow, {"given": {"y": {"b": 2, "a": 1}, "x": 1}})
    assert log.calls == {"a": 1}


async def test_inputs_of_one_name_are_told_apart(engine: Engine) -> None:
    log = Log()

    def both(a: int, /, *rest: int) -> Any:
        return log("both", [a, *rest])

    workflow = DAGWorkflow(name="names")
    workflow.add_task("x", lambda n: n)
    workflow.add_task("a", lambda m: m)
    workflow.add_task("both", both, depends_on=["x", "a"], cache=True)
    assert (await engine.execute(workflow, {"n": 1, "m": 5}))["both"] == [1, 5]
    assert (await engine.execute(workflow, {"n": 2, "m": 5}))["both"] == [2, 5]
    assert (await engine.execute(workflow, {"n": 2, "m": 6}))["both"] == [2, 6]
    assert (await engine.execute(workflow, {"n": 2, "m": 6}))["both"] == [2, 6]
    assert log.calls == {"both": 3}


async def test_a_node_of_a_graph_in_a_graph_has_a_cache_of_its_own(engine: Engine) -> None:
    log = Log()
    inner, outer = StateGraph("inner"), StateGraph("outer")
    inner.add_node("a", lambda state: {"b": log("a", state["n"] + 1)}, cache=CachePolicy(key="n"))
    inner.add_edge(START, "a").add_edge("a", END)
    outer.add_node("deep", inner)
    outer.add_edge(START, "deep").add_edge("deep", END)
    for _ in range(2):
        assert await engine.execute(outer, {"n": 1}) == {"n": 1, "b": 2}
    assert log.calls == {"a": 1}
    assert [each.workflow for each in await engine.cached()] == ["outer/deep"]


async def test_a_failure_is_no_result_and_tries_do_not_matter(engine: Engine) -> None:
    log = Log()

    def shaky(step: StepContext) -> str:
        log("a", None)
        if step.attempt == 1:
            raise ValueError("first")
        return "good"

    workflow = DAGWorkflow(name="shaky")
    workflow.add_task("a", shaky, cache=True)
    with pytest.raises(RunFailed):
        await engine.execute(workflow)
    retried = DAGWorkflow(name="shaky")
    retried.add_task("a", shaky, cache=True, retry=RetryPolicy(attempts=2, backoff=0.01))
    made = (await ran(engine, retried))["a"]
    assert (made.missed, made.attempt) == ("no entry", 2)
    assert (await ran(engine, retried))["a"].cached
    assert log.calls == {"a": 3}


async def test_what_stands_in_for_a_result_or_is_skipped_is_not_kept(engine: Engine) -> None:
    log = Log()

    def skip() -> None:
        log("skip", None)
        raise Skip("nothing today")

    def fail() -> None:
        raise OSError("down")

    workflow = DAGWorkflow(name="instead")
    workflow.add_task("skip", skip, cache=True)
    workflow.add_task("fail", fail, fallback=7, cache=True)
    for _ in range(2):
        told = await ran(engine, workflow)
        assert told["skip"].unkept == "it was skipped"
        assert (told["fail"].output, told["fail"].missed) == (7, "no entry")
    assert log.calls == {"skip": 2}
    assert await engine.cached() == []


KEYS: dict[str, Callable[..., Any] | str | list[str]] = {
    "function": lambda day, verbose: day,  # noqa: ARG005 - it is called as the task is
    "name": "day",
    "names": ["day"],
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
async def test_a_key_says_which_inputs_count(engine: Engine, key: Any) -> None:
    log = Log()
    workflow = DAGWorkflow(name="keyed")

    def a(step: StepContext, day: str, verbose: bool) -> Any:
        return log("a", [day, verbose, step.name])

    workflow.add_task("a", a, cache=CachePolicy(key=key))
    await ran(engine, workflow, {"day": "mon", "verbose": False})
    assert (await ran(engine, workflow, {"day": "mon", "verbose": True}))["a"].output == ["mon", False, "a"]
    missed = (await ran(engine, workflow, {"day": "tue", "verbose": True}))["a"].missed
    assert missed == ("the key differs" if callable(key) else "inputs differ: 'day'")


async def test_a_key_that_fails_costs_the_result_and_not_the_run(engine: Engine) -> None:
    log = Log()
    workflow = DAGWorkflow(name="broken")
    workflow.add_task("a", lambda x: log("a", x), cache=CachePolicy(key=lambda x: x["t0ken"]))
    workflow.add_task("b", lambda x: log("b", x), cache=CachePolicy(key="y"))
    workflow.add_task("c", lambda x: log("c", x), cache=CachePolicy(key=lambda x: object()))  # noqa: ARG005
    for _ in range(2):
        told = await ran(engine, workflow, {"x": {}}, secrets={"token": "t0ken"})
        assert told["a"].missed == "its key failed: KeyError: '[secret token]'"
        assert "its key names no input: 'y'" in told["b"].missed
        assert "what its key returned" in told["c"].missed
    assert log.calls == {"a": 2, "b": 2, "c": 2}


async def test_scopes_say_who_may_take_a_result(engine: Engine) -> None:
    log = Log()

    def build(name: str) -> DAGWorkflow:
        made = DAGWorkflow(name=name)
        for scope in ("run", "workflow", "global"):
            made.add_task(f"{scope}s", lambda: log("any", 1), cache=CachePolicy(scope=scope))
        return made

    one, two = build("one"), build("two")
    first = await engine.start(one)
    await first.result()
    assert {name: bool(stage.cached) for name, stage in (await ran(engine, one)).items()} == {
        "runs": False,
        "workflows": True,
        "globals": True,
    }
    assert [name for name, stage in (await ran(engine, two)).items() if stage.cached] == ["globals"]
    assert len(await engine.cached(scope="run")) == 3
    await engine.delete(first.id)
    assert len(await engine.cached(scope="run")) == 2, "a run's own results go with it"


async def test_a_node_in_a_loop_takes_what_its_run_made(engine: Engine) -> None:
    log = Log()
    graph = StateGraph("loop")
    graph.add_node("next", lambda state: {"n": state["n"] + 1})
    graph.add_node(
        "look",
        lambda state: {"seen": log("look", state["n"] % 2)},
        cache=CachePolicy(key=lambda s: s["n"] % 2, scope="run"),
    )
    graph.add_edge(START, "next").add_edge("next", "look")
    graph.add_conditional_edge("look", lambda s: END if s["n"] > 5 else "next", ["next", END])
    assert await engine.execute(graph, {"n": 0}) == {"n": 6, "seen": 0}
    assert log.calls == {"look": 2}


async def test_a_node_gives_changed_and_removed_keys_from_the_cache(engine: Engine) -> None:
    log = Log()

    def node(state: State) -> State:
        log("node", None)
        return state.set("out", [state["doc"], LARGE]).delete("draft")

    graph = StateGraph("keys")
    graph.add_node("node", node, cache=CachePolicy(key=["doc", "draft"]))
    graph.add_edge(START, "node").add_edge("node", END)
    await engine.execute(graph, {"doc": "a", "draft": 1, "other": 1})
    assert await engine.execute(graph, {"doc": "a", "draft": 1, "other": 2}) == {
        "doc": "a",
        "other": 2,
        "out": ["a", LARGE],
    }
    assert log.calls == {"node": 1}
    missed = (await ran(engine, graph, {"doc": "b", "other": 2}))["node"].missed
    assert missed == "inputs differ: 'doc', 'draft'"


async def test_items_of_a_fan_out_are_looked_up_by_what_they_are_sent(engine: Engine) -> None:
    log = Log()
    graph = StateGraph("sent")
    graph.add_node("split", lambda _: None)
    graph.add_node("page", lambda state: {f"p{state['p']}": log(state["p"], state["p"])}, cache=True)
    graph.add_edge(START, "split").add_edge("page", END)
    graph.add_conditional_edge("split", lambda s: [Send("page", {"p": p}) for p in s["ps"]], ["page"])
    assert await engine.execute(graph, {"ps": [1, 2]}) == {"ps": [1, 2], "p1": 1, "p2": 2}
    assert await engine.execute(graph, {"ps": [3, 2]}) == {"ps": [3, 2], "p3": 3, "p2": 2}
    assert log.calls == {1: 1, 2: 1, 3: 1}


async def asked(engine: Engine) -> bool:
    return bool(await engine.interrupts())


async def test_what_a_person_answered_is_not_kept(engine: Engine) -> None:
    graph = StateGraph("asks")
    graph.add_node("ask", lambda _: {"answer": interrupt("approve")}, cache=True)
    graph.add_edge(START, "ask").add_edge("ask", END)
    for answer in (True, False):
        run = await engine.start(graph)
        await until(lambda: asked(engine))
        await engine.signal(run.id, "approve", answer)
        assert await run.result() == {"answer": answer}
        assert (await stages(engine, run.id))["ask"].unkept == "it was answered: 'approve'"


async def test_a_branch_does_not_choose_what_is_not_there_any_more(engine: Engine) -> None:
    def build(*names: str) -> DAGWorkflow:
        made = DAGWorkflow(name="-".join(names))
        made.add_task("pick", branch(lambda way: way), cache=CachePolicy(scope="global"))
        for name in names:
            made.add_task(name, lambda: 1, depends_on=["pick"])
        return made

    assert await engine.execute(build("a", "b"), {"way": "a"}) == {"pick": "a", "a": 1}
    assert (await ran(engine, build("a", "b"), {"way": "a"}))["pick"].cached
    with pytest.raises(RunFailed, match="chose 'a', which is no task after it"):
        await engine.execute(build("b", "c"), {"way": "a"})


class Number(TypedDict):
    """What a result is."""

    n: int


class Text(TypedDict):
    """What it is to be one day."""

    n: str


async def test_a_result_that_passed_another_schema_is_not_taken(engine: Engine) -> None:
    log = Log()

    def build(schema: Any) -> StateGraph:
        graph = StateGraph("typed", schema=schema)
        graph.add_node("a", lambda _: {"n": log("a", 1)}, cache=True)
        graph.add_edge(START, "a").add_edge("a", END)
        return graph

    await engine.execute(build(Number))
    assert (await ran(engine, build(Number)))["a"].cached
    with pytest.raises(RunFailed, match="expected str"):
        await engine.execute(build(Text))
    assert log.calls == {"a": 2}


# --- secrets


async def test_what_a_step_made_that_read_a_secret_is_for_nobody_else(engine: Engine) -> None:
    log = Log()

    def documents(state: State) -> dict[str, Any]:
        return {"of": log("documents", "ada" if state.get_secret("token") == "ada's" else "eve")}

    graph = StateGraph("private")
    graph.add_node("documents", documents, cache=True)
    graph.add_edge(START, "documents").add_edge("documents", END)
    for token, name in (("ada's", "ada"), ("eve's", "eve")):
        run = await engine.start(graph, secrets={"token": token})
        assert await run.result() == {"of": name}
        assert (await stages(engine, run.id))["documents"].unkept == "it read the secret 'token'"
    assert await engine.execute(graph) == {"of": "eve"}, "nor of one that knows none"
    assert log.calls == {"documents": 3}
    assert await engine.cached() == []


async def test_secrets_that_have_no_part_in_a_result(engine: Engine) -> None:
    log = Log()

    def ask(step: StepContext) -> Any:
        return log("ask", len(step.secrets["key"]))

    workflow = DAGWorkflow(name="priced")
    workflow.add_task("ask", ask, cache=CachePolicy(despite_secrets=True))
    workflow.add_task("again", lambda: log("none", 1), cache=True)
    await ran(engine, workflow, secrets={"key": "k-12345"})
    told = await ran(engine, workflow, secrets={"key": "k-678"})
    assert (told["ask"].output, told["again"].unkept) == (7, "")
    assert log.calls == {"ask": 1, "none": 1}
    keys = b"".join(entry.parts + entry.body for entry in await entries(engine))
    assert b"k-12345" not in keys


async def entries(engine: Engine) -> list[Any]:
    found = await engine.cached()
    return list((await engine._store.cached([each.key for each in found])).values())


async def test_a_run_does_not_take_what_holds_a_secret_of_its_own(engine: Engine) -> None:
    log = Log()
    workflow = DAGWorkflow(name="leak")
    workflow.add_task("a", lambda: log("a", "hunter22" if log.calls["a"] == 0 else "fine"), cache=True)
    await ran(engine, workflow)
    told = (await ran(engine, workflow, secrets={"password": "hunter22"}))["a"]
    assert (told.output, told.missed) == ("fine", "its entry holds a secret of this run")


async def test_a_step_that_sets_a_secret_is_not_kept(engine: Engine) -> None:
    graph = StateGraph("login")
    graph.add_node("login", lambda state: state.set_secret("session", "s3cr3t-1").set("in", True), cache=True)
    graph.add_node("use", lambda state: {"long": len(state.get_secret("session"))})
    graph.add_sequence([START, "login", "use", END])
    for _ in range(2):
        told = await ran(engine, graph)
        assert told["login"].unkept == "it changed the run's secrets"


# --- running again


async def test_a_task_that_is_to_run_again_does_and_its_result_takes_the_place(engine: Engine) -> None:
    log = Log()
    workflow = DAGWorkflow(name="again")
    workflow.add_task("a", lambda: log("a", log.calls["a"] + 1), cache=True)
    workflow.add_task("each", lambda x: log(x, [x, log.calls[x]]), map_over=["x", "y"], cache=True)
    run = await engine.start(workflow)
    assert await run.result() == {"a": 1, "each": [["x", 0], ["y", 0]]}
    made = await engine.rerun(run.id, "a")
    assert (await made.result())["a"] == 2
    assert (await stages(engine, made.id))["a"].missed == "it was asked to run again"
    item = await engine.rerun(run.id, "each", item=1)
    assert (await item.result())["each"] == [["x", 0], ["y", 1]]
    assert await engine.execute(workflow) == {"a": 2, "each": [["x", 0], ["y", 1]]}


async def test_a_resumed_step_runs_and_keeps_what_it_gives(engine: Engine) -> None:
    log, mended = Log(), Counter[str]()
    workflow = DAGWorkflow(name="mended")

    def a() -> int:
        if not mended:
            raise ValueError("not yet")
        return int(log("a", 1))

    workflow.add_task("a", a, cache=True)
    run = await engine.start(workflow)
    with pytest.raises(RunFailed):
        await run.result()
    mended["now"] += 1
    await engine.resume(run.id)
    assert await run.result() == {"a": 1}
    assert (await ran(engine, workflow))["a"].cached == run.id
    assert log.calls == {"a": 1}


# --- listing and clearing


async def test_results_are_listed_and_cleared(engine: Engine) -> None:
    log = Log()
    workflow = etl(log)
    await ran(engine, workflow, {"day": "mon"})
    run = await engine.start(workflow, {"day": "tue"})
    await run.result()
    newest, _ = await engine.cached()
    assert (newest.workflow, newest.step, newest.scope, newest.run_id) == ("etl", "fetch", "workflow", run.id)
    assert newest.expires_at is None
    assert newest.to_dict()["size"] == newest.size > 0
    assert await engine.cached(workflow="other") == []
    assert await engine.clear_cache(step="save") == 0
    assert await engine.clear_cache("etl", "fetch") == 2
    assert (await ran(engine, workflow, {"day": "mon"}))["fetch"].missed == "no entry"


@pytest.mark.parametrize(
    ("given", "field"), [({"workflow": ""}, "workflow"), ({"step": 7}, "step"), ({"scope": "all"}, "scope")]
)
async def test_what_cannot_be_cleared_is_refused(engine: Engine, given: Any, field: str) -> None:
    with pytest.raises(PayloadRejected, match=field):
        await engine.clear_cache(**given)
    with pytest.raises(PayloadRejected, match=field):
        await engine.cached(**given)


async def test_readers_are_told_of_hits_and_misses(engine: Engine) -> None:
    workflow = etl(Log())
    first = await engine.start(workflow, {"day": "mon"})
    await first.result()
    second = await engine.start(workflow, {"day": "mon"})
    await second.result()
    told = {run.id: {event.type: event.data async for event in run.events()} for run in (first, second)}
    scheduled = [event async for event in first.events(types=["stage.scheduled"])]
    assert [event.data.get("missed") for event in scheduled] == ["no entry", None]
    ended = [event async for event in second.events(types=["stage.completed"])]
    assert [event.data.get("cached") for event in ended] == [first.id, None]
    assert set(told[first.id]) == set(told[second.id])


# --- what may be given


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"ttl": 0}, "ttl=0"),
        ({"ttl": True}, "ttl=True"),
        ({"key": []}, r"key=\[\]"),
        ({"key": 7}, "key=7"),
        ({"scope": "all"}, "scope='all'"),
        ({"version": 1}, "version=1"),
        ({"despite_secrets": "yes"}, "despite_secrets='yes'"),
    ],
    ids=str,
)
def test_a_policy_that_cannot_be_is_refused(options: Any, match: str) -> None:
    with pytest.raises(DefinitionError, match=match):
        CachePolicy(**options)


@pytest.mark.parametrize("cache", [0, -1, "1h", {"ttl": 1}])
def test_an_option_that_cannot_be_is_refused(cache: Any) -> None:
    with pytest.raises(DefinitionError, match="task 'a': cache="):
        DAGWorkflow().add_task("a", lambda: 1, cache=cache)
    with pytest.raises(DefinitionError, match="node 'a': cache="):
        StateGraph().add_node("a", lambda _: None, cache=cache)


def test_a_workflow_has_no_cache() -> None:
    child = DAGWorkflow(name="child")
    child.add_task("a", lambda: 1)
    with pytest.raises(DefinitionError, match="is a workflow, which has no cache"):
        DAGWorkflow().add_task("b", child, cache=True)
    with pytest.raises(DefinitionError, match="is a workflow, which has no cache"):
        StateGraph().add_node("b", StateGraph("inner"), cache=True)


def test_no_cache_may_be_said() -> None:
    made = DAGWorkflow().add_task("a", lambda: 1, cache=False)
    assert made.cache is None


# --- in memory, and as decorators


def test_in_memory_results_are_kept_as_long_as_the_process() -> None:
    log = Log()
    workflow = etl(log)
    assert workflow.execute({"day": "mon"}) == workflow.execute({"day": "mon"})
    assert log.calls == {"fetch": 1, "save": 2}
    graph = StateGraph("in memory")
    graph.add_node("a", lambda state: {"b": log("a", state["a"])}, cache=60)
    graph.add_edge(START, "a").add_edge("a", END)
    assert graph.execute({"a": 1}) == graph.execute({"a": 1}) == {"a": 1, "b": 1}
    assert log.calls["a"] == 1


async def test_a_call_of_a_task_is_known_by_its_values(engine: Engine) -> None:
    log = Log()

    @task(cache=True)
    def scaled(n: int, *, by: dict[str, int]) -> int:
        return int(log("scaled", n * by["x"]))

    def build(factor: int) -> DAGWorkflow:
        @dag(name="calls")
        def calls(n: int) -> None:
            one = scaled(n, by={"x": factor})
            scaled.options(name="two")(one, by={"x": 2})

        return calls

    assert await engine.execute(build(3), {"n": 5}) == {"scaled": 15, "two": 30}
    assert await engine.execute(build(3), {"n": 5}) == {"scaled": 15, "two": 30}
    assert log.calls == {"scaled": 2}
    told = await ran(engine, build(4), {"n": 5})
    assert (told["scaled"].missed, told["two"].missed) == ("the code changed", "inputs differ: 'scaled'")
