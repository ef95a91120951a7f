"""W25: the compensations of a saga were a list in memory, reversed in place: a crash lost the rollback."""

from __future__ import annotations

import asyncio

from holdfast import Saga
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, until


async def test_a_crash_in_the_middle_of_a_saga_loses_no_rollback(url: str, open_engine: OpenEngine) -> None:
    done: list[str] = []
    saga = Saga("assess")

    async def calculate() -> None:
        done.append("calculate")
        if done.count("calculate") == 1:
            await asyncio.Event().wait()  # the process dies here
        raise ValueError("the figures are wrong")

    saga.add_step("lock", forward=lambda: done.append("lock"), compensate=lambda: done.append("unlock"))
    saga.add_step(
        "archive", forward=lambda: ["old"], compensate=lambda output: done.append(f"restore {output}")
    )
    saga.add_step("calculate", forward=calculate)
    first = await open_engine(url)
    run = await first.start(saga)
    await until(lambda: "calculate" in done)
    await first.close(grace=0)
    second = await open_engine(url)
    ended = await second.wait(run.id, PATIENCE)
    assert done == ["lock", "calculate", "calculate", "restore ['old']", "unlock"]
    assert ended.error is not None
    assert (ended.error.message, ended.error.compensated) == ("the figures are wrong", ("archive", "lock"))


def test_a_saga_undoes_in_reverse_each_time_it_is_executed() -> None:
    done: list[str] = []

    def fail() -> None:
        raise ValueError("boom")

    saga = Saga()
    for name in ("a", "b"):
        saga.add_step(name, forward=lambda: None, compensate=lambda step: done.append(step.name))
    saga.add_step(forward=fail)
    for _ in range(2):
        try:
            saga.execute()
        except ValueError:
            done.append("raised")
    assert done == ["compensate:b", "compensate:a", "raised"] * 2
