"""DAGs under an engine, on each kind of store: order, rules, maps, failures, resumes."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest

from holdfast import (
    DAGWorkflow,
    DefinitionError,
    Engine,
    InvalidStatus,
    PayloadRejected,
    RequestError,
    RetryPolicy,
    RunFailed,
    RunStatus,
    StateGraph,
    StepContext,
    Task,
    blocking,
    interrupt,
)
from holdfast.agents import AgentRequest, register_agent
from holdfast.dags import Skip, at_least, branch
from holdfast.registry import Registry
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, until


class Fuse:
    """A task that fails until it is mended, and counts how often it ran."""

    def __init__(self, value: Any = None) -> None:
        self.value = value
        self.mended = False
        self.times = 0

    def __call__(self) -> Any:
        self.times += 1
        if not self.mended:
            raise ValueError("blown")
        return self.value


async def test_results_are_passed_on_by_name_and_by_position(engine: Engine) -> None:
    dag = DAGWorkflow(name="pass")
    dag.add_task("a", lambda: {"n": 1})
    dag.add_task("b", lambda a: a["n"] + 1, depends_on=["a"])
    dag.add_task("c", lambda x, factor: x * factor, depends_on=["b"])
    assert await engine.execute(dag, {"factor": 10}) == {"a": {"n": 1}, "b": 2, "c": 20}


async def test_an_argument_that_nobody_gives_is_refused_before_anything_is_stored(engine: Engine) -> None:
    dag = DAGWorkflow([Task("a", lambda x: x)], name="missing")
    with pytest.raises(
        PayloadRejected, match=r"'x' is missing: task 'a', <lambda>\(x\), gets nothing for it"
    ) as caught:
        await engine.start(dag)
    assert caught.value.field == "x"
    assert await engine.count() == 0


async def test_a_task_starts_as_soon_as_those_before_it_have_ended(engine: Engine) -> None:
    may_end = asyncio.Event()

    async def slow() -> None:
        await asyncio.wait_for(may_end.wait(), PATIENCE)

    dag = DAGWorkflow([Task("slow", slow), Task("a", lambda: 1)], name="levels")
    dag.add_task("b", may_end.set, depends_on=["a"])  # of the level after that of `slow`
    assert list(await engine.execute(dag)) == ["slow", "a", "b"]


async def test_no_more_run_at_once_than_max_parallel(engine: Engine) -> None:
    running, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2)

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait(PATIENCE)
        with lock:
            running -= 1

    dag = DAGWorkflow([Task(f"t{n}", work) for n in range(8)], name="narrow", max_parallel=2)
    await engine.execute(dag)
    assert most == 2


async def test_a_failure_keeps_what_finished_and_a_resume_runs_the_rest(engine: Engine) -> None:
    calls: Counter[str] = Counter()

    def count(name: str) -> Any:
        return lambda *_: calls.update([name])

    fuse = Fuse(2)
    dag = DAGWorkflow([Task("a", count("a")), Task("b", fuse, depends_on=["a"])], name="partial")
    dag.add_task("c", count("c"), depends_on=["b"])
    dag.add_task("x", count("x"))
    run = await engine.start(dag)
    with pytest.raises(RunFailed) as caught:
        await run.result()
    assert (caught.value.stage, caught.value.results) == ("b", {"a": None, "x": None})
    assert isinstance(caught.value.__cause__, ValueError)

    fuse.mended = True
    await engine.resume(run.id)
    assert await run.result() == {"a": None, "b": 2, "c": None, "x": None}
    assert (calls, fuse.times) == ({"a": 1, "c": 1, "x": 1}, 2)
    assert [(stage.name, stage.attempt) for stage in await run.stages()] == [
        *(("a", 1), ("x", 1), ("b", 2), ("c", 1))
    ]


async def test_retries_timeouts_and_fallbacks_are_those_of_nodes(engine: Engine) -> None:
    fuse = Fuse(1)

    def second(step: StepContext) -> int:
        fuse.mended = step.attempt > 1
        fuse()
        return step.attempt

    async def never() -> None:
        await asyncio.Event().wait()

    dag = DAGWorkflow(name="policies", default_retry=RetryPolicy(attempts=2, backoff=0))
    dag.add_task("again", second)
    dag.add_task("late", never, timeout=0.05, retry=RetryPolicy(attempts=1), fallback="instead")
    assert await engine.execute(dag) == {"again": 2, "late": "instead"}


async def test_a_large_map_is_in_order_and_takes_few_commits(engine: Engine) -> None:
    async def square(n: int) -> int:
        return n * n

    dag = DAGWorkflow([Task("all", lambda size: list(range(size)))], name="large")
    dag.add_task("square", square, map_over="all")
    dag.add_task("sum", sum, depends_on=["square"])
    run = await engine.start(dag, {"size": 2_000})
    result = await run.result()
    assert result["square"] == [n * n for n in range(2_000)]
    assert result["sum"] == sum(result["square"])
    rows = await engine.store.journal(run.id, limit=10_000)
    assert len(rows) <= 2_000 * 0.05 + 5


async def test_a_limit_holds_for_the_items_of_one_map(engine: Engine) -> None:
    running, most = 0, 0

    async def work(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return n

    dag = DAGWorkflow([Task("each", work, map_over=list(range(30)), limit=3)], name="limit")
    assert (await engine.execute(dag))["each"] == list(range(30))
    assert most == 3


async def test_items_that_failed_are_tried_again_alone(engine: Engine) -> None:
    calls: Counter[int] = Counter()
    mended = False

    def work(n: int) -> int:
        calls[n] += 1
        if n == 2 and not mended:
            raise ValueError("blown")
        return n * 10

    dag = DAGWorkflow(
        [Task("each", work, map_over="ns"), Task("sum", sum, depends_on=["each"])], name="items"
    )
    run = await engine.start(dag, {"ns": [1, 2, 3]})
    with pytest.raises(RunFailed, match="at each"):
        await run.result()
    mended = True
    await engine.resume(run.id)
    assert await run.result() == {"each": [10, 20, 30], "sum": 60}
    assert calls == {1: 1, 2: 2, 3: 1}


async def test_skips_and_branches_and_joins(engine: Engine) -> None:
    def nothing_to_do() -> None:
        raise Skip("nothing new")

    dag = DAGWorkflow(name="choices")
    dag.add_task("pick", branch(lambda which: which))
    dag.add_task("left", lambda: "l", depends_on=["pick"])
    dag.add_task("right", lambda: "r", depends_on=["pick"])
    dag.add_task("new", nothing_to_do)
    dag.add_task(
        "join",
        lambda left, right, new: [left, right, new],
        depends_on=["left", "right", "new"],
        trigger_rule=at_least(1),
    )
    run = await engine.start(dag, {"which": "right"})
    assert await run.result() == {"pick": "right", "right": "r", "join": [None, "r", None]}
    ruled_out = [(d.to_node, d.name) for d in await run.decisions() if not d.result]
    assert ruled_out == [("left", "skipped")]


async def test_a_branch_to_nowhere_fails_and_names_where_it_may_go(engine: Engine) -> None:
    dag = DAGWorkflow(
        [Task("pick", branch(lambda: "up")), Task("down", lambda: 1, depends_on=["pick"])], name="up"
    )
    with pytest.raises(RunFailed, match=r"chose 'up', which is no task after it.*down"):
        await engine.execute(dag)


async def test_workflows_are_tasks(engine: Engine) -> None:
    inner = DAGWorkflow([Task("double", lambda n: n * 2)], params=None)
    graph = StateGraph("graph").add_node("add", lambda state: {"n": state["k"] + 1})
    graph.set_entry_point("add").set_exit_point("add")
    outer = DAGWorkflow([Task("ns", lambda: [1, 2, 3])], name="outer")
    outer.add_task("each", inner, map_over="ns")
    outer.add_task("graph", graph, depends_on=[])
    run = await engine.start(outer, {"k": 5})
    result = await run.result()
    assert result["each"] == [{"double": 2}, {"double": 4}, {"double": 6}]
    assert result["graph"]["n"] == 6
    assert {child.status for child in await engine.children(run.id)} == {RunStatus.COMPLETED}


async def test_a_task_may_ask_a_person(engine: Engine) -> None:
    dag = DAGWorkflow([Task("ask", lambda: interrupt("ok?"))], name="ask")
    run = await engine.start(dag)
    while not (asked := await engine.interrupts()):
        await asyncio.sleep(0.01)
    await engine.signal(run.id, asked[0].name, "yes")
    assert await run.result() == {"ask": "yes"}


async def test_a_run_goes_on_in_another_process_with_the_dag_built_anew(
    url: str, open_engine: OpenEngine
) -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    def build() -> DAGWorkflow:
        async def wait(n: int) -> int:
            began.set()
            await may_end.wait()
            return n

        dag = DAGWorkflow([Task("a", lambda: [1, 2])], name="anew")
        dag.add_task("each", wait, map_over="a")
        return dag

    first = await open_engine(url)
    run = await first.start(build())
    await asyncio.wait_for(began.wait(), PATIENCE)
    await first.close(grace=0)
    may_end.set()
    second = await open_engine(url)
    second.registry.add(build(), replace=True)
    assert await second.result(run.id, timeout=PATIENCE) == {"a": [1, 2], "each": [1, 2]}


def test_without_an_engine_the_first_error_is_raised_with_what_finished() -> None:
    fuse = Fuse(2)
    dag = DAGWorkflow([Task("a", lambda: 1), Task("b", fuse, depends_on=["a"])])
    with pytest.raises(ValueError, match="blown") as caught:
        dag.execute()
    error: Any = caught.value
    assert error.results == {"a": 1}
    fuse.mended = True
    assert dag.resume(error.run_id) == {"a": 1, "b": 2}
    assert dag.execute() == {"a": 1, "b": 2}


def test_with_a_blocking_engine() -> None:
    with blocking.Engine("sqlite:///:memory:", observers=()) as engine:
        assert engine.execute(DAGWorkflow([Task("a", lambda: 1)], name="blocked")) == {"a": 1}


def test_all_that_is_wrong_is_told_at_once() -> None:
    dag = DAGWorkflow(name="wrong")
    dag.add_task("a", lambda: 1, depends_on=["c"])
    dag.add_task("b", lambda: 1, depends_on=["a", "a", "fetched"])
    dag.add_task("c", lambda: 1, depends_on=["b"])
    dag.add_task("fetch", lambda: 1)
    with pytest.raises(DefinitionError) as caught:
        dag.validate()
    assert str(caught.value) == (
        "DAG 'wrong' is not valid: task 'b' depends on 'a' twice; "
        "task 'b' depends on 'fetched', which is no task; did you mean 'fetch'?; it has a cycle: a -> b -> c -> a"
    )


class Counting:
    """Tasks that count how often each ran; `broken` ones fail."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.broken: set[str] = set()

    def __call__(self, name: str) -> Any:
        def run(*given: Any) -> list[Any]:
            self.calls[name] += 1
            if name in self.broken:
                raise ValueError(name)
            return [name, self.calls[name], *given]

        return run

    def item(self, n: int) -> int:
        self.calls[f"item {n}"] += 1
        if f"item {n}" in self.broken:
            raise ValueError(n)
        return n * 10 + self.calls[f"item {n}"]


def pipeline(count: Counting) -> DAGWorkflow:
    dag = DAGWorkflow(name="pipeline")
    dag.add_task("a", count("a"))
    dag.add_task("x", count("x"))
    dag.add_task("each", count.item, map_over="ns", depends_on=["a"])
    dag.add_task("sum", sum, depends_on=["each"])
    dag.add_task("end", lambda total, x: [total, x], depends_on=["sum", "x"])
    return dag


async def test_a_rerun_keeps_what_was_before_a_task(engine: Engine) -> None:
    count = Counting()
    run = await engine.start(pipeline(count), {"ns": [1, 2]})
    assert (await run.result())["end"] == [32, ["x", 1]]
    made = await engine.rerun(run.id, "each")
    assert (await made.result())["end"] == [34, ["x", 1]]
    assert count.calls == {"a": 1, "x": 1, "item 1": 2, "item 2": 2}
    assert (await engine.get(run.id)).status is RunStatus.COMPLETED
    assert (await run.result())["end"] == [32, ["x", 1]]
    again = await engine.rerun(made.id, "a")
    assert (await again.result())["end"] == [36, ["x", 1]]
    assert [stage.iteration for stage in await again.stages() if stage.name == "each"] == [1, 2, 3, 4, 5, 6]


async def test_a_rerun_of_one_item(engine: Engine) -> None:
    count = Counting()
    run = await engine.start(pipeline(count), {"ns": [1, 2, 3]})
    assert (await run.result())["each"] == [11, 21, 31]
    made = await engine.rerun(run.id, "each", item=1)
    assert (await made.result())["each"] == [11, 22, 31]
    assert count.calls == {"a": 1, "x": 1, "item 1": 1, "item 2": 2, "item 3": 1}
    with pytest.raises(PayloadRejected, match="has items 0 to 2"):
        await engine.rerun(run.id, "each", item=3)
    with pytest.raises(PayloadRejected, match="there is no task 'eech'"):
        await engine.rerun(run.id, "eech")


@pytest.mark.parametrize("downstream", [True, False])
async def test_clearing_a_task_of_a_failed_run(engine: Engine, downstream: bool) -> None:
    count = Counting()
    count.broken = {"x"}
    run = await engine.start(pipeline(count), {"ns": [1]})
    with pytest.raises(RunFailed, match="x"):
        await run.result()
    count.broken.clear()
    await engine.clear(run.id, "a", downstream)
    assert (await run.result())["end"] == [11 + downstream, ["x", 2]]
    assert count.calls == {"a": 2, "x": 2, "item 1": 1 + downstream}
    with pytest.raises(InvalidStatus, match="is completed"):
        await engine.clear(run.id, "a")


async def test_clearing_what_failed_and_what_is_before_it(engine: Engine) -> None:
    count = Counting()
    count.broken = {"item 2"}
    run = await engine.start(pipeline(count), {"ns": [1, 2]})
    with pytest.raises(RunFailed, match="each"):
        await run.result()
    count.broken.clear()
    await engine.clear(run.id, "each", item=0)
    assert (await run.result())["each"] == [12, 22]
    assert count.calls == {"a": 1, "x": 1, "item 1": 2, "item 2": 2}


async def test_what_a_branch_skipped_is_skipped_again_when_it_is_cleared(engine: Engine) -> None:
    count = Counting()
    dag = DAGWorkflow([Task("pick", branch(lambda: "a")), Task("bad", count("bad"))], name="again")
    dag.add_task("a", count("a"), depends_on=["pick"])
    dag.add_task("b", count("b"), depends_on=["pick"])
    count.broken = {"bad"}
    run = await engine.start(dag)
    with pytest.raises(RunFailed, match="bad"):
        await run.result()
    count.broken.clear()
    await engine.clear(run.id, "b")
    assert list(await run.result()) == ["pick", "bad", "a"]
    assert count.calls == {"a": 1, "bad": 2}


async def test_a_fork_gives_a_task_another_result(engine: Engine) -> None:
    count = Counting()
    run = await engine.start(pipeline(count), {"ns": [1, 2]})
    await run.result()
    position = next(f["position"] for f in await run.journal() if f.get("step") == "sum#1")
    made = await engine.fork(run.id, at=position - 1, changes={"each": [5]})
    assert (await made.result())["end"] == [5, ["x", 1]]


async def test_a_dag_that_holds_no_such_thing_cannot_be_cleared(engine: Engine) -> None:
    graph = StateGraph("graph").add_node("add", lambda _: {})
    graph.set_entry_point("add").set_exit_point("add")
    run = await engine.start(graph)
    await run.wait()
    with pytest.raises(RequestError, match="is no DAG"):
        await engine.rerun(run.id, "add")


async def test_a_supervised_run_is_cleared_as_any_other(engine: Engine) -> None:
    count = Counting()
    told: list[str] = []
    dag = DAGWorkflow(
        [Task("a", count("a")), Task("b", count("b"), depends_on=["a"])],
        name="supervised",
        retry=RetryPolicy(attempts=2, backoff=0),
        on_failure=lambda run, _: told.append(run.id),
    )
    count.broken = {"b"}
    run = await engine.start(dag)
    with pytest.raises(RunFailed):
        await run.result()
    assert (count.calls, told) == ({"a": 1, "b": 2}, [run.id])
    count.broken.clear()
    await engine.clear(run.id, "a")
    assert await run.result() == {"a": ["a", 2], "b": ["b", 3, ["a", 2]]}
    made = await engine.rerun(run.id, "b")
    assert (await made.result())["b"] == ["b", 4, ["a", 2]]


async def test_tasks_ask_agents_with_the_results_before_them(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.agents import registry as agents

    monkeypatch.setattr(agents, "_agents", {})
    asked: list[AgentRequest] = []

    def analyst(request: AgentRequest) -> dict[str, Any]:
        asked.append(request)
        return {"findings": 2}

    async def writer(request: AgentRequest) -> str:
        asked.append(request)
        return f"{request.instructions}: {request.results['analyze']['findings']} in {request.params['path']}"

    register_agent("code-analyzer", analyst)
    register_agent("refactorer", writer)
    dag = DAGWorkflow(name="review")
    dag.add_task("analyze", agent="code-analyzer")
    dag.add_task("refactor", agent="refactorer", instructions="mend", depends_on=["analyze"])
    dag.add_task("each", agent="refactorer", map_over=[1, 2], depends_on=["analyze"])
    dag.add_task("missing", agent="nobody", depends_on=["refactor"], fallback="nobody is there")
    result = await engine.execute(dag, {"path": "a.py"}, secrets={"key": "s3cret"})
    assert result["refactor"] == "mend: 2 in a.py"
    assert result["missing"] == "nobody is there"
    assert (asked[0].task, asked[0].params, asked[0].results) == ("analyze", {"path": "a.py"}, {})
    assert dict(asked[0].secrets) == {"key": "s3cret"}
    assert sorted(each.params["item"] for each in asked if each.task == "each") == [1, 2]


async def test_a_secret_in_a_result_is_refused_and_named(engine: Engine) -> None:
    dag = DAGWorkflow([Task("leak", lambda step: f"token {step.secrets['token']}")], name="leak")
    with pytest.raises(RunFailed, match="contains the secret 'token'") as caught:
        await engine.execute(dag, secrets={"token": "t0p-s3cret"})
    assert "t0p-s3cret" not in str(caught.value)


async def test_large_results_are_passed_on_and_kept_once(engine: Engine) -> None:
    large = "x" * 100_000
    dag = DAGWorkflow([Task("large", lambda: [large, large])], name="large")
    dag.add_task("each", lambda text: text, map_over="large")
    dag.add_task("sizes", lambda each, large: [len(each), len(large[0])], depends_on=["each", "large"])
    run = await engine.start(dag)
    result = await run.result()
    assert (result["each"], result["sizes"]) == ([large, large], [2, 100_000])
    assert sum(len(row.facts) for row in await engine.store.journal(run.id, limit=100)) < 20_000


async def test_a_registered_name_is_a_task(engine: Engine, registry: Registry) -> None:
    registry.add(DAGWorkflow([Task("double", lambda n: n * 2)], name="doubling"))
    dag = DAGWorkflow([Task("n", lambda: 4)], name="by-name")
    dag.add_task("twice", "doubling", depends_on=["n"])
    assert await engine.execute(dag) == {"n": 4, "twice": {"double": 8}}


async def test_an_invalid_dag_is_refused_where_it_is_registered(registry: Registry) -> None:
    with pytest.raises(DefinitionError, match="it has no tasks"):
        registry.add(DAGWorkflow(name="empty"))
    assert registry.all() == {}


async def test_a_join_that_has_enough_cancels_what_nobody_needs(engine: Engine) -> None:
    began, told = asyncio.Event(), asyncio.Event()

    async def forever() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.set()
            raise

    async def fast() -> str:
        await asyncio.wait_for(began.wait(), PATIENCE)
        return "fast"

    fuse = Fuse("last")
    dag = DAGWorkflow([Task("slow", forever), Task("fast", fast)], name="race")
    dag.add_task("after_slow", lambda slow: slow, depends_on=["slow"])
    dag.add_task(
        "join",
        lambda fast, after_slow: [fast, after_slow],
        depends_on=["fast", "after_slow"],
        trigger_rule=at_least(1, rest="cancel"),
    )
    dag.add_task("last", fuse, depends_on=["join"])
    run = await engine.start(dag)
    with pytest.raises(RunFailed, match="at last"):
        await run.result()
    assert told.is_set()
    fuse.mended = True
    await engine.resume(run.id)  # what was cancelled is not tried again
    assert await run.result() == {"fast": "fast", "join": ["fast", None], "last": "last"}
    assert [(s.name, s.attempt) for s in await run.stages() if s.name == "slow"] == [("slow", 1)]


async def test_a_large_map_is_taken_up_from_a_stored_fold(url: str, open_engine: OpenEngine) -> None:
    calls: Counter[int] = Counter()
    may_end = asyncio.Event()

    async def work(n: int) -> int:
        calls[n] += 1
        if n >= 1_500:
            await may_end.wait()
        return n

    def build() -> DAGWorkflow:
        return DAGWorkflow([Task("each", work, map_over="ns", limit=200)], name="folded")

    first = await open_engine(url)
    run = await first.start(build(), {"ns": list(range(1_600))})
    await until(lambda: len(calls) == 1_600)
    await first.close(grace=0)
    may_end.set()
    second = await open_engine(url)
    second.registry.add(build(), replace=True)
    assert await second.result(run.id, timeout=PATIENCE) == {"each": list(range(1_600))}
    assert {n for n, count in calls.items() if count > 1} <= set(range(1_500, 1_600))
