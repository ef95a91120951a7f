"""Journals that an earlier version wrote are understood as they were: a change of stored data is noticed here.

What is kept is never written anew to make a test pass: a run of a user would not fit either.
"""

from __future__ import annotations

import msgspec
import pytest

from holdfast import Runtime
from holdfast.core.advance import wanted
from holdfast.core.program import fold
from holdfast.core.work import Blobs
from holdfast.model import facts
from holdfast.registry import as_workflow
from tests.regression.recorded import FOLDER, WORKFLOWS, Recorded


@pytest.fixture(params=WORKFLOWS)
def name(request: pytest.FixtureRequest) -> str:
    kept: str = request.param
    return kept


def commits(recorded: Recorded) -> list[tuple[facts.AnyFact, ...]]:
    return [facts.Journal.decode(msgspec.json.encode(commit)) for commit in recorded.commits]


def kept(name: str) -> Recorded:
    return msgspec.json.decode((FOLDER / f"{name}.json").read_bytes(), type=Recorded)


def test_each_fact_is_read_and_written_as_it_was(name: str) -> None:
    recorded = kept(name)
    written = [msgspec.json.decode(facts.Journal.encode(commit)) for commit in commits(recorded)]
    assert written == recorded.commits


def test_the_state_after_each_commit_is_what_it_was(name: str) -> None:
    recorded = kept(name)
    program = as_workflow(WORKFLOWS[name]()).open(Runtime(), {}, Blobs())
    progress = program.start()
    for commit, state in zip(commits(recorded), recorded.states, strict=True):
        progress = fold(program, progress, commit)
        assert msgspec.json.decode(msgspec.json.encode(program.state(progress))) == state
    assert progress.ledger.ended is not None


def test_what_was_decided_is_decided_again(name: str) -> None:
    """After the facts of a commit nothing more is wanted, and a stored fold goes on as the progress does."""
    program = as_workflow(WORKFLOWS[name]()).open(Runtime(), {}, Blobs())
    progress = program.start()
    for commit in commits(kept(name)):
        progress = fold(program, program.decode(program.encode(progress)), commit)
        assert list(wanted(program, progress, progress.ledger.now)) == []
    assert program.hash == progress.ledger.hash
