"""Where the output goes: a reader that is gone, a full disk, a stream that was closed."""

from __future__ import annotations

import signal
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


def test_a_node_that_closes_the_output_leaves_its_run_resumable(process: type[Process]) -> None:
    done = process("run", "flows:closes", "--id", "r-1", "--grace", "0").done()
    assert done.code == 2
    assert "standard output is closed" in done.err
    assert "holdfast resume r-1 --app flows" in done.err
    assert "Traceback" not in done.err


def test_text_that_would_steer_the_terminal_or_run_backwards_is_shown_as_marks(call: Call) -> None:
    done = call("run", "flows:greet", "--id", "r-1", "--param", "name=\x1b[31m\u202egnp.exe\u2066")
    assert done.code == 0
    assert call("show", "r-1").code == 0
    for out in (done.out, call("show", "r-1").out, call("stages", "r-1").out):
        assert "gnp.exe" in out
        assert not {"\x1b", "\u202e", "\u2066"} & set(out)


def test_a_number_that_python_writes_in_no_base_of_ten_is_shown(call: Call) -> None:
    done = call("run", "flows:immense", "--id", "r-1")
    assert done.code == 0
    assert f'"0x1{"0" * 5000}"' in done.out
    for command in ("show", "result", "stages"):
        assert call(command, "r-1").code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_an_interrupt_while_the_program_is_loaded_ends_it_in_silence(tmp_path: Path) -> None:
    # What is loaded first sends it, so that it comes in the middle of loading.
    (tmp_path / "msgspec.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    command = [sys.executable, "-c", "import holdfast_command; holdfast_command.main()"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=WITHIN)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
