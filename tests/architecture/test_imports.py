"""Who may know whom. The contracts stand in pyproject.toml under tool.importlinter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import PACKAGE, ROOT, SOURCES, shown

PURE = [path for path in SOURCES if path.relative_to(PACKAGE).parts[0] in {"model", "core", "patterns"}]
CLOCK = {"now", "utcnow", "today"}
CHANCE = {"uuid1", "uuid4", "uuid6", "uuid7"}
WORLD = {"getenv", "input", "open", "print"}


def test_every_import_contract_is_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    command = [str(linter), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", PURE, ids=shown)
def test_what_decides_asks_no_clock_and_touches_no_world(path: Path) -> None:
    """The import contracts cannot see `datetime.now()`, `uuid4()` or `open()`."""
    impure = [call for call in calls(path) if name(call) in CLOCK | CHANCE | WORLD]
    assert [f"line {call.lineno}: {ast.unparse(call.func)}()" for call in impure] == []


def test_importing_holdfast_loads_neither_terminal_nor_database() -> None:
    program = "import sys; before = set(sys.modules); import holdfast; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"rich", "sqlite3", "psycopg"} & set(done.stdout.split()) == set()


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]


def name(call: ast.Call) -> str | None:
    match call.func:
        case ast.Attribute(attr=found) | ast.Name(id=found):
            return found
    return None
