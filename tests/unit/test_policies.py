"""Guards without an engine, in virtual time: alone, together as a policy, around plain and async functions."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from holdfast import CircuitBreaker, CircuitOpen, DefinitionError, RetryPolicy
from holdfast.resilience import (
    Bulkhead,
    BulkheadFull,
    Hedge,
    Policy,
    RateLimit,
    RateLimited,
    RetryBudget,
)
from holdfast.runtime.guards.calls import local_gates, share, unshare
from holdfast.runtime.guards.gates import Gates
from holdfast.runtime.guards.rows import LocalRows
from holdfast.testing.clock import VirtualClock
from holdfast.testing.loop import VirtualTime


@pytest.fixture
async def clock() -> AsyncIterator[VirtualClock]:
    """Virtual time for the loop and all guards on it."""
    clock = VirtualClock()
    time = VirtualTime(clock)
    time.install()
    gates = Gates(LocalRows(), now=clock.now, draw=clock.draw, holder="test", local=None)
    share(gates)
    yield clock
    unshare(gates)
    await gates.close()
    time.uninstall()


class Service:
    """Fails as often as it is told to, takes as long, and counts."""

    def __init__(self, failures: int = 0, takes: float = 0.0) -> None:
        self.failures = failures
        self.takes = takes
        self.begun: list[float] = []
        self.live = self.most = 0

    async def __call__(self, value: Any = "done") -> Any:
        self.begun.append(asyncio.get_running_loop().time())
        self.live += 1
        self.most = max(self.most, self.live)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.live -= 1
        if len(self.begun) <= self.failures:
            raise OSError("down")
        return value


async def outcomes(guard: Any, service: Service, count: int) -> list[Any]:
    return await asyncio.gather(*(guard.execute(service) for _ in range(count)), return_exceptions=True)


async def opened(breaker: CircuitBreaker) -> None:
    for _ in range(breaker.threshold):
        with pytest.raises(OSError, match="down"):
            await breaker.execute(Service(failures=1))


async def test_an_open_breaker_calls_nothing_and_says_when(clock: VirtualClock) -> None:
    breaker, service = CircuitBreaker("b", threshold=5, reset_timeout=60), Service()
    await opened(breaker)
    clock.forward(20)
    with pytest.raises(CircuitOpen, match=r"^Circuit breaker is open$") as refused:
        await breaker.execute(service)
    assert (service.begun, refused.value.code) == ([], "circuit_open")
    assert refused.value.retry_after == pytest.approx(40, abs=0.001)


async def test_of_a_hundred_calls_when_it_lapses_one_reaches_the_service(clock: VirtualClock) -> None:
    """B-R1."""
    breaker, service = CircuitBreaker("b", threshold=2, reset_timeout=10), Service(takes=1)
    await opened(breaker)
    clock.forward(10)
    found = await outcomes(breaker, service, 100)
    assert [type(each) for each in found].count(CircuitOpen) == 99
    assert len(service.begun) == 1
    assert await breaker.execute(service) == "done"


async def test_a_cancelled_probe_gives_its_place_back(clock: VirtualClock) -> None:
    """B-R3."""
    breaker = CircuitBreaker("b", threshold=1, reset_timeout=10)
    await opened(breaker)
    clock.forward(10)
    probe = asyncio.ensure_future(breaker.execute(Service(takes=5)))
    await asyncio.sleep(1)
    probe.cancel()
    await asyncio.wait((probe,))
    assert await breaker.execute(Service()) == "done"


async def test_a_late_failure_does_not_open_it_again(clock: VirtualClock) -> None:
    """B-R2."""
    breaker = CircuitBreaker("b", threshold=1, reset_timeout=10)
    late = asyncio.ensure_future(breaker.execute(Service(failures=1, takes=15)))
    await asyncio.sleep(0)
    await opened(breaker)
    clock.forward(10)
    await breaker.execute(Service())
    await asyncio.wait((late,))
    assert isinstance(late.exception(), OSError)
    assert await breaker.execute(Service()) == "done"


async def test_a_name_has_one_breaker_and_other_settings_are_refused(clock: VirtualClock) -> None:
    await opened(CircuitBreaker("b", threshold=2))
    with pytest.raises(CircuitOpen):
        await CircuitBreaker("b", threshold=2).execute(Service())
    with pytest.raises(DefinitionError, match="'b' is used with other settings") as refused:
        await CircuitBreaker("b", threshold=3).execute(Service())
    assert refused.value.fix


async def test_tries_are_counted_and_wait_between(clock: VirtualClock) -> None:
    service = Service(failures=2)
    policy = Policy(retry=RetryPolicy(attempts=3, backoff=5, jitter="none"))
    assert await policy.execute(service) == "done"
    assert service.begun == [0, 5, 15]
    with pytest.raises(OSError, match="down"):
        await policy.execute(Service(failures=3))


async def test_what_is_not_to_be_tried_again_is_not(clock: VirtualClock) -> None:
    """B-R8."""
    service = Service(failures=9)
    with pytest.raises(OSError, match="down"):
        await Policy(retry=RetryPolicy(attempts=9, give_up_on=(OSError,))).execute(service)
    assert len(service.begun) == 1


async def test_a_cancel_is_neither_tried_again_nor_masked(clock: VirtualClock) -> None:
    """B-R8."""
    service = Service(takes=10)
    policy = Policy(retry=RetryPolicy(attempts=9, retry_on=(BaseException,)), fallback="instead")
    call = asyncio.ensure_future(policy.execute(service))
    await asyncio.sleep(1)
    call.cancel()
    await asyncio.wait((call,))
    assert (call.cancelled(), len(service.begun)) == (True, 1)


async def test_layers_that_share_a_budget_do_not_multiply(clock: VirtualClock) -> None:
    """B-R5: three layers of three tries make at most a fifth more calls than there are requests, and the reserve."""
    retry = RetryPolicy(attempts=3, backoff=0, budget=RetryBudget("service", ratio=0.2, reserve=10))
    service = Service(failures=10**6)
    layer = Policy(retry=retry)

    async def middle() -> Any:
        return await layer.execute(service)

    async def request() -> Any:
        return await layer.execute(lambda: layer.execute(middle))

    for _ in range(500):
        with pytest.raises(OSError, match="down"):
            await request()
    assert 590 <= len(service.begun) <= 500 * 1.2 + 10


async def test_without_a_budget_they_multiply(clock: VirtualClock) -> None:
    service, layer = Service(failures=10**6), Policy(retry=RetryPolicy(attempts=3, backoff=0))
    with pytest.raises(OSError, match="down"):
        await layer.execute(lambda: layer.execute(lambda: layer.execute(service)))
    assert len(service.begun) == 27


async def test_each_attempt_has_its_time_and_all_have_theirs(clock: VirtualClock) -> None:
    retry = RetryPolicy(attempts=9, backoff=1, factor=1, jitter="none")
    service = Service(takes=60)
    with pytest.raises(TimeoutError, match=r"longer than 2 s"):
        await Policy(timeout=2).execute(service)
    with pytest.raises(TimeoutError, match=r"longer than 7 s in all"):
        await Policy(retry=retry, timeout=2, total_timeout=7).execute(service)
    assert service.begun == [0, 2, 5, 8]
    assert service.live == 0


@pytest.mark.parametrize(
    ("fallback", "expected"),
    [
        (None, None),
        ("cached", "cached"),
        (lambda: "none", "none"),
        (lambda error: f"told of {error}", "told of down"),
        (lambda value: value, 7),
        (lambda value, error: (value, str(error)), (7, "down")),
        (lambda *values, **named: (values, sorted(named)), ((7,), [])),
    ],
)
async def test_something_stands_in_for_a_result(clock: VirtualClock, fallback: Any, expected: Any) -> None:
    policy = Policy(retry=RetryPolicy(attempts=2, backoff=0), fallback=fallback)
    assert await policy.execute(Service(failures=2), 7) == expected


async def test_an_async_fallback_stands_in_also_for_what_was_not_called(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("b", threshold=1)

    async def instead(error: Exception) -> str:
        return type(error).__name__

    policy = Policy(breaker=breaker, fallback=instead)
    assert [await policy.execute(Service(failures=1)) for _ in range(2)] == ["OSError", "CircuitOpen"]


async def test_a_hedge_makes_a_slow_call_once_more_and_takes_the_first_result(clock: VirtualClock) -> None:
    takes = iter([10.0, 1.0, 10.0])
    began = 0

    async def service() -> int:
        nonlocal began
        began += 1
        number = began
        await asyncio.sleep(next(takes))
        return number

    assert await Hedge(after=2, limit=2).execute(service) == 2
    assert (began, clock.elapsed) == (2, 3)


async def test_a_hedged_call_fails_when_all_have_failed_and_counts_once(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("b", threshold=2)
    service = Service(failures=3, takes=5)
    with pytest.raises(OSError, match="down"):
        await Policy(breaker=breaker, hedge=Hedge(1, limit=2)).execute(service)
    assert (service.begun, service.live) == ([0, 1, 2], 0)
    assert await Policy(breaker=breaker).execute(service) == "done"


async def test_no_more_than_the_limit_are_in_a_bulkhead_and_the_others_wait_in_order(
    clock: VirtualClock,
) -> None:
    service, bulkhead = Service(takes=1), Bulkhead(3)
    found = await asyncio.gather(*(bulkhead.execute(service, n) for n in range(9)))
    assert (found, service.most, len(service.begun)) == (list(range(9)), 3, 9)
    assert clock.elapsed < 4


async def test_a_full_bulkhead_refuses_who_does_not_wait(clock: VirtualClock) -> None:
    service, bulkhead = Service(takes=10), Bulkhead(1, max_wait=0)
    found = await outcomes(bulkhead, service, 3)
    assert sorted(str(each) for each in found) == ["The bulkhead is full"] * 2 + ["done"]
    assert isinstance(found[1], BulkheadFull)
    assert await bulkhead.execute(Service()) == "done"


async def test_who_stops_waiting_takes_no_place(clock: VirtualClock) -> None:
    bulkhead = Bulkhead(1)
    first = asyncio.ensure_future(bulkhead.execute(Service(takes=5)))
    await asyncio.sleep(1)
    waiting = asyncio.ensure_future(bulkhead.execute(Service()))
    await asyncio.sleep(1)
    waiting.cancel()
    assert await first == "done"
    assert await bulkhead.execute(Service()) == "done"


async def test_a_rate_limit_spreads_calls(clock: VirtualClock) -> None:
    """B-R10."""
    service, limit = Service(), RateLimit(5, per=1)
    await outcomes(limit, service, 20)
    assert service.begun == pytest.approx([0.0] * 5 + [n / 5 for n in range(1, 16)], abs=1e-4)


async def test_a_rate_limit_refuses_who_does_not_wait_so_long(clock: VirtualClock) -> None:
    limit = RateLimit(2, per=1, max_wait=0.6)
    found = await outcomes(limit, Service(), 5)
    assert [str(each) for each in found] == ["done"] * 3 + ["The rate limit is reached"] * 2
    assert isinstance(found[4], RateLimited)
    assert await outcomes(RateLimit(1, per=9, max_wait=0), Service(), 1) == ["done"]


async def test_functions_are_decorated(clock: VirtualClock) -> None:
    breaker = CircuitBreaker("b", threshold=1)

    @breaker
    async def ask(value: int) -> int:
        """Ask."""
        return 10 // value

    assert (await ask(5), ask.__name__, ask.__doc__) == (2, "ask", "Ask.")
    with pytest.raises(ZeroDivisionError):
        await ask(0)
    with pytest.raises(CircuitOpen):
        await ask(5)


@pytest.mark.parametrize("wrong", [3, lambda: (yield)], ids=["no function", "generator"])
def test_what_is_no_call_is_not_decorated(wrong: Any) -> None:
    with pytest.raises(DefinitionError):
        CircuitBreaker("b")(wrong)


def test_plain_functions_are_called_through_guards_from_any_thread() -> None:
    """W24: a breaker that several threads use loses no count and lets one probe through."""
    breaker = CircuitBreaker("threads", threshold=8, reset_timeout=0.2)
    calls: list[int] = []
    go = threading.Event()

    @breaker
    def ask(number: int, wait: bool = False) -> int:
        calls.append(number)
        if wait:
            go.wait(20)
            return number
        raise OSError("down")

    def fail() -> None:
        with pytest.raises(OSError, match="down"):
            ask(1)

    in_threads([fail] * 8)
    with pytest.raises(CircuitOpen) as refused:
        ask(2)
    assert calls == [1] * 8
    lapsed = threading.Event()
    lapsed.wait(refused.value.retry_after)
    refusals: list[Any] = []

    def probe() -> None:
        try:
            ask(3, wait=True)
        except CircuitOpen as error:
            refusals.append(error)
            if len(refusals) == 19:
                go.set()

    in_threads([probe] * 20)
    assert (len(refusals), calls.count(3)) == (19, 1)
    assert ask(4, wait=True) == 4


def in_threads(work: list[Any]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def test_loops_of_one_process_share_their_breakers() -> None:
    breaker = CircuitBreaker(f"loops {uuid4()}", threshold=1)  # the process knows those of earlier tests
    assert local_gates() is local_gates()
    await opened(breaker)
    with pytest.raises(CircuitOpen):  # by now it is told
        await breaker.execute(Service())

    def elsewhere() -> Any:
        return asyncio.run(breaker.execute(Service()))

    with pytest.raises(CircuitOpen):
        await asyncio.to_thread(elsewhere)


def test_a_breaker_counts_over_loops_that_live_for_one_call_and_keeps_none_of_them() -> None:
    breaker = CircuitBreaker(f"short loops {uuid4()}", threshold=3)
    loops: list[weakref.ref[Any]] = []

    async def ask() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await breaker.execute(Service(failures=1))

    for _ in range(3):
        with pytest.raises(OSError, match="down"):
            asyncio.run(ask())
    with pytest.raises(CircuitOpen):
        asyncio.run(ask())
    asyncio.run(asyncio.sleep(0))
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"retry": 3},
        {"breaker": "b"},
        {"timeout": 0},
        {"timeout": -1},
        {"total_timeout": float("inf")},
        {"hedge": 2},
        {"bulkhead": 3},
        {"rate_limit": 5},
    ],
    ids=str,
)
def test_what_cannot_guard_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=f"Policy: {next(iter(wrong))}="):
        Policy(**wrong)


@pytest.mark.parametrize("wrong", [{"after": -1}, {"after": "1"}, {"after": 1, "limit": 0}], ids=str)
def test_what_makes_no_hedge_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="Hedge: "):
        Hedge(**wrong)


async def test_a_breaker_says_in_the_log_how_it_stands(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    breaker = CircuitBreaker("b", threshold=1, reset_timeout=10)
    await opened(breaker)
    with pytest.raises(CircuitOpen):
        await breaker.execute(Service())
    clock.forward(10)
    await breaker.execute(Service())
    await breaker.execute(Service())
    assert caplog.messages == [f"circuit breaker b is {state}" for state in ("open", "half-open", "closed")]
