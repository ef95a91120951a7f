"""The commands that send: `resume`, `cancel`, `pause`, `signal`, `delete`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cli.calling import Call, effects

pytestmark = pytest.mark.usefixtures("each_store")


def status(call: Call, run: str) -> str:
    found: str = call("show", run, "--json").document["status"]
    return found


def test_a_failed_run_goes_on_where_it_failed(call: Call) -> None:
    assert call("run", "flows:fails", "--id", "r-1").code == 1
    assert call("resume", "r-1", "--app", "flows").code == 1
    Path("mended").touch()
    done = call("resume", "r-1", "--app", "flows")
    assert done.code == 0
    assert done.out.splitlines()[0] == "run r-1  goes on"
    assert done.last_line == '{"first": true, "second": true}'
    assert effects() == ["first"]


def test_a_run_is_marked_to_go_on_by_a_worker(call: Call) -> None:
    assert call("run", "flows:fails", "--id", "r-1").code == 1
    marked = call("resume", "r-1")
    assert marked.code == 0
    assert "run r-1 was failed and is to go on; a worker must take it" in marked.out
    assert status(call, "r-1") == "pending"
    again = call("resume", "r-1")
    assert again.out.startswith("run r-1 is pending already; nothing changed")
    Path("mended").touch()
    assert call("resume", "r-1", "--app", "flows").code == 0


def test_a_completed_run_cannot_be_resumed(call: Call) -> None:
    call("run", "flows:greet", "--id", "r-1")
    for words in (["r-1"], ["r-1", "--app", "flows"]):
        done = call("resume", *words)
        assert done.code == 2
        assert "is completed; there is nothing to resume" in done.err


def test_resume_wants_the_app_that_has_the_workflow(call: Call, folder: Path) -> None:
    call("run", "flows:fails", "--id", "r-1")
    (folder / "empty.py").write_text("")
    from holdfast import registry

    registry.default._workflows = {}
    done = call("resume", "r-1", "--app", "empty")
    assert done.code == 3
    assert "empty has no workflow 'fails'" in done.err
    assert status(call, "r-1") == "failed"


def test_a_run_with_secrets_wants_them_again(call: Call, folder: Path) -> None:
    (folder / "token.txt").write_text("t0p")
    secret = ("--secret", "token=@token.txt")
    assert call("run", "flows:slow-whispers", "--id", "r-1", "--timeout", "0.3", *secret).code == 1
    without = call("resume", "r-1", "--app", "flows")
    assert without.code == 2
    assert without.err.splitlines()[-1] == "fix: Add --secret token=@FILE."
    (folder / "quick").touch()
    done = call("resume", "r-1", "--app", "flows", *secret)
    assert done.code == 0
    assert '"length": 3' in done.last_line


def test_a_cancelled_run_ends_and_can_be_resumed(call: Call) -> None:
    call("run", "flows:greet", "--detach", "--id", "r-1")
    cancelled = call("cancel", "r-1", "--reason", "not needed")
    assert cancelled.code == 0
    assert "it acts when a worker takes the run, and none is there now" in cancelled.out
    done = call("resume", "r-1", "--app", "flows")
    assert done.code == 1
    assert "run 'r-1' was cancelled: not needed" in done.err
    assert "holdfast resume r-1 --app flows" in done.err
    assert call("result", "r-1").code == 1
    assert call("resume", "r-1", "--app", "flows").code == 0


def test_pausing_is_kept_until_the_run_is_resumed(call: Call) -> None:
    call("run", "flows:greet", "--detach", "--id", "r-1")
    assert call("pause", "r-1", "--json").document["id"] == "r-1"
    paused = call("resume", "r-1", "--app", "flows")
    assert status(call, "r-1") in ("paused", "completed")
    if paused.code:
        assert call("resume", "r-1", "--app", "flows").code == 0
    assert status(call, "r-1") == "completed"


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_an_ended_run_is_not_touched(call: Call, verb: str) -> None:
    call("run", "flows:greet", "--id", "r-1")
    done = call(verb, "r-1")
    assert done.code == 0
    assert done.out == "run r-1 is completed already; nothing changed\n"


@pytest.mark.parametrize(
    ("value", "stored"),
    [([], None), (["true"], True), (['{"by": "ada"}'], {"by": "ada"}), (["yes please"], "yes please")],
    ids=["nothing", "json", "object", "text"],
)
def test_a_signal_has_json_or_text(call: Call, value: list[str], stored: object) -> None:
    call("run", "flows:greet", "--detach", "--id", "r-1")
    done = call("signal", "r-1", "approved", *value)
    assert done.code == 0
    assert done.out == "signal approved is stored for run r-1\n"
    assert call("resume", "r-1", "--app", "flows").code == 0
    received = [
        fact for fact in call("journal", "r-1", "--json").document if fact["fact"] == "SignalReceived"
    ]
    assert [fact.get("data") for fact in received] == [stored]


def test_a_signal_with_half_of_an_object_is_refused(call: Call) -> None:
    call("run", "flows:greet", "--detach", "--id", "r-1")
    done = call("signal", "r-1", "approved", '{"by": ')
    assert done.code == 2
    assert "no JSON" in done.err


def test_an_ended_run_takes_no_signal(call: Call) -> None:
    call("run", "flows:greet", "--id", "r-1")
    assert call("signal", "r-1", "approved", "--json").error["code"] == "invalid_status"


def test_only_an_ended_run_is_deleted_by_its_whole_id(call: Call) -> None:
    call("run", "flows:greet", "--detach", "--id", "running-1")
    assert call("delete", "running-1").code == 2
    call("run", "flows:greet", "--id", "ended-1")
    assert call("delete", "ended").code == 3
    assert call("delete", "ended-1").out == "run ended-1 of greet is deleted\n"
    assert call("show", "ended-1").code == 3
    taken = call("run", "flows:greet", "--id", "ended-1")
    assert taken.code == 2
    assert "was deleted" in taken.err
