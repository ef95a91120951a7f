"""What is kept of runs that were laid down, and when it is taken in place of a load."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.core.effects import Holding
from holdfast.core.program import Workflow
from holdfast.core.work import Blobs
from holdfast.model.run import RunRow
from holdfast.model.secrets import Secrets
from holdfast.registry import as_workflow
from holdfast.runtime import rested
from holdfast.runtime.held import Held
from holdfast.runtime.rested import Rested
from tests.machines import assessment
from tests.unit.errand import Errand


@pytest.fixture
def workflow() -> Workflow:
    return as_workflow(assessment())


def laid_down(workflow: Workflow, name: str = "run", size: int = 100, secrets: Secrets | None = None) -> Held:
    program = Errand()
    holding = Holding("default", "errand", 0, "me")
    run = Held(
        name,
        program,
        program.start(),
        blobs=Blobs({"large": b"x" * size}),
        secrets=secrets or Secrets(),
        holding=holding,
        position=7,
    )
    run.workflow, run.last_commit, run.facts_since_fold = workflow, "me:1", 5
    return run


def row(run: Held) -> RunRow:
    return RunRow(id=run.id, workflow="errand", position=run.position, last_commit=run.last_commit)


def test_what_is_kept_is_taken_once(workflow: Workflow) -> None:
    known, run = Rested(), laid_down(workflow)
    known.keep(run)
    loaded = known.take(row(run), workflow)
    assert loaded is not None
    assert (loaded.progress, loaded.program, loaded.facts) == (run.progress, run.program, 5)
    assert known.take(row(run), workflow) is None


@pytest.mark.parametrize("change", [{"last_commit": "other:1"}, {"position": 8}])
def test_a_run_that_others_committed_to_is_read_anew(workflow: Workflow, change: dict[str, object]) -> None:
    known, run = Rested(), laid_down(workflow)
    known.keep(run)
    assert known.take(msgspec.structs.replace(row(run), **change), workflow) is None


def test_so_is_one_whose_workflow_was_replaced_or_is_not_known(workflow: Workflow) -> None:
    known, run = Rested(), laid_down(workflow)
    known.keep(run)
    assert known.take(row(run), as_workflow(assessment())) is None
    run.workflow = None
    known.keep(run)
    assert known.take(row(run), workflow) is None


def test_so_is_one_with_secrets(workflow: Workflow) -> None:
    known, run = Rested(), laid_down(workflow, secrets=Secrets({"token": "abcdefgh"}))
    known.keep(run)
    assert known.take(row(run), workflow) is None


@pytest.mark.parametrize("most", [("MOST_BYTES", 250), ("MOST_RUNS", 2)])
def test_who_has_rested_longest_is_forgotten(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch, most: tuple[str, int]
) -> None:
    monkeypatch.setattr(rested, *most)
    known = Rested()
    runs = [laid_down(workflow, name) for name in ("a", "b", "a", "c")]
    for run in runs:
        known.keep(run)
    assert [known.take(row(run), workflow) is not None for run in runs[1:]] == [False, True, True]


def test_one_that_is_too_large_is_not_kept(workflow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rested, "MOST_BYTES", 250)
    known = Rested()
    known.keep(laid_down(workflow, size=251))
    assert known.take(row(laid_down(workflow)), workflow) is None
