"""The SCXML cases of SCION: which states are active at the start and after each event, straight through and saved.

The cases in `scion/` are by Jacob Beard, INFICON, and other SCION contributors, under the Apache License 2.0; see
LICENSE.txt and README.md there.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from holdfast import StateMachine
from tests.conftest import OpenEngine

SCION = Path(__file__).parent / "scion"
CASES = sorted(SCION.glob("*/*.scxml"))


def case_name(path: Path) -> str:
    return path.relative_to(SCION).with_suffix("").as_posix()


def expected(path: Path) -> dict[str, Any]:
    script: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return script


def active(machine: StateMachine) -> set[str]:
    state = machine.state
    return {state} if isinstance(state, str) else set(state)


def test_all_cases_are_here() -> None:
    assert len(CASES) == 87


@pytest.mark.parametrize("path", CASES, ids=case_name)
def test_straight_through(path: Path) -> None:
    machine, script = StateMachine.from_scxml(path.read_bytes()), expected(path)
    assert active(machine) == set(script["initialConfiguration"])
    for number, step in enumerate(script["events"], 1):
        machine.elapse(step.get("after", 0) / 1000)
        machine.trigger(step["event"]["name"])
        assert active(machine) == set(step["nextConfiguration"]), f"after event {number}"


@pytest.mark.parametrize("path", CASES, ids=case_name)
def test_saved_and_loaded_between_every_two_events(path: Path) -> None:
    machine, script = StateMachine.from_scxml(path.read_bytes()), expected(path)
    for number, step in enumerate(script["events"], 1):
        saved = json.loads(json.dumps(machine.save()))
        machine = StateMachine.from_scxml(path.read_bytes()).load(saved)
        machine.trigger(step["event"]["name"])
        assert active(machine) == set(step["nextConfiguration"]), f"after event {number}"


async def test_durable_and_taken_up_anew_for_each_event(url: str, open_engine: OpenEngine) -> None:
    """A run that waits is laid down, so each event finds a machine that is loaded from the store."""
    engine = await open_engine(url)

    async def play(path: Path) -> None:
        machine = StateMachine.from_scxml(path.read_bytes(), name=case_name(path))
        script = expected(path)
        run = await engine.start(machine)
        for number, step in enumerate(script["events"], 1):
            outcome = await run.send(step["event"]["name"])
            now = {outcome.state} if isinstance(outcome.state, str) else set(outcome.state)
            assert now == set(step["nextConfiguration"]), f"{case_name(path)}: after event {number}"

    await asyncio.gather(*map(play, CASES))
