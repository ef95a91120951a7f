"""A file stays under 500 lines and a function under 60, so that each can be read at once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.places import PACKAGE, SOURCES, shown

FILE_LINES = 500
FUNCTION_LINES = 60
FIVE_FILES_LINES = 1000
"""What README.md says one must read to know how it works."""
NAMES_WITHOUT_MEANING = {"utils", "util", "helpers", "helper", "common", "base", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_a_file_is_short(path: Path) -> None:
    lines = path.read_text("utf-8").count("\n")
    assert lines < FILE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_a_function_is_short(path: Path) -> None:
    functions = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, Function)]
    found = {f"{node.name} (line {node.lineno})": length(node) for node in functions}
    assert {which: lines for which, lines in found.items() if lines >= FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_a_module_is_named_by_what_it_holds(path: Path) -> None:
    words = {part.strip("_") for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert words & NAMES_WITHOUT_MEANING == set()


def length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_who_reads_five_files_reads_less_than_a_thousand_lines() -> None:
    names = ("model/facts.py", "core/program.py", "core/advance.py", "runtime/driver.py", "store/port.py")
    lines = {name: (PACKAGE / name).read_text("utf-8").count("\n") for name in names}
    assert sum(lines.values()) < FIVE_FILES_LINES, lines
