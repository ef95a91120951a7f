"""The commands that look: `runs`, `show`, `events`, `result`, `stages`, `decisions`, `workflows`, `graph`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast.cli.marks import TIMES
from tests.e2e.cli.calling import Call, Done, effects

pytestmark = pytest.mark.usefixtures("each_store")


@pytest.fixture
def ended(each_store: None, call: Call) -> None:
    """A completed run `good`, a failed one `bad`, and one that nobody took, `new`."""
    assert call("run", "flows:wide", "--param", "n=3", "--id", "good", "--tag", "red").code == 0
    assert call("run", "flows:fails", "--id", "bad").code == 1
    assert call("run", "flows:greet", "--detach", "--id", "new").code == 0


def ids(done: Done) -> list[str]:
    return [run["id"] for run in done.document["items"]]


# --- runs


@pytest.mark.usefixtures("ended")
def test_runs_lists_the_newest_first(call: Call) -> None:
    done = call("runs")
    rows = [line.split()[:4] for line in done.out.splitlines()]
    assert rows == [
        ["run", "workflow", "status", "started"],
        ["new", "greet", "○", "pending"],
        ["bad", "fails", "✗", "failed"],
        ["good", "wide", "✓", "completed"],
    ]
    assert "second: RuntimeError: the printer is on fire" in done.out


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--workflow", "wide"], ["good"]),
        (["--status", "failed"], ["bad"]),
        (["--status", "failed,pending"], ["new", "bad"]),
        (["--status", "failed", "--status", "completed"], ["bad", "good"]),
        (["--tag", "red"], ["good"]),
        (["--since", "1h"], ["new", "bad", "good"]),
        (["--until", "2020-01-01"], []),
        (["--oldest-first"], ["good", "bad", "new"]),
    ],
)
def test_runs_can_be_filtered(call: Call, words: list[str], found: list[str]) -> None:
    assert ids(call("runs", "--json", *words)) == found


@pytest.mark.usefixtures("ended")
def test_runs_come_in_pages_and_say_how_to_go_on(call: Call) -> None:
    page = call("runs", "--limit", "2").out
    command = re.search(r"2 of 3 runs; the next: holdfast (.*)", page)
    assert command
    rest = call(*command[1].split(), "--json")
    assert ids(rest) == ["good"]
    assert rest.document["next"] is None
    assert rest.document["total"] == 3


def test_an_empty_database_says_how_to_begin(call: Call) -> None:
    assert call("run", "flows:greet", "--id", "r-1").code == 0
    assert call("delete", "r-1").code == 0
    assert call("runs").out.startswith("No runs yet. Start one: holdfast run MODULE:WORKFLOW")
    assert call("runs", "--status", "failed").out.startswith("No run matches.")
    assert call("runs", "--json").document == {"items": [], "next": None, "total": 0}


# --- show


@pytest.mark.usefixtures("ended")
def test_show_has_everything_of_a_completed_run(call: Call) -> None:
    page = call("show", "good").out
    for text in (
        "run       good",
        "status    ✓ completed",
        'params    {"n":3}',
        "tags      red",
        f"✓ item {TIMES}3",
        "↛ never  negative, did not hold",
        '{"n": 3, "sum": 3}',
    ):
        assert text in page, page
    document = call("show", "good", "--json").document
    assert {"id", "status", "params", "result", "stages", "decisions", "waiting_on", "created_at"} <= set(
        document
    )
    assert [stage["name"] for stage in document["stages"]] == ["item", "item", "item", "sum"]


@pytest.mark.usefixtures("ended")
def test_show_tells_an_error_its_place_and_what_to_do(call: Call) -> None:
    page = call("show", "bad").out
    assert "error at second, attempt 1: RuntimeError: the printer is on fire" in page
    assert re.search(r"flows\.py:\d+ in fails", page)
    assert "fix: mend the cause, then go on: holdfast resume bad --app MODULE" in page
    assert "Traceback" not in page
    assert "Traceback" in call("show", "bad", "--traceback").out


# --- events and journal


@pytest.mark.usefixtures("ended")
def test_events_are_those_that_are_there(call: Call) -> None:
    done = call("events", "good", "--json")
    assert done.lines[0]["type"] == "run.started"
    assert done.lines[-1]["type"] == "run.completed"
    waiting = call("events", "new", "--json")
    assert [line["type"] for line in waiting.lines] == ["run.started"]


@pytest.mark.usefixtures("ended")
def test_events_can_be_chosen_by_position_and_type(call: Call) -> None:
    stages = call("events", "good", "--type", "stage.*", "--json").lines
    assert {line["type"] for line in stages} == {"stage.scheduled", "stage.completed"}
    after = stages[3]["position"]
    assert call("events", "good", "--type", "stage.*", "--after", str(after), "--json").lines == stages[4:]
    lines = call("events", "good", "--type", "run.started,run.completed").out.splitlines()
    assert [line.split()[2] for line in lines] == ["run.started", "run.completed"]
    assert "no such events" in call("events", "good", "--type", "run.failed").err


@pytest.mark.usefixtures("ended")
def test_the_journal_has_every_fact(call: Call) -> None:
    facts = call("journal", "bad", "--json").document
    assert [fact["position"] for fact in facts] == list(range(1, len(facts) + 1))
    assert (facts[0]["fact"], facts[-1]["fact"]) == ("RunStarted", "RunFailed")
    assert "StepFailed" in call("journal", "bad").out


# --- result, stages, decisions


@pytest.mark.usefixtures("ended")
def test_result_is_the_value_or_the_failure(call: Call) -> None:
    assert call("result", "good", "--json").document == {"n": 3, "sum": 3}
    assert call("result", "good").out == '{"n": 3, "sum": 3}\n'
    failed = call("result", "bad", "--json")
    assert (failed.code, failed.out) == (1, "")
    assert failed.error["code"] == "run_failed"
    assert failed.error["fix"].endswith("holdfast resume bad --app MODULE")


@pytest.mark.usefixtures("ended")
def test_result_of_a_run_that_goes_on_wants_to_be_waited_for(call: Call) -> None:
    early = call("result", "new")
    assert early.code == 2
    assert "fix: Wait for it with --wait." in early.err
    late = call("result", "new", "--timeout", "0.1")
    assert late.code == 2
    assert "has not ended within 0.1 s" in late.err


@pytest.mark.usefixtures("ended")
def test_stages_are_a_table_or_dicts(call: Call) -> None:
    lines = call("stages", "good").out.splitlines()
    assert lines[0].split() == ["stage", "status", "attempt", "took", "began", "worker", "output"]
    assert [line.split("  ")[0] for line in lines[1:]] == ["item #1", "item #2", "item #3", "sum"]
    stages = call("stages", "bad", "--json").document
    assert [(stage["name"], stage["status"], stage["attempt"]) for stage in stages] == [
        ("first", "completed", 1),
        ("second", "failed", 1),
    ]
    assert stages[1]["error"]["type"] == "RuntimeError"
    assert call("stages", "new").out == "Run new has no stages yet: it is pending.\n"


@pytest.mark.usefixtures("ended")
def test_inputs_of_stages_need_the_workflow(call: Call) -> None:
    stages = call("stages", "bad", "--inputs", "--app", "flows", "--json").document
    assert [stage["input"] for stage in stages] == [{}, {"first": True}]
    assert "input" in call("stages", "bad", "--inputs", "--app", "flows").out
    wrong = call("stages", "bad", "--inputs", "--app", "flows:nothing")
    assert wrong.code == 0  # importing the module is enough


CHANGING = """
from pathlib import Path
from holdfast import workflow_factory

def second(state):
    assert Path("mended").exists()
    return {}

@workflow_factory("changing")
def changing(graph, runtime, params):
    nodes = [("first", lambda _: {}), ("second", second), ("third", lambda _: {})][:%s]
    graph.add_sequence(nodes).set_entry_point("first").set_exit_point(nodes[-1][0])
    return {}
"""


def test_a_changed_definition_is_among_the_decisions(call: Call, tmp_path: Path) -> None:
    (tmp_path / "monday.py").write_text(CHANGING % 2)
    (tmp_path / "tuesday.py").write_text(CHANGING.replace('changing")', 'changing", replace=True)') % 3)
    assert call("run", "monday.py:changing", "--id", "changes").code == 1
    assert "definition" not in call("decisions", "changes").out
    (tmp_path / "mended").touch()
    assert call("resume", "changes", "--app", "tuesday.py").code == 0
    assert "definition  changed; the journal fits" in call("decisions", "changes").out
    assert "definition, changed; the journal fits" in call("show", "changes").out


@pytest.mark.usefixtures("ended")
def test_decisions_have_every_edge(call: Call) -> None:
    edges = call("decisions", "good", "--json").document
    tried = [(edge["from_node"], edge["to_node"], edge["result"]) for edge in edges]
    assert ("item", "never", False) in tried
    assert ("item", "sum", True) in tried
    assert "↛  never" in call("decisions", "good").out
    assert call("decisions", "new").out.startswith("Run new has no decisions yet")


# --- one run by the beginning of its id


def test_a_run_may_be_named_by_the_beginning_of_its_id(call: Call) -> None:
    for name in ("order-71", "order-72", "invoice-1"):
        assert call("run", "flows:greet", "--id", name).code == 0
    found = call("show", "invo")
    assert found.code == 0
    assert found.err == "invo is run invoice-1\n"
    assert call("result", "invo", "--json").err == ""
    both = call("show", "order-7")
    assert both.code == 2
    assert "order-72 (greet, completed), order-71 (greet, completed)" in both.err
    assert call("show", "ord").code == 3


# --- workflows and graph


def test_workflows_of_an_app_need_no_database(call: Call) -> None:
    listed = call("workflows", "--app", "flows", "--json").document
    names = [each["name"] for each in listed]
    assert {"greet", "order", "pipeline"} <= set(names)
    assert names == sorted(names)
    assert not Path("holdfast.db").exists()
    text = call("workflows", "--app", "flows").out
    assert re.search(r"order +pages \[title\] +this app +has typed params", text)


@pytest.mark.usefixtures("ended")
def test_workflows_that_workers_know_are_listed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from holdfast import registry

    monkeypatch.setattr(registry.default, "_workflows", {})
    listed = {each["name"]: each["here"] for each in call("workflows", "--json").document}
    assert listed["greet"] is False


def test_a_graph_is_text_for_mermaid_or_graphviz(call: Call) -> None:
    mermaid = call("graph", "flows:slow").out
    assert mermaid.startswith("flowchart TD\n")
    assert '["second"]' in mermaid
    assert call("graph", "flows:slow", "--format", "dot").out.startswith('digraph "slow" {')
    assert call("graph", "flows:wide", "--param", "n=1", "--json").document["nodes"] == [
        "item",
        "sum",
        "never",
    ]
    assert effects() == []


def test_a_graph_is_drawn_for_a_terminal_and_for_a_browser(call: Call) -> None:
    assert "│ second" in call("graph", "flows:slow", "--format", "ascii").out
    assert call("graph", "flows:slow", "--format", "svg").out.startswith("<svg ")


def test_the_path_of_a_run_lies_over_its_graph(call: Call) -> None:
    call("run", "flows:wide", "--id", "wide-1", "--param", "n=3")
    picture = call("graph", "flows:wide", "--run", "wide-1", "--format", "ascii").out
    assert "✓ item" in picture
    assert "3× " in picture  # noqa: RUF001
    assert "○ never" in picture
    assert "not reached" in picture
    assert "class n2,legend_idle idle" in call("graph", "flows:wide", "--run", "wide-1").out
    document = call("graph", "flows:wide", "--run", "wide-1", "--json").document
    assert document["visits"]["item"]["count"] == 3
    assert {"from": "START", "to": "item", "count": 3} in document["taken"]


def test_the_path_of_another_workflows_run_is_refused(call: Call) -> None:
    call("run", "flows:wide", "--id", "wide-1", "--param", "n=3")
    done = call("graph", "flows:slow", "--run", "wide-1")
    assert done.code == 2
    assert "run wide-1 is of wide, not of slow" in done.err
    assert call("graph", "flows:wide", "--run", "nowhere").code == 3
    assert call("graph", "flows:wide", "--run", "wide-1", "--param", "n=3").code == 2


def test_a_graph_that_needs_params_says_so(call: Call) -> None:
    done = call("graph", "flows:wide")
    assert done.code == 2
    assert "KeyError: 'n'" in done.err
    assert "--param NAME=VALUE" in done.err
