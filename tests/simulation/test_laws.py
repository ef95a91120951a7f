"""The judge of the simulation is no friend: a world without a fence, or a journal that breaks a law, is found out."""

from __future__ import annotations

from random import Random

import msgspec

from holdfast import RetryPolicy, State, StateGraph
from holdfast.model import facts
from holdfast.model.commit import Commit
from holdfast.registry import Registry, as_workflow
from holdfast.testing.laws import broken_laws
from holdfast.testing.world import World


def graph() -> StateGraph:
    async def node(state: State) -> dict[str, int]:
        return {"n": 1}

    made = StateGraph("small")
    made.add_node("node", node, retry=RetryPolicy(attempts=2)).set_entry_point("node").set_exit_point("node")
    return made


async def written() -> list[Commit]:
    registry = Registry()
    registry.add(as_workflow(graph()))
    async with World(seed=3) as world:
        engine = await world.engine(registry=registry)
        run = await engine.start("small", {})
        await run.result()
        return [each.commit for each in world.chronicle.books[run.id].written]


async def test_a_sound_journal_breaks_no_law() -> None:
    assert broken_laws(await written(), None, Random(1)) == []


async def test_a_step_that_ends_twice_is_found() -> None:
    commits = await written()
    last = commits[-1]
    ends = [fact for fact in last.facts if isinstance(fact, facts.StepCompleted)]
    assert ends
    commits[-1] = msgspec.structs.replace(last, facts=(*ends, *last.facts))
    assert broken_laws(commits, None, Random(1))


async def test_what_follows_the_end_is_found() -> None:
    commits = await written()
    last = commits[-1]
    late = facts.StepScheduled(step="node#9", name="node", iteration=9)
    commits[-1] = msgspec.structs.replace(last, facts=(*last.facts, late))
    assert broken_laws(commits, None, Random(1))
