"""Where the output goes: a reader that is gone, a full disk, a stream that was closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cli.calling import WITHIN, Call, Process, began, effects, until

FULL = Path("/dev/full")
needs_a_full_device = pytest.mark.skipif(
    not FULL.exists(), reason="only Linux has a device that is always full"
)


def drop_reader(running: Process) -> None:
    """Read one line and go, as `| head -1` does."""
    assert running.popen.stdout is not None
    assert running.popen.stdout.readline()
    until(began("second"))
    running.popen.stdout.close()
    running.popen.stdout = None


@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
def test_a_run_whose_reader_is_gone_is_left_resumable(
    call: Call, process: type[Process], options: list[str]
) -> None:
    running = process("run", "flows:slow", "--id", "r-1", "--grace", "0", *options)
    drop_reader(running)
    done = running.done()
    assert done.code == 141
    assert "the reader of the output is gone; nothing is lost" in done.err
    assert "holdfast resume r-1 --app flows" in done.err
    assert "Traceback" not in done.err
    assert "Exception ignored" not in done.err
    Path("quick").touch()
    assert call("resume", "r-1", "--app", "flows").code == 0
    assert effects().count("first") == 1


def test_a_command_whose_reader_is_gone_says_nothing(call: Call) -> None:
    call("run", "flows:greet", "--id", "r-1")
    read, write = subprocess.PIPE, subprocess.PIPE
    running = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "journal", "r-1"], stdout=write, stderr=read, text=True
    )
    assert running.stdout is not None
    running.stdout.close()
    running.stdout = None
    _, error = running.communicate(timeout=WITHIN)
    assert (running.returncode, error) == (141, "")


@needs_a_full_device
@pytest.mark.parametrize("words", [["runs"], ["runs", "--json"], ["show", "r-1"]], ids=str)
def test_a_full_disk_is_told(call: Call, words: list[str]) -> None:
    call("run", "flows:greet", "--id", "r-1")
    done = onto_a_full_disk(*words)
    assert done.returncode == 2
    assert "standard output cannot be written: No space left on device" in done.stderr
    assert "Exception ignored" not in done.stderr


@needs_a_full_device
def test_a_run_onto_a_full_disk_is_left_resumable(call: Call) -> None:
    done = onto_a_full_disk("run", "flows:slow", "--id", "r-1", "--grace", "0")
    assert done.returncode == 2
    assert "standard output cannot be written: No space left on device" in done.stderr
    assert "holdfast resume r-1 --app flows" in done.stderr
    Path("quick").touch()
    assert call("resume", "r-1", "--app", "flows").code == 0


def onto_a_full_disk(*words: str) -> subprocess.CompletedProcess[str]:
    with FULL.open("w") as full:
        return subprocess.run(
            [sys.executable, "-m", "holdfast", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=WITHIN,
        )


@pytest.mark.skipif(sys.platform == "win32", reason="the shell of Windows closes no streams")
@pytest.mark.parametrize(("closed", "code"), [(">&-", 2), ("2>&-", 0), (">&- 2>&-", 2)], ids=str)
def test_a_closed_stream_is_told_before_anything_begins(call: Call, closed: str, code: int) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m holdfast run flows:greet --id r-1 {closed}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN,
    )
    assert done.returncode == code
    assert ("standard output is closed" in done.stderr) is (closed == ">&-")
    assert Path("holdfast.db").exists() is (code == 0)


def test_a_run_that_has_ended_is_not_said_to_go_on(call: Call) -> None:
    assert call("run", "flows:greet", "--id", "r-1").out.splitlines()[0] == "run r-1"
    again = call("run", "flows:greet", "--id", "r-1")
    assert again.code == 0
    assert again.out.splitlines()[0] == "run r-1  has completed already"
    assert again.last_line == '{"name": "you", "said": "hello you"}'
    assert call("run", "flows:fails", "--id", "r-2").code == 1
    failed = call("run", "flows:fails", "--id", "r-2")
    assert failed.code == 1
    assert failed.out.splitlines()[0] == "run r-2  has failed already"


def test_the_advice_of_a_node_reaches_the_terminal(call: Call) -> None:
    done = call("run", "flows:unstorable", "--id", "r-1")
    assert done.code == 1
    assert "which cannot be stored. Store its data as a dict" in done.err
    assert "Store its data as a dict" in call("show", "r-1", "--json").out


def test_a_check_does_not_advise_itself(call: Call) -> None:
    call("run", "flows:greet", "--id", "r-1")
    file = Path("holdfast.db")
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    done = call("db", "check", "--json")
    assert done.code == 4
    assert done.error["fix"] == "Restore it from a backup."
