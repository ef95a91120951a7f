"""Ctrl-C, SIGTERM and SIGKILL while a run is driven: it stays resumable, and the last line says how."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast.engine import Engine
from holdfast.run import Run
from tests.e2e.cli.calling import INTERRUPTS, Call, Process, began, effects, until

pytestmark = pytest.mark.usefixtures("each_store")

HOW = "interrupted; nothing is lost, go on with: holdfast resume r-1 --app flows"


@pytest.mark.parametrize("number", INTERRUPTS, ids=lambda number: number.name)
def test_an_interrupt_leaves_a_run_that_can_be_resumed(
    call: Call, process: type[Process], number: signal.Signals
) -> None:
    running = process("run", "flows:slow", "--id", "r-1", "--grace", "0.2")
    until(began("second"))
    running.send(number)
    done = running.done()
    assert done.code == 130
    assert done.out.splitlines()[0] == "run r-1"
    assert done.last_line == HOW
    assert "Traceback" not in done.err
    Path("quick").touch()
    resumed = call(*HOW.partition("holdfast ")[2].split())
    assert resumed.code == 0
    assert resumed.last_line == '{"first": true, "second": true}'
    assert effects().count("first") == 1


@pytest.mark.parametrize("node", ["stubborn", "blocks"])
def test_a_second_interrupt_ends_it_at_once(call: Call, process: type[Process], node: str) -> None:
    running = process("run", f"flows:{node}", "--id", "r-1")
    until(began("second"))
    running.send(signal.SIGINT)
    time.sleep(0.3)
    running.send(signal.SIGINT)
    done = running.done(within=2.0)
    assert done.code == 130
    assert done.last_line == HOW
    assert call("show", "r-1", "--json").document["status"] == "running"


def test_an_interrupt_with_json_is_an_error_that_says_how(process: type[Process]) -> None:
    running = process("run", "flows:slow", "--id", "r-1", "--json", "--grace", "0.2")
    first = running.first_line()
    until(began("second"))
    running.send(signal.SIGINT)
    done = running.done()
    assert done.code == 130
    assert json.loads(first)["type"] == "run.started"
    assert done.error["code"] == "run_not_ended"
    assert done.error["fix"] == "holdfast resume r-1 --app flows"


def test_an_unregistered_factory_is_named_in_the_way_to_go_on(call: Call, process: type[Process]) -> None:
    running = process(
        "run", "./flows.py:undecorated", "--id", "r-1", "--url", "sqlite:///my runs.db", "--grace", "0.2"
    )
    until(began("second"))
    running.send(signal.SIGINT)
    assert running.done().last_line.endswith(
        "holdfast resume r-1 --app ./flows.py:undecorated --url 'sqlite:///my runs.db'"
    )
    Path("quick").touch()
    assert call("resume", "r-1", "--app", "./flows.py:undecorated", "--url", "sqlite:///my runs.db").code == 0


def test_a_killed_run_goes_on_where_it_was(call: Call, process: type[Process]) -> None:
    running = process("run", "flows:slow", "--id", "r-1", "--grace", "0.2")
    until(began("second"))
    running.kill()
    assert "left behind: holdfast resume RUN --app MODULE" in call("runs").out
    assert "left behind: holdfast resume r-1 --app MODULE" in call("show", "r-1").out
    Path("quick").touch()
    done = call("resume", "r-1", "--app", "flows.py", "--json")
    assert done.code == 0
    # What the killed process had sent last may have been written a moment after its end.
    first = next(line for line in done.lines if line["type"] != "stage.progress")
    assert (first["type"], first["data"]["reason"]) == ("stage.retried", "worker lost")
    assert effects() == ["first", "second", "second"]


def test_two_processes_on_one_file_lose_nothing(process: type[Process], call: Call) -> None:
    running = [process("run", "flows:slow", "--param", "seconds=0.5", "--id", f"r-{n}") for n in range(3)]
    assert [each.done().code for each in running] == [0, 0, 0]
    page = call("runs", "--json").document
    assert {run["id"]: run["status"] for run in page["items"]} == dict.fromkeys(
        ["r-0", "r-1", "r-2"], "completed"
    )
    assert effects().count("first") == 3


def test_an_interrupt_ends_following_too(call: Call, process: type[Process]) -> None:
    call("run", "flows:greet", "--detach", "--id", "r-1")
    following = process("events", "r-1", "--follow")
    assert following.popen.stdout is not None
    assert "greet started" in following.popen.stdout.readline()
    following.send(signal.SIGINT)
    done = following.done()
    assert done.code == 130
    assert "Traceback" not in done.err


def test_events_are_followed_from_another_process(process: type[Process], call: Call) -> None:
    running = process("run", "flows:slow", "--param", "seconds=1.5", "--id", "r-1")
    until(began("second"))
    done = call("events", "r-1", "--follow", "--json")
    assert done.code == 0
    assert [line["position"] for line in done.lines] == sorted({line["position"] for line in done.lines})
    assert done.lines[0]["type"] == "run.started"
    assert done.lines[-1]["type"] == "run.completed"
    assert running.done().code == 0


def test_another_process_pauses_and_cancels_what_runs_here(process: type[Process], call: Call) -> None:
    running = process("run", "flows:slow", "--param", "seconds=3", "--id", "r-1")
    until(began("second"))
    assert call("pause", "r-1", "--reason", "lunch").out.startswith("pause is sent to run r-1")
    paused = running.done()
    assert paused.code == 1
    assert paused.last_line == "run r-1 is paused: lunch, go on with: holdfast resume r-1 --app flows"
    going_on = process("resume", "r-1", "--app", "flows", "--json")
    until(lambda: call("show", "r-1", "--json").document["status"] in ("running", "completed"))
    call("cancel", "r-1")
    done = going_on.done()
    status = json.loads(done.out.splitlines()[-1])["type"]
    assert (done.code, status) in {(1, "run.cancelled"), (0, "run.completed")}


def test_a_run_that_ends_before_it_is_followed_tells_how(
    call: Call, process: type[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step that a pause let finish is kept, so that one commit resumes the run and ends it."""
    resume = Engine.resume

    async def resumed_to_the_end(engine: Engine, run_id: str, **options: Any) -> Run:
        run = await resume(engine, run_id, **options)
        await run.result()
        await run.refresh()
        return run

    monkeypatch.setattr(Engine, "resume", resumed_to_the_end)
    running = process("run", "flows:slow", "--param", "seconds=0.5", "--id", "r-1")
    until(began("second"))
    call("pause", "r-1")
    assert running.done().code == 1
    done = call("resume", "r-1", "--app", "flows", "--json")
    assert (done.code, [line["type"] for line in done.lines]) == (
        0,
        ["run.resumed", "decision", "run.completed"],
    )


def test_a_run_that_had_ended_before_is_told_as_ended(call: Call) -> None:
    assert call("run", "flows:greet", "--id", "r-1").code == 0
    again = call("run", "flows:greet", "--id", "r-1")
    assert again.code == 0
    assert again.out.splitlines()[0] == "run r-1  has completed already"
