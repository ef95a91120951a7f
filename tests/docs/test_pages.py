"""README.md and every page under docs/ do what they say. How a page is run: pages.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import pages
from tests.places import ROOT, shown

EVERY_PAGE = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNNABLE = [page for page in EVERY_PAGE if pages.blocks(page)]


ON_POSTGRES = {ROOT / "docs" / "how-to" / "use-postgres.md"}
"""Pages whose reader has set HOLDFAST_URL to a new database."""


@pytest.mark.parametrize("page", RUNNABLE, ids=shown)
def test_the_page_does_what_it_says(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("bare_postgres_url") if page in ON_POSTGRES else None
    done = run(page, tmp_path, url)
    assert done.returncode == 0, done.stdout + done.stderr


def test_blocks_share_one_namespace_and_may_await(tmp_path: Path) -> None:
    first = "```python\nimport asyncio\nseen = [1]\n```\n"
    indented = "  ```python\n  await asyncio.sleep(0, seen.append(2))\n  ```\n"
    last = "```python\nassert seen == [1, 2]\nasyncio.run(asyncio.sleep(0))\n```\n"
    done = run(written(tmp_path, first + indented + last), tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_block_that_names_its_file_can_be_imported(tmp_path: Path) -> None:
    module = "# orders.py\norder = object()\n"
    use = "import orders\nassert order is orders.order\n"
    done = run(written(tmp_path, f"```python\n{module}```\n```python\n{use}```\n"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "orders.py").read_text("utf-8") == module


def test_a_failing_block_is_shown_with_its_line(tmp_path: Path) -> None:
    page = written(tmp_path, "# Title\n\n```python\nx = 1\nassert x == 2\n```\n")
    done = run(page, tmp_path)
    assert done.returncode == 1
    assert 'page.md", line 5' in done.stderr


@pytest.mark.parametrize(
    ("block", "status"),
    [
        ("$ holdfast --help\n", 0),
        ("$ holdfast --help\n...holdfast...\n", 0),
        ("$ kill -9 me\n$ holdfast \\\n    --help\n", 0),
        ("$ holdfast --help\nsomething else\n", 1),
        ("$ holdfast no-such-command\n", 1),
    ],
)
def test_commands_are_run_and_their_output_compared(tmp_path: Path, block: str, status: int) -> None:
    done = run(written(tmp_path, f"```console\n{block}```\n"), tmp_path)
    assert done.returncode == status, done.stdout + done.stderr


def written(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, "utf-8")
    return page


def run(page: Path, folder: Path, url: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a page in a folder of its own, with this environment's `holdfast` and none of the machine's settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = inherited | {"PATH": programs, "NO_COLOR": "1", "COLUMNS": "120"}
    if url is not None:
        environment["HOLDFAST_URL"] = url
    command = [sys.executable, "-W", "error", str(pages.__file__), str(page)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
