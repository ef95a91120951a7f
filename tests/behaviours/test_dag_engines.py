"""What users of Airflow, Prefect, Dagster, Celery, BullMQ, Dask and Kestra rely on, restated for DAGs.

The seven classic cases (C1 to C7), then behaviours by their numbers in the list that they were collected in. Elsewhere:

| | |
|---|---|
| C7, a process that is killed | tests/crash/test_dags.py, at each commit; 21, 30 and 31 |
| 3, 9 to 12, 15, 16, 21, 24 to 28, 30 to 33, 36, 37 | test_dag_queues.py |
| 3 and 9, waiting for the run before | runs have no order; each is judged by its own tasks |
| 10 to 12, transactions | sagas undo, and the id of a run makes it one |
| 26, a broker; 31, its locks | the store takes their place, with leases and epochs |
| 33, processes of their own | there are none; what would end one fails its task |
| 35, other executors | there are none; `executor=` is refused, see tests/engine/test_dag_refusals.py |
| 36, typed answers | an answer is any value; a task that does not like it asks again |
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from itertools import permutations
from typing import Any

import pytest

from holdfast import (
    DAGWorkflow,
    DefinitionError,
    Engine,
    RetryPolicy,
    RunCancelled,
    RunFailed,
    RunStatus,
    StepContext,
    StepStatus,
    Task,
)
from holdfast.dags import Skip, branch, dag, task
from holdfast.patterns.dag.program import MOST_ITEMS
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, until

VECTORS = {
    "all_success": {"SS": "R", "SK": "K", "SF": "U", "KF": "U", "SU": "U"},
    "all_failed": {"FU": "R", "FK": "K", "SS": "K"},
    "all_done": {"FKU": "R", "SS": "R"},
    "all_skipped": {"KK": "R", "KS": "K"},
    "one_success": {"SF": "R", "KK": "K", "FK": "U"},
    "one_failed": {"FS": "R", "U": "R", "SS": "K", "KK": "K"},
    "one_done": {"FK": "R", "UU": "K", "KK": "K"},
    "none_failed": {"SK": "R", "KK": "R", "SF": "U"},
    "none_failed_min_one_success": {"SK": "R", "KK": "K", "SU": "U"},
    "none_skipped": {"SF": "R", "SK": "K"},
    "all_done_min_one_success": {"SFK": "R", "KK": "K", "KF": "U"},
    "always": {"FU": "R"},
}
"""By rule: how those before ended (succeeded, failed, skipped, upstream failed), and what becomes of the task."""


def ends(letter: str) -> Any:
    def run(*_: Any) -> str:
        if letter == "F":
            raise ValueError("broken on purpose")
        if letter == "K":
            raise Skip
        return letter

    return run


async def became(engine: Engine, run_id: str) -> dict[str, str]:
    """What became of each task of an ended run."""
    found = {}
    for stage in await engine.stages(run_id):
        found[stage.name] = {"completed": "R", "failed": "F"}.get(stage.status.value, "?")
    for decision in await engine.decisions(run_id):
        if decision.to_node is not None and not decision.result:
            found[decision.to_node] = {"skipped": "K", "upstream_failed": "U"}[decision.name]
    return found


async def test_c1_trigger_rules_with_skips(engine: Engine) -> None:
    workflow = DAGWorkflow(name="c1")
    expected = {}
    for rule, vectors in VECTORS.items():
        for letters, verdict in vectors.items():
            before = []
            for number, letter in enumerate(letters):
                name = f"{rule}.{letters}.{number}"
                if letter == "U":
                    workflow.add_task(f"{name}.root", ends("F"))
                workflow.add_task(name, ends(letter), depends_on=[f"{name}.root"] if letter == "U" else [])
                before.append(name)
            judged: Any = rule
            workflow.add_task(f"{rule}.{letters}", ends("S"), depends_on=before, trigger_rule=judged)
            expected[f"{rule}.{letters}"] = verdict
    run = await engine.start(workflow)
    await run.wait()
    found = await became(engine, run.id)
    assert {name: found[name] for name in expected} == expected


async def test_c1_a_label_does_not_depend_on_who_ends_first(engine: Engine) -> None:
    for number, order in enumerate(permutations("SFK")):
        turns = {letter: asyncio.Event() for letter in order}

        def waits(letter: str, turns: dict[str, asyncio.Event] = turns, order: Any = order) -> Any:
            async def turn() -> str:
                place = order.index(letter)
                if place:
                    await asyncio.wait_for(turns[order[place - 1]].wait(), PATIENCE)
                turns[letter].set()
                await asyncio.sleep(0.01)
                return str(ends(letter)())

            return turn

        workflow = DAGWorkflow([Task(letter, waits(letter)) for letter in "SFK"], name=f"order-{number}")
        workflow.add_task("end", ends("S"), depends_on=list("SFK"))
        run = await engine.start(workflow)
        await run.wait()
        assert (await became(engine, run.id))["end"] == "U"


async def test_c2_a_diamond_joins_once_and_gets_both(url: str, open_engine: OpenEngine) -> None:
    calls: Counter[str] = Counter()

    def join(b: int, c: int) -> list[int]:
        calls["d"] += 1
        return [b, c]

    workflow = DAGWorkflow([Task("a", lambda: 1)], name="diamond")
    workflow.add_task("b", lambda a: a + 1, depends_on=["a"])
    workflow.add_task("c", lambda a: a + 2, depends_on=["a"])
    workflow.add_task("d", join, depends_on=["b", "c"])
    first, _ = await open_engine(url), await open_engine(url)
    runs = [await first.start(workflow) for _ in range(10)]
    assert [await run.result() for run in runs] == [{"a": 1, "b": 2, "c": 3, "d": [2, 3]}] * 10
    assert calls == {"d": 10}


@pytest.mark.parametrize(
    ("edges", "told"),
    [
        ({"a": ["a"]}, "it has a cycle: a -> a"),
        ({"a": ["c"], "b": ["a"], "c": ["b"]}, "it has a cycle: a -> b -> c -> a"),
        (
            {"fetch": [], "b": ["fetsh"]},
            "task 'b' depends on 'fetsh', which is no task; did you mean 'fetch'?",
        ),
    ],
    ids=["self", "three", "unknown"],
)
async def test_c3_cycles_and_unknown_tasks_are_refused_before_anything_is_stored(
    engine: Engine, edges: dict[str, list[str]], told: str
) -> None:
    workflow = DAGWorkflow([Task(name, list, depends_on=before) for name, before in edges.items()], name="c3")
    with pytest.raises(DefinitionError) as caught:
        await engine.start(workflow)
    assert told in str(caught.value)
    assert await engine.count() == 0


async def test_c4_a_retry_runs_what_failed_and_what_never_ran(url: str, open_engine: OpenEngine) -> None:
    calls: Counter[str] = Counter()

    def workflow(*, mended: bool) -> DAGWorkflow:
        def item(n: int) -> int:
            calls[f"item {n}"] += 1
            if n == 1 and not mended:
                raise ValueError("item 1")
            return n

        made = DAGWorkflow([Task("a", lambda: calls.update(["a"]))], name="c4", version=str(mended))
        made.add_task("each", item, map_over=[0, 1, 2], depends_on=["a"], limit=1)
        made.add_task("sum", sum, depends_on=["each"])
        made.add_task("new" if mended else "old", lambda: calls.update(["late"]), depends_on=["sum"])
        return made

    first = await open_engine(url)
    run = await first.start(workflow(mended=False))
    with pytest.raises(RunFailed, match="item 1"):
        await run.result()
    await first.close()

    second = await open_engine(url)  # the code has changed meanwhile
    second.registry.add(workflow(mended=True), replace=True)
    await asyncio.gather(second.resume(run.id), second.resume(run.id))  # a double click
    assert await second.result(run.id, timeout=PATIENCE) == {
        "a": None,
        "each": [0, 1, 2],
        "sum": 3,
        "new": None,
    }
    assert calls == {"a": 1, "item 0": 1, "item 1": 2, "item 2": 1, "late": 1}
    attempts = [(s.name, s.iteration, s.attempt) for s in await second.stages(run.id) if s.name == "each"]
    assert attempts == [("each", 1, 1), ("each", 2, 2), ("each", 3, 1)]


async def test_c4_a_resume_while_siblings_still_run_changes_nothing(engine: Engine) -> None:
    may_end = asyncio.Event()
    calls: Counter[str] = Counter()

    async def slow() -> None:
        await may_end.wait()

    def bad() -> None:
        calls["bad"] += 1
        raise ValueError("bad")

    run = await engine.start(DAGWorkflow([Task("slow", slow), Task("bad", bad)], name="siblings"))
    await until(lambda: calls["bad"] == 1)
    await engine.resume(run.id)
    may_end.set()
    with pytest.raises(RunFailed):
        await run.result()
    assert calls["bad"] == 1


async def test_c5_a_map_over_nothing_gives_an_empty_list_and_the_rest_runs(engine: Engine) -> None:
    workflow = DAGWorkflow([Task("none", list)], name="c5")
    workflow.add_task("each", lambda n: n, map_over="none")
    workflow.add_task("again", lambda n: n, map_over="each")
    workflow.add_task("sum", sum, depends_on=["again"])
    assert await engine.execute(workflow) == {"none": [], "each": [], "again": [], "sum": 0}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "it is no list but of type NoneType"),
        ({"a": 1}, "it is no list but of type dict"),
        ("abc", "it is no list but of type str"),
        (list(range(MOST_ITEMS + 1)), "it has 100,001 items, and a map goes over 100,000 at most"),
    ],
    ids=["none", "dict", "text", "too long"],
)
async def test_c5_what_cannot_be_mapped_over_fails_the_map_and_says_why(
    engine: Engine, value: Any, told: str
) -> None:
    workflow = DAGWorkflow([Task("value", lambda: value)], name="c5-bad")
    workflow.add_task("each", lambda n: n, map_over="value")
    workflow.add_task("sum", sum, depends_on=["each"])
    with pytest.raises(RunFailed, match=f"task 'each' cannot map over 'value': {told}") as caught:
        await engine.execute(workflow)
    assert caught.value.stage == "each"


async def test_c6_a_cancel_ends_what_runs_and_starts_nothing_more(engine: Engine) -> None:
    began, told = asyncio.Event(), asyncio.Event()

    async def forever() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.set()
            raise

    workflow = DAGWorkflow([Task("done", lambda: 1), Task("forever", forever)], name="c6", max_parallel=2)
    workflow.add_task("later", ends("S"), depends_on=["forever"], trigger_rule="all_done")
    run = await engine.start(workflow)
    await asyncio.wait_for(began.wait(), PATIENCE)
    await asyncio.gather(engine.cancel(run.id), engine.cancel(run.id))
    with pytest.raises(RunCancelled):
        await run.result()
    assert told.is_set()
    assert {s.name: s.status for s in await run.stages()} == {
        "done": StepStatus.COMPLETED,
        "forever": StepStatus.CANCELLED,
    }


async def test_c6_a_cancel_of_a_parent_cancels_its_children(engine: Engine) -> None:
    began = asyncio.Event()

    async def forever() -> None:
        began.set()
        await asyncio.Event().wait()

    outer = DAGWorkflow([Task("inner", DAGWorkflow([Task("forever", forever)]))], name="c6-parent")
    run = await engine.start(outer)
    await asyncio.wait_for(began.wait(), PATIENCE)
    await engine.cancel(run.id)
    assert (await run.wait()).status is RunStatus.CANCELLED
    assert [child.status for child in await engine.children(run.id)] == [RunStatus.CANCELLED]


# --- by number


async def test_1_and_2_upstream_failed_alone_fires_one_failed_and_not_one_done(engine: Engine) -> None:
    workflow = DAGWorkflow([Task("root", ends("F")), Task("up", ends("S"), depends_on=["root"])], name="b1")
    workflow.add_task("one_failed", ends("S"), depends_on=["up"], trigger_rule="one_failed")
    workflow.add_task("one_done", ends("S"), depends_on=["up"], trigger_rule="one_done")
    run = await engine.start(workflow)
    await run.wait()
    assert await became(engine, run.id) == {"root": "F", "up": "U", "one_failed": "R", "one_done": "K"}


async def test_4_a_map_whose_producers_were_skipped_and_failed_is_upstream_failed(engine: Engine) -> None:
    workflow = DAGWorkflow([Task("skipped", ends("K")), Task("failed", ends("F"))], name="b4")
    workflow.add_task("each", lambda n: n, map_over="skipped", depends_on=["failed"])
    run = await engine.start(workflow)
    await run.wait()
    assert (await became(engine, run.id))["each"] == "U"


async def test_5_a_map_over_a_map_goes_on_with_what_succeeded(engine: Engine) -> None:
    def first(n: int) -> int:
        if n == 2:
            raise ValueError("2")
        return n

    workflow = DAGWorkflow([Task("one", first, map_over=[1, 2, 3])], name="b5")
    workflow.add_task("two", lambda n: n * 10, map_over="one", trigger_rule="all_done")
    assert await engine.execute(workflow) == {"two": [10, 30]}


async def test_6_maps_within_maps(engine: Engine) -> None:
    @dag
    def inner(rows: list[int]) -> None:
        task(lambda n: n * 2, name="double").map(rows)

    outer = DAGWorkflow([Task("each", inner, map_over=[[1, 2], [], [3]])], name="b6")
    assert await engine.execute(outer) == {"each": [{"double": [2, 4]}, {"double": []}, {"double": [6]}]}


async def test_7_a_group_is_retried_as_one_where_it_failed(engine: Engine) -> None:
    calls: Counter[str] = Counter()

    def second() -> int:
        calls["second"] += 1
        if calls["second"] < 3:
            raise ConnectionError("down")
        return 2

    inner = DAGWorkflow(
        [Task("first", lambda: calls.update(["first"])), Task("second", second, depends_on=["first"])]
    )
    outer = DAGWorkflow([Task("group", inner, retry=RetryPolicy(attempts=3, backoff=0))], name="b7")
    assert await engine.execute(outer) == {"group": {"first": None, "second": 2}}
    assert calls == {"first": 1, "second": 3}


async def test_8_what_a_branch_skipped_is_skipped_again(engine: Engine) -> None:
    mended = False

    def bad() -> None:
        if not mended:
            raise ValueError("bad")

    workflow = DAGWorkflow([Task("pick", branch(lambda: "a")), Task("bad", bad)], name="b8")
    workflow.add_task("a", ends("S"), depends_on=["pick"])
    workflow.add_task("b", ends("S"), depends_on=["pick"])
    run = await engine.start(workflow)
    await run.wait()
    mended = True
    await engine.clear(run.id, "b")
    assert list(await run.result()) == ["pick", "bad", "a"]


async def test_13_a_task_that_took_too_long_frees_its_place(engine: Engine) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    workflow = DAGWorkflow(
        [Task("long", forever, timeout=0.05), Task("next", ends("S"))], name="b13", max_parallel=1
    )
    run = await engine.start(workflow)
    with pytest.raises(RunFailed, match="took longer than"):
        await run.result()
    assert (await became(engine, run.id)) == {"long": "F", "next": "R"}


async def test_14_no_more_tries_than_it_takes(engine: Engine) -> None:
    calls: Counter[str] = Counter()

    def second_time() -> int:
        calls["tries"] += 1
        if calls["tries"] < 2:
            raise ValueError("once")
        return calls["tries"]

    policy = RetryPolicy(attempts=9, backoff=0)
    assert await engine.execute(DAGWorkflow([Task("a", second_time, retry=policy)], name="b14")) == {"a": 2}


async def test_17_what_a_thread_that_took_too_long_returns_is_refused(engine: Engine) -> None:
    may_end, over = threading.Event(), threading.Event()

    def slow(step: StepContext) -> int:
        if step.attempt == 1:
            may_end.wait(PATIENCE)
            over.set()
        return step.attempt

    policy = RetryPolicy(attempts=2, backoff=0)
    run = await engine.start(DAGWorkflow([Task("a", slow, timeout=0.05, retry=policy)], name="b17"))
    assert await run.result() == {"a": 2}
    may_end.set()
    await asyncio.to_thread(over.wait, PATIENCE)
    assert [(stage.attempt, stage.output) for stage in await run.stages()] == [(2, 2)]


async def test_18_none_is_a_result_like_any_other(engine: Engine) -> None:
    calls: Counter[str] = Counter()
    workflow = DAGWorkflow([Task("none", lambda: calls.update(["none"])), Task("bad", ends("F"))], name="b18")
    run = await engine.start(workflow)
    await run.wait()
    await engine.resume(run.id)
    await run.wait()
    assert calls == {"none": 1}


async def test_19_nested_dags_do_not_wait_for_each_others_places(
    any_url: str, open_engine: OpenEngine
) -> None:
    engine = await open_engine(any_url, concurrency=1)
    deep: DAGWorkflow = DAGWorkflow([Task("n", lambda: 1)], max_parallel=1)
    for _ in range(4):
        deep = DAGWorkflow([Task("inner", deep)], max_parallel=1)
    outer = DAGWorkflow([Task("inner", deep)], name="b19", max_parallel=1)
    result = await asyncio.wait_for(engine.execute(outer), PATIENCE)
    for _ in range(5):
        result = result["inner"]
    assert result == {"n": 1}


async def test_20_results_are_in_the_order_of_the_items_also_equal_ones(engine: Engine) -> None:
    async def nap(n: int) -> int:
        await asyncio.sleep(0.01 * (3 - n))
        return n

    workflow = DAGWorkflow([Task("each", nap, map_over=[2, 0, 2, 1])], name="b20")
    assert await engine.execute(workflow) == {"each": [2, 0, 2, 1]}


async def test_22_an_error_task_runs_once_however_many_failed(engine: Engine) -> None:
    calls: Counter[str] = Counter()
    workflow = DAGWorkflow([Task("each", ends("F"), map_over=[1, 2, 3])], name="b22")
    workflow.add_task(
        "alarm", lambda: calls.update(["alarm"]), depends_on=["each"], trigger_rule="one_failed"
    )
    assert await engine.execute(workflow) == {"alarm": None}
    assert calls == {"alarm": 1}


async def test_23_tags_survive_tries_and_resumes(engine: Engine) -> None:
    run = await engine.start(DAGWorkflow([Task("bad", ends("F"))], name="b23"), tags=["nightly"])
    await run.wait()
    await engine.resume(run.id)
    await run.wait()
    assert (await engine.get(run.id)).tags == ("nightly",)


async def test_29_a_child_that_is_mended_reaches_its_parent(engine: Engine) -> None:
    mended = False

    def flaky() -> int:
        if not mended:
            raise ValueError("bad")
        return 1

    outer = DAGWorkflow([Task("inner", DAGWorkflow([Task("a", flaky)]), map_over=[1, 2])], name="b29")
    run = await engine.start(outer)
    with pytest.raises(RunFailed):
        await run.result()
    mended = True
    await engine.resume(run.id)
    assert await run.result() == {"inner": [{"a": 1}, {"a": 1}]}


async def test_34_a_cancelled_run_goes_on_where_it_was(engine: Engine) -> None:
    began = asyncio.Event()
    calls: Counter[str] = Counter()

    async def once_slow() -> int:
        calls["slow"] += 1
        began.set()
        if calls["slow"] == 1:
            await asyncio.Event().wait()
        return calls["slow"]

    workflow = DAGWorkflow([Task("first", lambda: calls.update(["first"]))], name="b34")
    workflow.add_task("slow", once_slow, depends_on=["first"])
    workflow.add_task("last", lambda slow: slow, depends_on=["slow"])
    run = await engine.start(workflow)
    await asyncio.wait_for(began.wait(), PATIENCE)
    await engine.cancel(run.id)
    await run.wait()
    await engine.resume(run.id)
    assert await run.result() == {"first": None, "slow": 2, "last": 2}
    assert calls == {"first": 1, "slow": 2}


async def test_38_a_failure_hook_runs_again_when_the_run_fails_again(engine: Engine) -> None:
    calls: Counter[str] = Counter()

    def hook(run: Any, error: Any) -> None:
        calls["hook"] += 1

    run = await engine.start(DAGWorkflow([Task("bad", ends("F"))], name="b38", on_failure=hook))
    await run.wait()
    await engine.resume(run.id)
    await until(lambda: calls["hook"] == 2)


async def test_39_a_result_that_cannot_be_stored_fails_its_task_and_names_the_place(engine: Engine) -> None:
    workflow = DAGWorkflow([Task("bad", lambda: {"a": [object()]})], name="b39")
    with pytest.raises(RunFailed, match=r"the result of task 'bad'\['a'\]\[0\]|the result of task 'bad'"):
        await engine.execute(workflow)
