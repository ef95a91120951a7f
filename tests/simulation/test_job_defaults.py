"""Runs with tries and hooks of their own in a world where processes die, freeze and lose their store."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from holdfast import END, START, RetryPolicy, RunStatus, State, StateGraph
from holdfast.errors import HoldfastError, StoreUnavailable
from holdfast.model import facts
from holdfast.registry import Registry, as_workflow
from holdfast.testing import World
from holdfast.testing.faults import Faults
from holdfast.testing.loop import ProcessDied

FAULTS = Faults(crash=0.004, freeze=0.002, refuse=0.01, lose=0.01, late=0.005, twice=0.005, delay=0.05)
TRIES = 3


def graph(world: World) -> StateGraph:
    """Two nodes of which the second fails for a while of virtual time, and hooks that take some."""

    async def ask(state: State) -> State:
        await asyncio.sleep(0.2)
        if world.now < 12:
            raise ConnectionError("down")
        return state.set("answer", 42)

    async def hook(run: Any, outcome: Any) -> str:
        await asyncio.sleep(0.5)
        return str(run.id)

    policy = RetryPolicy(attempts=TRIES, backoff=2, factor=2)
    made = StateGraph("supervised", retry=policy, on_success=hook, on_failure=hook)
    made.add_node("first", lambda _: None).add_node("ask", ask)
    return made.add_edge(START, "first").add_edge("first", "ask").add_edge("ask", END)


async def begin(world: World, id_: str, workflow: str = "supervised") -> None:
    while True:
        try:
            await (await world.someone()).start(workflow, id=id_)
        except (ProcessDied, StoreUnavailable):
            await world.sleep(1)
        else:
            return


@pytest.mark.parametrize("seed", range(16))
async def test_tries_are_counted_and_a_hook_is_in_the_record_once(seed: int) -> None:
    async with World(seed=seed) as world:
        registry = Registry()
        registry.add(as_workflow(graph(world)))
        for _ in range(2):
            await world.engine(registry=registry)
        ids = [f"run-{number}" for number in range(6)]
        world.plan.faults = FAULTS
        await asyncio.gather(*(begin(world, id_) for id_ in ids))
        ended = [await world.ended(id_) for id_ in ids]
        world.calm()
        for run in ended:
            journal = [
                fact for row in await world.store.journal(run.id) for fact in facts.Journal.decode(row.facts)
            ]
            resumed = [fact for fact in journal if isinstance(fact, facts.RunResumed)]
            failed = [fact for fact in journal if isinstance(fact, facts.StepFailed) and fact.step == "ask#1"]
            hooks = [fact.name for fact in journal if isinstance(fact, facts.StepScheduled) and fact.shielded]
            ends = [fact for fact in journal if isinstance(fact, facts.StepCompleted) and "run:" in fact.step]
            assert len(ends) == 1
            assert all(fact.error is not None for fact in resumed), "nobody else took it up"
            if run.status is RunStatus.COMPLETED:
                assert (len(failed), hooks) == (len(resumed), ["run:on_success"])
            else:
                assert (len(failed), len(resumed), hooks) == (TRIES, TRIES - 1, ["run:on_failure"])


def family(world: World) -> StateGraph:
    """Nodes that fail by chance, one of them a graph with tries and hooks of its own."""

    async def ask(_: State) -> dict[str, int]:
        await asyncio.sleep(0.3)
        if world.random.random() < 0.5:
            raise ConnectionError("down")
        return {"answer": 42}

    async def hook(run: Any, outcome: Any) -> None:
        await asyncio.sleep(0.7)
        if world.random.random() < 0.3:
            raise ValueError("the hook fails, too")

    hooks: Any = {"on_success": hook, "on_failure": hook}
    inner = StateGraph("inner", retry=RetryPolicy(attempts=2, backoff=1), **hooks)
    inner.add_node("ask", ask).add_edge(START, "ask").add_edge("ask", END)
    made = StateGraph("family", retry=RetryPolicy(attempts=TRIES, backoff=2), timeout=40, **hooks)
    made.add_node("plain", ask).add_node("patient", ask, retry=RetryPolicy(attempts=2, backoff=0.5))
    made.add_node("child", inner)
    for name in ("plain", "patient", "child"):
        made.add_edge(START, name).add_edge(name, END)
    return made


async def meddle(world: World, ids: list[str]) -> None:
    """Pause, resume and cancel at random, until all have ended."""
    acts = ["pause", "resume", "resume", "cancel", "resume"]
    for _ in range(12):
        await world.sleep(4 * world.random.random())
        with suppress(ProcessDied, HoldfastError):
            await getattr(await world.someone(), world.random.choice(acts))(world.random.choice(ids))
    left = set(ids)
    for _ in range(500):
        for id_ in sorted(left):
            with suppress(ProcessDied, HoldfastError):
                run = await (await world.someone()).get(id_)
                if run.status is RunStatus.PAUSED:
                    await (await world.someone()).resume(id_)
                elif run.completed_at is not None:
                    left.discard(id_)
        if not left:
            return
        await world.sleep(2)
    raise AssertionError(f"{sorted(left)} never ended")


@pytest.mark.parametrize("seed", range(24))
async def test_whoever_meddles_every_run_ends_by_the_rules(seed: int) -> None:
    """The world checks the laws of journals when it ends."""
    async with World(seed=seed) as world:
        registry = Registry()
        registry.add(as_workflow(family(world)))
        for _ in range(2):
            await world.engine(registry=registry)
        world.plan.faults = FAULTS
        ids = [f"run-{number}" for number in range(3)]
        await asyncio.gather(*(begin(world, id_, "family") for id_ in ids))
        await meddle(world, ids)
        world.calm()
