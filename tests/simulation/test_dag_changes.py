"""A run that goes on with another DAG of the same names: nothing raises, and it comes to an end."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from holdfast.core.advance import advance
from holdfast.core.program import fold
from holdfast.core.work import Blobs
from holdfast.errors import DefinitionError
from holdfast.model import facts
from holdfast.model.values import encode
from tests.simulation.dags import build, draw_tasks


def program(random: Random) -> Any:
    while True:
        try:
            return build(draw_tasks(random), random, lambda: False).open(None, {}, Blobs())
        except DefinitionError:  # a choice that nothing comes after
            continue


def outcome(random: Random, step: Any) -> facts.Fact:
    """How a step ends, whatever its task says: what choices and maps are given may be anything."""
    value: Any = random.choice(([], [1, 2], "t1", ["t1", "t2"], True, False, None, {"a": 1}))
    value = [1, 2] if step.data is not facts.NOTHING else value  # a batch gives a list
    if random.random() < 0.2:
        error = facts.ErrorInfo(code="step_failed", message="broken")
        return facts.StepFailed(step=step.step, attempt=step.attempt, error=error)
    gone = (step.name,) if random.random() < 0.2 else ()
    return facts.StepCompleted(step=step.step, attempt=step.attempt, gone=gone, data=encode(value))


def go_on(made: Any, progress: Any, journal: list[facts.Fact], random: Random, most: int) -> Any:
    """Let steps end in random order until the run has ended, or for so many turns."""
    arrivals: list[facts.Fact] = [] if journal else [facts.RunStarted(workflow="drawn")]
    for _ in range(most):
        progress, recorded = advance(made, progress, arrivals, len(journal) + 1)
        journal += recorded
        opened = [step for step in progress.ledger.open.values() if step.kind == "call"]
        if progress.ledger.ended is not None or not opened:
            break
        ending = random.choice(opened)
        asked = ending.cancelling
        arrivals = [
            facts.StepCancelled(step=ending.step, attempt=ending.attempt)
            if asked
            else outcome(random, ending)
        ]
    return progress


@pytest.mark.parametrize("first", range(0, 600, 100))
def test_another_dag_takes_a_run_up(first: int) -> None:
    for seed in range(first, first + 100):
        random = Random(f"change {seed}")
        before, after = program(random), program(random)
        journal: list[facts.Fact] = []
        go_on(before, before.start(), journal, random, random.randint(1, 12))
        progress = fold(after, after.start(), journal)
        if progress.ledger.ended is not None:
            if isinstance(progress.ledger.ended, facts.RunCompleted):
                continue
            progress, recorded = advance(after, progress, [facts.RunResumed(key="r")], 10_000)
            journal += recorded
        progress = go_on(after, progress, journal, random, 400)
        unknown = [step.name for step in progress.ledger.open.values() if step.name not in after.plan.numbers]
        assert progress.ledger.ended is not None or unknown, f"seed {seed} is stuck: {progress.status}"
        again = after.decode(after.encode(fold(after, after.start(), journal)))
        assert (again.status, again.tallies) == (progress.status, progress.tallies), f"seed {seed}"
