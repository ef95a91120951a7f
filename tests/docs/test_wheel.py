"""The wheel, installed without extras into an empty environment, runs the README's program and the demonstration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.docs.pages import blocks
from tests.places import PACKAGE, ROOT

pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.timeout(400)]

CORE = {"holdfast", "msgspec", "rich", "markdown-it-py", "mdurl", "pygments"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, folder=ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that holds the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
    pip(folder, "install", "--quiet", wheel)
    return folder / ("Scripts" if os.name == "nt" else "bin")


def test_the_wheel_holds_the_whole_package(wheel: Path) -> None:
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {path.relative_to(PACKAGE.parent).as_posix() for path in files}
    assert "holdfast/py.typed" in expected
    expected.add("holdfast_command.py")
    with ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == expected


def test_it_asks_for_little(environment: Path) -> None:
    installed = json.loads(pip(environment.parent, "list", "--format", "json"))
    assert {package["name"].lower() for package in installed} == CORE


def test_the_program_of_the_readme_runs(environment: Path, tmp_path: Path) -> None:
    program = next(block for block in blocks(ROOT / "README.md") if block.language == "python")
    (tmp_path / "program.py").write_text(program.text, "utf-8")
    run(environment / "python", "-W", "error", "program.py", folder=tmp_path)


def test_the_demonstration_runs(environment: Path, tmp_path: Path) -> None:
    assert "completed" in run(environment / "holdfast", "demo", folder=tmp_path)


def pip(environment: Path, *arguments: object) -> str:
    return run(sys.executable, "-m", "pip", "--python", environment, *arguments, folder=environment)


def run(*command: object, folder: Path) -> str:
    """What a command prints, run without this checkout's and this machine's Holdfast settings."""
    foreign = ("COVERAGE_", "COV_", "HOLDFAST_", "PYTHON", "VIRTUAL_ENV")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout
