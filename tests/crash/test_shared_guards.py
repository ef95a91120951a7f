"""Breakers and limits across four processes on one store, some of which are killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast.model.ids import SECOND
from tests.crash.guards import CALLS, RATE
from tests.places import ROOT

Start = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def start(url: str) -> Iterator[Start]:
    """Start a process of `tests.crash.guards` on the store."""
    begun: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.crash.guards", url]
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def heard(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    told: dict[str, Any] = json.loads(process.stdout.readline())
    return told


def tell(process: subprocess.Popen[str], what: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{what}\n")
    process.stdin.flush()


def ready(start: Start, count: int) -> list[subprocess.Popen[str]]:
    processes = [start() for _ in range(count)]
    for process in processes:
        assert heard(process) == {"ready": True}
    return processes


def test_of_a_hundred_calls_in_each_of_four_processes_one_is_the_probe(start: Start) -> None:
    """B-R1 across processes: all call at the instant at which the breaker lapses."""
    processes = ready(start, 4)
    tell(processes[0], "open")
    assert heard(processes[0]) == {"opened": True}
    for process in processes:
        tell(process, "probe")
    told = [heard(process) for process in processes]
    assert sorted(each["under_way"] for each in told) == [0, 0, 0, 1]
    assert sum(each["refused"] for each in told) == 4 * CALLS - 1
    for process in processes:
        tell(process, "go on")
    assert sum(heard(process)["reached"] for process in processes) == 1


def test_a_probe_whose_process_is_killed_makes_room_for_another(start: Start) -> None:
    """B-R3, with kill -9 during a probe."""
    first, second = ready(start, 2)
    tell(first, "open the hasty one")
    heard(first)
    tell(first, "probe the hasty one")
    assert heard(first) == {"refused": CALLS - 1, "under_way": 1}
    first.send_signal(signal.SIGKILL)
    first.wait()
    tell(second, "probe the hasty one")
    assert heard(second) == {"refused": CALLS - 1, "under_way": 1}
    tell(second, "go on")
    assert heard(second) == {"reached": 1}


def test_four_processes_never_exceed_a_rate(start: Start) -> None:
    """B-R10: no time t has more calls in it than burst + rate * t."""
    processes = ready(start, 4)
    for process in processes:
        tell(process, "hammer")
    uses = sorted(at for process in processes for at in heard(process)["uses"])
    assert len(uses) == 200
    assert RATE.burst is not None
    rate = RATE.limit / (float(str(RATE.per)) * SECOND)
    beyond = [
        (first, last)
        for first in range(len(uses))
        for last in range(first, len(uses))
        if last - first + 1 > RATE.burst + rate * (uses[last] - uses[first]) + 1e-9
    ]
    assert beyond == []
