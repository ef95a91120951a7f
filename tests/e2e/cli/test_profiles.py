"""`profiles`: named settings of stages, seen, kept and forgotten from the terminal, on each store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.cli.calling import Call

MODULE = """
from holdfast import END, START, State, workflow_factory
from holdfast.profiles import StageProfile

def detect(state, step):
    return {"said": [step.profile.agent, step.profile.prompt, dict(step.profile.options)]}

@workflow_factory("scan", replace=True)
def scan(graph, runtime, params: dict):
    graph.add_node("detect", detect, profile=StageProfile(prompt="Look.", options={"n": 1}))
    graph.add_edge(START, "detect").add_edge("detect", END)
    return State()
"""

GENTLE = {"detect": {"agent": "eyes", "options": {"n": 0}}}


@pytest.fixture(autouse=True)
def module(folder: Path) -> None:
    (folder / "scans.py").write_text(MODULE)
    (folder / "gentle.json").write_text(json.dumps(GENTLE))


@pytest.mark.usefixtures("each_store")
def test_a_profile_is_kept_used_seen_and_forgotten(call: Call) -> None:
    assert call("run", "scans:scan", "--id", "first").code == 0  # makes the database
    kept = call("profiles", "scan", "--save", "gentle", "--stages", "@gentle.json", "--app", "scans")
    assert kept.code == 0, kept.err
    for text in ("gentle", "detect", "eyes", '{"n": 0}'):
        assert text in kept.out
    done = call("run", "scans:scan", "--profile", "gentle")
    assert json.loads(done.last_line) == {"said": ["eyes", "Look.", {"n": 0}]}
    (found,) = call("profiles", "scan", "--json").document
    assert found == {
        "name": "gentle",
        "stages": {"detect": {"agent": "eyes", "prompt": None, "options": {"n": 0}}},
    }
    gone = call("profiles", "scan", "--delete", "gentle", "--app", "scans")
    assert (gone.code, "No profile of scan" in gone.out) == (0, True)
    refused = call("run", "scans:scan", "--profile", "gentle")
    assert (refused.code, "no profile 'gentle'" in refused.err) == (2, True)


def test_a_profile_for_an_unknown_stage_is_refused_before_there_is_a_run(call: Call) -> None:
    assert call("run", "scans:scan", "--id", "first").code == 0
    wrong = json.dumps({"detects": {"prompt": "x"}})
    assert call("profiles", "scan", "--save", "wrong", "--stages", wrong, "--app", "scans").code == 0
    refused = call("run", "scans:scan", "--profile", "wrong", "--json")
    assert (refused.code, refused.error["code"]) == (2, "payload_rejected")
    assert "the stages are detect" in refused.error["fix"].lower()
    assert call("runs", "--json").document["total"] == 1


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["nobody"], 3, "nobody"),
        (["scan", "--save", "p"], 2, "--save and --stages go together"),
        (["scan", "--stages", "{}"], 2, "--save and --stages go together"),
        (["scan", "--save", "p", "--stages", "[]"], 2, "--stages is no JSON object"),
        (["scan", "--save", "p", "--stages", "@none.json"], 2, "none.json"),
        (["scan", "--save", "p", "--stages", '{"a": 1}'], 2, "settings of 'a'"),
        (["scan", "--save", "p", "--stages", '{"a": {"words": "x"}}'], 2, "agent, prompt, options"),
        (["scan", "--save", "p", "--stages", '{"a": {"prompt": 7}}'], 2, "prompt"),
        (["scan", "--save", "", "--stages", "{}"], 2, "name"),
        (["scan", "--delete", ""], 2, "name"),
    ],
)
def test_wrong_use_is_told(call: Call, words: list[str], code: int, told: str) -> None:
    assert call("run", "scans:scan", "--id", "first").code == 0
    done = call("profiles", *words)
    assert (done.code, told in done.err) == (code, True), done.err
