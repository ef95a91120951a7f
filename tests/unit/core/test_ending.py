"""A run that was asked to end, without its code."""

from __future__ import annotations

import pytest

from holdfast.core.advance import advance
from holdfast.core.ending import Ending
from holdfast.core.program import fold
from holdfast.core.takeover import judged, lost_attempts
from holdfast.errors import NondeterminismError
from holdfast.model import facts
from holdfast.model.values import encode, pack
from holdfast.testing.replay import first_difference
from tests.unit.errand import STARTED, Errand, completed, scheduled
from tests.unit.given import NOON


def test_what_its_worker_lost_has_ended_and_so_has_the_run() -> None:
    program = Ending()
    progress = fold(program, program.start(), [STARTED, scheduled("a")])
    asked = [facts.CancelRequested(at=NOON, reason="it kills", key="cancel:1")]
    progress, recorded = advance(program, progress, [*asked, *lost_attempts(progress.ledger, NOON)], NOON)
    progress, ended = advance(program, progress, [facts.StepCancelled(at=NOON, step="a#1", attempt=2)], NOON)
    assert [type(fact).__name__ for fact in (*recorded, *ended)] == [
        "CancelRequested",
        "StepRetried",
        "StepCancelRequested",
        "StepCancelled",
        "RunCancelled",
    ]


def test_it_is_no_definition_and_runs_nothing() -> None:
    program = Ending()
    progress = fold(program, program.start(), [STARTED, scheduled("a"), completed("a"), scheduled("b")])
    assert judged(program, progress) == []
    with pytest.raises(NondeterminismError, match="b#1"):
        program.work(progress, progress.ledger.open["b#1"])


def test_its_journal_is_one_that_todays_code_replays() -> None:
    """The code would have failed by `a`; nobody asked it."""
    journal = [
        STARTED,
        *(scheduled("a"), scheduled("b")),
        facts.StepFailed(
            at=NOON, step="a#1", attempt=1, error=facts.ErrorInfo(code="step_failed", message="no")
        ),
        facts.CancelRequested(at=NOON, reason="too long", code="run_timed_out"),
        facts.StepCancelRequested(at=NOON, step="b#1"),
        facts.StepCancelled(at=NOON, step="b#1", attempt=1),
    ]
    late = facts.RunFailed(at=NOON, error=facts.ErrorInfo(code="run_timed_out", message="too long"))
    resumed = facts.RunResumed(at=NOON, reopened=(("a#1", 2), ("b#1", 2)))
    assert first_difference(Errand("a", "b"), [*journal, late, resumed]) is None
    other = facts.RunFailed(at=NOON, error=facts.ErrorInfo(code="else", message="too long"))
    assert "today's code wants" in str(first_difference(Errand("a", "b"), [*journal, other]))


def test_it_knows_what_is_registered_to_be_taken_back_and_was_not() -> None:
    def registered(name: str) -> facts.StepScheduled:
        data = pack({"compensation": encode(f"compensate:{name}#1")})
        return facts.StepScheduled(step=f"{name}#1", name=name, data=data)

    undone = facts.StepScheduled(step="compensate:b#1", name="compensate:b", shielded=True)
    journal = [STARTED, registered("a"), completed("a"), registered("b"), completed("b"), undone]
    program = Ending()
    progress = fold(program, program.start(), [*journal, completed("compensate:b")])
    assert [*progress.due] == ["a#1"]
    assert [*fold(program, program.start(), journal).due] == ["a#1", "b#1"]


def test_it_knows_that_a_run_is_past_the_point_of_no_return() -> None:
    pivot = facts.StepScheduled(step="pay#1", name="pay", shielded=True)
    failed = facts.StepFailed(step="pay#1", attempt=1, error=facts.ErrorInfo(code="x", message="x"))
    program = Ending()
    assert fold(program, program.start(), [STARTED, pivot]).needs_code
    assert fold(program, program.start(), [STARTED, pivot, completed("pay")]).needs_code
    assert not fold(program, program.start(), [STARTED, pivot, failed]).needs_code
    assert not fold(program, program.start(), [STARTED, scheduled("a"), completed("a")]).needs_code
