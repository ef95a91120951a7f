"""The ledger: what all patterns share about a run, and which arrivals are taken."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.core.ledger import Ledger, admit
from holdfast.model import facts
from tests.unit.errand import STARTED, asked, cancelled, completed, error_of, failed, retried, scheduled
from tests.unit.given import NOON, SECOND, cases


def after(*journal: facts.Fact) -> Ledger:
    ledger = Ledger()
    for fact in journal:
        ledger.absorb(fact)
    return ledger


def attempts(ledger: Ledger) -> dict[str, tuple[int, int]]:
    return {step.step: (step.attempt, step.failures) for step in ledger.open.values()}


CANCEL = facts.CancelRequested(key="c")
PAUSE = facts.RunPaused(reason="lunch", key="p")
RESUME = facts.RunResumed(key="r")
END = facts.RunFailed(error=error_of("a"))


# --- folding


def test_position_counts_facts_and_now_never_goes_back() -> None:
    ledger = after(
        msgspec.structs.replace(STARTED, at=NOON),
        msgspec.structs.replace(scheduled("a"), at=NOON - SECOND),
    )
    assert (ledger.position, ledger.now) == (2, NOON)


def test_a_step_is_open_from_its_scheduling_to_its_end() -> None:
    ledger = after(STARTED, scheduled("a"), scheduled("b"))
    assert list(ledger.open) == ["a#1", "b#1"]
    ledger.absorb(completed("a"))
    assert list(ledger.open) == ["b#1"]
    assert ledger.unresolved == {}


def test_a_retry_counts_attempts_and_a_failure_also_failures() -> None:
    ledger = after(STARTED, scheduled("a"), retried("a", 2, reason="worker lost"))
    assert attempts(ledger) == {"a#1": (2, 0)}
    ledger.absorb(retried("a", 3, reason="failed", error=error_of("a"), due=NOON))
    assert attempts(ledger) == {"a#1": (3, 1)}
    assert ledger.open["a#1"].due == NOON
    assert ledger.open["a#1"].error == error_of("a")


@pytest.mark.parametrize(("end", "is_failed"), [(failed("a"), True), (cancelled("a"), False)])
def test_a_step_that_did_not_succeed_is_unresolved(end: facts.Fact, is_failed: bool) -> None:
    ledger = after(STARTED, scheduled("a"), end)
    assert ledger.open == {}
    assert ledger.unresolved["a#1"].failed is is_failed


def test_what_a_step_raises_after_it_was_asked_to_end_is_no_failure_of_the_run() -> None:
    ledger = after(STARTED, scheduled("a"), CANCEL, asked("a"), failed("a"))
    assert ledger.unresolved["a#1"].failed is False
    assert ledger.unresolved["a#1"].error == error_of("a")


def test_a_resume_opens_what_is_unresolved_with_a_new_budget() -> None:
    ledger = after(
        STARTED,
        scheduled("a"),
        scheduled("b"),
        retried("a", 2, error=error_of("a"), due=NOON),
        failed("a", 2),
        completed("b"),
        END,
        facts.RunResumed(key="r", reopened=(("a#1", 3),)),
    )
    assert attempts(ledger) == {"a#1": (3, 0)}
    step = ledger.open["a#1"]
    assert (step.due, step.failed, step.cancelling, step.suspended) == (0, False, False, False)
    assert ledger.unresolved == {}
    assert ledger.ended is None


def test_a_resume_takes_back_a_pause_a_cancel_a_fault_and_an_end() -> None:
    ledger = after(STARTED, scheduled("a"), PAUSE, CANCEL, asked("a"), cancelled("a"), facts.RunCancelled())
    ledger.fault = error_of("a")
    ledger.absorb(RESUME)
    assert [
        name for name in ("paused", "cancelling", "asked", "fault", "ended") if getattr(ledger, name)
    ] == []


def test_a_signal_ends_the_oldest_wait_of_its_name_or_is_kept() -> None:
    ledger = after(
        STARTED, scheduled("x", kind="signal"), facts.StepScheduled(step="x#2", name="x", kind="signal")
    )
    data = msgspec.Raw(b"1")
    for n in range(3):
        ledger.absorb(facts.SignalReceived(name="x", key=str(n), data=data))
    ledger.absorb(facts.SignalReceived(name="y", key="3", data=data))
    assert ledger.open == {}
    assert ledger.signals == {"x": [data], "y": [data]}


def test_a_delayed_run_has_not_begun_until_a_step_is_scheduled() -> None:
    ledger = after(msgspec.structs.replace(STARTED, not_before=NOON))
    assert ledger.begins == NOON
    ledger.absorb(scheduled("a"))
    assert ledger.begins == 0


def test_a_ledger_comes_back_from_a_fold() -> None:
    ledger = after(STARTED, scheduled("a"), retried("a", 2, error=error_of("a"), due=NOON), PAUSE, CANCEL)
    assert msgspec.json.decode(msgspec.json.encode(ledger), type=Ledger) == ledger


# --- wanting


def test_failing_waits_for_running_steps_and_cancels_idle_ones() -> None:
    ledger = after(
        msgspec.structs.replace(STARTED, at=NOON),
        scheduled("running"),
        scheduled("waiting"),
        retried("waiting", 2, due=NOON + SECOND),
        scheduled("suspended"),
        facts.StepSuspended(step="suspended#1", attempt=1),
    )
    steps = [command.step for command in ledger.failing(error_of("a"))]  # type: ignore[attr-defined]
    assert steps == ["waiting#1", "suspended#1"]
    for step in steps:
        ledger.absorb(facts.StepCancelRequested(step=step))
    assert ledger.failing(error_of("a")) == [], "each is asked once"
    for name in ("running", "waiting", "suspended"):
        ledger.absorb(cancelled(name))
    (command,) = ledger.failing(error_of("a"))
    assert command.error == error_of("a")  # type: ignore[attr-defined]


def test_stopping_asks_all_steps_then_ends_the_run_as_the_request_says() -> None:
    ledger = after(STARTED, scheduled("a"), scheduled("b"), facts.CancelRequested(reason="enough"))
    assert [command.step for command in ledger.stopping()] == ["a#1", "b#1"]  # type: ignore[attr-defined]
    for fact in (asked("a"), asked("b"), cancelled("a"), completed("b")):
        ledger.absorb(fact)
    (command,) = ledger.stopping()
    assert command.reason == "enough"  # type: ignore[attr-defined]


def test_a_request_with_a_code_fails_the_run_with_it() -> None:
    ledger = after(STARTED, facts.CancelRequested(reason="too slow", code="run_timed_out"))
    (command,) = ledger.stopping()
    assert (command.error.code, command.error.message) == ("run_timed_out", "too slow")  # type: ignore[attr-defined]


def test_nothing_is_stopped_that_nobody_asked_for() -> None:
    assert after(STARTED, scheduled("a")).stopping() == ()


# --- admitting


OPEN = (STARTED, scheduled("a"))


@pytest.mark.parametrize(
    ("journal", "arrival"),
    cases(
        (OPEN, completed("a")),
        (OPEN, failed("a")),
        (OPEN, cancelled("a")),
        (OPEN, retried("a", 2)),
        (OPEN, facts.StepProgressed(step="a#1", attempt=1, percent=5)),
        (OPEN, facts.StepSuspended(step="a#1", attempt=1)),
        (OPEN, facts.SignalReceived(name="x", key="k")),
        ((*OPEN, facts.SignalReceived(name="x", key="k")), facts.SignalReceived(name="x", key="l")),
        (OPEN, CANCEL),
        (OPEN, PAUSE),
        ((*OPEN, PAUSE), CANCEL),
        ((*OPEN, PAUSE), completed("a")),
        ((*OPEN, PAUSE), RESUME),
        ((*OPEN, failed("a"), END), RESUME),
        ((*OPEN, cancelled("a"), facts.RunCancelled()), RESUME),
    ),
)
def test_what_fits_is_taken_and_stamped(journal: tuple[facts.Fact, ...], arrival: facts.Fact) -> None:
    ledger = after(*journal)
    taken = admit(ledger, msgspec.structs.replace(arrival, at=0), NOON)
    assert taken is not None
    assert taken.at == NOON
    assert type(taken) is type(arrival)


def test_an_instant_that_an_arrival_has_is_kept() -> None:
    taken = admit(after(*OPEN), msgspec.structs.replace(completed("a"), at=NOON - SECOND), NOON)
    assert taken is not None
    assert taken.at == NOON - SECOND


@pytest.mark.parametrize(
    ("journal", "arrival"),
    cases(
        (OPEN, completed("b")),
        (OPEN, completed("a", attempt=2)),
        ((*OPEN, retried("a", 2)), completed("a", attempt=1)),
        ((*OPEN, completed("a")), completed("a")),
        ((*OPEN, completed("a")), failed("a")),
        ((*OPEN, completed("a")), facts.StepProgressed(step="a#1", attempt=1, percent=5)),
        (OPEN, retried("a", 3)),
        ((*OPEN, retried("a", 2)), retried("a", 2)),
        ((*OPEN, facts.StepSuspended(step="a#1", attempt=1)), facts.StepSuspended(step="a#1", attempt=1)),
        ((*OPEN, facts.SignalReceived(name="x", key="k")), facts.SignalReceived(name="y", key="k")),
        ((*OPEN, CANCEL), facts.CancelRequested(key="another")),
        ((*OPEN, PAUSE), facts.RunPaused(key="another")),
        ((*OPEN, CANCEL), PAUSE),
        (OPEN, RESUME),
        ((*OPEN, PAUSE, RESUME, facts.RunPaused(key="q")), RESUME),
        ((*OPEN, failed("a"), END), CANCEL),
        ((*OPEN, failed("a"), END), facts.SignalReceived(name="x", key="k")),
        ((*OPEN, completed("a"), facts.RunCompleted()), RESUME),
    ),
)
def test_what_does_not_fit_is_forgotten(journal: tuple[facts.Fact, ...], arrival: facts.Fact) -> None:
    assert admit(after(*journal), arrival, NOON) is None


def test_a_resume_is_recorded_with_what_it_reopens() -> None:
    ledger = after(*OPEN, scheduled("b"), completed("b"), failed("a"), END)
    assert admit(ledger, RESUME, NOON) == facts.RunResumed(at=NOON, key="r", reopened=(("a#1", 2),))


@pytest.mark.parametrize(("end", "error"), [(cancelled("a"), None), (failed("a"), error_of("a"))])
def test_what_was_asked_to_end_begins_anew_when_a_resume_came_before_its_end(
    end: facts.Fact, error: facts.ErrorInfo | None
) -> None:
    ledger = after(STARTED, scheduled("a"), PAUSE, CANCEL, asked("a"), RESUME)
    assert admit(ledger, end, NOON) == facts.StepRetried(
        at=NOON, step="a#1", attempt=2, reason="resumed", error=error
    )
    assert admit(ledger, completed("a"), NOON) == msgspec.structs.replace(completed("a"), at=NOON)
