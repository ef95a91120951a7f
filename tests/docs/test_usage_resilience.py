"""The public contract of resilience, as users write it: each name and each parameter of it, but for queues."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from holdfast import (
    END,
    START,
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    DAGWorkflow,
    DefinitionError,
    Engine,
    Hedge,
    InvalidStatus,
    RateLimit,
    Retention,
    RetryPolicy,
    RunFailed,
    Saga,
    State,
    StateGraph,
    blocking,
    registry,
    workflow_factory,
)
from holdfast.resilience import Policy


@pytest.fixture(autouse=True)
def names_of_their_own() -> Iterator[None]:
    before = set(registry.default.all())
    yield
    for name in set(registry.default.all()) - before:
        registry.default.remove(name)


@pytest.fixture
def name() -> str:
    """A name that no other test has: breakers without an engine belong to the process."""
    return f"service {uuid4()}"


class Service:
    """A dependency that fails its first calls."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.calls = 0

    async def __call__(self, *_: Any) -> dict[str, int]:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError("down")
        return {"calls": self.calls}

    async def ask(self) -> dict[str, int]:
        """The same for what gives no arguments."""
        return await self()


def one(label: str, node: Any, /, **options: Any) -> StateGraph:
    graph = StateGraph(label)
    graph.add_node("node", node, **options)
    return graph.add_edge(START, "node").add_edge("node", END)


def defaults_of(made: Any) -> dict[str, Any]:
    parameters = inspect.signature(made).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


# --- names, parameters and their defaults


def test_the_policies_have_these_parameters_and_defaults() -> None:
    assert defaults_of(RetryPolicy).items() >= {
        ("attempts", 3),
        ("backoff", 1.0),
        ("factor", 2.0),
        ("max_backoff", 60.0),
        ("jitter", "full"),
        ("retry_on", (Exception,)),
        ("give_up_on", ()),
    }
    assert defaults_of(CircuitBreaker).items() >= {
        ("threshold", 5),
        ("reset_timeout", 60.0),
        ("half_open", 1),
    }
    assert defaults_of(Hedge) == {"limit": 1}
    assert defaults_of(Retention) == {"age": timedelta(days=30), "completed": None, "failed": None}
    for jitter in ("full", "equal", "none"):
        RetryPolicy(3, 1.0, 2.0, 60, jitter, (Exception,), ())
    CircuitBreaker("b", 5, 60, 1)
    Hedge(0.1, 1)
    Bulkhead(3)
    RateLimit(10, 1)
    Retention(timedelta(days=1), completed=100, failed=timedelta(days=7))


# --- retry


async def test_attempts_counts_all_tries(url: str) -> None:
    service = Service(failures=9)
    async with Engine(url, observers=()) as engine:
        with pytest.raises(RunFailed):
            await engine.execute(one("tries", service, retry=RetryPolicy(attempts=3, backoff=0)))
    assert service.calls == 3


# --- circuit breakers


async def test_an_open_breaker_says_so_and_for_how_long(name: str) -> None:
    breaker = CircuitBreaker(name, threshold=2, reset_timeout=60, half_open=1)
    service = Service(failures=9)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await breaker.execute(service)
    with pytest.raises(CircuitOpen, match=r"^Circuit breaker is open$") as refused:
        await breaker.execute(service)
    assert 0 < refused.value.retry_after <= 60
    assert service.calls == 2


async def test_a_breaker_is_a_decorator(name: str) -> None:
    breaker = CircuitBreaker(name, threshold=1)

    @breaker
    async def pay(cents: int) -> int:
        if cents < 0:
            raise ValueError(cents)
        return cents

    @breaker
    def pay_here(cents: int) -> int:
        return cents

    assert await pay(7) == 7
    assert await asyncio.to_thread(pay_here, 8) == 8
    with pytest.raises(ValueError, match="-1"):
        await pay(-1)
    with pytest.raises(CircuitOpen):
        await pay(7)


async def test_breakers_live_in_the_store(url: str, name: str) -> None:
    breaker = CircuitBreaker(name, threshold=1, reset_timeout=60)
    graph = one("guarded", Service(failures=9), breaker=breaker, fallback={"stood": "in"})
    async with Engine(url, observers=()) as engine:
        assert await engine.execute(graph) == {"stood": "in"}
    async with Engine(url, observers=(), workers=False) as other:
        with pytest.raises(CircuitOpen):
            await breaker.execute(Service())
        (info,) = await other.breakers()
    assert (info.name, info.state) == (name, "open")


# --- limits and what else guards


async def test_all_guards_stand_on_a_node_one_by_one_or_as_one_policy(url: str, name: str) -> None:
    parts: dict[str, Any] = {
        "retry": RetryPolicy(attempts=2, backoff=0),
        "breaker": CircuitBreaker(name, threshold=9),
        "rate_limit": RateLimit(100, 1),
        "bulkhead": Bulkhead(2),
        "hedge": Hedge(after=30, limit=1),
        "fallback": {"fell": "back"},
        "timeout": 30,
        "total_timeout": 60,
    }
    async with Engine(url, observers=()) as engine:
        assert await engine.execute(one("parts", Service(failures=1), **parts)) == {"calls": 2}
        assert await engine.execute(one("policy", Service(failures=9), policy=Policy(**parts))) == {
            "fell": "back"
        }


async def test_all_guards_stand_around_a_call_without_an_engine(name: str) -> None:
    policy = Policy(
        retry=RetryPolicy(attempts=2, backoff=0),
        breaker=CircuitBreaker(name, threshold=9),
        rate_limit=RateLimit(100, 1),
        bulkhead=Bulkhead(2),
        hedge=Hedge(after=30),
        fallback="instead",
        timeout=30,
        total_timeout=60,
    )
    assert await policy.execute(Service(failures=1)) == {"calls": 2}
    assert await policy.execute(Service(failures=9)) == "instead"
    for guard in (Hedge(1), Bulkhead(1), RateLimit(1, 1)):
        assert await guard.execute(Service()) == {"calls": 1}


async def test_a_policy_stands_on_a_task_and_on_a_step_of_a_saga(url: str, name: str) -> None:
    policy = Policy(
        retry=RetryPolicy(attempts=3, backoff=0),
        breaker=CircuitBreaker(name, threshold=99),
        rate_limit=RateLimit(100, 1),
        bulkhead=Bulkhead(2, name=name),
        hedge=Hedge(30),
        timeout=30,
        total_timeout=60,
        fallback="instead",
    )
    dag = DAGWorkflow(name="dag")
    dag.add_task("task", Service(failures=2).ask, policy=policy)
    dag.add_task("down", Service(failures=9).ask, policy=policy)
    saga = Saga("saga")
    saga.add_step("step", forward=Service(failures=2).ask, policy=policy)
    saga.add_step("down", forward=Service(failures=9).ask, policy=policy)
    saga.add_step(
        "knows",
        forward=Service(failures=9).ask,
        fallback=lambda results, error: [results["down"], str(error)],
    )
    async with Engine(url, observers=()) as engine:
        assert await engine.execute(dag) == {"task": {"calls": 3}, "down": "instead"}
        assert await engine.execute(saga) == {
            "step": {"calls": 3},
            "down": "instead",
            "knows": ["instead", "down"],
        }


def test_what_cannot_guard_a_step_of_a_saga_is_refused() -> None:
    with pytest.raises(DefinitionError, match="hedge"):
        Saga("saga").add_step("a", forward=print, hedge=Hedge(1))
    with pytest.raises(DefinitionError, match="workflow"):
        Saga("saga").add_step(
            "a", forward=one("inner", Service()), compensate=lambda: None, bulkhead=Bulkhead(1)
        )
    with pytest.raises(DefinitionError, match="bulkheads is no option"):
        Saga("saga").add_step("a", forward=lambda: None, bulkheads=Bulkhead(1))  # type: ignore[call-arg]


# --- dead letters


async def test_dead_letters_are_listed_redriven_and_discarded(url: str) -> None:
    service = Service(failures=2)
    graph = one("sends", service)
    async with Engine(url, observers=()) as engine:
        for id_ in ("a", "b"):
            await (await engine.start(graph, id=id_)).wait()
        letters = await engine.dead_letters()
        assert [(letter.id, letter.code, letter.stage) for letter in letters] == [
            ("b", "step_failed", "node"),
            ("a", "step_failed", "node"),
        ]
        assert await (await engine.redrive("a")).result() == {"calls": 3}
        await engine.discard("b")
        assert await engine.dead_letters() == []
        with pytest.raises(InvalidStatus):
            await engine.redrive("a")


def test_synchronous_callers_have_the_same_names(file_url: str) -> None:
    with blocking.Engine(file_url, observers=()) as engine:
        engine.start(one("sends", Service(failures=1)), id="a").wait()
        (letter,) = engine.dead_letters(limit=1)
        assert engine.redrive(letter.id).result() == {"calls": 2}
        assert engine.force_breaker("b", "forced_open").state == "forced_open"
        assert [each.name for each in engine.breakers()] == ["b"]
        engine.stop_redriving()


# --- retention and the other job defaults


async def test_retention_is_the_engines_or_a_workflows(url: str) -> None:
    short = Retention(age=timedelta(days=30), completed=1, failed=None)
    own = StateGraph("own", retention=Retention(age=timedelta(days=365)))
    own.add_node("node", Service()).add_edge(START, "node").add_edge("node", END)
    async with Engine(url, observers=(), retention=short) as engine:
        for graph in (one("plain", Service()), own):
            for _ in range(2):
                await engine.execute(graph)
        retaining = engine._open.retaining
        assert retaining is not None
        await retaining.round()
        left = sorted([run.workflow async for run in await engine.runs()])
    assert left == ["own", "own", "plain"]


async def test_every_builder_takes_the_job_defaults(url: str) -> None:
    told: list[tuple[str, str]] = []

    def good(run: Any, result: Any) -> None:
        told.append((run.workflow, "well"))

    async def bad(run: Any, error: Exception) -> None:
        told.append((run.workflow, type(error).__name__))

    def defaults() -> dict[str, Any]:
        return {
            "version": "7",
            "queue": "slow",
            "priority": 3,
            "timeout": timedelta(minutes=5),
            "retry": RetryPolicy(attempts=2, backoff=0),
            "on_success": good,
            "on_failure": bad,
            "retention": Retention(completed=10),
        }

    services = {label: Service(failures=1) for label in ("factory", "graph", "dag", "saga")}

    @workflow_factory("factory", **defaults())
    def factory(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
        graph.add_node("node", services["factory"]).add_edge(START, "node").add_edge("node", END)
        return State({})

    graph = StateGraph("graph", **defaults())
    graph.add_node("node", services["graph"]).add_edge(START, "node").add_edge("node", END)
    dag = DAGWorkflow(name="dag", **defaults())
    dag.add_task("task", services["dag"].ask)
    saga = Saga("saga", **defaults())
    saga.add_step("step", forward=services["saga"].ask)
    fails = StateGraph("fails", **defaults())
    fails.add_node("node", Service(failures=9)).add_edge(START, "node").add_edge("node", END)
    async with Engine(url, observers=(), queues=["slow"]) as engine:
        for workflow in ("factory", graph, dag, saga):
            run = await engine.start(workflow)
            await run.result(timeout=60)
            assert (run.version, run.queue, run.priority) == ("7", "slow", 3)
        with pytest.raises(RunFailed, match="down"):
            await engine.execute(fails)
    assert told == [*((label, "well") for label in services), ("fails", "RunFailed")]
    assert {service.calls for service in services.values()} == {2}
