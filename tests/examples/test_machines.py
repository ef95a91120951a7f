"""The examples of machines: the life of an assessment, and deployments that end well or are rolled back."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from examples.assessment import demo as assessing
from examples.assessment.workflow import lifecycle
from examples.deployment import demo as deploying
from examples.deployment.workflow import deployment
from holdfast import InvalidTransition


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=160)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_life_cycle_has_eight_states_and_no_findings() -> None:
    assert len(lifecycle.chart.states) == 8
    assert lifecycle.findings() == []
    with pytest.raises(InvalidTransition, match=r"^Invalid transition: DRAFT -> APPROVE$"):
        lifecycle.next_state("DRAFT", "APPROVE")
    assert lifecycle.next_state("CALCULATING", "FAIL") == "ACTIVE"
    for final in ("CLOSED", "ARCHIVED", "DELETED"):
        with pytest.raises(InvalidTransition):
            lifecycle.next_state(final, "SUBMIT")


async def test_an_assessment_lives_through_two_engines(console: Console) -> None:
    assert await assessing.main(console) == 0
    out = printed(console)
    assert "Invalid transition: DRAFT -> APPROVE" in out
    assert "waits for event START_CALCULATION, event CLOSE" in out
    assert "RECALCULATE        Invalid transition: ARCHIVED -> RECALCULATE" in out


async def test_visitors_see_the_last_release_that_was_well(console: Console) -> None:
    assert await deploying.main(console) == 0
    out = printed(console)
    assert "Ada approves her own: changed=False" in out
    assert "deploy-2: rolled back; visitors see <h1>Release 1</h1>" in out
    assert "Grace approves: rolled back, for the site says {'status': 'on fire'}" in out
    assert "Invalid transition: production -> rolback" in out


def test_the_deployment_has_no_findings() -> None:
    assert deployment.findings() == []
    assert Path(deploying.__file__).with_name("README.md").exists()
