"""Poison is parked, waits outlive their process, and a process that is asked to end leaves no death behind."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from holdfast import Engine, RunStatus
from tests.crash.processes import (
    KILLED,
    Journal,
    Runs,
    check_all,
    child,
    engine_on,
    read_log,
    recovered,
)
from tests.graphs import until


@pytest.fixture
def poison(tmp_path: Path) -> Path:
    """The file that makes the poisonous workflows kill."""
    path = tmp_path / "poison"
    path.touch()
    return path


async def journal_of(engine: Engine, run: str) -> Journal:
    return Journal(run, await (await engine.get(run)).journal())


async def deaths_until_done(url: str, runs: Runs, count: int) -> int:
    """Start process after process until one lives and all `count` runs are settled; return how many died."""
    for deaths in range(10):
        async with child(url, runs) as running:
            idle = asyncio.create_task(nothing_left(url, count))
            ended = asyncio.create_task(running.ended())
            await asyncio.wait({idle, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                running.terminate()
                assert await ended == 0
                await idle
                return deaths
            idle.cancel()
            assert await ended == KILLED
    raise AssertionError("the processes never stopped dying")


async def nothing_left(url: str, count: int) -> None:
    """Wait until so many runs have ended or are parked."""
    async with engine_on(url, workers=False) as engine:
        settled = (RunStatus.COMPLETED, RunStatus.PAUSED, RunStatus.FAILED)
        await until(lambda: holds(engine, settled, count))


def has_begun(log: Path, step: str) -> bool:
    return any(key[1] == step for key in read_log(log))


def have_begun(log: Path, count: int) -> bool:
    return len(read_log(log)) >= count


async def holds(engine: Engine, statuses: tuple[RunStatus, ...], count: int) -> bool:
    return await engine.count(status=statuses) == count


async def test_a_run_that_kills_its_workers_is_parked_and_bystanders_complete(
    url: str, log: Path, poison: Path
) -> None:
    bystanders: Runs = {f"slow-{n}": ("slow", {"log": str(log), "seconds": 0.05}) for n in range(4)}
    runs = {"poison": ("poison", {"log": str(log), "poison": str(poison)}), **bystanders}
    assert await deaths_until_done(url, runs, 5) == 3
    async with engine_on(url) as engine:
        parked = await engine.get("poison")
        assert parked.status is RunStatus.PAUSED
        assert parked.error is not None
        assert parked.error.code == "poison"
        assert "3 times in a row" in parked.error.message
        assert "worker died" in parked.waiting_on[0]
        for run in bystanders:
            assert await engine.result(run) == {"done": ["one", "two", "three"]}
            (await journal_of(engine, run)).check(read_log(log))
        # The first node was finished before: it did not run again.
        assert (await journal_of(engine, "poison")).lost == ["kill#1"] * 3
        # What made it kill is mended; the attempts go on where they were.
        poison.unlink()
        await engine.resume("poison")
        await engine.result("poison", timeout=10)
    assert read_log(log)["poison", "good#1", 1] == 1
    assert sorted(key[2] for key in read_log(log) if key[1] == "kill#1") == [1, 2, 3, 4]
    (await check_all(url, log))["poison"]


@pytest.mark.parametrize("name", ["poison", "poison_factory"])
async def test_a_parked_run_that_kills_is_cancelled_without_its_code(
    url: str, log: Path, poison: Path, name: str
) -> None:
    async with engine_on(url, workers=False) as client:
        await client.start(name, {"log": str(log), "poison": str(poison)}, id="poison")
    assert await deaths_until_done(url, {}, 1) == 3
    # What kills is still there, and this process serves the run.
    code = log.read_text()
    async with engine_on(url) as engine:
        await engine.cancel("poison", reason="it kills")
        assert (await engine.wait("poison", timeout=10)).status is RunStatus.CANCELLED
        assert (await journal_of(engine, "poison")).kinds()[-1] == "RunCancelled"
    assert log.read_text() == code


async def test_a_factory_that_kills_is_parked_too(url: str, log: Path, poison: Path) -> None:
    runs: Runs = {"factory": ("poison_factory", {"log": str(log), "poison": str(poison)})}
    async with engine_on(url, workers=False) as client:
        for run, (workflow, params) in runs.items():
            await client.start(workflow, params, id=run)
    assert await deaths_until_done(url, {}, 1) == 3
    assert len(log.read_text().splitlines()) == 3
    async with engine_on(url) as engine:
        parked = await engine.get("factory")
        assert parked.status is RunStatus.PAUSED
        assert parked.error is not None
        assert parked.error.code == "poison"
        poison.unlink()
        await engine.resume("factory")
        assert await engine.result("factory", timeout=10) == {"good": True}


async def test_progress_resets_the_count_of_deaths(url: str, log: Path) -> None:
    runs: Runs = {"slow": ("slow", {"log": str(log), "seconds": 0.2})}
    for step in ("one#1", "two#1", "three#1", "three#1"):
        async with child(url, runs) as running:
            await running.until("started")
            await until(partial(has_begun, log, step))
    # Four deaths, and never three without a finished step between them.
    assert await recovered(url, runs) == {"slow": {"done": ["one", "two", "three"]}}
    await check_all(url, log)


@pytest.mark.parametrize("backoff", [0.4, 1.2])
async def test_a_back_off_survives_the_kill(url: str, log: Path, backoff: float) -> None:
    runs: Runs = {"patient": ("patient", {"log": str(log), "backoff": backoff})}
    async with child(url, runs) as running, engine_on(url, workers=False) as client:
        await running.until("started")

        async def is_retrying() -> bool:
            return "StepRetried" in (await journal_of(client, "patient")).kinds()

        await until(is_retrying)
        running.kill()
        await running.ended()
    result = await recovered(url, runs)
    journal = (await check_all(url, log))["patient"]
    first, *others = journal.of("StepRetried")
    assert (first["reason"], first["attempt"], first["due"] - first["at"]) == (
        "failed",
        2,
        round(backoff * 1e6),
    )
    # Nobody began the next attempt before its time: one that is lost in the back-off keeps it.
    assert all(fact["due"] == first["due"] or fact["at"] >= first["due"] for fact in others)
    (completed,) = [fact for fact in journal.of("StepCompleted") if fact["step"] == "fail#1"]
    assert completed["started"] >= first["due"]
    assert result == {"patient": {"attempt": completed["attempt"]}}


async def test_sigterm_lets_running_nodes_end(url: str, log: Path) -> None:
    runs: Runs = {f"slow-{n}": ("slow", {"log": str(log), "seconds": 0.2}) for n in range(3)}
    async with child(url, runs) as running:
        await running.until("started")
        await until(partial(have_begun, log, 3))
        running.terminate()
        assert await running.ended() == 0
    assert len(read_log(log)) == 3, "the closing process began something new"
    async with engine_on(url, workers=False) as engine:
        for run in runs:
            assert (await engine.get(run)).status is RunStatus.WAITING
            assert (await engine.get(run)).waiting_on == ("a worker",)
            assert (await journal_of(engine, run)).kinds().count("StepCompleted") == 2
    assert await recovered(url, runs) == {run: {"done": ["one", "two", "three"]} for run in runs}
    for journal in (await check_all(url, log)).values():
        assert journal.of("StepRetried") == []


async def test_sigterm_beyond_its_grace_loses_the_attempt_and_is_no_death(url: str, log: Path) -> None:
    runs: Runs = {"slow": ("slow", {"log": str(log), "seconds": 0.3})}
    # More often than a run may kill workers: being closed is nothing that it does.
    for begun in range(1, 5):
        async with child(url, runs, "--grace", 0) as running:
            await running.until("started")
            await until(partial(have_begun, log, begun))
            running.terminate()
            assert await running.ended() == 0
    assert await recovered(url, runs) == {"slow": {"done": ["one", "two", "three"]}}
    assert (await check_all(url, log))["slow"].lost == ["one#1"] * 4


async def test_sigterm_while_a_run_waits(url: str, log: Path) -> None:
    runs: Runs = {"patient": ("patient", {"log": str(log), "backoff": 1.5})}
    async with child(url, runs) as running, engine_on(url, workers=False) as client:
        await running.until("started")
        await until(lambda: holds(client, (RunStatus.WAITING,), 1))
        running.terminate()
        assert await running.ended() == 0
        (waiting,) = (await client.get("patient")).waiting_on
        assert waiting.startswith("retry of fail ")
    assert await recovered(url, runs) == {"patient": {"attempt": 3}}
    await check_all(url, log)
