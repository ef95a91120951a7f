"""What seeds play: none of the ways that a run can take is missing from them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from holdfast.core.events import kind_of
from holdfast.core.program import START
from holdfast.model import facts
from tests.simulation.scenario import Scenario, play

SEEDS = range(300, 400)


def test_seeds_play_interrupts_fan_outs_forks_and_resumes_within_rounds() -> None:
    played: Counter[str] = Counter()
    with asyncio.Runner() as runner:
        for seed in SEEDS:
            _count(runner.run(play(seed)), played)
    for way in (
        "asked",
        "answered",
        "fan-out",
        "fork",
        "fork with changes",
        "resume",
        "resume within a round",
    ):
        assert played[way] > 2, f"{way}: {played}"


def _count(scenario: Scenario, played: Counter[str]) -> None:
    for run in scenario.runs:
        played["fork"] += run.cut is not None
        played["fork with changes"] += run.cut is not None and bool(run.cut.changes)
        if run.id in scenario.world.chronicle.books:
            commits = scenario.world.chronicle.commits_of(run.id)
            _count_facts([fact for commit in commits for fact in commit.facts], played)


def _count_facts(journal: Sequence[facts.Fact], played: Counter[str]) -> None:
    members, done = set[str](), set[str]()
    for fact in journal:
        match fact:
            case facts.StepScheduled() if fact.name != START and kind_of(fact.step) == "stage":
                if members == done:
                    members, done = set(), set()
                members.add(fact.step)
                played["fan-out"] += fact.data != facts.NOTHING
            case facts.StepCompleted() if fact.step in members:
                done.add(fact.step)
            case facts.StepSuspended():
                played["asked"] += 1
            case facts.SignalReceived():
                played["answered"] += fact.name.startswith("weight of")
            case facts.RunResumed():
                played["resume"] += 1
                played["resume within a round"] += bool(done) and done < members and bool(fact.reopened)
            case _:
                pass
