"""Child runs without store or loop: their ids, what parents and children send each other, what a step absorbs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast import END, START, StateGraph
from holdfast.core.children import child_id, is_child, unborn_attempts
from holdfast.core.effects import Holding, derive
from holdfast.core.ledger import Ledger, admit
from holdfast.errors import PayloadRejected
from holdfast.model import facts
from holdfast.model.commands import CompleteRun, RecordDecision, ScheduleStep
from holdfast.model.commit import Deliver
from holdfast.model.ids import LONGEST_RUN_ID, check_new_run_id, check_run_id
from holdfast.model.values import encode
from holdfast.testing import given
from tests.graphs import nothing, sequence

HOLDING = Holding("default", "outer", 0, "me", run="r")
CHILD = facts.RunStarted(workflow="outer", parent="r", parent_step="review#1", depth=1)
NESTED = facts.StepScheduled(at=5, step="review#1", name="review", kind="run")


def folded(*journal: facts.Fact) -> Ledger:
    ledger = Ledger()
    for fact in journal:
        ledger.absorb(fact)
    return ledger


def sent(*recorded: facts.Fact, before: tuple[facts.Fact, ...] = ()) -> dict[str, Any]:
    """What the facts send to other runs: by run, the arriving fact."""
    ledger = folded(*before, *recorded)
    effects = derive(recorded, ledger, HOLDING, None, 9)
    others = [each for each in effects if isinstance(each, Deliver) and each.run]
    return {each.run: facts.Journal.decode_one(each.fact) for each in others}


@pytest.mark.parametrize(
    ("parent", "step", "wanted"),
    [
        ("order-7", "review#1", "order-7/review~1"),
        ("a/b~1", "c.d#12", "a/b~1/c.d~12"),
        ("r", "detect page#2", None),
        ("r", "a/b#1", None),
        ("r", "é#1", None),
        ("x" * 199, "review#3", None),
    ],
)
def test_a_childs_id_follows_from_parent_and_step(parent: str, step: str, wanted: str | None) -> None:
    """Readable where that makes an id; else a digest does. No user can take it."""
    made = child_id(parent, step)
    assert wanted in (None, made)
    assert made == child_id(parent, step) == check_run_id(made)
    assert len(made) <= LONGEST_RUN_ID
    assert is_child(made)
    with pytest.raises(PayloadRejected, match="malformed run id"):
        check_new_run_id(made)


def test_different_steps_have_different_children() -> None:
    steps = ["a#1", "a#2", "b c#1", "b/c#1", "b~c#1"]
    parents = ["r", "r/a~1", "y" * 198, "y" * 199]
    assert len({child_id(parent, step) for parent in parents for step in steps}) == 20


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (facts.RunCompleted(data=msgspec.Raw(b'{"n":1}')), facts.StepCompleted),
        (facts.RunFailed(error=facts.ErrorInfo("boom", "it broke")), facts.StepFailed),
        (facts.RunCancelled(), facts.StepCancelled),
    ],
)
def test_a_childs_end_goes_to_its_parent(end: facts.Fact, told: type[facts.Fact]) -> None:
    arrived = sent(end, before=(CHILD,))
    assert list(arrived) == ["r"]
    assert arrived["r"].step == "review#1"
    assert type(arrived["r"]) is told
    assert sent(end, before=(facts.RunStarted(workflow="outer"),)) == {}


def test_large_parts_go_up_whole() -> None:
    end = facts.RunCompleted(data=msgspec.Raw(b'{"n":{"$ref":"h"}}'))
    effects = derive([end], folded(CHILD, end), HOLDING, None, 9, {"h": b'"large"'})
    (told,) = [each for each in effects if isinstance(each, Deliver)]
    assert bytes(facts.Journal.decode_one(told.fact).data) == b'{"n":"large"}'  # type: ignore[union-attr]


def test_cancels_and_pauses_go_down_to_open_children_alone() -> None:
    other = facts.StepScheduled(step="a#1", name="a")
    asked = sent(facts.StepCancelRequested(step="review#1"), before=(NESTED, other))
    assert list(asked) == ["r/review~1"]
    assert isinstance(asked["r/review~1"], facts.CancelRequested)
    assert sent(facts.StepCancelRequested(step="a#1"), before=(NESTED, other)) == {}
    assert isinstance(sent(facts.RunPaused(), before=(NESTED,))["r/review~1"], facts.RunPaused)
    resumed = sent(facts.RunResumed(key="k"), before=(NESTED, facts.RunPaused()))["r/review~1"]
    assert isinstance(resumed, facts.RunResumed)
    assert resumed.unpauses


def test_what_only_takes_a_pause_back_starts_no_ended_run() -> None:
    resume = facts.RunResumed(key="k", unpauses=True)
    failed = facts.RunFailed(error=facts.ErrorInfo("boom", "it broke"))
    assert admit(folded(CHILD, failed), resume, 9) is None
    assert admit(folded(CHILD, facts.RunPaused()), resume, 9) is not None


def test_a_failing_run_lets_its_children_end() -> None:
    waits = facts.StepScheduled(step="b#1", name="b", kind="signal")
    commands = folded(NESTED, waits).failing(facts.ErrorInfo("boom", "it broke"))
    assert [command.step for command in commands] == ["b#1"]  # type: ignore[attr-defined]


def test_a_resume_keeps_children_that_were_asked_to_end() -> None:
    """When they end as cancelled all the same, they are taken up again; see the simulation."""
    asked = (NESTED, facts.RunPaused(), facts.CancelRequested(), facts.StepCancelRequested(step="review#1"))
    step = folded(*asked).open["review#1"]
    assert (step.cancelling, step.kept) == (True, False)
    step = folded(*asked, facts.RunResumed(key="k")).open["review#1"]
    assert (step.cancelling, step.kept) == (False, True)
    ledger = folded(*asked, facts.RunResumed(key="k"))
    again = admit(ledger, facts.StepCancelled(step="review#1", attempt=1), 9)
    assert again == facts.StepRetried(at=9, step="review#1", attempt=2, reason="resumed")
    assert not folded(*asked, facts.RunResumed(key="k"), again).open["review#1"].kept


def test_steps_of_a_fork_get_children_of_their_own() -> None:
    forked = facts.RunForked(source="r", at_position=2)
    (again,) = unborn_attempts(folded(NESTED, forked))
    assert (again.step, again.attempt) == ("review#1", 2)
    ledger = folded(NESTED, forked, again)
    assert unborn_attempts(ledger) == []
    assert ledger.open["review#1"].born == 2


def test_what_never_began_begins_with_a_later_attempt() -> None:
    error = facts.ErrorInfo("workflow_not_found", "no such workflow")
    never = facts.StepFailed(step="review#1", attempt=1, error=error)
    began = facts.StepFailed(step="review#1", attempt=1, error=error, started=5)
    resumed = facts.RunResumed(key="k", reopened=(("review#1", 2),))
    assert folded(NESTED, never, resumed).open["review#1"].born == 2
    assert folded(NESTED, began, resumed).open["review#1"].born == 1


def test_a_node_that_is_a_graph_is_a_step_of_its_own_kind() -> None:
    graph = sequence("outer", review=sequence("inner", a=nothing))
    begun = [
        facts.RunStarted(workflow="outer"),
        facts.StepScheduled(step="START#1", name="START"),
        facts.StepCompleted(step="START#1", attempt=1, data=encode({"n": 1})),
    ]
    after = given(graph, begun).then(RecordDecision, ScheduleStep("review#1", "review", "run"))
    after.when(facts.StepCompleted(step="review#1", attempt=1, data=encode({"m": 2}))).then(
        RecordDecision, CompleteRun
    )
    assert after.state == {"n": 1, "m": 2}


def test_graphs_are_drawn_around_what_is_in_them() -> None:
    inner = StateGraph("inner").add_node("read", nothing).add_edge(START, "read").add_edge("read", END)
    graph = sequence("outer", a=nothing, review=inner)
    mermaid = graph.to_mermaid().splitlines()
    assert mermaid[3:8] == [
        '    subgraph n1["review"]',
        "        n1_start([START])",
        '        n1_n0["read"]',
        "        n1_finish([END])",
        "    end",
    ]
    assert {"    n0 --> n1", "    n1_start --> n1_n0"} <= set(mermaid)
    dot = graph.to_dot()
    assert '    subgraph "cluster_review" {' in dot
    assert '"a" -> "review/START" [label="", style=solid, lhead="cluster_review"];' in dot
    assert "review" in graph.to_ascii()
    assert graph.hash != sequence("outer", a=nothing, review=nothing).hash
