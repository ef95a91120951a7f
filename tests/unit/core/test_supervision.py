"""What job defaults add to the end of a run, whatever its program: as facts in, facts out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast import RetryPolicy
from holdfast.core.jobs import Job, job_of
from holdfast.core.supervision import FACTORY_WAIT, RUN, Supervision
from holdfast.core.work import Blobs
from holdfast.errors import NondeterminismError
from holdfast.model import facts
from holdfast.registry import as_workflow
from tests.graphs import nothing, sequence
from tests.unit.given import NOON, SECOND, Given, given, kinds

AWAY = facts.ErrorInfo(code="step_failed", message="away", type="ConnectionError", step="a#1", name="a")
STARTED = facts.RunStarted(at=NOON, workflow="w", tags=("x",))


def program(**defaults: Any) -> Supervision:
    """A graph of one node with job defaults."""
    opened = as_workflow(sequence("w", a=nothing)).open(None, {}, Blobs())
    return Supervision(opened, job_of("w", defaults), {}, Blobs())  # type: ignore[arg-type]


def begun(**defaults: Any) -> Given:
    """A run whose node is open."""
    run = given(program(**defaults)).when(STARTED)
    return run.when(completed("START#1"))


def completed(step: str, attempt: int = 1) -> facts.StepCompleted:
    return facts.StepCompleted(step=step, attempt=attempt, data=msgspec.Raw(b"{}"))


def failed(step: str, attempt: int = 1, error: facts.ErrorInfo = AWAY) -> facts.StepFailed:
    return facts.StepFailed(step=step, attempt=attempt, error=error)


def hook(run: Any, outcome: Any) -> None:
    """Any hook."""


FIXED = RetryPolicy(attempts=3, backoff=10, factor=2, jitter="none")


def test_a_failure_with_tries_left_is_a_resume_that_is_due_later() -> None:
    run = begun(retry=FIXED).when(failed("a#1"))
    run.then(failed("a#1"), facts.RunResumed)
    resumed = run.recorded[1]
    assert isinstance(resumed, facts.RunResumed)
    assert (resumed.due - resumed.at, resumed.reopened, resumed.error) == (10 * SECOND, (("a#1", 2),), AWAY)
    assert run.ledger.open["a#1"].due == resumed.due
    assert run.ledger.open["a#1"].begun == resumed.due, "its total timeout begins with its next attempt"
    again = run.when(failed("a#1", 2), now=resumed.due + SECOND).recorded[1]
    assert isinstance(again, facts.RunResumed)
    assert again.due - again.at == 20 * SECOND
    run.when(failed("a#1", 3), now=again.due).then(failed("a#1", 3), facts.RunFailed(error=AWAY))


def test_a_person_who_resumes_gives_new_tries() -> None:
    run = begun(retry=RetryPolicy(attempts=2, backoff=0))
    run.when(failed("a#1")).when(failed("a#1", 2)).then(failed("a#1", 2), facts.RunFailed)
    run.when(facts.RunResumed(key="k")).when(failed("a#1", 3)).then(failed("a#1", 3), facts.RunResumed)


def test_no_try_begins_later_than_its_policy_allows() -> None:
    run = begun(retry=RetryPolicy(attempts=9, backoff=10, jitter="none", max_elapsed=25))
    run.when(failed("a#1")).then(failed("a#1"), facts.RunResumed)
    run.when(failed("a#1", 2), now=NOON + 12 * SECOND).then(failed("a#1", 2), facts.RunFailed)


def test_jitter_is_the_same_whenever_it_is_decided_and_another_in_each_run() -> None:
    policy = RetryPolicy(attempts=2, backoff=1000, max_backoff=1000)
    waits = []
    for later in (0, 0, 1, 2):
        run = begun(retry=policy).when(failed("a#1"), now=NOON + 5 * SECOND + later)
        resumed = run.recorded[1]
        assert isinstance(resumed, facts.RunResumed)
        waits.append(resumed.due - resumed.at)
    assert len(waits) == 4
    assert len(set(waits)) == 3
    assert all(0 <= wait <= 1000 * SECOND for wait in waits)


def test_a_factory_is_called_again_when_the_run_was_laid_down() -> None:
    run = given(program(retry=RetryPolicy(attempts=2, backoff=0))).when(STARTED)
    resumed = run.when(failed("START#1")).recorded[1]
    assert isinstance(resumed, facts.RunResumed)
    assert resumed.due - resumed.at == FACTORY_WAIT


def test_a_hook_comes_before_the_end_and_is_no_step_of_the_pattern() -> None:
    run = begun(on_failure=hook).when(failed("a#1"))
    run.then(failed("a#1"), facts.StepScheduled)
    scheduled = run.recorded[1]
    assert isinstance(scheduled, facts.StepScheduled)
    assert (scheduled.parent, scheduled.shielded) == (RUN, True)
    run.when(completed(scheduled.step)).then(completed(scheduled.step), facts.RunFailed(error=AWAY))


def test_what_a_hook_comes_to_changes_nothing() -> None:
    for end in (failed("run:on_success#1"), facts.StepCancelled(step="run:on_success#1", attempt=1)):
        run = begun(on_success=hook).when(completed("a#1"))
        assert kinds(run.recorded)[-1] == "StepScheduled"
        run.when(end).then(end, facts.RunCompleted)


def test_decisions_are_recorded_once_before_the_hook() -> None:
    run = begun(on_success=hook).when(completed("a#1"))
    run.then(completed("a#1"), facts.DecisionMade, facts.StepScheduled)
    run.when(completed("run:on_success#1")).then(completed("run:on_success#1"), facts.RunCompleted)


def test_a_run_that_is_cancelled_while_its_hook_runs_ends_as_was_decided() -> None:
    cancel = facts.CancelRequested(key="c")
    run = begun(on_failure=hook).when(failed("a#1")).when(cancel).then(cancel)
    run.when(completed("run:on_failure#1")).then(completed("run:on_failure#1"), facts.RunFailed)
    good = begun(on_success=hook).when(completed("a#1")).when(cancel).then(cancel)
    good.when(completed("run:on_success#1")).then(completed("run:on_success#1"), facts.RunCompleted)


def test_a_run_that_took_too_long_has_its_hook_too_and_no_more_tries() -> None:
    late = facts.CancelRequested(key="d", code="run_timed_out", reason="too long")
    run = begun(on_failure=hook, retry=FIXED).when(late).then(late, facts.StepCancelRequested)
    ended = facts.StepCancelled(step="a#1", attempt=1)
    run.when(ended).then(ended, facts.StepScheduled)
    run.when(completed("run:on_failure#1")).then(completed("run:on_failure#1"), facts.RunFailed)


def test_a_cancelled_run_has_neither_hook_nor_tries() -> None:
    cancel = facts.CancelRequested(key="c")
    run = begun(on_failure=hook, on_success=hook, retry=FIXED).when(cancel)
    ended = facts.StepCancelled(step="a#1", attempt=1)
    run.when(ended).then(ended, facts.RunCancelled)


def test_a_pause_keeps_the_end_that_is_decided_and_a_resume_takes_a_failure_back() -> None:
    pause, resume = facts.RunPaused(key="p"), facts.RunResumed(key="r")
    good = begun(on_success=hook).when(completed("a#1")).when(pause)
    good.when(completed("run:on_success#1")).then(completed("run:on_success#1"))
    good.when(resume).then(facts.RunResumed, facts.RunCompleted)
    bad = begun(on_failure=hook).when(failed("a#1")).when(pause)
    bad.when(completed("run:on_failure#1")).then(completed("run:on_failure#1"))
    bad.when(resume).then(facts.RunResumed)
    assert set(bad.ledger.open) == {"a#1"}
    bad.when(failed("a#1", 2)).then(failed("a#1", 2), facts.StepScheduled)


def test_a_pause_lets_no_hook_begin() -> None:
    run = begun(on_failure=hook).when(facts.RunPaused(key="p"))
    run.when(failed("a#1")).then(failed("a#1"))


@pytest.mark.parametrize("hooked", [False, True])
def test_a_stored_fold_goes_on_as_the_run_does(hooked: bool) -> None:
    made = program(retry=RetryPolicy(attempts=2, backoff=10), on_failure=hook)
    run = given(made).when(STARTED).when(completed("START#1")).when(failed("a#1"))
    if hooked:
        run.when(failed("a#1", 2))
    journal_end = facts.StepCompleted(step="run:on_failure#1", attempt=1) if hooked else failed("a#1", 2)
    loaded = Given(made, ())
    loaded.progress = made.decode(made.encode(run.progress))
    run.when(journal_end, now=NOON + 99 * SECOND)
    assert loaded.when(journal_end, now=NOON + 99 * SECOND).recorded == run.recorded


def test_a_hook_that_the_code_has_no_more_is_named() -> None:
    run = begun(on_failure=hook).when(failed("a#1"))
    run.progress = program(retry=FIXED).decode(program(on_failure=hook).encode(run.progress))
    with pytest.raises(NondeterminismError, match="on_failure"):
        program(retry=FIXED).work(run.progress, run.ledger.open["run:on_failure#1"])


def test_the_definition_tells_that_runs_are_supervised_and_one_with_a_problem_has_none() -> None:
    plain = as_workflow(sequence("w", a=nothing)).open(None, {}, Blobs())
    assert program(retry=FIXED).hash == f"{plain.hash}+job"
    assert not Job({}).supervises
