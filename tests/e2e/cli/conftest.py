"""A directory, a registry and a call of the command line for each test."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import registry
from holdfast.cli.main import main
from tests.e2e.cli.calling import Call, Done, Process

FLOWS = Path(__file__).with_name("flows.py")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with the workflows in it; nothing of it stays imported or registered."""
    shutil.copy(FLOWS, tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("HOLDFAST_URL", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(registry.default, "_workflows", {})
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture(params=["file", "postgres"])
def each_store(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that is used when nothing is said, and an empty PostgreSQL that the environment names."""
    if request.param == "postgres":
        monkeypatch.setenv("HOLDFAST_URL", request.getfixturevalue("postgres_url"))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """`call("runs", "--json")`: the command line in this process."""

    def carry_out(*words: str) -> Done:
        capsys.readouterr()
        code = main(words)
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return carry_out


@pytest.fixture
def process() -> Iterator[type[Process]]:
    """`process("run", ...)`: the command line as a process, which does not outlive the test."""
    started: list[Process] = []

    class Started(Process):
        def __init__(self, *words: str) -> None:
            super().__init__(*words)
            started.append(self)

    yield Started
    for each in started:
        each.kill()
