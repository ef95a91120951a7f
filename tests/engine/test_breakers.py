"""Breakers as an engine shows and forces them, for all processes of its store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from holdfast import CircuitBreaker, CircuitOpen, Engine, PayloadRejected, RetryPolicy, State
from holdfast.errors import StoreUnavailable
from tests.graphs import sequence, until

Open = Callable[..., Awaitable[Engine]]


class Service:
    """A node that counts its calls, and fails while it is down."""

    def __init__(self) -> None:
        self.calls = 0
        self.down = False

    async def __call__(self, state: State) -> dict[str, int]:
        self.calls += 1
        if self.down:
            raise ConnectionError("down")
        return {"calls": self.calls}


def guarded(service: Service, **settings: Any) -> Any:
    breaker = CircuitBreaker("service", **{"threshold": 2, "reset_timeout": 0.2, **settings})
    policy = RetryPolicy(attempts=2, backoff=0)
    return sequence("guarded", ask=(service, {"breaker": breaker, "retry": policy}))


async def test_breakers_are_listed_once_they_counted_a_failure(engine: Engine) -> None:
    service = Service()
    assert await (await engine.start(guarded(service, reset_timeout=60))).result() == {"calls": 1}
    assert await engine.breakers() == []
    service.down = True
    await engine.start(guarded(service, reset_timeout=60))
    await until(lambda: _states(engine, {"service": "open"}))
    (info,) = await engine.breakers()
    assert (info.opened, info.since is not None) == (1, True)
    assert info.since is not None
    assert info.retry_at is not None
    assert (info.retry_at - info.since).total_seconds() == 60


async def _states(engine: Engine, expected: dict[str, str]) -> bool:
    return {each.name: each.state for each in await engine.breakers()} == expected


async def test_steps_wait_while_it_is_forced_open_and_lose_no_try(engine: Engine) -> None:
    service = Service()
    await engine.force_breaker("service", "forced_open")
    run = await engine.start(guarded(service))
    await until(lambda: _refused(run))
    assert service.calls == 0
    info = await engine.force_breaker("service", "closed")
    assert (info.name, info.state) == ("service", "closed")
    assert await run.result(timeout=30) == {"calls": 1}


async def _refused(run: Any) -> bool:
    return any(fact.get("reason") == "circuit_open" for fact in await run.journal())


async def test_one_that_is_disabled_counts_nothing(engine: Engine) -> None:
    service = Service()
    service.down = True
    await engine.force_breaker("service", "disabled")
    for _ in range(3):
        assert (await (await engine.start(guarded(service))).wait()).status == "failed"
    assert service.calls == 6
    assert await _states(engine, {"service": "disabled"})


async def test_what_one_engine_forces_holds_for_another(open_engine: Open, url: str) -> None:
    first, second = await open_engine(url), await open_engine(url, workers=False)
    breaker = CircuitBreaker("service")

    async def call() -> str:
        return "through"

    assert await breaker.execute(call) == "through"
    await second.force_breaker("service", "forced_open")

    async def refused() -> bool:
        try:
            await breaker.execute(call)
        except CircuitOpen as error:
            return error.retry_after == 60
        return False

    await until(refused)
    assert await _states(first, {"service": "forced_open"})


async def test_who_force_it_at_once_agree(open_engine: Open, url: str) -> None:
    engines = [await open_engine(url, workers=False) for _ in range(3)]
    states: Any = ("forced_open", "disabled", "closed")
    await asyncio.gather(
        *(engine.force_breaker("b", state) for engine in engines for state in states for _ in range(5))
    )
    shown = [await engine.breakers() for engine in engines]
    assert shown[0] == shown[1] == shown[2]


@pytest.mark.parametrize(
    "wrong",
    [("", "closed"), ("b", "half_open"), ("b", "open"), ("b", None), (7, "closed"), ("x" * 999, "closed")],
)
async def test_what_cannot_be_forced_is_refused(engine: Engine, wrong: Any) -> None:
    with pytest.raises(PayloadRejected):
        await engine.force_breaker(*wrong)
    assert await engine.breakers() == []


async def test_a_closed_engine_says_so() -> None:
    with pytest.raises(StoreUnavailable):
        await Engine("sqlite:///:memory:").breakers()


async def test_changes_of_state_are_told_with_fields_for_machines(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service()
    service.down = True
    with caplog.at_level(logging.WARNING, "holdfast"):
        run = await engine.start(guarded(service))
        await until(lambda: service.calls >= 2)
        service.down = False
        await run.wait()
        await engine.start(guarded(service, reset_timeout=0.2))
        await until(lambda: _states(engine, {"service": "closed"}))
    told = [(r.event, r.subject, r.was) for r in caplog.records if hasattr(r, "was")]  # type: ignore[attr-defined]
    assert told[:2] == [
        ("breaker.open", "service", "closed"),
        ("breaker.half_open", "service", "open"),
    ]
