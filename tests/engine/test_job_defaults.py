"""Job defaults that every builder takes: a run that is tried again before it fails, and hooks as its last steps."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from holdfast import (
    END,
    START,
    DAGWorkflow,
    DefinitionError,
    Engine,
    RetryPolicy,
    RunCancelled,
    RunFailed,
    RunTimedOut,
    Saga,
    State,
    StateGraph,
    StepContext,
    interrupt,
    step_context,
)
from holdfast.cli.lines import tell
from holdfast.registry import Registry, as_workflow
from holdfast.resilience import RetryBudget
from tests.conftest import OpenEngine
from tests.graphs import sequence, until

AT_ONCE = RetryPolicy(attempts=3, backoff=0, jitter="none")


def linear(name: str, defaults: dict[str, Any], /, **nodes: Any) -> StateGraph:
    """Nodes in a row, as a graph with job defaults."""
    graph = StateGraph(name, **defaults)
    last = START
    for label, node in nodes.items():
        graph.add_node(label, node).add_edge(last, label)
        last = label
    return graph.add_edge(last, END)


class Flaky:
    """A node that raises the first times it is called."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self.calls = 0
        self._times = times
        self._error = error or ConnectionError("away")

    def __call__(self, state: State) -> dict[str, int]:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error
        return {"calls": self.calls}


class Told:
    """A hook that keeps what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any]] = []

    def __call__(self, run: Any, outcome: Any) -> str:
        self.calls.append((run, outcome))
        return "told"


async def stages_of(engine: Engine, run: str) -> list[tuple[str, str]]:
    return [(stage.name, str(stage.status)) for stage in await engine.stages(run)]


# --- retry


async def test_a_run_that_fails_goes_on_from_its_failed_step(engine: Engine) -> None:
    first, second = Flaky(0), Flaky(2)
    run = await engine.start(linear("again", {"retry": AT_ONCE}, first=first, second=second))
    assert await run.result() == {"calls": 3}
    assert (first.calls, second.calls) == (1, 3)
    events = [event async for event in run.events()]
    resumed = [event for event in events if event.type == "run.resumed"]
    assert [event.data["error"]["message"] for event in resumed] == ["away", "away"]
    assert [event.data["stages"][0]["attempt"] for event in resumed] == [2, 3]
    assert "run.failed" not in [event.type for event in events]


async def test_the_tries_of_a_run_come_to_an_end_and_the_steps_have_their_own(engine: Engine) -> None:
    node = Flaky(99)
    graph = StateGraph("ends", retry=AT_ONCE)
    graph.add_node("node", node, retry=RetryPolicy(attempts=2, backoff=0))
    graph.set_entry_point("node")
    graph.set_exit_point("node")
    run = await engine.start(graph)
    with pytest.raises(RunFailed, match="away"):
        await run.result()
    assert node.calls == 6
    await run.resume()  # with tries of its own
    await run.wait()
    assert node.calls == 12


async def test_a_run_is_tried_again_for_the_errors_of_its_policy_alone(engine: Engine) -> None:
    class Mine(ConnectionError):
        """Derived from what is named."""

    calls: list[int] = []
    for options in ({"retry_on": (ValueError,)}, {"give_up_on": (OSError,)}, {"retry_on": (OSError,)}):
        node = Flaky(99, Mine("away"))
        policy = RetryPolicy(attempts=3, backoff=0, **options)
        await (await engine.start(linear(f"some-{len(calls)}", {"retry": policy}, node=node))).wait()
        calls.append(node.calls)
    assert calls == [1, 1, 3]


async def test_what_failed_without_a_step_is_not_tried_again(engine: Engine) -> None:
    seen: list[int] = []

    def broken(state: State) -> bool:
        seen.append(1)
        raise KeyError("gone")

    graph = StateGraph("edges", retry=AT_ONCE)
    graph.add_node("node", Flaky(0))
    graph.set_entry_point("node")
    graph.add_edge("node", END, when=broken)
    graph.add_edge("node", END)
    with pytest.raises(RunFailed, match="gone"):
        await engine.execute(graph)
    assert len(seen) == 1


async def test_a_factory_that_fails_is_called_again(engine: Engine, registry: Registry) -> None:
    made: list[int] = []

    def factory(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> dict[str, int]:
        made.append(1)
        if len(made) < 2:
            raise ConnectionError("no database")
        graph.add_node("node", Flaky(0))
        graph.set_entry_point("node")
        graph.set_exit_point("node")
        return {}

    registry.add(as_workflow(factory, "made"))
    workflow = registry.get("made")
    made_again = type(workflow)("made-again", factory, retry=AT_ONCE)  # type: ignore[call-arg]
    registry.add(made_again)
    run = await engine.start("made-again")
    assert await run.result(timeout=30) == {"calls": 1}
    assert len(made) >= 2


async def test_a_long_back_off_of_a_run_is_a_row_that_another_process_finds(
    url: str, open_engine: OpenEngine
) -> None:
    node = Flaky(1)
    policy = RetryPolicy(attempts=2, backoff=2, jitter="none")
    graph = linear("later", {"retry": policy}, node=node)
    first = await open_engine(url)
    run = await first.start(graph, id="later-1")
    await until(lambda: _status(first, run.id, "waiting"))
    row = await first.get(run.id)
    assert [wait.split()[:3] for wait in row.waiting_on] == [["retry", "of", "node"]]
    await first.close()
    second = await open_engine(url)
    assert await second.result(run.id, timeout=30) == {"calls": 2}


async def _status(engine: Engine, run: str, status: str) -> bool:
    return (await engine.get(run)).status == status


async def test_a_run_in_its_back_off_can_be_cancelled(engine: Engine) -> None:
    policy = RetryPolicy(attempts=2, backoff=timedelta(hours=1), max_backoff=timedelta(hours=2))
    node = Flaky(9)
    run = await engine.start(linear("cancelled", {"retry": policy}, node=node))
    await until(lambda: _status(engine, run.id, "waiting"))
    await run.cancel()
    with pytest.raises(RunCancelled):
        await run.result(timeout=30)
    assert node.calls == 1


async def test_a_run_in_its_back_off_is_no_dead_letter(engine: Engine) -> None:
    policy = RetryPolicy(attempts=2, backoff=timedelta(hours=1), max_backoff=timedelta(hours=2))
    run = await engine.start(linear("waits", {"retry": policy}, node=Flaky(9)))
    await until(lambda: _status(engine, run.id, "waiting"))
    assert not await engine.dead_letters()


async def test_the_timeout_of_a_run_is_for_all_its_tries(engine: Engine) -> None:
    policy = RetryPolicy(attempts=9, backoff=60, jitter="none")
    told = Told()
    defaults = {"retry": policy, "timeout": 1.0, "on_failure": told}
    run = await engine.start(linear("timed", defaults, node=Flaky(99)))
    with pytest.raises(RunTimedOut):
        await run.result(timeout=30)
    ((_, error),) = told.calls
    assert isinstance(error, RunTimedOut)


async def test_a_child_run_has_its_own_tries(engine: Engine) -> None:
    node = Flaky(2)
    inner = linear("inner", {"retry": AT_ONCE}, node=node)
    outer = linear("outer", {}, child=inner)
    assert await engine.execute(outer) == {"calls": 3}


async def test_a_run_with_a_child_that_fails_takes_the_child_up_again(engine: Engine) -> None:
    node = Flaky(2)
    inner = linear("inner", {}, node=node)
    outer = linear("outer", {"retry": AT_ONCE}, child=inner)
    assert await engine.execute(outer) == {"calls": 3}


# --- hooks


async def test_on_success_is_the_last_step_and_knows_the_result(engine: Engine) -> None:
    told = Told()
    graph = linear("good", {"on_success": told, "version": "7"}, node=Flaky(0))
    run = await engine.start(graph, {"n": 1}, tags=["x"])
    assert await run.result() == {"n": 1, "calls": 1}
    ((seen, result),) = told.calls
    assert (seen.id, seen.workflow, seen.version, seen.params, seen.tags) == (
        *(run.id, "good", "7", {"n": 1}, ("x",)),
    )
    assert result == {"n": 1, "calls": 1}
    assert await stages_of(engine, run.id) == [("node", "completed"), ("run:on_success", "completed")]


async def test_on_failure_is_the_last_step_and_the_error_is_still_raised(engine: Engine) -> None:
    told, good = Told(), Told()
    defaults = {"on_failure": told, "on_success": good, "retry": AT_ONCE}
    run = await engine.start(linear("bad", defaults, node=Flaky(99)))
    with pytest.raises(RunFailed, match="away") as caught:
        await run.result()
    ((seen, error),) = told.calls  # after the last try alone
    assert (seen.id, error.stage, error.attempt, error.error.message) == (run.id, "node", 3, "away")
    assert (caught.value.stage, good.calls) == ("node", [])
    assert await stages_of(engine, run.id) == [("node", "failed"), ("run:on_failure", "completed")]
    await run.resume()
    await run.wait()
    assert await stages_of(engine, run.id) == [
        ("node", "failed"),
        ("run:on_failure", "completed"),
        ("run:on_failure", "completed"),
    ]


async def test_hooks_may_be_async_and_take_less(engine: Engine) -> None:
    seen: list[str] = []

    async def of_run(run: Any) -> None:
        seen.append(run.workflow)

    async def of_nothing() -> None:
        seen.append("nothing")

    await engine.execute(linear("less", {"on_success": of_run}, node=Flaky(0)))
    await (await engine.start(linear("none", {"on_failure": of_nothing}, node=Flaky(9)))).wait()
    assert seen == ["less", "nothing"]


async def test_a_hook_that_raises_changes_nothing_of_the_end(engine: Engine) -> None:
    def broken(run: Any, outcome: Any) -> None:
        raise RuntimeError("pager is away")

    good = await engine.start(linear("good", {"on_success": broken}, node=Flaky(0)))
    assert await good.result() == {"calls": 1}
    bad = await engine.start(linear("bad", {"on_failure": broken}, node=Flaky(9)))
    with pytest.raises(RunFailed, match="away"):
        await bad.result()
    assert await stages_of(engine, good.id) == [("node", "completed"), ("run:on_success", "failed")]
    assert await stages_of(engine, bad.id) == [("node", "failed"), ("run:on_failure", "failed")]
    await bad.resume()
    assert (
        await bad.wait()
    ).status == "failed"  # the hook that failed was not taken up, another one was begun
    assert [name for name, _ in await stages_of(engine, bad.id)] == ["node", *["run:on_failure"] * 2]


async def test_a_cancelled_run_has_no_hook(engine: Engine) -> None:
    told, reached = Told(), asyncio.Event()

    async def endless(state: State) -> None:
        reached.set()
        await asyncio.Event().wait()

    run = await engine.start(linear("stopped", {"on_failure": told, "on_success": told}, node=endless))
    await reached.wait()
    await run.cancel()
    assert (await run.wait()).status == "cancelled"
    assert told.calls == []


async def test_neither_a_cancel_nor_a_pause_stops_a_hook(engine: Engine) -> None:
    began, goes = asyncio.Event(), asyncio.Event()

    async def slow(run: Any) -> None:
        began.set()
        await goes.wait()

    run = await engine.start(linear("slow", {"on_failure": slow}, node=Flaky(9)))
    await began.wait()
    await run.cancel()
    goes.set()
    assert (await run.wait()).status == "failed"
    began.clear()
    goes.clear()
    good = await engine.start(linear("fast", {"on_success": slow}, node=Flaky(0)))
    await began.wait()
    await good.pause()
    goes.set()
    await until(lambda: _status(engine, good.id, "paused"))
    await good.resume()
    assert (await good.wait()).status == "completed"
    assert [name for name, _ in await stages_of(engine, good.id)] == ["node", "run:on_success"]


async def test_a_hook_cannot_ask(engine: Engine) -> None:
    def asks(run: Any) -> None:
        interrupt("approve", None)

    run = await engine.start(linear("asks", {"on_success": asks}, node=Flaky(0)))
    assert await run.result() == {"calls": 1}
    hook = (await engine.stages(run.id))[-1]
    assert hook.status == "failed"
    assert hook.error is not None
    assert "cannot wait for an answer" in hook.error.message


async def test_a_hook_has_a_key_for_idempotency_and_its_errors_no_secrets(engine: Engine) -> None:
    keys: list[str] = []

    def broken(state: State) -> bool:
        raise KeyError("t0p")

    def hook(run: Any, error: Any) -> None:
        keys.extend((step_context().idempotency_key, str(error)))

    graph = StateGraph("secret", on_failure=hook)
    graph.add_node("node", Flaky(0))
    graph.set_entry_point("node")
    graph.add_edge("node", END, when=broken)
    graph.add_edge("node", END)
    run = await engine.start(graph, secrets={"token": "t0p"})
    await run.wait()
    assert keys[0] == f"{run.id}:run:on_failure#1"
    assert "t0p" not in str(keys) + str(await run.journal())


async def test_a_fork_has_hooks_of_its_own(engine: Engine) -> None:
    told = Told()
    run = await engine.start(linear("forked", {"on_failure": told}, node=Flaky(1)))
    await run.wait()
    fork = await engine.fork(run.id, at=3)
    assert await fork.result() == {"calls": 2}
    assert len(told.calls) == 1


def three(run: Any, error: Any, more: Any) -> None:
    """A hook that wants too much."""


def named_alone(run: Any, *, error: Any) -> None:
    """A hook that cannot be called with two arguments."""


@pytest.mark.parametrize(
    ("defaults", "named"),
    [
        ({"retry": 3}, "retry"),
        ({"retry": {"attempts": 3}}, "retry"),
        ({"retry": RetryPolicy(budget=RetryBudget("b"))}, "budget"),
        ({"on_failure": "mail"}, "on_failure"),
        ({"on_success": three}, "on_success"),
        ({"on_failure": named_alone}, "on_failure"),
        ({"retention": 30}, "retention"),
        ({"timeout": -1}, "timeout"),
        ({"priority": 1.5}, "priority"),
        ({"queue": ""}, "queue"),
        ({"version": 2}, "version"),
        ({"reties": AT_ONCE}, "reties"),
    ],
)
def test_defaults_that_cannot_be_are_refused_by_name(defaults: dict[str, Any], named: str) -> None:
    with pytest.raises(DefinitionError, match=named):
        StateGraph("refused", **defaults)


def test_names_of_hooks_are_not_for_nodes() -> None:
    with pytest.raises(DefinitionError, match="run:on_failure"):
        StateGraph("named").add_node("run:on_failure", Flaky(0))


async def test_calls_in_a_hook_are_kept(engine: Engine) -> None:
    async def hook(run: Any, result: Any) -> Any:
        step: StepContext = step_context()
        return await step.call(lambda: "sent")

    run = await engine.start(linear("calls", {"on_success": hook}, node=Flaky(0)))
    await run.wait()
    assert (await engine.stages(run.id))[-1].output == "sent"


def test_a_plain_graph_has_no_supervision() -> None:
    assert not as_workflow(sequence("plain", node=Flaky(0))).job.supervises  # type: ignore[attr-defined]


# --- sagas


async def test_a_saga_is_tried_again_after_it_went_back_and_then_ends_with_its_hook(engine: Engine) -> None:
    done: list[str] = []
    told = Told()

    def pay() -> None:
        done.append("pay")
        if done.count("pay") < 3:
            raise ConnectionError("bank is away")

    saga = Saga("checkout", retry=RetryPolicy(attempts=3, backoff=0.2, jitter="none"), on_success=told)
    saga.add_step(
        "reserve", forward=lambda: done.append("reserve"), compensate=lambda: done.append("release")
    )
    saga.add_step("pay", forward=pay)
    run = await engine.start(saga)
    assert await run.result(timeout=30) == {"reserve": None, "pay": None}
    assert done == [*["reserve", "pay", "release"] * 2, "reserve", "pay"]
    assert len(told.calls) == 1


async def test_a_saga_that_fails_for_good_has_gone_back_before_its_hook(engine: Engine) -> None:
    done: list[str] = []

    def pay() -> None:
        raise ConnectionError("bank is away")

    def hook(run: Any, error: Any) -> None:
        done.append(f"told {error.error.compensated}")

    saga = Saga("checkout", on_failure=hook)
    saga.add_step(
        "reserve", forward=lambda: done.append("reserve"), compensate=lambda: done.append("release")
    )
    saga.add_step("pay", forward=pay)
    run = await engine.start(saga)
    with pytest.raises(RunFailed, match="bank is away") as caught:
        await run.result(timeout=30)
    assert done == ["reserve", "release", "told ('reserve',)"]
    assert caught.value.error.compensated == ("reserve",)


async def test_a_saga_that_is_cancelled_goes_back_and_has_no_hook(engine: Engine) -> None:
    done: list[str] = []
    told, reached = Told(), asyncio.Event()

    async def pay() -> None:
        reached.set()
        await asyncio.Event().wait()

    saga = Saga("checkout", on_failure=told, retry=AT_ONCE)
    saga.add_step(
        "reserve", forward=lambda: done.append("reserve"), compensate=lambda: done.append("release")
    )
    saga.add_step("pay", forward=pay)
    run = await engine.start(saga)
    await reached.wait()
    await run.cancel()
    assert (await run.wait(timeout=30)).status == "cancelled"
    assert (done, told.calls) == (["reserve", "release"], [])


# --- DAGs


async def test_a_dag_is_tried_again_at_its_failed_tasks_alone(engine: Engine) -> None:
    done: list[str] = []
    told = Told()

    def flaky() -> str:
        done.append("flaky")
        if done.count("flaky") < 3:
            raise ConnectionError("away")
        return "here"

    dag = DAGWorkflow(name="etl", retry=AT_ONCE, on_success=told, on_failure=told)
    dag.add_task("first", lambda: done.append("first"))
    dag.add_task("flaky", flaky, depends_on=["first"])
    dag.add_task("last", lambda flaky: done.append(f"last {flaky}"), depends_on=["flaky"])
    run = await engine.start(dag)
    assert await run.result(timeout=30) == {"first": None, "flaky": "here", "last": None}
    assert done == ["first", *["flaky"] * 3, "last here"]
    assert [outcome for _, outcome in told.calls] == [{"first": None, "flaky": "here", "last": None}]


# --- what people are told


async def test_a_run_that_is_tried_again_is_told_as_that(
    open_engine: OpenEngine, memory_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await open_engine(memory_url, observers=("logging",))
    with caplog.at_level(logging.INFO, "holdfast.runs"):
        run = await engine.start(linear("told", {"retry": AT_ONCE}, node=Flaky(1)))
        await run.result()
        await until(lambda: any(getattr(r, "event", "") == "run.completed" for r in caplog.records))
    (record,) = [r for r in caplog.records if getattr(r, "event", "") == "run.resumed"]
    assert (getattr(record, "from"), record.to, record.reason) == ("running", "running", "away")  # type: ignore[attr-defined]
    (event,) = [event async for event in run.events(types=["run.resumed"])]
    line = "".join(part if isinstance(part, str) else part[0] for part in tell(event).text)
    assert line.startswith("run is tried again at ")
    assert line.endswith("ConnectionError: away")


# --- definitions that change while runs go on


def asking(**defaults: Any) -> StateGraph:
    return linear("changing", defaults, node=lambda _: {"answer": interrupt("go")})


async def test_a_run_gets_the_hooks_that_its_workflow_has_when_it_ends(
    open_engine: OpenEngine, url: str
) -> None:
    told = Told()
    first = await open_engine(url)
    run = await first.start(asking(), id="gets")
    await until(lambda: _status(first, run.id, "waiting"))
    await first.close()
    registry = Registry()
    registry.add(as_workflow(asking(on_success=told)))
    second = await open_engine(url, registry=registry)
    await second.signal(run.id, "go", 1)
    assert await second.result(run.id, timeout=30) == {"answer": 1}
    assert len(told.calls) == 1


async def test_a_run_whose_hook_is_no_more_can_be_resumed_all_the_same(
    open_engine: OpenEngine, url: str
) -> None:
    """What it did is in the journal, and no pattern minds."""
    told, node = Told(), Flaky(1)
    first = await open_engine(url)
    run = await first.start(linear("changing", {"on_failure": told}, node=node), id="loses")
    await run.wait()
    await first.close()
    registry = Registry()
    registry.add(as_workflow(linear("changing", {}, node=node)))
    second = await open_engine(url, registry=registry)
    await second.resume(run.id)
    assert await second.result(run.id, timeout=30) == {"calls": 2}
    assert len(told.calls) == 1
