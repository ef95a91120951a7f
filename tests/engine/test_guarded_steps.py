"""Guards on the steps of a run: breakers, limits and fallbacks that cost no try and hold across engines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from holdfast import (
    END,
    START,
    CircuitBreaker,
    DefinitionError,
    Engine,
    RetryPolicy,
    RunFailed,
    State,
    StateGraph,
    StepContext,
)
from holdfast.model import facts
from holdfast.registry import Registry
from holdfast.resilience import Bulkhead, Hedge, Policy, RateLimit, RetryBudget
from tests.graphs import sequence, until

Open = Callable[..., Awaitable[Engine]]


def one_node(fn: Any, **options: Any) -> StateGraph:
    graph = StateGraph("guarded")
    graph.add_node("ask", fn, **options)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph


async def journal(engine: Engine, run: str) -> list[facts.Fact]:
    return [fact for row in await engine.store.journal(run) for fact in facts.Journal.decode(row.facts)]


class Service:
    """Fails while it is down, and counts."""

    def __init__(self) -> None:
        self.down = True
        self.calls = 0

    async def __call__(self, state: State) -> State:
        self.calls += 1
        if self.down:
            raise OSError("down")
        return state.set("answer", 42)


async def test_an_open_breaker_delays_a_step_and_costs_it_no_try(engine: Engine) -> None:
    """B-R12: two tries open it; the third is made when it lets a probe through, however often it refused."""
    service = Service()
    breaker = CircuitBreaker("service", threshold=2, reset_timeout=0.3)
    retry = RetryPolicy(attempts=3, backoff=0)
    run = await engine.start(one_node(service, breaker=breaker, retry=retry))
    await until(lambda: service.calls == 2)
    service.down = False
    assert (await run.result())["answer"] == 42
    assert service.calls == 3
    retried = [fact for fact in await journal(engine, run.id) if isinstance(fact, facts.StepRetried)]
    reasons = [fact.reason for fact in retried]
    assert reasons.count("failed") == 2
    assert set(reasons) == {"failed", "circuit_open"}
    assert all(fact.due > fact.at and fact.error is None for fact in retried if fact.reason == "circuit_open")


async def test_a_waiting_step_says_when_it_is_tried_again(engine: Engine) -> None:
    service = Service()
    breaker = CircuitBreaker("service", threshold=1, reset_timeout=3600)
    graph = one_node(service, breaker=breaker, retry=RetryPolicy(attempts=2, backoff=0))
    run = await engine.start(graph)

    async def waits() -> bool:
        return (await run.refresh()).status == "waiting"

    await until(waits)
    assert run.waiting_on[0].startswith("retry of ask ")
    assert service.calls == 1
    await run.cancel()
    assert (await run.wait()).status == "cancelled"


async def test_a_closed_breaker_costs_a_step_nothing(open_engine: Open, any_url: str) -> None:
    """No commit, and no transaction of its own."""
    engine = await open_engine(any_url)

    async def node(state: State) -> State:
        return state.set("n", state.get("n", 0) + 1)

    written = []
    plain: dict[str, Any] = {}
    guards: dict[str, Any] = {"breaker": CircuitBreaker("idle"), "bulkhead": Bulkhead(5)}
    for name, options in (("plain", plain), ("guarded", guards)):
        graph = StateGraph(name)
        graph.add_node("loop", node, **options)
        graph.add_edge(START, "loop")
        graph.add_edge("loop", "loop", when=lambda s: s["n"] < 100)
        graph.add_edge("loop", END)
        before = engine.store.stats.commits, engine.store.stats.transactions
        await engine.execute(graph)
        stats = engine.store.stats
        written.append((stats.commits - before[0], stats.transactions - before[1]))
    (plain_commits, plain_transactions), (commits, transactions) = written
    assert commits == plain_commits == 101
    assert transactions <= plain_transactions + 5  # the places of the bulkhead, taken and given back


async def test_permits_of_a_rate_cost_less_than_a_write_each(open_engine: Open, any_url: str) -> None:
    engine = await open_engine(any_url)
    limit = RateLimit(10_000, per=1, name="wide")
    writes = 0
    inner = engine.store.set_limit

    async def counted(*arguments: Any) -> bool:
        nonlocal writes
        writes += 1
        return await inner(*arguments)

    engine.store.set_limit = counted  # type: ignore[method-assign,assignment]

    async def node(state: State) -> None:
        return None

    graph = one_node(node, rate_limit=limit)
    for _ in range(10):
        runs = [await engine.start(graph) for _ in range(10)]
        await asyncio.gather(*(run.result() for run in runs))
    assert writes <= 50


async def test_a_fallback_stands_in_and_the_journal_says_so(engine: Engine) -> None:
    service = Service()

    def instead(state: State, error: Exception) -> State:
        return state.set("answer", f"cached after {error}")

    graph = one_node(service, retry=RetryPolicy(attempts=2, backoff=0), fallback=instead)
    run = await engine.start(graph)
    assert (await run.result())["answer"] == "cached after down"
    assert service.calls == 2
    (completed,) = [
        fact
        for fact in await journal(engine, run.id)
        if isinstance(fact, facts.StepCompleted) and fact.step == "ask#1"
    ]
    assert completed.error is not None
    assert (completed.error.message, completed.error.attempt) == ("down", 2)


@pytest.mark.parametrize("slow", [False, True], ids=["plain", "async"])
async def test_a_fallback_also_stands_in_for_what_took_too_long(engine: Engine, slow: bool) -> None:
    async def wait(state: State) -> None:
        await asyncio.sleep(3600)

    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def block(state: State) -> None:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()

    graph = one_node(wait if slow else block, timeout=0.05, fallback={"answer": "late"})
    assert (await engine.execute(graph))["answer"] == "late"
    release.set()


async def test_a_breaker_that_is_open_leads_to_the_fallback_at_once(engine: Engine) -> None:
    service = Service()
    breaker = CircuitBreaker("service", threshold=1, reset_timeout=3600)
    graph = one_node(service, breaker=breaker, fallback=lambda error: {"answer": type(error).__name__})
    assert [(await engine.execute(graph))["answer"] for _ in range(2)] == ["OSError", "CircuitOpen"]
    assert service.calls == 1


async def test_a_fallback_that_fails_fails_the_step(engine: Engine) -> None:
    def instead(error: Exception) -> None:
        raise ValueError("no cache")

    with pytest.raises(RunFailed, match="no cache"):
        await engine.execute(one_node(Service(), fallback=instead))


async def test_a_cancel_is_not_masked_by_a_fallback(engine: Engine) -> None:
    """B-R8."""
    begun = asyncio.Event()

    async def wait(state: State) -> None:
        begun.set()
        await asyncio.sleep(3600)

    run = await engine.start(one_node(wait, fallback={"answer": 1}))
    await begun.wait()
    await run.cancel()
    assert (await run.wait()).status == "cancelled"


async def test_a_hedged_node_takes_the_first_result(engine: Engine) -> None:
    calls = 0

    async def node(state: State) -> State:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.sleep(3600)
        return state.set("by", calls)

    assert (await engine.execute(one_node(node, hedge=Hedge(0.01))))["by"] == 2


async def test_a_hedged_node_can_keep_no_calls(engine: Engine) -> None:
    async def node(state: State, step: StepContext) -> None:
        await step.call(int)

    with pytest.raises(RunFailed, match="is hedged"):
        await engine.execute(one_node(node, hedge=Hedge(10)))


async def test_only_so_many_steps_are_in_a_bulkhead(engine: Engine) -> None:
    live = most = 0
    full = asyncio.Event()

    async def node(state: State) -> None:
        nonlocal live, most
        live += 1
        most = max(most, live)
        if live == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        live -= 1

    graph = one_node(node, bulkhead=Bulkhead(3))
    runs = [await engine.start(graph) for _ in range(20)]
    await asyncio.gather(*(run.result() for run in runs))
    assert most == 3


async def test_steps_that_a_rate_delays_lose_no_try(engine: Engine) -> None:
    """B-R6: they come back spread, and each runs once."""
    calls = 0

    async def node(state: State) -> None:
        nonlocal calls
        calls += 1

    graph = one_node(node, rate_limit=RateLimit(10, per=0.5, burst=2))
    runs = [await engine.start(graph) for _ in range(20)]
    await asyncio.gather(*(run.result() for run in runs))
    assert calls == 20


async def test_who_shall_not_wait_fails(engine: Engine) -> None:
    async def node(state: State) -> None:
        return None

    graph = one_node(node, rate_limit=RateLimit(1, per=3600, max_wait=0))
    await engine.execute(graph)
    with pytest.raises(RunFailed, match="rate limit is reached") as failed:
        await engine.execute(graph)
    assert failed.value.error.code == "rate_limited"


async def test_what_an_earlier_attempt_returns_late_is_refused(engine: Engine) -> None:
    """B-R9: also when a fallback or another attempt has begun since."""
    late, second = threading.Event(), threading.Event()
    returned: list[int] = []

    def node(state: State, step: StepContext) -> State:
        if step.attempt == 1:
            late.wait(60)
            returned.append(1)
            return state.set("by", 1)
        second.wait(60)
        return state.set("by", step.attempt)

    graph = one_node(node, timeout=0.1, retry=RetryPolicy(attempts=2, backoff=0), fallback={"by": "fallback"})
    run = await engine.start(graph)

    async def tried() -> bool:
        return any(isinstance(fact, facts.StepRetried) for fact in await journal(engine, run.id))

    await until(tried)
    late.set()
    await until(lambda: returned == [1])
    assert (await run.result())["by"] == "fallback"
    second.set()


async def test_all_tries_together_have_their_time(engine: Engine) -> None:
    service = Service()
    graph = one_node(service, retry=RetryPolicy(attempts=99, backoff=0.2, jitter="none"), total_timeout=0.5)
    with pytest.raises(RunFailed, match="down"):
        await engine.execute(graph)
    assert service.calls < 5


async def test_two_engines_on_one_store_share_their_breakers(open_engine: Open, url: str) -> None:
    """W25: a breaker's count is no process's own."""
    breaker = CircuitBreaker("shared", threshold=3, reset_timeout=3600)
    graph = one_node(Service(), breaker=breaker)
    first, second = await open_engine(url), await open_engine(url, registry=Registry())
    for engine in (first, second, first):
        with pytest.raises(RunFailed, match="down"):
            await engine.execute(graph)
        await asyncio.sleep(0.15)  # each looks at most so often; what it looks at is judged below
    run = await second.start(graph)

    async def waits() -> bool:
        return (await run.refresh()).status == "waiting"

    await until(waits)
    assert "circuit_open" in {
        fact.reason for fact in await journal(second, run.id) if isinstance(fact, facts.StepRetried)
    }


async def test_a_breaker_with_other_settings_fails_the_step_and_says_so(engine: Engine) -> None:
    async def node(state: State) -> None:
        return None

    await engine.execute(one_node(node, breaker=CircuitBreaker("b", threshold=3)))
    graph = one_node(node, breaker=CircuitBreaker("b", threshold=4))
    with pytest.raises(RunFailed, match="'b' is used with other settings"):
        await engine.execute(graph)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"breaker": "b"}, "breaker='b'"),
        ({"policy": 3}, "policy=3"),
        ({"retries": 3}, "retries is no option"),
        ({"retry": RetryPolicy(), "policy": Policy(retry=RetryPolicy())}, "retry is given twice"),
        ({"hedge": Hedge(1), "fn": print}, "hedge="),
        ({"total_timeout": -1}, "total_timeout=-1"),
    ],
    ids=["breaker", "policy", "unknown", "twice", "plain", "negative"],
)
def test_what_cannot_guard_a_node_is_refused(options: dict[str, Any], message: str) -> None:
    fn = options.pop("fn", Service())
    with pytest.raises(DefinitionError, match=f"node 'ask': {message}"):
        one_node(fn, **options)


async def test_engines_of_one_store_share_a_retry_budget(open_engine: Open, url: str) -> None:
    """B-R5 across processes: all tries more than one, of whatever engine, come out of one purse."""
    budget = RetryBudget("shared", ratio=0, reserve=3)
    calls: list[int] = []

    def node(state: State) -> None:
        calls.append(1)
        raise OSError("down")

    graph = sequence("budget", node=(node, {"retry": RetryPolicy(attempts=9, backoff=0, budget=budget)}))
    engines = [await open_engine(url) for _ in range(2)]
    runs = await asyncio.gather(*(engine.start(graph) for engine in engines * 3))
    for run in runs:
        assert (await run.wait()).status == "failed"
    assert len(calls) == 6 + 3
    first = await engines[0].start(graph)
    await first.wait()
    assert len(calls) == 10, "it is used up, also for what is started later"


async def test_first_tries_fill_a_budget_in_all_engines(open_engine: Open, url: str) -> None:
    budget = RetryBudget("filled", ratio=1, reserve=1)
    calls: list[str] = []

    def node(state: State) -> None:
        calls.append(state["name"])
        if state.get("fails"):
            raise OSError("down")

    policy = RetryPolicy(attempts=2, backoff=0, budget=budget)
    graph = sequence("budget", node=(node, {"retry": policy}))
    first, second = await open_engine(url), await open_engine(url)
    await (await first.start(graph, {"name": "a", "fails": True})).wait()
    assert calls == ["a", "a"]
    for _ in range(3):
        await (await first.start(graph, {"name": "good"})).wait()
    await first.close()  # tells what it counted
    await (await second.start(graph, {"name": "b", "fails": True})).wait()
    assert calls.count("b") == 2


async def test_a_step_that_asks_its_budget_can_be_cancelled(open_engine: Open, memory_url: str) -> None:
    """Also while the store does not answer."""
    asked, answers = asyncio.Event(), asyncio.Event()
    engine = await open_engine(memory_url)
    limit = engine.store.limit

    async def slow(name: str) -> Any:
        if name.startswith("budget:"):
            asked.set()
            await answers.wait()
        return await limit(name)

    engine.store.limit = slow  # type: ignore[method-assign]

    def node(state: State) -> None:
        raise OSError("down")

    policy = RetryPolicy(attempts=2, backoff=0, budget=RetryBudget("slow"))
    run = await engine.start(sequence("budget", node=(node, {"retry": policy})))
    await asked.wait()
    await run.cancel()
    assert (await run.wait(timeout=30)).status == "cancelled"
    answers.set()


async def test_a_budget_that_is_used_up_leads_to_the_fallback(engine: Engine) -> None:
    calls: list[int] = []

    def node(state: State) -> None:
        calls.append(1)
        raise OSError("down")

    policy = RetryPolicy(attempts=9, backoff=0, budget=RetryBudget("none", reserve=0, ratio=0))
    graph = sequence("budget", node=(node, {"retry": policy, "fallback": {"stood": "in"}}))
    assert await engine.execute(graph) == {"stood": "in"}
    assert len(calls) == 1
