"""The program of a DAG: what it wants after which facts."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import msgspec

from holdfast import DAGWorkflow, Task
from holdfast.core.advance import advance
from holdfast.core.work import Blobs
from holdfast.dags import at_least, branch, short_circuit
from holdfast.model import facts
from holdfast.model.commands import CancelStep, CompleteRun, FailRun, RecordDecision, ScheduleStep
from holdfast.model.values import encode
from holdfast.testing.given import Given, given

MIXED = "1 failed, 1 skipped, 1 not ended yet"
ERROR = facts.ErrorInfo(code="step_failed", message="broken", type="ValueError")


def dag(*tasks: Task, **options: Any) -> DAGWorkflow:
    return DAGWorkflow(tasks, name="d", **options)


def task(name: str, *depends_on: str, **options: Any) -> Task:
    return Task(name, options.pop("run", lambda *_: None), depends_on=depends_on, **options)


def started(workflow: DAGWorkflow, params: dict[str, Any] | None = None) -> Given:
    program = workflow.open(None, params or {}, Blobs())
    return given(program, [facts.RunStarted(workflow="d")])


def step(name: str, iteration: int = 1, data: msgspec.Raw = facts.NOTHING) -> ScheduleStep:
    return ScheduleStep(f"{name}#{iteration}", name, "call", iteration, data=data)


def done(name: str, value: Any = None, iteration: int = 1) -> facts.StepCompleted:
    return facts.StepCompleted(step=f"{name}#{iteration}", attempt=1, data=encode(value))


def broken(name: str, iteration: int = 1) -> facts.StepFailed:
    return facts.StepFailed(step=f"{name}#{iteration}", attempt=1, error=ERROR)


def skipped(name: str, iteration: int = 1) -> facts.StepCompleted:
    return facts.StepCompleted(step=f"{name}#{iteration}", attempt=1, gone=(name,))


def ruled_out(source: str, target: str, what: str, reason: str) -> RecordDecision:
    return RecordDecision(source, (facts.EdgeTried(target, what, result=False, reason=reason),))


def mapped(source: str, target: str, count: int) -> RecordDecision:
    return RecordDecision(source, (facts.EdgeTried(target, "map", reason=f"{count} items", count=count),))


def result(**values: Any) -> CompleteRun:
    return CompleteRun(msgspec.Raw(msgspec.json.encode(values)))


def test_a_diamond_runs_each_task_once() -> None:
    run = started(dag(task("a"), task("b", "a"), task("c", "a"), task("d", "b", "c")))
    run.then(step("a"))
    run.when(done("a", 1)).then(step("b"), step("c"))
    run.when(done("b", 2)).then()
    run.when(done("c", 3)).then(step("d"))
    run.when(done("d", 4)).then(result(a=1, b=2, c=3, d=4))


def test_two_results_at_once_start_what_follows_once() -> None:
    run = started(dag(task("a"), task("b"), task("c", "a", "b"))).then(step("a"), step("b"))
    run.when(done("a"), done("b")).then(step("c"))


def test_a_failure_stops_what_needs_it_alone() -> None:
    run = started(dag(task("a"), task("b", "a"), task("c", "b"), task("x"), task("y", "x")))
    run.then(step("a"), step("x"))
    run.when(broken("a")).then(
        ruled_out("a", "b", "upstream_failed", "all_success: 1 failed"),
        ruled_out("b", "c", "upstream_failed", "all_success: 1 kept from running by a failure"),
    )
    run.when(done("x", 1)).then(step("y"))
    run.when(done("y", 2)).then(FailRun(ERROR))
    assert run.state == {"x": 1, "y": 2}


def test_a_failure_that_a_task_deals_with_is_no_failure_of_the_run() -> None:
    run = started(dag(task("a"), task("alarm", "a", trigger_rule="one_failed"))).then(step("a"))
    reason = "one_failed: 1 failed"
    run.when(broken("a")).then(
        RecordDecision("a", (facts.EdgeTried("alarm", "run", reason=reason),)), step("alarm")
    )
    run.when(done("alarm", "rung")).then(result(alarm="rung"))


def test_at_most_so_many_run_at_once_and_priority_goes_first() -> None:
    run = started(dag(task("a"), task("b"), task("c", priority=5), task("d"), max_parallel=2))
    run.then(step("c"), step("a"))
    run.when(done("a")).then(step("b"))
    run.when(done("c")).then(step("d"))
    run.when(done("b"), done("d")).then(CompleteRun)


def test_a_map_runs_once_for_each_item() -> None:
    run = started(dag(task("a"), task("each", map_over="a"), task("sum", "each"))).then(step("a"))
    run.when(done("a", [5, 6, 7])).then(
        mapped("a", "each", 3), step("each"), step("each", 2), step("each", 3)
    )
    run.when(done("each", 60, 2)).then()
    run.when(done("each", 50, 1), done("each", 70, 3)).then(step("sum"))
    run.when(done("sum", 180)).then(result(a=[5, 6, 7], each=[50, 60, 70], sum=180))


def test_a_map_over_nothing_is_completed() -> None:
    run = started(dag(task("a"), task("each", map_over="a"), task("sum", "each"))).then(step("a"))
    run.when(done("a", [])).then(mapped("a", "each", 0), step("sum"))
    run.when(done("sum", 0)).then(result(a=[], each=[], sum=0))


def test_a_rule_waits_for_a_map_that_is_not_expanded_yet() -> None:
    run = started(
        dag(
            task("a"),
            task("b"),
            task("each", map_over="a"),
            task("clean", "b", "each", trigger_rule="none_failed_min_one_success"),
            task("alarm", "each", trigger_rule="one_failed"),
        )
    )
    run.then(step("a"), step("b"))
    run.when(skipped("b")).then()
    run.when(done("a", [1, 2])).then(mapped("a", "each", 2), step("each"), step("each", 2))
    run.when(broken("each")).then(
        ruled_out("each", "clean", "upstream_failed", f"none_failed_min_one_success: {MIXED}"),
        RecordDecision(
            "each", (facts.EdgeTried("alarm", "run", reason="one_failed: 1 failed, 1 not ended yet"),)
        ),
        step("alarm"),
    )


def test_a_map_tolerates_failures_and_gives_the_other_results() -> None:
    run = started(dag(task("a"), task("each", map_over="a", tolerate=1), task("next", "each"))).then(
        step("a")
    )
    run.when(done("a", [1, 2])).then(RecordDecision, ScheduleStep, ScheduleStep)
    run.when(broken("each")).then()
    run.when(done("each", 4, 2)).then(step("next"))
    run.when(done("next")).then(result(a=[1, 2], each=[4], next=None))


def test_a_map_over_what_failed_in_part_goes_on_with_the_rest() -> None:
    run = started(
        dag(task("a"), task("one", map_over="a"), task("two", map_over="one", trigger_rule="all_done"))
    )
    run.then(step("a")).when(done("a", [1, 2, 3])).then(RecordDecision, [ScheduleStep] * 3)
    run.when(broken("one"), done("one", 20, 2), done("one", 30, 3)).then(
        mapped("one", "two", 2), step("two"), step("two", 2)
    )


def test_a_map_without_a_list_fails_its_task() -> None:
    run = started(dag(task("a"), task("each", map_over="a"), task("sum", "each"))).then(step("a"))
    reason = "task 'each' cannot map over 'a': it is no list but of type dict"
    run.when(done("a", {"x": 1})).then(
        RecordDecision("a", (facts.EdgeTried("each", "map", result=False, reason=reason, count=0),)),
        ruled_out("each", "sum", "upstream_failed", "all_success: 1 failed"),
        FailRun,
    )


def test_a_limit_and_batches() -> None:
    run = started(dag(task("each", map_over=list(range(5)), batch=2, limit=2)))
    run.then(mapped("each", "each", 5), step("each", 1, encode([0, 2])), step("each", 2, encode([2, 2])))
    run.when(done("each", [0, 10])).then(step("each", 3, encode([4, 1])))
    run.when(done("each", [20, 30], 2)).then()
    run.when(done("each", [40], 3)).then(result(each=[0, 10, 20, 30, 40]))


def test_a_branch_skips_what_it_did_not_choose_but_not_what_comes_after_its_choice() -> None:
    run = started(
        dag(
            task("pick", run=branch(lambda: "a")),
            task("a", "pick"),
            task("b", "pick"),
            task("after_b", "b"),
            task("join", "a", "after_b", "pick", trigger_rule="none_failed_min_one_success"),
        )
    )
    run.then(step("pick"))
    run.when(done("pick", "a")).then(
        RecordDecision(
            "pick",
            (
                facts.EdgeTried("a", "run", reason="branch"),
                facts.EdgeTried("b", "skipped", result=False, reason="branch: not chosen"),
                facts.EdgeTried("join", "run", reason="branch"),
            ),
        ),
        ruled_out("b", "after_b", "skipped", "all_success: 1 skipped"),
        step("a"),
    )
    run.when(done("a", 1)).then(RecordDecision, step("join"))
    run.when(done("join", 2)).then(result(pick="a", a=1, join=2))


def test_a_short_circuit_skips_all_that_follows() -> None:
    run = started(
        dag(
            task("open?", run=short_circuit(lambda: False)),
            task("a", "open?"),
            task("b", "a", trigger_rule="all_done"),
        )
    )
    run.then(step("open?"))
    run.when(done("open?", value=False)).then(RecordDecision, result(**{"open?": False}))
    other = started(dag(task("open?", run=short_circuit(lambda: True)), task("a", "open?"))).then(
        step("open?")
    )
    other.when(done("open?", value=True)).then(step("a"))


def test_n_of_m_cancels_the_rest() -> None:
    run = started(
        dag(
            task("a"),
            task("b"),
            task("c0"),
            task("c", "c0"),
            task("join", "a", "b", "c", trigger_rule=at_least(1, rest="cancel")),
        )
    )
    run.then(step("a"), step("b"), step("c0"))
    run.when(done("a", 1)).then(
        ruled_out("join", "c", "skipped", "at_least(1) of 'join': enough have succeeded"),
        CancelStep("b#1"),
        CancelStep("c0#1"),
        RecordDecision,
        step("join"),
    )
    cancelled = [facts.StepCancelled(step=f"{name}#1", attempt=1) for name in ("b", "c0")]
    run.when(*cancelled).then()
    run.when(done("join", 2)).then(result(a=1, join=2))
    assert not run.progress.ledger.unresolved, "a resume would try them again"


def test_a_resume_tries_what_failed_and_what_never_ran() -> None:
    run = started(dag(task("a"), task("b"), task("c", "b"), task("d", "a"))).then(step("a"), step("b"))
    run.when(done("a", 1), broken("b")).then(RecordDecision, step("d"))
    run.when(done("d", 4)).then(FailRun(ERROR))
    run.when(facts.RunResumed()).then()
    run.when(facts.StepCompleted(step="b#1", attempt=2, data=encode(2))).then(step("c"))
    run.when(done("c", 3)).then(result(a=1, b=2, c=3, d=4))


def test_a_resume_tries_the_items_that_failed_alone() -> None:
    run = started(dag(task("each", map_over=[1, 2, 3]), task("sum", "each")))
    run.then(RecordDecision, [ScheduleStep] * 3)
    run.when(done("each", 1), broken("each", 2), done("each", 3, 3)).then(RecordDecision, FailRun(ERROR))
    run.when(facts.RunResumed()).then()
    assert [one.step for one in run.progress.ledger.open.values()] == ["each#2"]
    run.when(facts.StepCompleted(step="each#2", attempt=2, data=encode(2))).then(step("sum"))
    run.when(done("sum", 6)).then(result(each=[1, 2, 3], sum=6))


def test_what_has_not_ended_gives_nothing_also_later() -> None:
    workflow = dag(
        task("a"), task("b"), task("first", "a", "b", trigger_rule="one_success", run=lambda a, b: [a, b])
    )
    run = started(workflow).then(step("a"), step("b"))
    run.when(done("b", 2)).then(RecordDecision, step("first"))
    run.when(done("a", 1)).then()
    work = run.program.work(run.progress, run.progress.ledger.open["first#1"])
    context: Any = None
    assert work.call(context) == [None, 2]


def test_a_fold_goes_on_as_the_progress_does() -> None:
    workflow = dag(task("a"), task("b"), task("each", map_over="a"), task("c", "b"), max_parallel=2)
    run = started(workflow).then(step("a"), step("b"))
    run.when(done("a", [1, 2, 3]), broken("b")).then(
        RecordDecision, RecordDecision, ScheduleStep, ScheduleStep
    )
    other = run.program.decode(run.program.encode(run.progress))
    assert other.status == run.progress.status
    assert other.tallies == run.progress.tallies
    assert (other.left, other.running, other.expanding) == (2 - 1, 2, run.progress.expanding)
    assert list(run.program.decide(other)) == list(run.program.decide(run.progress)) == []


def test_a_long_chain_of_skips_is_one_decision_round() -> None:
    names = [f"t{n:05}" for n in range(12_000)]
    chain = [task(names[0]), *(task(name, before) for before, name in pairwise(names))]
    run = started(dag(*chain)).then(ScheduleStep)
    run.when(broken(names[0])).then([RecordDecision] * 11_999, FailRun)


def calls_of(items: int) -> int:
    """How many Python functions are called when a map's results arrive in tens."""
    run = started(dag(task("each", map_over=list(range(items)), limit=100), task("end", "each")))
    calls = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        program, progress = run.program, run.progress
        progress, _ = advance(program, progress, [], 1)
        for first in range(1, items + 1, 10):
            arrivals = [done("each", 1, number) for number in range(first, first + 10)]
            progress, _ = advance(program, progress, arrivals, 2)
    finally:
        sys.setprofile(None)
    assert progress.ledger.open.keys() == {"end#1"}
    return calls


def test_ten_times_the_arrivals_cost_ten_times_as_much() -> None:
    assert calls_of(10_000) <= 11 * calls_of(1_000)


def test_what_failed_after_a_failure_begins_anew_when_that_is_mended() -> None:
    run = started(
        dag(
            task("one", map_over=[1, 2, 3]),
            task("two", map_over="one", trigger_rule="all_done"),
            max_parallel=3,
        )
    )
    run.then(RecordDecision, [ScheduleStep] * 3)
    run.when(broken("one"), done("one", 20, 2), done("one", 30, 3)).then(
        mapped("one", "two", 2), step("two"), step("two", 2)
    )
    run.when(broken("two"), done("two", 300, 2)).then(FailRun(ERROR))
    run.when(facts.RunResumed()).then(CancelStep("two#1"))
    run.when(facts.StepCancelled(step="two#1", attempt=2)).then()
    run.when(facts.StepCompleted(step="one#1", attempt=2, data=encode(10))).then(
        mapped("one", "two", 3), step("two", 3), step("two", 4), step("two", 5)
    )
    run.when(*(done("two", n, n) for n in (3, 4, 5))).then(result(one=[10, 20, 30], two=[3, 4, 5]))
    assert not run.progress.ledger.unresolved
