"""The program of a saga: given some facts, when these arrive, then this is recorded."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from holdfast import RetryPolicy, Saga
from holdfast.core.work import Blobs
from holdfast.model import facts
from holdfast.model.facts import EdgeTried
from holdfast.model.values import encode, pack
from tests.unit.given import SECOND, Given, given, kinds

STARTED = facts.RunStarted(workflow="saga")


def act() -> None:
    """Never called here: what steps return is what the tests say."""


def saga(*names: str, **options: Any) -> Saga:
    """A saga of steps with compensations; a name that ends with `!` has none."""
    made = Saga("saga", **options)
    for name in names:
        made.add_step(name.rstrip("!"), forward=act, compensate=None if name.endswith("!") else act)
    return made


def begun(made: Saga) -> Given:
    return given(made.open(None, {}, Blobs()), [STARTED])


def to(name: str, iteration: int = 1, *, shielded: bool = False, plain: bool = False) -> facts.StepScheduled:
    """The fact that schedules a step, its compensation registered unless it is `plain`."""
    id_ = f"{name}#{iteration}"
    data = facts.NOTHING if plain else pack({"compensation": encode(f"compensate:{id_}")})
    return facts.StepScheduled(step=id_, name=name, iteration=iteration, data=data, shielded=shielded)


def undo(name: str, iteration: int = 1) -> facts.StepScheduled:
    name = f"compensate:{name}"
    return facts.StepScheduled(step=f"{name}#{iteration}", name=name, iteration=iteration, shielded=True)


def done(step: str, value: Any = None, attempt: int = 1) -> facts.StepCompleted:
    name = step if "#" in step else f"{step}#1"
    return facts.StepCompleted(step=name, attempt=attempt, data=encode(value))


def failed(step: str, message: str = "boom", code: str = "step_failed", attempt: int = 1) -> facts.StepFailed:
    name = step if "#" in step else f"{step}#1"
    return facts.StepFailed(step=name, attempt=attempt, error=error(message, code, name.partition("#")[0]))


def error(message: str = "boom", code: str = "step_failed", name: str = "", **more: Any) -> facts.ErrorInfo:
    return facts.ErrorInfo(code=code, message=message, name=name, **more)


def back(source: str, target: str, reason: str = "") -> facts.DecisionMade:
    why = reason or f"step {source!r} failed: boom"
    return facts.DecisionMade(
        source=source, edges=(EdgeTried(f"compensate:{target}", "backward", reason=why),)
    )


def cancel(code: str = "") -> facts.CancelRequested:
    return facts.CancelRequested(reason="enough", code=code, key="cancel")


def asked(step: str) -> facts.StepCancelRequested:
    return facts.StepCancelRequested(step=f"{step}#1")


def ended(run: Given) -> facts.ErrorInfo:
    """The error of a run that failed in its last advance."""
    last = run.recorded[-1]
    assert isinstance(last, facts.RunFailed), kinds(run.recorded)
    return last.error


# --- forward


def test_steps_run_one_after_the_other_and_their_results_are_the_result() -> None:
    run = begun(saga("a", "b!"))
    run.when().then(to("a"))
    run.when(done("a", 1)).then(done("a", 1), to("b", plain=True))
    run.when(done("b", "x")).then(
        done("b", "x"), facts.RunCompleted(data=pack({"a": encode(1), "b": encode("x")}))
    )


def test_a_compensation_is_registered_with_its_step_before_that_begins() -> None:
    run = begun(saga("a")).when()
    (scheduled,) = run.recorded
    assert isinstance(scheduled, facts.StepScheduled)
    assert msgspec.json.decode(scheduled.data) == {"compensation": "compensate:a#1"}


def test_parallel_steps_begin_together_and_the_next_waits_for_all() -> None:
    made = Saga("saga")
    made.add_step("a", forward=act, compensate=act, parallel="first")
    made.add_step("b", forward=act, compensate=act, parallel="first")
    made.add_step("c", forward=act)
    run = begun(made)
    run.when().then(to("a"), to("b"))
    run.when(done("b")).then(done("b"))
    run.when(done("a")).then(done("a"), to("c", plain=True))


# --- backward


def test_a_failure_is_undone_in_reverse_and_then_the_run_fails_with_it() -> None:
    run = begun(saga("a", "b", "c"))
    run.when().when(done("a")).when(done("b"))
    run.when(failed("c")).then(failed("c"), back("c", "b"), undo("b"))
    run.when(done("compensate:b")).then(done("compensate:b"), undo("a"))
    run.when(done("compensate:a")).then(done("compensate:a"), facts.RunFailed)
    assert ended(run) == error(name="c", compensated=("b", "a"))


def test_steps_without_a_compensation_are_passed_over() -> None:
    run = begun(saga("a", "b!", "c!", "d")).when().when(done("a")).when(done("b")).when(done("c"))
    run.when(failed("d")).then(failed("d"), back("d", "a"), undo("a"))
    run.when(done("compensate:a")).then(done("compensate:a"), facts.RunFailed)


def test_with_nothing_to_undo_the_run_fails_at_once() -> None:
    run = begun(saga("a", "b")).when()
    run.when(failed("a")).then(failed("a"), facts.RunFailed(error=error(name="a", compensated=())))


def test_a_step_that_took_too_long_may_have_taken_effect_and_is_undone() -> None:
    run = begun(saga("a", "b")).when().when(done("a"))
    timed_out = failed("b", code="step_timed_out")
    run.when(timed_out).then(timed_out, back("b", "b"), undo("b"))
    run.when(done("compensate:b")).then(done("compensate:b"), undo("a"))


def test_a_failure_after_an_attempt_that_nobody_knows_of_is_undone_too() -> None:
    run = begun(saga("a")).when()
    run.when(facts.StepRetried(step="a#1", attempt=2, reason="worker lost"))
    run.when(failed("a", attempt=2)).then(failed("a", attempt=2), back("a", "a"), undo("a"))


def test_a_failure_after_other_failures_is_not_undone() -> None:
    run = begun(saga("a")).when()
    run.when(facts.StepRetried(step="a#1", attempt=2, reason="failed", error=error()))
    run.when(failed("a", attempt=2)).then(failed("a", attempt=2), facts.RunFailed)


def test_the_group_of_a_failed_step_is_undone_at_once_when_all_of_it_has_ended() -> None:
    made = saga("first")
    for name in "abc":
        made.add_step(name, forward=act, compensate=act, parallel="group")
    run = begun(made).when().when(done("first"))
    run.when(done("a"), failed("b")).then(done("a"), failed("b"))
    run.when(done("c")).then(done("c"), back("b", "c"), undo("c"), undo("a"))
    run.when(done("compensate:a")).then(done("compensate:a"))
    run.when(done("compensate:c")).then(done("compensate:c"), undo("first"))


def test_a_sibling_that_waits_for_its_next_try_is_not_waited_for() -> None:
    made = Saga("saga")
    for name in "ab":
        made.add_step(name, forward=act, compensate=act, parallel="group", retry=RetryPolicy())
    run = begun(made).when()
    late = facts.StepRetried(step="a#1", attempt=2, reason="failed", due=run.now + 60 * SECOND, error=error())
    run.when(late).when(failed("b")).then(failed("b"), asked("a"))
    gone = facts.StepCancelled(step="a#1", attempt=2)
    run.when(gone).then(gone, facts.RunFailed)


# --- compensations that fail


def broken(*, on_failure: Any) -> Given:
    run = begun(saga("a", "b", "c", on_compensation_failure=on_failure))
    run.when().when(done("a")).when(done("b")).when(failed("c"))
    return run.when(failed("compensate:b", "stuck"))


def test_others_go_on_when_a_compensation_failed_for_good() -> None:
    run = broken(on_failure="continue").then(failed("compensate:b", "stuck"), undo("a"))
    run.when(done("compensate:a"))
    info = ended(run)
    assert (info.code, info.compensated) == ("compensation_failed", ("a",))
    assert info.message == "boom; not compensated: b (stuck)"
    assert [each.message for each in info.failed_compensations] == ["stuck"]


def test_others_are_left_when_the_saga_shall_stop() -> None:
    run = broken(on_failure="stop").then(failed("compensate:b", "stuck"), facts.RunFailed)
    assert ended(run).compensated == ()


def test_a_resume_goes_on_at_the_compensation_that_failed_and_at_none_that_is_done() -> None:
    run = broken(on_failure="continue").when(done("compensate:a"))
    run.when(facts.RunResumed(key="resume"))
    run.then(facts.RunResumed(key="resume", reopened=(("compensate:b#1", 2),)))
    run.when(done("compensate:b", attempt=2))
    assert ended(run) == error(name="c", compensated=("a", "b"))


def test_after_a_stop_a_resume_undoes_the_rest_in_order() -> None:
    run = broken(on_failure="stop")
    run.when(facts.RunResumed(key="resume"))
    run.when(done("compensate:b", attempt=2)).then(done("compensate:b", attempt=2), undo("a"))
    run.when(done("compensate:a"))
    assert ended(run).compensated == ("b", "a")


def test_a_resume_after_all_is_undone_begins_anew() -> None:
    run = begun(saga("a", "b")).when().when(done("a")).when(failed("b")).when(done("compensate:a"))
    run.when(facts.RunResumed(key="resume")).then(facts.RunResumed(key="resume"), to("a", 2))
    run.when(done("a#2")).then(done("a#2"), to("b", 2))
    run.when(failed("b#2")).then(failed("b#2"), back("b", "a"), undo("a", 2))


def test_a_resume_with_nothing_undone_tries_the_failed_step_again() -> None:
    run = begun(saga("a!", "b")).when().when(done("a")).when(failed("b"))
    run.when(facts.RunResumed(key="resume"))
    run.then(facts.RunResumed(key="resume", reopened=(("b#1", 2),)))
    run.when(done("b", attempt=2)).then(done("b", attempt=2), facts.RunCompleted)


# --- the point of no return


def pivoted() -> Saga:
    made = saga("a")
    made.add_step("pay", forward=act, kind="pivot")
    return made.add_step("ship", forward=act, kind="retriable")


def test_a_pivot_that_failed_is_undone() -> None:
    run = begun(pivoted()).when().when(done("a")).then(done("a"), to("pay", shielded=True, plain=True))
    run.when(failed("pay")).then(failed("pay"), back("pay", "a"), undo("a"))


def test_behind_the_pivot_nothing_is_undone() -> None:
    run = begun(pivoted()).when().when(done("a")).when(done("pay"))
    run.when(failed("ship")).then(failed("ship"), facts.RunFailed(error=error(name="ship")))


def test_behind_the_pivot_a_cancel_does_not_stop_the_saga() -> None:
    run = begun(pivoted()).when().when(done("a"))
    run.when(cancel()).then(cancel())
    run.when(done("pay")).then(done("pay"), to("ship", shielded=True, plain=True))
    run.when(done("ship")).then(done("ship"), facts.RunCompleted)


def test_a_pivot_that_nobody_knows_of_is_for_a_person() -> None:
    run = begun(pivoted()).when().when(done("a"))
    timed_out = failed("pay", code="step_timed_out")
    run.when(timed_out).then(timed_out, facts.RunPaused)
    again = facts.RunResumed(key="r", reopened=(("pay#1", 2),))
    run.when(facts.RunResumed(key="r")).then(again)
    run.when(done("pay", attempt=2)).then(done("pay", attempt=2), to("ship", shielded=True, plain=True))


def test_a_cancel_says_that_a_pivot_did_not_take_effect() -> None:
    run = begun(pivoted()).when().when(done("a")).when(failed("pay", code="step_timed_out"))
    run.when(cancel()).then(cancel(), back("pay", "a"), undo("a"))


# --- cancelling


def test_a_cancel_undoes_what_is_done_and_what_was_on_its_way() -> None:
    run = begun(saga("a", "b", "c")).when().when(done("a"))
    run.when(cancel()).then(cancel(), asked("b"))
    gone = facts.StepCancelled(step="b#1", attempt=1, started=run.now)
    run.when(gone).then(gone, undo("b"))
    run.when(done("compensate:b")).then(done("compensate:b"), undo("a"))
    run.when(done("compensate:a")).then(done("compensate:a"), facts.RunCancelled(reason="enough"))


def test_a_late_success_is_undone() -> None:
    run = begun(saga("a", "b")).when()
    run.when(cancel("run_timed_out")).then(cancel("run_timed_out"), asked("a"))
    run.when(done("a")).then(done("a"), undo("a"))
    run.when(done("compensate:a"))
    assert (ended(run).code, ended(run).compensated) == ("run_timed_out", ("a",))


def test_a_cancel_amid_compensations_does_not_stop_them() -> None:
    run = begun(saga("a", "b", "c")).when().when(done("a")).when(done("b")).when(failed("c"))
    run.when(cancel()).then(cancel())
    run.when(done("compensate:b")).then(done("compensate:b"), undo("a"))
    run.when(done("compensate:a"))
    assert ended(run) == error(name="c", compensated=("b", "a"))


def test_a_cancelled_saga_whose_compensation_failed_has_failed() -> None:
    run = begun(saga("a", "b")).when().when(done("a")).when(cancel())
    run.when(facts.StepCancelled(step="b#1", attempt=1, started=1)).when(done("compensate:b"))
    run.when(failed("compensate:a", "stuck"))
    assert (ended(run).code, ended(run).message) == (
        "compensation_failed",
        "enough; not compensated: a (stuck)",
    )


def test_a_pause_lets_compensations_pass() -> None:
    run = begun(saga("a", "b", "c")).when().when(done("a")).when(done("b")).when(failed("c"))
    run.when(facts.RunPaused(reason="wait", key="p"))
    run.when(done("compensate:b")).then(done("compensate:b"), undo("a"))
    run.when(done("compensate:a")).then(done("compensate:a"))
    run.when(facts.RunResumed(key="r")).then(facts.RunResumed(key="r"), facts.RunFailed)


# --- what changed meanwhile


def test_a_step_that_the_saga_no_longer_has_parks_the_run() -> None:
    run = begun(saga("a", "b")).when().when(done("a"))
    journal = [STARTED, to("a"), done("a"), to("gone"), done("gone")]
    run = given(saga("a", "b").open(None, {}, Blobs()), journal).when()
    run.then(facts.RunPaused)
    assert "'gone'; the saga has only a, b" in run.recorded[0].reason  # type: ignore[attr-defined]


def test_a_step_put_before_others_that_ran_parks_the_run() -> None:
    journal = [STARTED, to("a"), done("a")]
    run = given(saga("new", "a").open(None, {}, Blobs()), journal).when()
    run.then(facts.RunPaused)
    assert "'a' where the saga has 'new'" in run.recorded[0].reason  # type: ignore[attr-defined]


def test_a_compensation_that_the_saga_no_longer_has_parks_the_run() -> None:
    journal = [STARTED, to("a"), done("a"), to("b"), failed("b")]
    run = given(saga("a!", "b").open(None, {}, Blobs()), journal).when()
    run.then(back("b", "a"), facts.RunPaused)


def test_a_step_added_at_the_end_is_run() -> None:
    journal = [STARTED, to("a"), done("a")]
    given(saga("a", "b").open(None, {}, Blobs()), journal).when().then(to("b"))


def test_a_stored_fold_goes_on_as_the_journal_does() -> None:
    run = broken(on_failure="continue")
    program = run.program
    again = program.decode(program.encode(run.progress))
    assert program.encode(again) == program.encode(run.progress)


def test_a_cancel_of_a_run_whose_compensation_is_gone_tells_what_is_not_undone() -> None:
    journal = [STARTED, to("a"), done("a"), to("b"), failed("b")]
    run = given(saga("a!", "b").open(None, {}, Blobs()), journal).when()
    run.when(cancel()).then(cancel(), facts.RunFailed)
    assert ended(run).code == "compensation_failed"
    assert [each.name for each in ended(run).failed_compensations] == ["compensate:a"]


# --- forward and savepoints


def test_forward_recovery_tries_a_step_until_it_succeeds() -> None:
    made = Saga("saga", "forward").add_step("a", forward=act, retry=RetryPolicy(attempts=2, backoff=3.0))
    run = begun(made).when()
    work = run.program.work(run.progress, run.ledger.open["a#1"])
    assert work.retry == RetryPolicy(attempts=sys.maxsize, backoff=3.0)


def test_forward_recovery_undoes_nothing() -> None:
    made = Saga("saga", "forward")
    for name in "ab":
        made.add_step(name, forward=act, compensate=act)
    run = begun(made).when().when(done("a"))
    run.when(failed("b")).then(failed("b"), facts.RunFailed(error=error(name="b")))


def returning(attempts: int = 2) -> Saga:
    made = Saga("saga", "savepoint").add_step("a", forward=act, compensate=act)
    made.savepoint(attempts)
    for name in "bc":
        made.add_step(name, forward=act, compensate=act)
    return made


def to_savepoint(source: str, target: str) -> facts.DecisionMade:
    edge = EdgeTried(target, "savepoint", reason=f"step {source!r} failed: boom")
    return facts.DecisionMade(source=source, edges=(edge,))


def test_what_was_done_since_the_savepoint_is_undone_and_done_again() -> None:
    run = begun(returning()).when().when(done("a")).when(done("b"))
    run.when(failed("c")).then(failed("c"), to_savepoint("c", "b"), undo("b"))
    run.when(done("compensate:b")).then(done("compensate:b"), to("b", 2))
    run.when(done("b#2")).then(done("b#2"), to("c", 2))
    run.when(done("c#2")).then(done("c#2"), facts.RunCompleted)


def test_with_nothing_to_undo_since_the_savepoint_the_saga_begins_there_at_once() -> None:
    run = begun(returning()).when().when(done("a"))
    run.when(failed("b")).then(failed("b"), to_savepoint("b", "b"), to("b", 2))


def test_when_the_savepoint_has_no_tries_left_all_is_undone() -> None:
    run = begun(returning()).when().when(done("a")).when(failed("b"))
    run.when(failed("b#2")).then(failed("b#2"), back("b", "a"), undo("a"))


def test_a_cancel_on_the_way_to_a_savepoint_leads_back_to_the_beginning() -> None:
    run = begun(returning()).when().when(done("a")).when(done("b")).when(failed("c"))
    run.when(cancel()).then(cancel())
    run.when(done("compensate:b")).then(done("compensate:b"), undo("a"))


def test_a_compensation_that_fails_on_the_way_to_a_savepoint_leads_back_to_the_beginning() -> None:
    run = begun(returning()).when().when(done("a")).when(done("b")).when(failed("c"))
    run.when(failed("compensate:b", "stuck")).then(failed("compensate:b", "stuck"), undo("a"))
    run.when(done("compensate:a"))
    assert ended(run).code == "compensation_failed"


# --- steps for each item


def each(chosen: Any = "lines") -> Given:
    made = Saga("saga").add_step("first", forward=act, compensate=act)
    made.add_step("each", forward=act, compensate=act, foreach=chosen)
    made.add_step("last", forward=act)
    program = made.open(None, {"lines": ["x", "y"]}, Blobs())
    return given(program, [STARTED]).when().when(done("first", ["p", "q", "r"]))


def item(value: Any, iteration: int) -> facts.StepScheduled:
    id_ = f"each#{iteration}"
    data = pack({"item": encode(value), "compensation": encode(f"compensate:{id_}")})
    return facts.StepScheduled(step=id_, name="each", iteration=iteration, data=data)


def chosen(count: int) -> facts.DecisionMade:
    told = f"{count} item{'' if count == 1 else 's'}"
    return facts.DecisionMade(source="each", edges=(EdgeTried("each", "foreach", reason=told, count=count),))


FIRST = done("first", ["p", "q", "r"])


def test_a_step_runs_once_for_each_item_and_gives_a_list() -> None:
    run = each().then(FIRST, chosen(2), item("x", 1), item("y", 2))
    run.when(done("each#2", "Y")).then(done("each#2", "Y"))
    run.when(done("each#1", "X")).then(done("each#1", "X"), to("last", plain=True))
    assert run.program.state(run.progress)["each"] == ["X", "Y"]


def test_the_items_may_be_the_result_of_an_earlier_step_or_of_a_function() -> None:
    assert kinds(each("first").recorded) == ["StepCompleted", "DecisionMade", *["StepScheduled"] * 3]
    run = each(lambda params, results: params["lines"] + results["first"])
    assert kinds(run.recorded) == ["StepCompleted", "DecisionMade", *["StepScheduled"] * 5]


def test_a_step_over_nothing_gives_an_empty_list() -> None:
    run = each(list).then(FIRST, chosen(0), to("last", plain=True))
    assert run.program.state(run.progress)["each"] == []


def test_each_finished_item_is_undone_once() -> None:
    run = each("first").when(done("each#3", "R"), done("each#1", "P"))
    run.when(failed("each#2")).then(failed("each#2"), back("each", "each"), undo("each", 3), undo("each", 1))
    run.when(done("compensate:each#1"), done("compensate:each#3"))
    run.then(done("compensate:each#1"), done("compensate:each#3"), undo("first"))
    run.when(done("compensate:first"))
    assert ended(run).compensated == ("each", "first")


def test_items_that_cannot_be_chosen_fail_the_step() -> None:
    run = each("nothing")
    decided = run.recorded[1]
    assert isinstance(decided, facts.DecisionMade)
    assert decided.edges[0].reason.endswith("LookupError: neither a step nor a param is called 'nothing'")
    assert kinds(run.recorded) == ["StepCompleted", "DecisionMade", "DecisionMade", "StepScheduled"]
    run.when(done("compensate:first"))
    assert (ended(run).code, ended(run).name) == ("foreach_failed", "each")


def test_a_compensation_may_ask_a_person_also_after_a_cancel() -> None:
    run = begun(saga("a", "b")).when().when(done("a")).when(cancel())
    run.when(facts.StepCancelled(step="b#1", attempt=1, started=1)).when(done("compensate:b"))
    asks = facts.StepSuspended(step="compensate:a#1", attempt=1, name="refund")
    wait = facts.StepScheduled(
        step="signal:refund#1", name="refund", kind="signal", parent="compensate:a#1", shielded=True
    )
    run.when(asks).then(asks, wait)
    run.when(facts.SignalReceived(name="refund", key="k")).then(facts.SignalReceived(name="refund", key="k"))
    run.when(facts.StepRetried(step="compensate:a#1", attempt=2, reason="answered"))
    run.when(done("compensate:a", attempt=2)).then(done("compensate:a", attempt=2), facts.RunCancelled)


def test_a_resume_has_a_child_undo_what_it_could_not_and_only_then_begins_anew() -> None:
    inner = saga("x")
    made = saga("a").add_step("child", forward=inner, compensate=act)
    run = begun(made).when().when(done("a"))
    stuck = error("stuck", name="compensate:x")
    info = error("boom", "compensation_failed", compensated=(), failed_compensations=(stuck,))
    run.when(facts.StepFailed(step="child#1", attempt=1, error=info)).when(done("compensate:a"))
    assert ended(run).failed_compensations == (stuck,)
    reopened = facts.RunResumed(key="r", reopened=(("child#1", 2),))
    run.when(facts.RunResumed(key="r")).then(reopened)
    run.when(facts.StepFailed(step="child#1", attempt=2, error=info)).then(facts.StepFailed, facts.RunFailed)
    assert ended(run).failed_compensations == (stuck,)
    run.when(facts.RunResumed(key="s"))
    undone = error("boom", "step_failed", compensated=("x",))
    run.when(facts.StepFailed(step="child#1", attempt=3, error=undone)).then(
        facts.StepFailed, facts.RunFailed
    )
    assert (ended(run).code, ended(run).failed_compensations) == ("step_failed", ())
    run.when(facts.RunResumed(key="t")).then(facts.RunResumed(key="t"), facts.StepScheduled)  # begins anew
