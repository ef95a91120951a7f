"""`db`, `doctor`, `demo`, and what the command line as a whole promises: help, colours, closed pipes, quick starts."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.cli.table import COMMANDS
from tests.e2e.cli.calling import Call, Process, began, until

NAMES = [command.name for group in COMMANDS.values() for command in group]


# --- db


def test_db_status_counts_what_is_there(call: Call) -> None:
    call("run", "flows:greet")
    call("run", "flows:fails")
    state = call("db", "status", "--json").document
    assert state["runs"] == {"completed": 1, "failed": 1}
    assert state["schema"] == state["newest_schema"]
    assert state["bytes"] > 0
    text = call("db", "status").out
    assert re.search(r"runs +✓ completed +1\n +✗ failed +1\n", text)


def test_db_check_and_upgrade_say_that_all_is_well(call: Call) -> None:
    call("run", "flows:greet")
    assert call("db", "check").out.startswith("✓ sound")
    assert call("db", "check", "--json").document["sound"] is True
    assert "is today's already" in call("db", "upgrade").out


def test_db_upgrade_makes_the_schema_of_an_older_file(call: Call) -> None:
    sqlite3.connect("holdfast.db").close()
    Path("holdfast.db").touch()
    old = call("db", "status")
    assert old.code == 4
    assert "Run `holdfast db upgrade`" in old.err
    assert "upgraded from schema 0" in call("db", "upgrade").out
    assert call("db", "status").code == 0


# --- doctor


def findings(call: Call) -> dict[str, dict[str, str]]:
    return {each["check"]: each for each in call("doctor", "--json").document}


def test_doctor_finds_nothing_wrong(call: Call) -> None:
    call("run", "flows:greet")
    done = call("doctor")
    assert done.code == 0
    assert done.last_line == "All is well."
    assert {each["status"] for each in findings(call).values()} == {"ok"}


def test_doctor_says_that_there_is_no_database_and_makes_none(call: Call) -> None:
    done = call("doctor")
    assert done.code == 0
    assert "there is no database at" in done.out
    assert not Path("holdfast.db").exists()


def test_doctor_finds_runs_that_nobody_serves_and_workers_that_died(
    call: Call, process: type[Process]
) -> None:
    running = process("run", "flows:slow", "--id", "r-1")
    until(began("second"))
    assert findings(call)["worker"]["status"] == "ok"
    running.kill()
    found = call("doctor").out
    assert re.search(r"! worker +1 worker died", found)
    assert "1 unfinished run of slow, which no living worker knows" in found
    assert "holdfast resume r-1 --app MODULE" in found


def test_doctor_finds_a_clock_that_was_set_back(call: Call) -> None:
    call("run", "flows:greet")
    connection = sqlite3.connect("holdfast.db")
    connection.execute("UPDATE workflow_runs SET updated_at = updated_at + 3600000000")
    connection.commit()
    connection.close()
    done = call("doctor")
    assert done.code == 1
    assert re.search(r"✗ clock +the clock is 1h00m behind", done.out) or "59m" in done.out


# --- demo


def test_the_demo_kills_resumes_and_proves(process: type[Process]) -> None:
    done = process("demo", "--seconds", "3").done()
    assert done.code == 0, done.err
    assert re.search(r"SIGKILL +process \d+ is gone", done.out)
    assert re.search(r"in the database: run demo is running, \d+ steps completed, \d under way", done.out)
    assert "none of them ran again" in done.out
    assert "✓ completed in" in done.out
    killed, resumed = re.findall(r"process (\d+) (?:renders|opens)", done.out)
    assert killed != resumed
    rows = [line.split() for line in done.out.splitlines() if line.startswith("render")]
    assert len(rows) == 12
    assert {row[-1] for row in rows} == {killed, resumed}
    assert done.err == ""


def test_the_demo_as_json_is_one_document(process: type[Process]) -> None:
    done = process("demo", "--seconds", "2", "--json").done()
    assert done.code == 0
    document = done.document
    assert document["status"] == "completed"
    assert document["ran_again"] == []
    assert len(document["stages"]) == 15


def test_the_demo_takes_no_nonsense(call: Call) -> None:
    assert call("demo", "--seconds", "0").code == 2


# --- the whole


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_examples(call: Call, name: str) -> None:
    done = call(name, "--help")
    assert done.code == 0
    assert done.out.startswith(f"usage: holdfast {name}")
    assert f"examples:\n  holdfast {name}" in done.out


def test_help_lists_every_command_and_the_exit_codes(call: Call) -> None:
    text = call("--help").out
    assert [name for name in NAMES if f"\n  {name} " not in text] == []
    assert "exit codes: 0 done, 1 the run failed" in text
    assert call().code == 2
    assert re.fullmatch(r"holdfast \d+\.\d+\.\d+\n", call("--version").out)


def test_help_and_json_load_no_terminal(call: Call) -> None:
    call("run", "flows:greet")
    for words in (["--help"], ["runs", "--json"]):
        program = (
            f"import sys; from holdfast.cli.main import main; main({words}); print('rich' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "False"


def test_a_reader_that_leaves_early_is_no_error(call: Call) -> None:
    call("run", "flows:wide", "--param", "n=2000", "--id", "r-1")
    command = f"{sys.executable} -m holdfast events r-1 --json | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith('{"run_id":"r-1"')
    assert done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_without_our_signs_gets_plain_ones(call: Call, encoding: str) -> None:
    call("run", "flows:wide", "--param", "n=2", "--id", "r-1")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    words = [sys.executable, "-m", "holdfast", "show", "r-1"]
    done = subprocess.run(words, capture_output=True, env=environment, check=True)
    assert b"+ completed" in done.stdout
    assert b"?" not in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="there is no pseudo-terminal")
@pytest.mark.parametrize("words", [["--no-color"], []], ids=["plain", "coloured"])
def test_a_terminal_gets_a_tree_and_colours_unless_told(folder: Path, words: list[str]) -> None:
    import pty

    master, slave = pty.openpty()
    command = [sys.executable, "-m", "holdfast", "run", "flows:wide", "--param", "n=3", *words]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    with subprocess.Popen(command, stdout=slave, stderr=slave, stdin=slave, env=environment) as running:
        os.close(slave)
        seen = b""
        while True:
            try:
                read = os.read(master, 65536)
            except OSError:
                break
            if not read:
                break
            seen += read
    os.close(master)
    assert running.returncode == 0
    text = seen.decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert "└─ ✓ sum" in plain
    assert "↛ never  negative, did not hold" in plain
    assert ("\x1b[32m" in text) is (not words)
