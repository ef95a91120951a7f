"""Given a journal, people see each stage with all its attempts, and each edge that was looked at."""

from __future__ import annotations

import msgspec

from holdfast.core.audit import decisions, stages
from holdfast.core.events import reader
from holdfast.model import facts
from holdfast.model.audit import Decision, Stage
from holdfast.model.ids import SECOND, moment
from holdfast.model.run import StepStatus
from holdfast.model.values import encode
from holdfast.store.rows import JournalRow

BEGIN = 1_700_000_000 * SECOND
ERROR = facts.ErrorInfo(code="step_failed", type="ValueError", message="no page", traceback="Traceback ...")
SCHEDULED = facts.StepScheduled(step="detect#1", name="detect")
SUSPENDED = facts.StepSuspended(step="detect#1", attempt=1)


class Journal:
    """Commits, one second after another, by the worker that holds the run."""

    def __init__(self) -> None:
        self.rows: list[JournalRow] = []
        self.position = 0
        self.now = BEGIN

    def commit(self, *recorded: facts.Fact, worker: str = "w1") -> Journal:
        self.now += SECOND
        stamped = tuple(msgspec.structs.replace(fact, at=fact.at or self.now) for fact in recorded)
        encoded = facts.Journal.encode(stamped)
        self.rows.append(
            JournalRow(
                str(len(self.rows)), "r1", self.position + 1, len(stamped), self.now, "c", worker, encoded
            )
        )
        self.position += len(stamped)
        return self

    def stage(self, *, held: bool = True, now: int | None = None) -> Stage:
        (stage,) = stages(self.rows, held=held, now=self.now if now is None else now)
        return stage


def after(seconds: float) -> int:
    return BEGIN + int(seconds * SECOND)


def journal() -> Journal:
    start = facts.StepScheduled(step="START#1", name="START")
    return Journal().commit(facts.RunStarted(workflow="w"), start)


# --- stages


def test_a_stage_has_what_its_facts_say() -> None:
    done = facts.StepCompleted(step="detect#1", attempt=1, started=after(2.5), data=encode({"pages": 3}))
    (stage,) = stages(journal().commit(SCHEDULED).commit(done).rows)
    assert (stage.name, stage.iteration, stage.attempt, stage.status) == (
        "detect",
        1,
        1,
        StepStatus.COMPLETED,
    )
    assert (stage.started_at, stage.completed_at) == (moment(after(2.5)), moment(after(3)))
    assert (stage.duration, stage.output, stage.error, stage.worker) == (0.5, {"pages": 3}, None, "w1")
    assert (stage.input, stage.position) == (None, 3)
    assert [attempt.number for attempt in stage.attempts] == [1]


def test_what_a_fan_out_item_was_given_is_its_input() -> None:
    one = facts.StepScheduled(step="page#1", name="page", data=encode({"n": 1}))
    two = facts.StepScheduled(step="page#2", name="page", iteration=2, data=encode({"n": 2}))
    first, second = stages(journal().commit(one, two).rows)
    assert [(first.input, first.iteration), (second.input, second.iteration)] == [
        ({"n": 1}, 1),
        ({"n": 2}, 2),
    ]


def test_large_values_come_from_the_blobs_given() -> None:
    done = facts.StepCompleted(step="detect#1", attempt=1, data=msgspec.Raw(b'{"a":{"$ref":"h"}}'))
    rows = journal().commit(SCHEDULED).commit(done).rows
    assert stages(rows, decode=reader({"h": b'"long"'}))[0].output == {"a": "long"}


def test_each_attempt_keeps_its_error() -> None:
    retried = facts.StepRetried(step="detect#1", attempt=2, due=after(9), started=after(2), error=ERROR)
    last = facts.ErrorInfo(code="step_failed", type="OSError", message="disk")
    failed = facts.StepFailed(step="detect#1", attempt=2, started=after(9), error=last, at=after(10))
    stage = journal().commit(SCHEDULED).commit(retried).commit(failed, worker="w2").stage()
    assert (stage.status, stage.attempt, stage.error, stage.duration) == (StepStatus.FAILED, 2, last, 1.0)
    one, two = stage.attempts
    assert (one.number, one.status, one.error, one.worker) == (1, StepStatus.FAILED, ERROR, "w1")
    assert one.error is not None
    assert one.error.traceback == "Traceback ..."
    assert (one.duration, two.error, two.worker, stage.worker) == (1.0, last, "w2", "w2")


def test_a_stage_that_is_tried_again_shows_the_last_error_until_it_succeeds() -> None:
    retried = facts.StepRetried(step="detect#1", attempt=2, due=after(9), error=ERROR)
    waiting = journal().commit(SCHEDULED).commit(retried)
    assert (waiting.stage().status, waiting.stage().error) == (StepStatus.RETRYING, ERROR)
    assert waiting.stage(now=after(9)).status is StepStatus.RUNNING
    assert waiting.stage(now=after(9), held=False).status is StepStatus.RETRYING
    done = waiting.commit(facts.StepCompleted(step="detect#1", attempt=2)).stage()
    assert (done.status, done.error, done.attempts[0].error) == (StepStatus.COMPLETED, None, ERROR)


def test_a_lost_attempt_belongs_to_the_worker_that_was_lost() -> None:
    lost = facts.StepRetried(step="detect#1", attempt=2, reason="worker lost")
    stage = journal().commit(SCHEDULED, worker="w1").commit(lost, worker="w2").stage()
    assert [(one.worker, one.reason, one.error) for one in stage.attempts] == [
        ("w1", "worker lost", None),
        ("w2", "", None),
    ]
    assert (stage.status, stage.worker) == (StepStatus.RUNNING, "w2")


def test_an_open_stage_runs_when_somebody_holds_the_run() -> None:
    opened = journal().commit(SCHEDULED)
    running, waiting = opened.stage(held=True), opened.stage(held=False)
    assert (running.status, running.started_at) == (StepStatus.RUNNING, moment(after(2)))
    assert (waiting.status, waiting.started_at, waiting.duration) == (StepStatus.SCHEDULED, None, None)


def test_a_stage_that_waits_for_an_answer_is_suspended() -> None:
    wait = facts.StepScheduled(step="signal:ok#1", name="ok", kind="signal", parent="detect#1")
    assert journal().commit(SCHEDULED).commit(SUSPENDED, wait).stage().status is StepStatus.SUSPENDED


def test_a_cancelled_stage_is_cancelled() -> None:
    stage = journal().commit(SCHEDULED).commit(facts.StepCancelled(step="detect#1", attempt=1)).stage()
    assert (stage.status, stage.started_at, stage.duration) == (StepStatus.CANCELLED, None, None)


def test_a_resume_begins_the_next_attempt() -> None:
    failed = facts.StepFailed(step="detect#1", attempt=1, error=ERROR)
    resumed = facts.RunResumed(reopened=(("detect#1", 2), ("gone#1", 2)))
    run = journal().commit(SCHEDULED).commit(failed, facts.RunFailed(error=ERROR)).commit(resumed)
    assert (run.stage().status, run.stage().attempt, run.stage().error) == (StepStatus.RUNNING, 2, ERROR)
    assert [one.status for one in run.stage().attempts] == [StepStatus.FAILED, StepStatus.RUNNING]


def test_start_waits_and_calls_inside_of_a_stage_are_no_stages() -> None:
    nap = facts.StepScheduled(step="timer:nap#1", name="nap", kind="timer")
    inner = facts.StepScheduled(step="detect#1/fetch#1", name="fetch", parent="detect#1")
    assert [stage.name for stage in stages(journal().commit(SCHEDULED, nap, inner).rows)] == ["detect"]


def test_a_child_run_is_a_stage() -> None:
    child = facts.StepScheduled(step="archive#1", name="archive", kind="run")
    assert [stage.name for stage in stages(journal().commit(child).rows)] == ["archive"]


def test_a_new_beginning_hides_nothing() -> None:
    done = facts.StepCompleted(step="detect#1", attempt=1, data=encode(1))
    run = journal().commit(SCHEDULED).commit(done, facts.RunContinued(), SCHEDULED)
    assert [(one.name, one.iteration, one.status, one.output) for one in stages(run.rows, held=False)] == [
        ("detect", 1, StepStatus.COMPLETED, 1),
        ("detect", 1, StepStatus.SCHEDULED, None),
    ]


def test_a_step_that_a_rewound_function_asks_for_again_is_the_same_stage() -> None:
    failed = facts.StepFailed(step="detect#1", attempt=1, error=ERROR)
    done = facts.StepCompleted(step="detect#1", attempt=1, data=encode(1))
    stage = (
        journal().commit(SCHEDULED).commit(failed).commit(facts.RunResumed(), SCHEDULED).commit(done).stage()
    )
    assert (stage.status, stage.output) == (StepStatus.COMPLETED, 1)
    assert [one.error for one in stage.attempts] == [ERROR, None]


def test_a_stage_is_json() -> None:
    failed = facts.StepFailed(step="detect#1", attempt=1, started=after(2), error=ERROR)
    shown = journal().commit(SCHEDULED).commit(failed).stage().to_dict()
    error = {"code": "step_failed", "type": "ValueError", "message": "no page", "traceback": "Traceback ..."}
    attempt = {
        "number": 1,
        "status": "failed",
        "error": error,
        "reason": "",
        "started_at": "2023-11-14T22:13:22Z",
        "completed_at": "2023-11-14T22:13:23Z",
        "duration": 1.0,
        "worker": "w1",
    }
    assert shown == {
        "name": "detect",
        "iteration": 1,
        "attempt": 1,
        "status": "failed",
        "input": None,
        "output": None,
        "started_at": attempt["started_at"],
        "completed_at": attempt["completed_at"],
        "duration": 1.0,
        "error": error,
        "worker": "w1",
        "attempts": [attempt],
        "position": 3,
        "cached": "",
        "missed": "",
        "unkept": "",
    }


# --- decisions


def test_every_edge_that_was_tried_is_a_decision_with_its_reason() -> None:
    edges = (
        facts.EdgeTried("enhance", "faded", result=False, reason="legibility is 0.9"),
        facts.EdgeTried("page", "split", reason="three pages", count=3),
    )
    run = journal().commit(facts.DecisionMade(source="detect", edges=edges))
    at = moment(after(2))
    assert decisions(run.rows) == [
        Decision(
            from_node="detect",
            to_node="enhance",
            name="faded",
            result=False,
            reason="legibility is 0.9",
            at=at,
            count=0,
            position=3,
        ),
        Decision(
            from_node="detect", to_node="page", name="split", reason="three pages", at=at, count=3, position=3
        ),
    ]


def test_a_choice_without_edges_is_a_decision_for_nothing() -> None:
    (decision,) = decisions(journal().commit(facts.DecisionMade(source="detect")).rows)
    assert (decision.from_node, decision.to_node, decision.result) == ("detect", None, False)
    assert decision.to_dict() == {
        "from_node": "detect",
        "to_node": None,
        "name": "",
        "result": False,
        "reason": "",
        "at": "2023-11-14T22:13:22Z",
        "count": 0,
        "position": 3,
    }
