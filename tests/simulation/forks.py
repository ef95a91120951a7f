"""Forks in a simulated world: from any position of any run, with changes, and what they must come to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from holdfast import START, PayloadRejected
from holdfast.core.events import kind_of
from holdfast.errors import RunNotFound, StoreUnavailable
from holdfast.model import facts
from holdfast.testing.loop import ProcessDied

if TYPE_CHECKING:
    from tests.simulation.scenario import Scenario, Started


@dataclass(frozen=True)
class Cut:
    """Where a run was cut: after so many whole rounds, among the steps of the next, and what was changed there."""

    rounds: int = 0
    scheduled: bool = False
    done: frozenset[str] = frozenset()
    changes: dict[str, Any] = field(default_factory=dict)
    began: bool = True
    """Whether the state that the run begins with was there; without it the changes come before that."""


def cut_of(journal: Sequence[facts.Fact], changes: dict[str, Any]) -> Cut:
    """Where a journal ends, told by its rounds: a new one begins with the first step after all others have ended."""
    rounds, members, done, began = 0, set[str](), set[str](), False
    for fact in journal:
        if isinstance(fact, facts.StepCompleted) and fact.step in members:
            done.add(fact.step)
        elif isinstance(fact, facts.StepCompleted) and fact.step.startswith(START):
            began = True
        elif isinstance(fact, facts.StepScheduled) and fact.name != START and kind_of(fact.step) == "stage":
            if members == done and members:
                rounds, members, done = rounds + 1, set(), set()
            members.add(fact.step)
    if members == done:
        return Cut(rounds + bool(members), changes=changes, began=began)
    return Cut(rounds, scheduled=True, done=frozenset(done), changes=changes)


class Forks:
    """Forks runs of a scenario now and then; draws from a source of its own, so that the seed's other choices stay."""

    def __init__(self, scenario: Scenario) -> None:
        """Decide by the seed whether there are any."""
        self.scenario = scenario
        self.random = Random(f"forks {scenario.world.seed}")
        self.count = self.random.choice((0, 0, 0, 1, 2))

    async def make(self) -> None:
        """Fork some run, at some time, at some position; a fork may be forked, too."""
        random, scenario = self.random, self.scenario
        for _ in range(self.count):
            await asyncio.sleep(random.uniform(0, 15))
            source = random.choice(scenario.runs)
            changes = random.choice(({}, {"total": random.randrange(97)}, {"most": random.randrange(1000)}))
            with contextlib.suppress(ProcessDied, StoreUnavailable, RunNotFound, PayloadRejected):
                fork = await self._fork(source, random.random(), changes)
                if fork is not None:
                    scenario.runs.append(fork)

    async def _fork(self, source: Started, share: float, changes: dict[str, Any]) -> Started | None:
        from tests.simulation.scenario import Started

        engine = await self.scenario._someone()
        row = await engine.get(source.id)
        at = 1 + int(share * row.position)
        fork = await engine.fork(source.id, min(at, row.position), changes or None)
        prefix = self.scenario.world.chronicle.commits_of(fork.id)[0].facts[:-1]
        cut = cut_of(prefix, changes)
        if source.cut is not None and source.cut.changes:
            return None  # two changes in one history: the model knows of one
        return Started(fork.id, source.plan, source.name, acknowledged=True, touched=True, cut=cut)
