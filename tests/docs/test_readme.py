"""The README's program keeps its promise: killed while it packs, it goes on and does not charge again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import blocks
from tests.places import ROOT


def test_the_program_survives_kill_9(tmp_path: Path) -> None:
    program = next(block for block in blocks(ROOT / "README.md") if block.language == "python")
    (tmp_path / "order.py").write_text(program.text, "utf-8")
    command = [sys.executable, "order.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "charging\n"
        assert process.stdout.readline().startswith("packing")
        process.send_signal(signal.SIGKILL)
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "charging" not in again.stdout
    assert "'parcel': 'on its way'" in again.stdout
    third = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert third.stdout.splitlines() == [again.stdout.splitlines()[-1]]
