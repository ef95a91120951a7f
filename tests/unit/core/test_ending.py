"""A run that was asked to end, without its code."""

from __future__ import annotations

import pytest

from holdfast.core.advance import advance
from holdfast.core.ending import Ending
from holdfast.core.program import fold
from holdfast.core.takeover import judged, lost_attempts
from holdfast.errors import NondeterminismError
from holdfast.model import facts
from tests.unit.errand import STARTED, completed, scheduled
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
