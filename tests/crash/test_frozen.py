"""A worker that is stopped past its lease and goes on later: what it held is done by others, and it writes nothing."""

from __future__ import annotations

from pathlib import Path

from holdfast import Engine
from holdfast.registry import Registry
from tests.crash.fleet import LEASE
from tests.crash.processes import child, engine_on, read_log
from tests.crash.verdict import check_store
from tests.graphs import until

OPTIONS = ("--stay", "--lease", LEASE)


async def both_live(client: Engine) -> bool:
    return [bool(worker.stopped_at) for worker in await client.store.workers()] == [False, False]


async def test_a_worker_stopped_past_its_lease_writes_nothing(
    url: str, log: Path, gate: dict[str, str]
) -> None:
    runs = [f"run-{n}" for n in range(5)]
    async with (
        engine_on(url, workers=False, registry=Registry()) as client,
        child(url, None, *OPTIONS) as first,
    ):
        await first.until("open")
        for run in runs:
            await client.start("stubborn", gate, id=run)
        await until(lambda: len(read_log(log)) == len(runs))
        first.freeze()
        async with child(url, None, *OPTIONS) as second:
            # Its lease must run out: the lock of its life is still held.
            await until(lambda: all(read_log(log)[run, "wait#1", 2] for run in runs))
            Path(gate["gate"]).touch()
            assert [await client.result(run) for run in runs] == [{"attempt": 2}] * len(runs)
            first.thaw()
            passed = Path(gate["passed"])
            await until(lambda: all(f"{run} 1 {first.pid}\n" in passed.read_text() for run in runs))
            await until(lambda: both_live(client))
            second.terminate()
            assert await second.ended() == 0
        # It has begun anew, and takes runs up again.
        await client.start("stubborn", gate, id="next")
        assert await client.result("next") == {"attempt": 1}
        first.terminate()
        assert await first.ended() == 0
    journals = await check_store(url, log)
    assert [journals[run].lost for run in runs] == [["wait#1"]] * len(runs)
