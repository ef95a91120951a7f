"""The public API means the same to mypy and pyright, and is typed throughout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

PUBLIC = "tests/typing/public.py"


@pytest.mark.parametrize(
    "checker",
    [
        pytest.param(["mypy", "--strict", PUBLIC], id="mypy"),
        pytest.param(["pyright", "--warnings", PUBLIC], id="pyright"),
        pytest.param(["pyright", "--ignoreexternal", "--verifytypes", "holdfast"], id="verifytypes"),
    ],
)
@pytest.mark.timeout(300)
def test_the_public_types_hold(checker: list[str]) -> None:
    command = [sys.executable, "-m", *checker]
    # Pyright asks whichever `python` comes first.
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": programs}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
