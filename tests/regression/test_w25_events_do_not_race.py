"""W25: a transition was read, checked and written without a lock, so of two events at the same time both were taken.

Events are taken by who holds the run, one after the other; the others see the state that the first left.
"""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast import Engine, InvalidTransition
from holdfast.registry import Registry, as_workflow
from tests.elsewhere import elsewhere
from tests.machines import assessment


async def approve_often(url: str) -> list[Any]:
    """Send one event many times from a process of its own, which drives runs, too."""
    registry = Registry()
    registry.add(as_workflow(assessment()))
    async with Engine(url, observers=(), registry=registry) as engine:
        sends = (engine.send("w25", "SUBMIT", timeout=15) for _ in range(20))
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
    taken = sum(not isinstance(each, BaseException) for each in outcomes)
    return [taken, sum(isinstance(each, InvalidTransition) for each in outcomes)]


async def test_of_events_from_three_processes_one_is_taken(url: str) -> None:
    registry = Registry()
    async with Engine(url, observers=(), registry=registry) as engine:
        await engine.start(assessment(), id="w25")
        answers = await asyncio.gather(*(elsewhere(approve_often, url) for _ in range(3)))
        assert sum(taken for taken, _ in answers) == 1
        assert sum(refused for _, refused in answers) == 59
        moved = [d for d in await engine.decisions("w25") if d.result and d.name == "SUBMIT"]
        assert len(moved) == 1
