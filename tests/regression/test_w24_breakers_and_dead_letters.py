"""W24: breakers were not safe in threads and let everyone through half-open; dead letters ended with their process."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

from holdfast import CircuitBreaker, CircuitOpen, Engine, State
from tests.graphs import sequence, until

Open = Callable[..., Awaitable[Engine]]


async def test_of_many_threads_one_gets_through_half_open(engine: Engine) -> None:
    """Plain nodes of many runs, each in a thread, call one function through a breaker."""
    breaker = CircuitBreaker("w24", threshold=1, reset_timeout=0.3, probe_timeout=60)
    reached: list[str] = []
    refused: list[str] = []
    go_on = threading.Event()

    @breaker
    def ask(run: str) -> None:
        reached.append(run)
        if run == "opens":
            raise OSError("down")
        go_on.wait(60)

    def node(state: State) -> None:
        try:
            ask(str(state.run_id))
        except CircuitOpen:
            refused.append(str(state.run_id))
        except OSError:
            pass

    graph = sequence("w24", node=node)
    await (await engine.start(graph, id="opens")).wait()
    number = 0
    while reached == ["opens"]:  # until it has lapsed
        number += 1
        run = await engine.start(graph, id=f"probe-{number}")
        await until(lambda run=run: run.id in {*refused, *reached})  # type: ignore[misc]
    runs = [await engine.start(graph, id=f"run-{n}") for n in range(30)]
    for each in runs:
        await each.wait()
    assert len(reached) == 2
    assert {each.id for each in runs} <= set(refused)
    go_on.set()
    await engine.wait(reached[1])


async def test_a_dead_letter_outlives_its_engine(open_engine: Open, url: str) -> None:
    down: list[Any] = [True]

    def node(state: State) -> dict[str, bool]:
        if down:
            raise OSError("down")
        return {"done": True}

    first = await open_engine(url)
    await (await first.start(sequence("w24", node=node), id="a")).wait()
    await first.close()
    second = await open_engine(url)
    assert [letter.id for letter in await second.dead_letters()] == ["a"]
    down.clear()
    assert await (await second.redrive("a")).result() == {"done": True}
