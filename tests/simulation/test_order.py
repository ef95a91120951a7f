"""What a graph comes to does not depend on which step ends first, nor on what happens to the engines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from holdfast.model import facts
from tests.simulation.scenario import Scenario, Shape, play

ORDERS = 12
ROUGH = Shape(engines=2, machines=1, chaos=0.2, seconds=20.0)


def decided(scenario: Scenario) -> list[tuple[str, Any]]:
    """Every choice of the first run, in order, without the instants."""
    commits = scenario.world.chronicle.commits_of(scenario.runs[0].id)
    journal = [fact for commit in commits for fact in commit.facts]
    return [(fact.source, fact.edges) for fact in journal if isinstance(fact, facts.DecisionMade)]


@pytest.mark.parametrize("plans", range(20))
async def test_the_order_of_completion_decides_nothing(plans: int) -> None:
    results, choices = [], []
    for order in range(ORDERS):
        scenario = await play(order, replace(Shape() if order % 2 else ROUGH), plans=plans)
        results.append({run.id: scenario.results[run.id] for run in scenario.runs if run.cut is None})
        choices.append(decided(scenario))
    assert results == [results[0]] * ORDERS
    assert choices == [choices[0]] * ORDERS


async def test_a_seed_gives_the_same_history_twice() -> None:
    def history(scenario: Scenario) -> Any:
        books = scenario.world.chronicle.books
        return {
            run: [
                (written.worker, written.commit.id, facts.Journal.encode(written.commit.facts))
                for written in book.written
            ]
            for run, book in books.items()
        }

    for seed in range(40):
        once, again = await play(seed), await play(seed)
        assert history(once) == history(again), f"seed {seed}"
        assert once.world.now == again.world.now
