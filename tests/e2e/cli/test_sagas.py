"""Sagas on the command line: run, shown, drawn, and what a person does when a compensation fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cli.calling import Call

MODULE = """
from holdfast import RetryPolicy, Saga

def stuck():
    raise ConnectionError("the warehouse is down")

def ship():
    raise RuntimeError("no carrier")

shop = Saga("shop")
shop.add_step("charge", forward=lambda: "p-7", compensate=lambda output: f"{output} refunded")
shop.add_step("reserve", forward=lambda: 3, compensate=stuck, retry=RetryPolicy(attempts=1))
shop.add_step("ship", forward=ship)
"""


@pytest.fixture(autouse=True)
def module(folder: Path) -> None:
    (folder / "sagas.py").write_text(MODULE)


@pytest.mark.usefixtures("each_store")
def test_a_saga_is_run_and_its_compensations_are_seen(call: Call) -> None:
    ran = call("run", "sagas:shop", "--id", "order-7")
    assert ran.code == 1
    assert "compensate:charge completed" in ran.out
    shown = call("show", "order-7")
    assert "ship" in shown.out
    assert "→ compensate:reserve  backward, step 'ship' failed: no carrier" in shown.out
    assert "not compensated: reserve (the warehouse is down)" in shown.out


@pytest.mark.usefixtures("each_store")
def test_a_person_says_what_became_of_a_compensation(call: Call) -> None:
    call("run", "sagas:shop", "--id", "order-7")
    assert "compensation_failed" in call("dead-letters").out
    shown = call("dead-letters", "show", "order-7")
    assert "dead-letters redrive order-7" in shown.out
    assert "--done STEP" in shown.out

    wrong = call("dead-letters", "redrive", "order-7", "--done", "charge")
    assert wrong.code == 2
    assert "no compensation of step 'charge' has failed" in wrong.err
    assert "Those of these steps have: reserve#1." in wrong.err

    assert call("dead-letters", "redrive", "order-7", "--skip", "reserve").code == 0
    resumed = call("resume", "order-7", "--app", "sagas")
    assert resumed.code == 1
    assert "left as they are: reserve" in resumed.out + resumed.err
    assert "skipped" in call("stages", "order-7").out


def test_done_and_skip_are_for_one_run(call: Call) -> None:
    refused = call("dead-letters", "redrive", "--all", "--done", "charge")
    assert refused.code == 2
    assert "--done and --skip are for redriving one run" in refused.err


def test_a_saga_is_drawn(call: Call) -> None:
    drawn = call("graph", "sagas:shop", "--format", "mermaid")
    assert drawn.code == 0
    assert '-.->|"undo"|' in drawn.out
    assert "undo charge" in call("graph", "sagas:shop").out
