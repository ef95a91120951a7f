"""A durable step that asks the service behind the full policy."""

from __future__ import annotations

import httpx

from holdfast import END, START, CircuitBreaker, RetryPolicy, Runtime, State, StateGraph, workflow_factory
from holdfast.resilience import Bulkhead, Hedge, Policy, RateLimit

NAME = "quote"

BREAKER = CircuitBreaker("quotes", threshold=4, reset_timeout=0.6, half_open=1)

ASKING = Policy(
    retry=RetryPolicy(attempts=3, backoff=0.1, retry_on=(httpx.HTTPError, TimeoutError), max_elapsed=20),
    breaker=BREAKER,
    rate_limit=RateLimit(40, per=1, burst=10),
    bulkhead=Bulkhead(8),
    hedge=Hedge(after=0.25),
    timeout=0.5,
)

CAREFUL = Policy(retry=ASKING.retry, breaker=BREAKER, timeout=0.5, fallback={"price": 40, "stale": True})


@workflow_factory(NAME, replace=True)
def quote(graph: StateGraph, runtime: Runtime, params: dict[str, object]) -> State:
    """Ask for a price; `params["stale"]` says that an old one will do."""

    async def ask(state: State) -> State:
        answer = await runtime.http.get(runtime.url)
        answer.raise_for_status()
        return state.merge(answer.json())

    graph.add_node("ask", ask, policy=CAREFUL if params.get("stale") else ASKING)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return State()
