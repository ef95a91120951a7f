"""The fixture for pytest, in a project of its own that asks for it as the page says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.docs.pages import blocks
from tests.places import ROOT


def test_a_project_gets_the_fixture_as_the_page_says(tmp_path: Path) -> None:
    programs = [
        block.text for block in blocks(ROOT / "docs/how-to/test-workflows.md") if block.language == "python"
    ]
    conftest, test = (
        next(text for text in programs if text.startswith(f"# {name}"))
        for name in ("conftest.py", "test_patient.py")
    )
    workflow = next(text for text in programs if "workflow_factory" in text).partition("async with World")[0]
    (tmp_path / "conftest.py").write_text(conftest, "utf-8")
    (tmp_path / "test_patient.py").write_text(f"{workflow}\n{test}", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert "1 passed" in done.stdout, done.stdout
