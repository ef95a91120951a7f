"""A thousand runs in flight whose worker is killed: its successor takes up every one, and records each once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from tests.crash.processes import KILLED, child, engine_on, read_log
from tests.crash.verdict import ask, check_store
from tests.graphs import until

COUNT = 1000


async def test_a_successor_takes_up_a_thousand_runs_in_flight(
    url: str, log: Path, gate: dict[str, str]
) -> None:
    runs = [f"run-{n}" for n in range(COUNT)]
    async with child(url, None, "--stay", "--slots", COUNT) as first:
        await first.until("open")
        async with engine_on(url, workers=False) as client:
            await asyncio.gather(*(client.start("gated", gate, id=run) for run in runs))
        await until(lambda: len(read_log(log)) == COUNT)
        first.kill()
        assert await first.ended() == KILLED
    async with child(url, None, "--stay", "--slots", COUNT) as second:
        await until(lambda: len(read_log(log)) == 2 * COUNT)
        Path(gate["gate"]).touch()
        async with engine_on(url, workers=False) as client:
            results = await asyncio.gather(*(client.result(run) for run in runs))
        second.terminate()
        assert await second.ended() == 0
    assert results == [{"attempt": 2}] * COUNT
    assert Counter(Path(gate["passed"]).read_text().split("\n")[:-1]) == Counter(
        f"{run} 2 {second.pid}" for run in runs
    )
    journals = await check_store(url, log)
    assert [journal.lost for journal in journals.values()] == [["wait#1"]] * COUNT
    completed = "SELECT count(*) FROM stages WHERE name = 'wait' AND status = 'completed'"
    assert ask(url, completed) == [(COUNT,)]
