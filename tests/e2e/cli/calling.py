"""Two ways to call the command line, in this process and as a process of its own, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Done:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document that stdout is."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON lines that stdout is."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, str]:
        """The JSON error that stderr is."""
        document = json.loads(self.err)
        assert set(document) == {"error"}
        assert set(document["error"]) == {"code", "message", "fix"}
        error: dict[str, str] = document["error"]
        return error

    @property
    def last_line(self) -> str:
        """The last line on stdout."""
        return self.out.splitlines()[-1]


Call = Callable[..., Done]


class Process:
    """`python -m holdfast` with these words, its output in pipes."""

    def __init__(self, *words: str) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "holdfast", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
        )

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def first_line(self) -> str:
        """The first line that it prints; `done` gives what it prints from then on."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline()

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.popen.kill()
        self.popen.communicate()

    def done(self, within: float = WITHIN) -> Done:
        """What it left behind, when it has ended."""
        out, err = self.popen.communicate(timeout=within)
        return Done(self.popen.returncode, out, err)


def until(happens: Callable[[], object], within: float = WITHIN) -> None:
    """Return as soon as it has happened."""
    deadline = time.monotonic() + within
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def effects() -> list[str]:
    """What nodes left in the file of side effects."""
    file = Path("effects.txt")
    return file.read_text("utf-8").split() if file.exists() else []


def began(node: str) -> Callable[[], bool]:
    return lambda: node in effects()


INTERRUPTS = [signal.SIGINT, signal.SIGTERM]
