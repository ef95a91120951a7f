"""What crash tests share: a log of side effects, and a gate."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The file where each start of a node's code leaves a line."""
    path = tmp_path / "side-effects.log"
    path.touch()
    return path


@pytest.fixture
def gate(tmp_path: Path, log: Path) -> dict[str, str]:
    """The params of runs that wait until the file `gate` is there."""
    passed = tmp_path / "passed"
    passed.touch()
    return {"log": str(log), "gate": str(tmp_path / "gate"), "passed": str(passed)}
