"""The demo as people run it: a process is really killed, and finished pages are not read again."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from examples.classify_docs.make_samples import SAMPLES
from examples.classify_docs.readlog import Read
from examples.classify_docs.show import Board, Outcome, failure_of, labels, outcomes_table, readings_table

ROOT = Path(__file__).parents[2]


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.classify_docs.demo", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)


@pytest.mark.timeout(180)
def test_a_killed_process_costs_no_finished_page() -> None:
    documents = [str(SAMPLES / f"{name}.pdf") for name in ("mixed-annexes", "faded-survey")]

    demo = run_demo(*documents)

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "as expected: 2 of 2 samples" in demo.stdout
    assert "SIGKILL" in demo.stdout
    assert "of these read again: 0" in demo.stdout
    assert demo.stderr == ""


def test_a_document_that_fails_is_told_and_the_others_are_classified(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"not a PDF")

    demo = run_demo("--no-kill", str(broken), str(SAMPLES / "crane-memo.pdf"))

    assert demo.returncode == 1
    assert "is not a PDF" in demo.stdout
    assert "ACCEPT" in demo.stdout


def test_without_a_terminal_each_step_is_a_plain_line() -> None:
    out = io.StringIO()
    board = Board(Console(file=out, width=120))

    with board.live(["memo", "logbook"]):
        board.pages_known("memo", 2)
        board.page_read("memo")
        board.note("memo", "page 1 enhanced and read again")
        board.done("memo", "ACCEPT")

    assert out.getvalue().splitlines() == [
        "  memo     1 of 2 pages read",
        "  memo     page 1 enhanced and read again",
        "  memo     ACCEPT",
    ]


def test_the_table_shows_each_document_and_what_failed() -> None:
    out = io.StringIO()
    rows = [
        Outcome("memo", 3, "SECRET", ["SI", "NOFORN"], 0.913, "ACCEPT", [2, 3], 1.25),
        failure_of("broken", "is not a PDF", 0.1),
    ]

    Console(file=out, width=120).print(outcomes_table(rows))

    _, memo, broken = out.getvalue().splitlines()
    assert memo.split() == ["memo", "3", "SECRET", "SI,", "NOFORN", "0.91", "ACCEPT", "2,", "3", "1", "s"]
    assert broken.split() == ["broken", "-", "FAILED", "-", "0", "s"]


def test_the_proof_shows_who_read_which_page() -> None:
    out = io.StringIO()
    reads = [Read("d", 1, False, 7), Read("d", 2, False, 7), Read("d", 2, False, 8), Read("d", 3, False, 8)]

    Console(file=out, width=120).print(readings_table(reads, 3, finished={1}, killed_pid=7))

    lines = [line.split() for line in out.getvalue().splitlines()]
    assert lines[0][-3:] == ["1", "2", "3"]
    assert lines[1][-3:] == ["x", "~", "."]
    assert lines[2][-3:] == [".", "x", "x"]


def test_two_files_of_one_name_keep_their_folders() -> None:
    paths = [Path("a/memo.pdf"), Path("b/memo.pdf"), Path("b/plan.pdf")]

    assert list(labels(paths).values()) == ["a/memo.pdf", "b/memo.pdf", "plan"]
