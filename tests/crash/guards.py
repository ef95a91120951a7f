"""A process that makes guarded calls on a store, as it is told to by lines on stdin, and tells of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

import msgspec

from holdfast import CircuitBreaker, CircuitOpen, Engine
from holdfast.core.breaker import BreakerRow
from holdfast.model.ids import SECOND
from holdfast.resilience import RateLimit

PATIENT = CircuitBreaker("patient", threshold=1, reset_timeout=2.0, probe_timeout=600)
HASTY = CircuitBreaker("hasty", threshold=1, reset_timeout=0.5, probe_timeout=1.5)
RATE = RateLimit(20, per=0.2, burst=10, name="crash")
CALLS = 100


def tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


async def told() -> str:
    line = await asyncio.to_thread(sys.stdin.readline)
    return str(line).strip()


async def fail(breaker: CircuitBreaker) -> None:
    async def service() -> None:
        raise OSError

    with contextlib.suppress(OSError):
        await breaker.execute(service)
    try:
        await breaker.execute(service)
    except CircuitOpen:  # by now all processes can see it
        tell(opened=True)


async def lapse(engine: Engine, breaker: CircuitBreaker) -> None:
    """Wait until the breaker has been open for as long as it shall be, by the store's clock."""
    row = await engine.store.limit(f"breaker:{breaker.name}")
    assert row is not None
    changed = msgspec.json.decode(row.body, type=BreakerRow).changed
    await asyncio.sleep(max(0, changed + breaker.reset - engine.store.now()) / SECOND)


async def probe(breaker: CircuitBreaker, *, again: bool) -> None:
    """Make many calls at once; who gets through waits to be told. `again`: until one gets through."""
    reached = 0
    go_on = asyncio.Event()

    async def service() -> None:
        await go_on.wait()

    async def call() -> bool:
        try:
            await breaker.execute(service)
        except CircuitOpen:
            return False
        return True

    while True:
        calls = {asyncio.ensure_future(call()) for _ in range(CALLS)}
        refused: set[asyncio.Future[bool]] = set()
        while len(refused) < CALLS and (ended := (await asyncio.wait(calls - refused, timeout=0.5))[0]):
            refused |= ended
        if not again or len(refused) < CALLS:
            break
    tell(refused=len(refused), under_way=CALLS - len(refused))
    await told()
    go_on.set()
    reached = sum(await asyncio.gather(*calls))
    tell(reached=reached)


async def hammer(engine: Engine) -> None:
    """Call as fast as the limit allows; tell when each call was let through, as the limit saw it."""
    gates: Any = engine._open.gates
    clock = gates.now
    last: int = 0
    uses: list[int] = []

    def now() -> int:
        nonlocal last
        last = clock()
        return last

    gates.now = now

    async def service() -> None:
        uses.append(last)

    await asyncio.gather(*(RATE.execute(service) for _ in range(50)))
    tell(uses=uses)


async def main(url: str) -> None:
    async with Engine(url, workers=False, observers=()) as engine:
        tell(ready=True)
        while line := await told():
            match line:
                case "open":
                    await fail(PATIENT)
                case "probe":
                    await lapse(engine, PATIENT)
                    await probe(PATIENT, again=False)
                case "open the hasty one":
                    await fail(HASTY)
                case "probe the hasty one":
                    await probe(HASTY, again=True)
                case "hammer":
                    await hammer(engine)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
