"""The public API means the same to mypy and pyright, and is typed throughout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
from tests.places import ROOT

PUBLIC = "tests/typing/public.py"


@pytest.mark.parametrize(
    "checker",
    [
        pytest.param(["mypy", "--strict", PUBLIC], id="mypy"),
        pytest.param(["pyright", "--warnings", PUBLIC], id="pyright"),
    ],
)
@pytest.mark.timeout(300)
def test_the_public_types_hold(checker: list[str]) -> None:
    done = run(checker)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_every_public_name_has_a_known_type() -> None:
    """Attributes that a constructor sets from a typed parameter are known, though not annotated a second time."""
    done = run(["pyright", "--ignoreexternal", "--outputjson", "--verifytypes", "holdfast"])
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    told = {symbol["name"].rpartition(".")[2]: symbol for symbol in symbols if symbol["isExported"]}
    public = {name: told[name] for name in holdfast.__all__ if not name.startswith("__")}
    assert [
        n for n, symbol in public.items() if not (symbol["isTypeKnown"] or symbol["isTypeAmbiguous"])
    ] == []


def run(checker: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *checker]
    # Pyright asks whichever `python` comes first.
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": programs}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
