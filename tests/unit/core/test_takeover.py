"""What a new holder records first, and what parks a run."""

from __future__ import annotations

from typing import Any

from holdfast.core.effects import error_of as error_of_run
from holdfast.core.effects import progress_of
from holdfast.core.ledger import Ledger, OpenStep
from holdfast.core.takeover import UNKNOWN, dropped_attempts, judged, lost_attempts, parked
from holdfast.errors import NondeterminismError
from holdfast.model import facts
from holdfast.model.run import Progress
from tests.unit.errand import (
    STARTED,
    Errand,
    asked,
    cancelled,
    completed,
    error_of,
    failed,
    retried,
    scheduled,
)
from tests.unit.given import NOON, SECOND, timeless


def after(*journal: facts.Fact) -> Ledger:
    ledger = Ledger()
    for fact in journal:
        ledger.absorb(fact)
    return ledger


def test_attempts_that_could_begin_are_lost_and_those_in_a_back_off_keep_it() -> None:
    ledger = after(
        STARTED,
        scheduled("running"),
        scheduled("waiting"),
        retried("waiting", 2, due=NOON + SECOND),
        scheduled("due"),
        retried("due", 4, due=NOON - SECOND),
        scheduled("done"),
        completed("done"),
        scheduled("x", kind="signal"),
        scheduled("asleep"),
        facts.StepSuspended(step="asleep#1", attempt=1),
    )
    assert lost_attempts(ledger, NOON) == [
        retried("running", 2, at=NOON, reason="worker lost"),
        retried("waiting", 3, at=NOON, due=NOON + SECOND, reason="worker lost"),
        retried("due", 5, at=NOON, reason="worker lost"),
    ]


def test_an_attempt_that_was_asked_to_end_has_ended_with_its_worker() -> None:
    ledger = after(STARTED, scheduled("a"), scheduled("b"), facts.CancelRequested(), asked("a"))
    lost = [timeless(fact) for fact in lost_attempts(ledger, NOON)]
    assert lost == [cancelled("a"), retried("b", 2, reason="worker lost")]


def test_what_a_paused_run_did_not_begin_before_its_pause_was_never_started() -> None:
    paused = facts.RunPaused(at=NOON)
    begun = scheduled("a", at=NOON - SECOND)
    later = scheduled("b", at=NOON - SECOND, due=NOON + SECOND)
    assert dropped_attempts(after(STARTED, begun), NOON) == []  # no pause
    dropped = dropped_attempts(after(STARTED, begun, later, paused), NOON + SECOND)
    assert dropped == [retried("a", 2, at=NOON + SECOND, reason="worker lost")]
    # Who closed it recorded the next attempt already; nobody started that.
    again = retried("a", 2, at=NOON + 1, reason="worker lost")
    assert dropped_attempts(after(STARTED, begun, later, paused, again), NOON + SECOND) == []


def test_a_reason_is_kept_as_text_that_can_be_stored() -> None:
    fact = parked("x\udce9", "poison")
    assert (fact.reason, fact.error) == ("x\\udce9", facts.ErrorInfo(code="poison", message="x\\udce9"))


def test_a_row_tells_why_its_run_failed_or_is_parked() -> None:
    assert error_of_run(after(STARTED)) is None
    assert error_of_run(after(STARTED, facts.RunPaused(reason="lunch"))) is None
    assert error_of_run(after(STARTED, parked("why", "poison"))) == facts.ErrorInfo(
        code="poison", message="why"
    )
    assert error_of_run(after(STARTED, facts.RunFailed(error=error_of("a")))) == error_of("a")
    assert error_of_run(after(STARTED, parked("why"), facts.RunCancelled())) is not None


def test_the_latest_progress_counts() -> None:
    told = [facts.StepProgressed(step="a#1", attempt=1, percent=n, message=str(n)) for n in (10.0, 20.0)]
    assert progress_of([STARTED, scheduled("a")]) is None
    assert progress_of([*told, completed("a")]) == Progress(percent=20.0, message="20.0", step="a#1")


class Known(Errand):
    """An errand that knows how to run the steps of its names."""

    def work(self, progress: Any, step: OpenStep) -> Any:
        if step.name not in self.names:
            raise NondeterminismError(step.name)


def verdict(program: Known, *journal: facts.Fact) -> list[Any]:
    progress = program.start()
    for fact in journal:
        progress = program.evolve(progress, fact)
    return list(judged(program, progress))


BORN = facts.RunStarted(workflow="errand", hash="older")


def test_the_definition_that_a_run_began_with_is_no_news() -> None:
    same = facts.RunStarted(workflow="errand", hash=Known.hash)
    assert verdict(Known("a"), same, scheduled("a")) == []
    assert verdict(Known("a"), BORN) == []  # nothing has been decided by the other one
    (decided,) = verdict(Known("a"), BORN, scheduled("a"))
    assert verdict(Known("a"), BORN, scheduled("a"), decided) == []
    assert verdict(Known("a"), STARTED, scheduled("a", hash=Known.hash)) == []


def test_another_definition_that_fits_is_a_decision_from_the_last_one() -> None:
    (decided,) = verdict(Known("a"), BORN, scheduled("a"), failed("a"))
    edge = facts.EdgeTried("errand", "definition", reason="changed; the journal fits")
    assert decided == facts.DecisionMade(source="older", edges=(edge,), hash="errand")
    (decided,) = verdict(Known("a"), STARTED, scheduled("a"))
    assert decided.source == UNKNOWN


def test_another_definition_that_does_not_know_a_step_is_none() -> None:
    assert verdict(Known("b"), BORN, scheduled("a")) == []
    assert verdict(Known("b"), BORN, scheduled("a"), failed("a")) == []
    assert verdict(Known("b"), BORN, scheduled("a"), completed("a")) != []
    assert verdict(Known("b"), BORN, scheduled("a", kind="signal")) != []
    assert verdict(Known("b"), BORN, scheduled("b"), scheduled("a", parent="b#1")) != []


def test_a_definition_that_cannot_be_built_parks_the_run_unless_its_beginning_tells() -> None:
    program = Known("a")
    program.problem = ImportError("no scanner")
    (fact,) = verdict(program, BORN, scheduled("a"))
    assert fact == parked("its definition cannot be built: ImportError: no scanner")
    assert verdict(program, BORN) == []
    assert verdict(program, BORN, scheduled("START")) == []
    assert verdict(program, BORN, scheduled("START"), failed("START")) == []
