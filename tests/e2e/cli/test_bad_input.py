"""Whatever is wrong: one clear error with what to do, the exit code that says who must act, and no traceback."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.cli.calling import Call

MODULES = {
    "broken.py": "x = 1 / 0\n",
    "notes.txt": "buy tape\n",
    "syntax.py": "def f(:\n",
    "needs.py": "import no_such_library\n",
    "leaves.py": "raise SystemExit(3)\n",
    "twice.py": "from holdfast import register\nfor _ in 'ab':\n    register('a', lambda g, r, p: None)\n",
}


@pytest.mark.parametrize(
    ("words", "code", "says", "fix"),
    [
        (["runz"], 2, "unknown command 'runz'", "Did you mean `holdfast run`?"),
        (["run"], 2, "the following arguments are required: MODULE:WORKFLOW", "holdfast run --help"),
        (["run", "flows:greet", "--speed", "9"], 2, "unrecognized arguments: --speed 9", "--help"),
        (["run", "flows:greet", "--priority", "high"], 2, "argument --priority: invalid int value", "--help"),
        (["run", "flows:gret"], 3, "flows has no workflow 'gret'", "Did you mean greet?"),
        (["run", "flows:xyz"], 3, "flows has no workflow 'xyz'", "It has: blocks, closes, fails"),
        (["run", "flows"], 2, "which workflow of flows?", "It has: blocks, closes, fails"),
        (["run", "flows:not_a_workflow"], 2, "flows:not_a_workflow is no workflow: 7", "Name a registered"),
        (["run", "no.such:thing"], 3, "there is no module 'no'", "MODULE:WORKFLOW"),
        (["run", "no_such.py:thing"], 3, "there is no file no_such.py", "MODULE:WORKFLOW"),
        (["run", "./notes.txt:thing"], 3, "notes.txt is no Python file", "ends with .py"),
        (["run", ""], 2, "no module in ''", "MODULE:WORKFLOW"),
        (["run", "broken:x"], 2, "fails to import: ZeroDivisionError: division by zero (", "--traceback"),
        (["run", "syntax.py:x"], 2, "fails to import: SyntaxError: invalid syntax (", "Mend the module"),
        (["run", "needs:x"], 2, "No module named 'no_such_library' (", "Install no_such_library"),
        (["run", "leaves:x"], 2, "fails to import: SystemExit: 3", "Mend the module"),
        (["run", "twice:a"], 2, "a workflow named 'a' is registered already", "Choose another name"),
        (["run", "flows:invalid"], 2, "node 'lost' is a dead end", "Mend each of these"),
        (["run", "flows:order"], 2, "'pages' is missing", "'pages'"),
        (["run", "flows:order", "--param", "pages=many"], 2, "pages: expected int, got str", "type"),
        (["run", "flows:order", "--param", "pages=1", "--param", "ink=2"], 2, "'ink'", "pages, title"),
        (["run", "flows:greet", "--param", "name"], 2, "--param 'name' is not NAME=VALUE", "--param pages=3"),
        (["run", "flows:greet", "--param", 'name={"a"'], 2, "--param name is no JSON", "single quotes"),
        (["run", "flows:greet", "--params", "{name: 1}"], 2, "--params is no JSON", "single quotes"),
        (["run", "flows:greet", "--params", "[1]"], 2, "--params is no JSON object", "@file.json"),
        (["run", "flows:greet", "--params", "@no.json"], 2, "no.json cannot be read", "after @"),
        (["run", "flows:greet", "--id", "a b"], 2, "malformed run id: 'a b'", "letters, digits"),
        (["run", "flows:greet", "--timeout", "soon"], 2, "--timeout 'soon' is no duration", "15m"),
        (["run", "flows:greet", "--url", "mysql://x"], 2, "unknown store: mysql://x", "sqlite:///"),
        (["run", "flows:greet", "--url", "sqlite:///no/dir.db"], 4, "there is no directory", "mkdir -p"),
        (["graph", "flows:invalid"], 2, "graph 'invalid' is not valid", "Mend"),
        (["--json"], 2, "no command", "--help"),
        (["runs", "--since", f"{'9' * 12}w"], 2, "is no time", "Write 2h"),
        (["runs", "--since", f"{'9' * 400}w"], 2, "is no time", "Write 2h"),
    ],
)
def test_it_is_refused_before_anything_begins(
    call: Call, folder: Path, words: list[str], code: int, says: str, fix: str
) -> None:
    for name, text in MODULES.items():
        (folder / name).write_text(text)
    done = call(*words)
    assert done.code == code
    assert says in done.err
    assert fix in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not Path("holdfast.db").exists()
    as_json = call(*words, *(["--json"] if "--json" not in words else []))
    assert as_json.code == code
    assert says in as_json.error["message"]
    assert fix in as_json.error["fix"]


@pytest.mark.parametrize("url", ["sqlite:///holdfast.db", "sqlite:///missing/holdfast.db"])
@pytest.mark.parametrize(
    "words",
    [
        ["runs"],
        ["show", "r-1"],
        ["events", "r-1"],
        ["result", "r-1"],
        ["stages", "r-1"],
        ["decisions", "r-1"],
        ["journal", "r-1"],
        ["resume", "r-1"],
        ["resume", "r-1", "--app", "flows"],
        ["cancel", "r-1"],
        ["pause", "r-1"],
        ["signal", "r-1", "go"],
        ["delete", "r-1"],
        ["workflows"],
        ["db", "status"],
        ["db", "check"],
        ["db", "upgrade"],
    ],
    ids=" ".join,
)
def test_no_database_is_made_by_who_only_looks_or_sends(call: Call, words: list[str], url: str) -> None:
    done = call(*words, "--url", url)
    assert done.code == 4
    assert "there is no database at /" in done.err
    assert "Start a run first" in done.err
    assert list(Path.cwd().rglob("*.db")) == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["show", "nobody"], 3, "run 'nobody' not found"),
        (["show", "a b"], 2, "malformed run id: 'a b'"),
        (["result", "nobody"], 3, "run 'nobody' not found"),
        (["cancel", "nobody"], 3, "run 'nobody' not found"),
        (["resume", "nobody"], 3, "run 'nobody' not found"),
        (["resume", "nobody", "--app", "flows"], 3, "run 'nobody' not found"),
        (["signal", "nobody", "go"], 3, "run 'nobody' not found"),
        (["signal", "r-1", ""], 2, "name=''"),
        (["delete", "nobody"], 3, "run 'nobody' not found"),
        (["runs", "--status", "asleep"], 2, "unknown status 'asleep'"),
        (["runs", "--since", "yesterday"], 2, "--since 'yesterday' is no time"),
        (["runs", "--limit", "0"], 2, "limit=0"),
        (["runs", "--after", "x"], 2, "malformed cursor 'x'"),
        (["events", "r-1", "--type", "stage.finished"], 2, "unknown event type 'stage.finished'"),
        (["stages", "r-1", "--inputs"], 3, "is not registered"),
        (["db", "mend"], 2, "invalid choice: 'mend'"),
    ],
)
def test_a_wrong_question_is_answered(call: Call, words: list[str], code: int, says: str) -> None:
    assert call("run", "flows:greet", "--id", "r-1").code == 0
    from holdfast import registry

    registry.default._workflows = {}
    done = call(*words, "--json")
    assert (done.code, done.out) == (code, "")
    assert says in done.error["message"]
    assert done.error["fix"]


def test_a_traceback_is_shown_when_asked_for(call: Call, folder: Path) -> None:
    (folder / "broken.py").write_text("x = 1 / 0\n")
    done = call("run", "broken:x", "--traceback")
    assert "Traceback (most recent call last)" in done.err
    assert "ZeroDivisionError" in done.err
    assert "error: module 'broken' fails to import" in done.err


# --- files that are no database of ours


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def foreign(file: Path) -> None:
    file.unlink()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()


def text(file: Path) -> None:
    file.write_text("these are not the pages you are looking for")


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


def scrambled(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[8192:60000] = b"\xa5" * (60000 - 8192)
    file.write_bytes(whole)


SPOILT = [
    (truncated, "is truncated"),
    (foreign, "belongs to another program"),
    (text, "is no SQLite database"),
    (folder_instead, "is a directory"),
]


@pytest.mark.parametrize(
    ("words", "spoil", "says"),
    [
        *[(["run", "flows:greet"], *each) for each in SPOILT],
        *[(["runs"], *each) for each in [*SPOILT, (scrambled, "is damaged")]],
        *[(["db", "check"], *each) for each in [*SPOILT, (scrambled, "is damaged")]],
    ],
)
def test_a_spoilt_file_is_reported_and_not_touched(
    call: Call, words: list[str], spoil: Callable[[Path], None], says: str
) -> None:
    call("run", "flows:greet", "--id", "r-1")
    file = Path("holdfast.db")
    spoil(file)
    before = None if file.is_dir() else file.read_bytes()
    done = call(*words, "--json")
    assert done.code == 4
    assert says in done.error["message"]
    assert str(file.absolute()) in done.error["message"]
    assert done.error["fix"]
    assert before is None or file.read_bytes() == before
    assert call("doctor", "--json").code == 4


WITHOUT_CAPABILITIES = """
import ctypes, sys
if sys.platform == "linux":  # where root may write what is read-only, unless it gives that up
    version_3_of_this_process, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(version_3_of_this_process, none) == 0
from holdfast.cli.main import main
sys.exit(main())
"""


def test_a_read_only_file_is_reported(call: Call) -> None:
    call("run", "flows:greet", "--id", "r-1")
    file = Path("holdfast.db")
    file.chmod(0o400)
    before = file.read_bytes()
    for words in (["runs"], ["run", "flows:greet"]):
        bound = [sys.executable, "-c", WITHOUT_CAPABILITIES, *words]
        done = subprocess.run(bound, capture_output=True, text=True, encoding="utf-8", check=False)
        assert done.returncode == 4
        assert "is read-only" in done.stderr
        assert "fix: " in done.stderr
    assert file.read_bytes() == before


def test_a_lock_that_is_held_is_reported(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from holdfast.store.sqlite import failures, writer

    call("run", "flows:greet", "--detach", "--id", "r-1")
    other = sqlite3.connect("holdfast.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for module in (failures, writer):
        monkeypatch.setattr(module, "LOCK_PATIENCE", 0.2)
    try:
        done = call("cancel", "r-1")
        assert call("show", "r-1").code == 0  # readers are not kept out
    finally:
        other.close()
    assert done.code == 4
    assert "is locked by another process" in done.err
    assert "End the process that holds the lock" in done.err
    assert call("cancel", "r-1").code == 0


def test_a_newer_database_is_left_alone(call: Call) -> None:
    call("run", "flows:greet", "--id", "r-1")
    connection = sqlite3.connect("holdfast.db")
    connection.execute("INSERT INTO schema_version VALUES (999, 999, 0)")
    connection.commit()
    connection.close()
    done = call("runs")
    assert done.code == 4
    assert "Upgrade Holdfast" in done.err


def test_a_file_of_params_without_an_end_is_not_read_to_it(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("holdfast.cli.arguments.MOST_BYTES", 20)
    (tmp_path / "most.json").write_text('{"name": "Ada L."}  ')
    assert call("run", "flows:greet", "--params", "@most.json").code == 0
    (tmp_path / "more.json").write_text('{"name": "Ada L."}   ')
    done = call("run", "flows:greet", "--params", "@more.json")
    assert done.code == 2
    assert "--params: more.json has more than 20 B" in done.err


@pytest.mark.parametrize(
    ("words", "says", "fix"),
    [
        (["--tag", ""], "tags is of type list", "Give a list of texts of 1 to 200 characters"),
        (["--priority", "9" * 12], "priority=9", "Give a whole number from -2147483647 to 2147483647"),
    ],
    ids=str,
)
def test_what_an_option_may_be_is_told(call: Call, words: list[str], says: str, fix: str) -> None:
    done = call("run", "flows:greet", *words)
    assert done.code == 2
    assert says in done.err
    assert fix in done.err
