"""The one loop: arrivals in, decisions out, and what a pause, a cancel, a delay and the end let pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from holdfast.core.advance import BOUND, advance, record, wanted
from holdfast.errors import DefinitionError
from holdfast.model import commands, facts
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
from tests.unit.given import NOON, SECOND, given, kinds

CANCEL = facts.CancelRequested(key="c")
PAUSE = facts.RunPaused(key="p")
RESUME = facts.RunResumed(key="r")
OPEN = (STARTED, scheduled("a"), scheduled("b"))
BOTH = Errand("a", "b")


# --- deciding


def test_what_is_wanted_is_recorded_at_once() -> None:
    after = given(BOTH, [STARTED]).when().then(scheduled("a"), scheduled("b"))
    assert {fact.at for fact in after.recorded} == {after.now}


def test_arrivals_come_first_then_what_follows_from_them() -> None:
    given(BOTH, OPEN).when(completed("b"), completed("a")).then(
        completed("b"), completed("a"), facts.RunCompleted()
    )


def test_what_does_not_fit_is_not_recorded() -> None:
    given(BOTH, OPEN).when(completed("nobody"), completed("a", attempt=7)).then()


def test_after_a_crash_what_is_wanted_is_what_is_outstanding() -> None:
    journal = [STARTED]
    given(BOTH, journal).when().then(scheduled("a"), scheduled("b"))
    given(BOTH, [*journal, scheduled("a")]).when().then(scheduled("b"))
    given(BOTH, [*OPEN, completed("a"), completed("b")]).when().then(facts.RunCompleted())


def test_nothing_is_wanted_after_an_advance() -> None:
    after = given(BOTH, [STARTED]).when()
    for arrivals in ((), (completed("a"),), (failed("b"),)):
        after.when(*arrivals)
        assert list(wanted(BOTH, after.progress, after.now)) == []


def test_a_prefix_and_one_more_fact_is_the_same_as_all() -> None:
    whole = given(BOTH, [STARTED]).when().when(completed("a"), retried("b", 2)).when(completed("b", 2))
    journal: list[facts.Fact] = [STARTED]
    one_by_one = given(BOTH, [STARTED]).when()
    journal += one_by_one.recorded
    for arrivals in ((completed("a"), retried("b", 2)), (completed("b", 2),)):
        journal += one_by_one.when(*arrivals).recorded
    assert given(BOTH, journal).ledger == whole.ledger


# --- pausing


def test_a_pause_lets_results_in_and_nothing_out() -> None:
    given(BOTH, [STARTED, scheduled("a"), PAUSE]).when(completed("a")).then(completed("a"))


def test_a_resume_lets_out_what_is_wanted() -> None:
    given(BOTH, [STARTED, scheduled("a"), PAUSE, completed("a")]).when(RESUME).then(
        facts.RunResumed, scheduled("b")
    )


def test_shielded_steps_pass_a_pause_and_a_cancel() -> None:
    program = Errand("a", "b", shielded="b")
    shielded = msgspec.structs.replace(scheduled("b"), shielded=True)
    given(program, [STARTED, PAUSE]).when().then(shielded)
    given(program, [STARTED, CANCEL]).when().then(shielded)
    given(program, [STARTED, CANCEL, shielded]).when(completed("b")).then(
        completed("b"), facts.RunCancelled()
    )


# --- cancelling


def test_a_cancel_asks_open_steps_and_ends_when_none_is_open() -> None:
    after = given(BOTH, OPEN).when(CANCEL).then(CANCEL, asked("a"), asked("b"))
    after.when(cancelled("a")).then(cancelled("a"))
    after.when(cancelled("b")).then(cancelled("b"), facts.RunCancelled())


def test_a_cancel_of_a_run_without_open_steps_ends_it_at_once() -> None:
    given(BOTH, [STARTED]).when(CANCEL).then(CANCEL, facts.RunCancelled())


def test_a_completion_in_the_same_advance_counts_first() -> None:
    given(BOTH, [*OPEN, completed("a")]).when(CANCEL, completed("b")).then(
        CANCEL, completed("b"), facts.RunCompleted()
    )


def test_a_completion_after_the_steps_were_asked_does_not() -> None:
    after = given(BOTH, [*OPEN, completed("a")]).when(CANCEL).then(CANCEL, asked("b"))
    after.when(completed("b")).then(completed("b"), facts.RunCancelled())


def test_a_failure_from_before_the_cancel_counts_first() -> None:
    after = given(BOTH, [*OPEN, failed("a")]).when(CANCEL).then(CANCEL, asked("b"))
    after.when(cancelled("b")).then(cancelled("b"), facts.RunFailed(error=error_of("a")))


def test_a_failure_after_the_steps_were_asked_does_not() -> None:
    after = given(BOTH, [*OPEN, completed("a")]).when(CANCEL).then(CANCEL, asked("b"))
    after.when(failed("b")).then(failed("b"), facts.RunCancelled())


def test_a_timeout_fails_the_run_with_its_code_whatever_steps_raise() -> None:
    late = facts.CancelRequested(reason="too slow", code="run_timed_out", key="t")
    after = given(BOTH, [*OPEN, completed("a")]).when(late).then(late, asked("b"))
    error = facts.ErrorInfo(code="run_timed_out", message="too slow")
    after.when(failed("b")).then(failed("b"), facts.RunFailed(error=error))


def test_a_paused_run_is_cancelled_all_the_same() -> None:
    given(BOTH, [STARTED, PAUSE]).when(CANCEL).then(CANCEL, facts.RunCancelled())


def test_a_cancelled_run_goes_on_where_it_was() -> None:
    journal = [*OPEN, completed("a"), CANCEL, asked("b"), cancelled("b"), facts.RunCancelled()]
    after = given(BOTH, journal).when(RESUME).then(facts.RunResumed(key="r", reopened=(("b#1", 2),)))
    after.when(completed("b", 2)).then(completed("b", 2), facts.RunCompleted())


# --- failing and ending


def test_a_failing_run_lets_open_steps_end() -> None:
    after = given(BOTH, OPEN).when(failed("a")).then(failed("a"))
    after.when(completed("b")).then(completed("b"), facts.RunFailed(error=error_of("a")))


def test_a_failing_run_does_not_wait_for_back_offs() -> None:
    waiting = retried("b", 2, due=NOON + 60 * SECOND)
    given(BOTH, [*OPEN, waiting]).when(failed("a")).then(failed("a"), asked("b"))


def test_nothing_but_a_resume_follows_an_end() -> None:
    journal = [*OPEN, completed("a"), failed("b"), facts.RunFailed(error=error_of("b"))]
    given(BOTH, journal).when(CANCEL, PAUSE, completed("b"), facts.SignalReceived(name="x", key="k")).then()
    given(BOTH, [*OPEN, completed("a"), completed("b"), facts.RunCompleted()]).when(RESUME).then()


def test_a_second_resume_of_the_same_end_changes_nothing() -> None:
    journal = [*OPEN, completed("a"), failed("b"), facts.RunFailed(error=error_of("b"))]
    after = given(BOTH, journal).when(RESUME, RESUME).then(facts.RunResumed)
    after.when(RESUME).then()


# --- delay


def test_a_delayed_run_wants_nothing_before_its_time() -> None:
    later = msgspec.structs.replace(STARTED, not_before=NOON)
    signal = facts.SignalReceived(name="x", key="k")
    after = given(BOTH, [later]).when(signal, now=NOON - SECOND).then(signal)
    after.when(now=NOON).then(scheduled("a"), scheduled("b"))


def test_a_delayed_run_is_cancelled_before_its_time() -> None:
    later = msgspec.structs.replace(STARTED, not_before=NOON)
    given(BOTH, [later]).when(CANCEL, now=NOON - SECOND).then(CANCEL, facts.RunCancelled())


# --- waits


def test_a_signal_is_the_end_of_the_wait_for_it() -> None:
    program = Errand("approve", kind="signal")
    after = given(program, [STARTED]).when().then(scheduled("approve", kind="signal"))
    signal = facts.SignalReceived(name="approve", key="k", data=msgspec.Raw(b"true"))
    after.when(signal).then(signal, facts.RunCompleted())


# --- bounds


def test_a_program_that_never_settles_is_stopped() -> None:
    class Restless(Errand):
        def decide(self, progress: Any) -> Sequence[commands.Command]:
            return (commands.PublishEvent("again"),)

    program = Restless()
    with pytest.raises(DefinitionError, match=f"still wants something after {BOUND} decisions: PublishEvent"):
        advance(program, program.start(), [], NOON)


def test_many_arrivals_cost_in_proportion() -> None:
    names = [f"s{n}" for n in range(3000)]
    after = given(Errand(*names), [STARTED]).when()
    assert len(after.recorded) == 3000
    after.when(*[completed(name) for name in names])
    assert kinds(after.recorded[-2:]) == ["StepCompleted", "RunCompleted"]


@pytest.mark.parametrize(
    ("command", "fact"),
    [
        (commands.ScheduleStep("a#1", "a", due=5, parent="b#1"), scheduled("a", due=5, parent="b#1")),
        (commands.RecordDecision("a", ()), facts.DecisionMade(source="a")),
        (commands.CancelStep("a#1"), asked("a")),
        (commands.CompleteRun(), facts.RunCompleted()),
        (commands.FailRun(error_of("a")), facts.RunFailed(error=error_of("a"))),
        (commands.CancelRun("why"), facts.RunCancelled(reason="why")),
        (commands.PauseRun("why"), facts.RunPaused(reason="why")),
        (commands.PublishEvent("x", "s"), facts.EventPublished(type="x", stream="s")),
        (commands.ContinueRun(), facts.RunContinued()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_command_becomes_the_fact_of_its_noun(command: commands.Command, fact: facts.Fact) -> None:
    assert record(command, NOON) == msgspec.structs.replace(fact, at=NOON)


def test_what_is_no_command_is_refused() -> None:
    with pytest.raises(TypeError, match="not a command"):
        record("complete", NOON)
