"""What users of task queues and their workers rely on, restated for DAGs: places, deaths, doubles, lost stores.

Numbers are those of test_dag_engines.py, which says where the others are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from holdfast import (
    Bulkhead,
    DAGWorkflow,
    DefinitionError,
    Engine,
    RateLimit,
    RetryPolicy,
    RunFailed,
    RunStatus,
    Saga,
    StepContext,
    StepStatus,
    Task,
    interrupt,
)
from holdfast.dags import Skip, at_least
from holdfast.errors import StoreUnavailable
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, Gate, until


def fails(*_: Any) -> None:
    raise ValueError("broken on purpose")


async def facts_of(engine: Engine, run: str, kind: str) -> list[str]:
    """The steps of a run's facts of a kind, in order."""
    return [fact["step"] for fact in await engine.journal(run) if fact["fact"] == kind]


# --- runs that know nothing of each other


async def test_3_and_9_a_run_is_judged_by_its_own_tasks_and_never_by_those_of_the_run_before(
    engine: Engine,
) -> None:
    def first(how: str) -> None:
        if how == "fail":
            raise ValueError("broken on purpose")
        if how == "skip":
            raise Skip

    workflow = DAGWorkflow([Task("first", first)], name="b3")
    workflow.add_task("then", lambda: "ran", depends_on=["first"])
    runs = [await engine.start(workflow, {"how": how}) for how in ("fail", "skip", "go")]
    with pytest.raises(RunFailed, match="broken on purpose"):
        await runs[0].result()
    assert [await run.result() for run in runs[1:]] == [{}, {"first": None, "then": "ran"}]


# --- all or nothing


async def test_10_what_cannot_be_stored_undoes_what_came_before_it(engine: Engine) -> None:
    done: list[str] = []
    saga = Saga("b10-order")
    saga.add_step("charge", forward=lambda: done.append("charge"), compensate=lambda: done.append("refund"))
    saga.add_step("ship", forward=object)
    workflow = DAGWorkflow([Task("before", lambda: done.append("before")), Task("order", saga)], name="b10")
    with pytest.raises(RunFailed, match="object, which cannot be stored"):
        await engine.execute(workflow)
    assert sorted(done) == ["before", "charge", "refund"]


async def test_11_a_dag_that_fails_within_a_saga_has_the_saga_go_back(engine: Engine) -> None:
    done: list[str] = []
    saga = Saga("b11")
    saga.add_step("charge", forward=lambda: done.append("charge"), compensate=lambda: done.append("refund"))
    saga.add_step("pack", forward=DAGWorkflow([Task("bad", fails)]))
    with pytest.raises(RunFailed, match="broken on purpose"):
        await engine.execute(saga)
    assert done == ["charge", "refund"]


async def test_12_who_asks_for_the_same_run_at_once_gets_one_run(url: str, open_engine: OpenEngine) -> None:
    calls: Counter[str] = Counter()
    workflow = DAGWorkflow([Task("pay", lambda: calls.update(["pay"]))], name="b12")
    engines = [await open_engine(url) for _ in range(2)]
    asked = [engine.start(workflow, id="order-7") for engine in engines for _ in range(5)]
    for run in await asyncio.gather(*asked):
        assert await run.result() == {"pay": None}
    assert calls == {"pay": 1}


# --- places


async def test_15_what_has_no_place_does_not_count_as_running(engine: Engine) -> None:
    gate = Gate()
    names = ("a", "b", "c")
    workflow = DAGWorkflow([Task(name, gate.wait) for name in names], name="b15", max_parallel=1)
    run = await engine.start(workflow)
    await gate.until_reached()
    assert [(stage.name, stage.status) for stage in await run.stages()] == [("a", StepStatus.RUNNING)]
    gate.open()
    await run.result()
    assert [stage.name for stage in await run.stages()] == list(names)


async def test_32_what_ends_badly_keeps_no_place_and_no_rate(engine: Engine) -> None:
    async def forever(step: StepContext) -> str:
        if step.attempt == 1:
            await asyncio.Event().wait()
        return step.run_id

    guards: Any = {
        "bulkhead": Bulkhead(1, name="b32"),
        "rate_limit": RateLimit(1_000, per=1, name="b32"),
        "retry": RetryPolicy(attempts=2, backoff=0),
    }
    workflow = DAGWorkflow([Task("a", forever, timeout=0.05, **guards)], name="b32")
    runs = [await engine.start(workflow) for _ in range(4)]
    assert [await run.result() for run in runs] == [{"a": run.id} for run in runs]


async def test_32_who_waits_for_a_rate_does_not_hold_up_a_close(url: str, open_engine: OpenEngine) -> None:
    calls: list[str] = []
    guards: Any = {"rate_limit": RateLimit(1, per=3600, name="b32-slow")}
    workflow = DAGWorkflow([Task("a", lambda step: calls.append(step.run_id), **guards)], name="b32-slow")
    engine = await open_engine(url)
    runs = [await engine.start(workflow) for _ in range(2)]
    await until(lambda: len(calls) == 1)
    async with asyncio.timeout(PATIENCE):
        await engine.close(grace=1000 * PATIENCE)
    reader = await open_engine(url, workers=False)
    assert {(await reader.get(run.id)).status for run in runs} <= {RunStatus.COMPLETED, RunStatus.WAITING}
    assert len(calls) == 1


async def test_37_who_waits_for_an_answer_keeps_its_place(engine: Engine) -> None:
    calls: list[str] = []
    workflow = DAGWorkflow([Task("ask", lambda: interrupt("go"))], name="b37", max_parallel=1)
    workflow.add_task("other", lambda: calls.append("other"))
    run = await engine.start(workflow)

    async def asked() -> bool:
        return bool(await run.interrupts())

    await until(asked)
    assert calls == []
    await run.signal("go", "yes")
    assert await run.result() == {"ask": "yes", "other": None}


# --- answers


async def test_36_an_answer_that_does_not_do_is_asked_for_again(engine: Engine) -> None:
    def ask() -> int:
        for number in range(1, 9):
            answer = interrupt(f"amount-{number}", {"wanted": "amount"})
            if "amount" in answer:
                return int(answer["amount"])
        raise AssertionError

    workflow = DAGWorkflow([Task("ask", ask)], name="b36")
    workflow.add_task("pay", lambda ask: ask, depends_on=["ask"])
    run = await engine.start(workflow)
    await run.signal("amount-1", {})

    async def asked_again() -> bool:
        return [asked.name for asked in await run.interrupts()] == ["amount-2"]

    await until(asked_again)
    assert (await engine.get(run.id)).status is RunStatus.WAITING
    await run.signal("amount-2", {"amount": 7})
    assert await run.result() == {"ask": 7, "pay": 7}


async def test_36_a_question_that_nobody_answers_fails_its_task(engine: Engine) -> None:
    workflow = DAGWorkflow([Task("ask", lambda: interrupt("go", timeout=0.05))], name="b36-timeout")
    workflow.add_task("remind", lambda: "reminded", depends_on=["ask"], trigger_rule="one_failed")
    assert await engine.execute(workflow) == {"remind": "reminded"}


# --- generators, and what is no result


def pages() -> Any:
    yield 1


async def more_pages() -> Any:
    yield 1


@pytest.mark.parametrize("function", [pages, more_pages])
def test_16_a_generator_is_refused_before_anything_was_yielded(function: Any) -> None:
    with pytest.raises(DefinitionError, match="task 'pages' is a generator") as caught:
        Task("pages", function)
    assert "step.stream" in str(caught.value.fix)


@pytest.mark.parametrize("end", [SystemExit(3), SystemExit(0), KeyboardInterrupt(), GeneratorExit()])
async def test_33_what_ends_a_process_elsewhere_is_a_failure_of_its_task(
    engine: Engine, end: BaseException
) -> None:
    def leave() -> None:
        raise end

    workflow = DAGWorkflow([Task("leave", leave), Task("other", lambda: 1)], name="b33")
    workflow.add_task("then", lambda: 2, depends_on=["leave"], trigger_rule="one_failed")
    assert await engine.execute(workflow) == {"other": 1, "then": 2}
    assert await engine.execute(workflow) == {"other": 1, "then": 2}


async def test_33_a_result_without_an_end_fails_its_task(engine: Engine) -> None:
    def circle() -> list[Any]:
        found: list[Any] = []
        found.append(found)
        return found

    with pytest.raises(RunFailed, match="leads back to the result of task 'circle'"):
        await engine.execute(DAGWorkflow([Task("circle", circle)], name="b33-circle"))


# --- joins that count right


async def test_21_and_31_what_a_worker_that_lost_its_run_returns_counts_nowhere(
    url: str, open_engine: OpenEngine
) -> None:
    gate, calls = Gate(), Counter[str]()

    def slow(step: StepContext) -> int:
        calls["slow"] += 1
        if step.attempt == 1:
            gate.wait()
        return step.attempt

    def total(*given: int) -> int:
        calls["sum"] += 1
        return sum(given)

    workflow = DAGWorkflow([Task("slow", slow), Task("quick", lambda: 0)], name="b21")
    workflow.add_task("sum", total, depends_on=["slow", "quick"])
    loser = await open_engine(url)
    run = await loser.start(workflow)
    await gate.until_reached()
    winner = await open_engine(url)
    assert await winner.store.reclaim([loser.worker_id], "died") == [run.id]
    assert await winner.result(run.id, timeout=PATIENCE) == {"slow": 2, "quick": 0, "sum": 2}
    gate.open()
    await loser.close()
    assert await facts_of(winner, run.id, "StepCompleted") == ["quick#1", "slow#1", "sum#1"]
    assert calls == {"slow": 2, "sum": 1}


async def test_24_an_end_and_what_follows_from_it_are_one_commit(engine: Engine) -> None:
    workflow = DAGWorkflow([Task("first", lambda: 1)], name="b24")
    workflow.add_task("each", lambda n: n, map_over=[1, 2], depends_on=["first"])
    workflow.add_task("last", sum, depends_on=["each"])
    run = await engine.start(workflow)
    await run.result()
    follows = {"first#1": {"each#1", "each#2"}, "last#1": set[str]()}
    for row in await engine.store.journal(run.id):
        found = [fact for fact in await engine.journal(run.id) if row.position <= fact["position"]]
        commit = [fact for fact in found if fact["position"] < row.position + row.count]
        begun = {fact["step"] for fact in commit if fact["fact"] == "StepScheduled"}
        for fact in commit:
            if fact["fact"] == "StepCompleted" and fact["step"] in follows:
                assert follows.pop(fact["step"]) <= begun
    assert follows == {}


async def test_28_a_run_is_not_over_before_all_its_tasks_are(engine: Engine) -> None:
    gate = Gate()
    workflow = DAGWorkflow([Task("slow", gate.wait), Task("quick", lambda: 1)], name="b28")
    workflow.add_task("early", lambda *_: 2, depends_on=["slow", "quick"], trigger_rule=at_least(1))
    run = await engine.start(workflow)
    await gate.until_reached()

    async def is_early() -> bool:
        return "early#1" in await facts_of(engine, run.id, "StepCompleted")

    await until(is_early)
    assert (await engine.get(run.id)).status is RunStatus.RUNNING
    gate.open()
    assert await run.result() == {"slow": None, "quick": 1, "early": 2}


async def test_27_a_parent_of_no_children_goes_on_and_one_of_unknown_children_fails(engine: Engine) -> None:
    workflow = DAGWorkflow([Task("each", DAGWorkflow([Task("n", lambda n: n)]), map_over=[])], name="b27")
    workflow.add_task("then", len, depends_on=["each"])
    assert await engine.execute(workflow) == {"each": [], "then": 0}
    with pytest.raises(RunFailed, match="workflow 'nobody' is not registered"):
        await engine.execute(DAGWorkflow([Task("each", "nobody", map_over=[1])], name="b27-unknown"))


# --- workers and stores that go away


async def test_25_a_worker_that_closes_ends_what_runs_and_leaves_the_rest_to_others(
    url: str, open_engine: OpenEngine
) -> None:
    gate, calls = Gate(), Counter[int]()

    def item(n: int) -> int:
        calls[n] += 1
        gate.wait()
        return n

    workflow = DAGWorkflow([Task("each", item, map_over=[0, 1, 2], limit=1)], name="b25")
    first = await open_engine(url)
    run = await first.start(workflow)
    await gate.until_reached()
    closing = asyncio.create_task(first.close())
    await asyncio.sleep(0)
    gate.open()
    await closing
    assert calls == {0: 1}
    second = await open_engine(url)
    assert await second.result(run.id, timeout=PATIENCE) == {"each": [0, 1, 2]}
    assert calls == {0: 1, 1: 1, 2: 1}
    assert await facts_of(second, run.id, "StepRetried") == []


async def test_25_what_runs_beyond_the_grace_is_run_again(url: str, open_engine: OpenEngine) -> None:
    gate = Gate()

    def item(n: int, step: StepContext) -> list[int]:
        if step.attempt == 1 and n == 1:
            gate.wait()
        return [n, step.attempt]

    workflow = DAGWorkflow([Task("each", item, map_over=[0, 1], limit=1)], name="b25-hard")
    first = await open_engine(url)
    run = await first.start(workflow)
    await gate.until_reached()
    await first.close(grace=0)
    second = await open_engine(url)
    assert await second.result(run.id, timeout=PATIENCE) == {"each": [[0, 1], [1, 2]]}
    gate.open()


async def test_26_a_store_that_was_away_is_taken_up_where_it_was_left(
    url: str, open_engine: OpenEngine
) -> None:
    calls: Counter[str] = Counter()
    engine = await open_engine(url)
    away, commit = 3, engine.store.commit

    async def flaky(*arguments: Any, **named: Any) -> Any:
        nonlocal away
        if calls["first"] and away:
            away -= 1
            raise StoreUnavailable("the server is being started anew")
        return await commit(*arguments, **named)

    engine.store.commit = flaky  # type: ignore[method-assign]
    workflow = DAGWorkflow([Task("first", lambda: calls.update(["first"]))], name="b26")
    workflow.add_task("second", lambda: calls.update(["second"]), depends_on=["first"])
    run = await engine.start(workflow)
    assert await run.result(timeout=PATIENCE) == {"first": None, "second": None}
    assert (away, calls) == (0, {"first": 1, "second": 1})


async def test_30_a_child_that_kills_its_workers_is_parked_and_its_parent_says_what_it_waits_for(
    url: str, open_engine: OpenEngine
) -> None:
    gate, calls = Gate(), Counter[str]()

    def deadly(step: StepContext) -> int:
        calls["deadly"] += 1
        if calls["deadly"] <= 3:
            gate.wait()
        return step.attempt

    outer = DAGWorkflow([Task("inner", DAGWorkflow([Task("deadly", deadly)]))], name="b30")
    worker = await open_engine(url)
    run = await worker.start(outer)
    client = await open_engine(url, workers=False)
    for death in range(1, 4):
        await until(lambda death=death: calls["deadly"] == death)  # type: ignore[misc]
        assert await client.store.reclaim([worker.worker_id], "died")
        await worker.close(grace=0)
        worker = await open_engine(url)
    (child,) = await client.children(run.id)

    async def parked() -> bool:
        return (await client.get(child.id)).status is RunStatus.PAUSED

    await until(parked)
    assert (await client.get(run.id)).status is RunStatus.WAITING
    await client.resume(child.id)
    assert await client.result(run.id, timeout=PATIENCE) == {"inner": {"deadly": 4}}
    gate.open()
