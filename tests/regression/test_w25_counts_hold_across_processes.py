"""W25: a breaker's count was its process's own, and was gone with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from holdfast import CircuitOpen, Engine
from holdfast.core.breaker import BreakerRow
from holdfast.store.open import open_store
from holdfast.testing.store_cases import SetClock
from tests.crash.guards import PATIENT
from tests.places import ROOT

Open = Callable[..., Awaitable[Engine]]


def open_and_die(url: str) -> list[str]:
    """Have a process open the breaker, and kill it; returns what it said."""
    command = [sys.executable, "-m", "tests.crash.guards", url]
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("open\n")
        process.stdin.flush()
        said = [process.stdout.readline().strip() for _ in range(2)]
        process.kill()
    return said


async def test_what_a_process_counted_before_it_was_killed_holds_for_the_next(
    open_engine: Open, url: str
) -> None:
    assert open_and_die(url) == ['{"ready": true}', '{"opened": true}']
    clock = SetClock()
    store = open_store(url, clock)
    engine = await open_engine(url, store=store, workers=False)
    kept = await engine.store.limit(f"breaker:{PATIENT.name}")
    assert kept is not None
    row = msgspec.json.decode(kept.body, type=BreakerRow)
    assert row.state == "open"
    clock.at = row.changed + PATIENT.reset - 1
    with pytest.raises(CircuitOpen):
        await PATIENT.execute(print)
    clock.at += 1
    await PATIENT.execute(print)
