"""The worker: slots, claims, suspects, patrols, leases, and what it leaves when it closes."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast import Engine, RunStatus, State, StepContext
from holdfast.errors import PayloadRejected
from holdfast.model.ids import SECOND
from holdfast.registry import Registry, as_workflow
from holdfast.runtime.host import Host, LifeLock
from holdfast.runtime.keeper import SUSPECT_SECONDS
from holdfast.runtime.patrol import forgettable
from holdfast.runtime.worker import Worker
from holdfast.store.open import open_store
from holdfast.store.rows import WorkerRow
from holdfast.testing.world import World
from tests.conftest import OpenEngine
from tests.crash.lies import make_lie
from tests.graphs import PATIENCE, Gate, nothing, sequence, until


def worker_of(engine: Engine) -> Worker:
    worker = engine._open.worker
    assert worker is not None
    return worker


async def row_of(engine: Engine, worker: str) -> WorkerRow:
    (row,) = [row for row in await engine.store.workers() if row.id == worker]
    return row


async def deaths(place: Engine | World, run: str, count: int) -> None:
    """Let so many workers die over the run."""
    for n in range(count):
        assert await place.store.claim_run(f"mortal-{n}", run) is not None
        assert await place.store.reclaim([f"mortal-{n}"], "died") == [run]


# --- listing


async def test_a_goodbye_whose_answer_is_lost_is_said_again(url: str, open_engine: OpenEngine) -> None:
    store = open_store(url)
    engine = await open_engine(url, store=store)
    worker = worker_of(engine)
    told = make_lie(store, lambda verb, n: verb in ("release", "enlist") and n == 1)
    await engine.close()
    assert told["release"] == told["enlist"] == 1
    client = await open_engine(url, workers=False)
    assert (await row_of(client, worker.id)).stopped_at > 0


async def test_a_worker_is_listed_with_its_place_and_workflows(url: str, open_engine: OpenEngine) -> None:
    registry = Registry()
    registry.add(as_workflow(sequence("known", node=nothing)))
    engine = await open_engine(url, registry=registry)
    worker = worker_of(engine)
    row = await row_of(engine, worker.id)
    here = Host()
    assert (row.host, row.boot, row.namespace, row.pid) == (here.name, here.boot, here.namespace, here.pid)
    assert Path(row.lock).exists()
    assert list(row.workflows) == ["known"]
    assert row.stopped_at == 0
    assert row.leased_until > engine.store.now()
    await engine.close()
    client = await open_engine(url, workers=False)
    row = await row_of(client, worker.id)
    assert row.stopped_at > 0
    assert list(row.workflows) == ["known"], "the list stays"
    assert not Path(row.lock).exists()


async def test_a_registration_is_listed(url: str, open_engine: OpenEngine, registry: Registry) -> None:
    engine = await open_engine(url)
    registry.add(as_workflow(sequence("late", node=nothing)))
    worker = worker_of(engine)

    async def listed() -> bool:
        return "late" in (await row_of(engine, worker.id)).workflows

    await until(listed)


async def test_workers_are_told_with_their_leases(url: str, open_engine: OpenEngine) -> None:
    gate = Gate()
    registry = Registry()
    registry.add(as_workflow(sequence("told", node=lambda _: gate.wait())))
    engine = await open_engine(url, registry=registry, queues=("default", "gpu"))
    client = await open_engine(url, workers=False, registry=Registry())
    await client.start("told")
    await gate.until_reached()
    (info,) = await client.workers()
    here = Host()
    assert (info.id, info.host, info.pid) == (worker_of(engine).id, here.name, here.pid)
    assert (info.queues, info.workflows, info.runs) == (("default", "gpu"), ("told",), 1)
    assert (info.lease, info.stopped_at) == ("alive", None)
    # Its lease is over; it lives on a machine that cannot be seen from here.
    row = await row_of(client, info.id)
    await client.store.enlist(msgspec.structs.replace(row, boot="elsewhere", leased_until=1))
    assert [each.lease for each in await client.workers()] == ["expired"]
    await client.store.enlist(row)
    gate.open()
    await engine.close()
    assert await client.workers() == []
    (info,) = await client.workers(stopped=True)
    assert (info.lease, info.runs) == ("stopped", 0)
    assert info.stopped_at is not None
    assert info.stopped_at >= info.started_at


async def test_a_registration_does_not_change_since_when_a_worker_lives(
    url: str, open_engine: OpenEngine, registry: Registry
) -> None:
    engine = await open_engine(url)
    (before,) = await engine.workers()
    registry.add(as_workflow(sequence("late", node=nothing)))
    await until(lambda: has_listed(engine, "late"))
    (after,) = await engine.workers()
    assert after.started_at == before.started_at


async def has_listed(engine: Engine, name: str) -> bool:
    return name in (await engine.workers())[0].workflows


def gone(name: str, days: float, *workflows: str, expired: bool = False) -> WorkerRow:
    """A worker that stopped so many days ago; `expired` when its lease was taken."""
    stopped = NOW - round(days * DAY) if days else 0
    return WorkerRow(
        id=name,
        host="",
        boot="",
        namespace="",
        pid=1,
        lock="",
        workflows={each: msgspec.Raw(b"{}") for each in workflows},
        leased_until=stopped - 1 if expired else stopped + 1,
        stopped_at=stopped,
    )


NOW, DAY = 1_800_000_000 * SECOND, 24 * 3600 * SECOND


@pytest.mark.parametrize(
    ("rows", "forgotten"),
    [
        ([gone("lives", 0), gone("today", 0.9)], []),
        ([gone("lives", 0), gone("old", 1.1)], ["old"]),
        ([gone("lives", 0, "a"), gone("old", 5, "a"), gone("older", 6, "a", "b")], ["old"]),
        ([gone("older", 6, "a"), gone("old", 5, "a"), gone("oldest", 7)], ["older", "oldest"]),
        ([gone("asleep", 29, expired=True), gone("lost", 31, expired=True)], ["lost"]),
    ],
)
def test_old_workers_are_forgotten_but_for_the_last_to_list_a_workflow(
    rows: list[WorkerRow], forgotten: list[str]
) -> None:
    assert forgettable(rows, NOW) == forgotten


async def test_the_patrol_forgets(url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(url)
    old = gone("old", 1)
    await engine.store.enlist(msgspec.structs.replace(old, stopped_at=2, leased_until=3))
    await worker_of(engine).keeper.patrol()
    assert [row.id for row in await engine.store.workers()] == [worker_of(engine).id]


async def test_params_are_checked_against_the_newest_list(url: str, open_engine: OpenEngine) -> None:
    client = await open_engine(url, workers=False, registry=Registry())
    now = client.store.now()
    for number, required in enumerate((b'["pages"]', b"[]"), 1):
        schema = msgspec.Raw(b'{"properties":{},"required":' + required + b"}")
        row = msgspec.structs.replace(gone(f"w{number}", 0), started_at=now + number)
        await client.store.enlist(msgspec.structs.replace(row, workflows={"listed": schema}))
    assert (await client.start("listed")).status is RunStatus.PENDING


# --- slots and suspects


async def test_a_suspect_is_held_alone(url: str, open_engine: OpenEngine) -> None:
    gates, order = [Gate(), Gate()], []

    def node(state: State, step: StepContext) -> None:
        order.append((step.run_id, step.attempt))
        if step.run_id == "suspect":
            gates[step.attempt - 1].wait()

    engine = await open_engine(url)
    await engine.start(sequence("suspects", node=node), id="suspect")
    await gates[0].until_reached()
    await engine.close(grace=0)
    client = await open_engine(url, workers=False)
    await client.start("suspects", id="other")
    await deaths(client, "suspect", 2)
    engine = await open_engine(url)
    await gates[1].until_reached()
    assert order == [("suspect", 1), ("other", 1), ("suspect", 2)], "first those under no suspicion"
    assert not worker_of(engine).holdings.has_slot
    late = await engine.start("suspects", id="late")
    assert late.status is RunStatus.PENDING
    for gate in gates:
        gate.open()
    for run in ("suspect", "other", "late"):
        assert (await engine.wait(run, timeout=PATIENCE)).status is RunStatus.COMPLETED


async def test_a_third_death_parks_and_a_finished_step_takes_the_suspicion_away(
    url: str, open_engine: OpenEngine
) -> None:
    gate = Gate()
    graph = sequence("suspects", first=nothing, second=lambda _: gate.wait())
    client = await open_engine(url, workers=False, registry=Registry())
    for run, count in (("two", 2), ("three", 3)):
        await client.start(graph, id=run)
        await deaths(client, run, count)
    registry = Registry()
    registry.add(as_workflow(graph))
    engine = await open_engine(url, registry=registry)
    await gate.until_reached()
    assert worker_of(engine).holdings.has_slot, "its first node is done: it is trusted again"
    gate.open()
    assert (await engine.wait("two", timeout=PATIENCE)).status is RunStatus.COMPLETED

    async def is_parked() -> bool:
        return (await engine.get("three")).status is RunStatus.PAUSED

    await until(is_parked)


async def test_a_suspect_does_not_starve_while_others_keep_the_worker_busy() -> None:
    order: list[str] = []

    async def node(state: State, step: StepContext) -> None:
        order.append(step.run_id)
        await asyncio.sleep(2)

    async with World() as world:
        registry = Registry()
        registry.add(as_workflow(sequence("busy", node=node)))
        client = await world.engine(workers=False, registry=registry)
        await client.start("busy", id="suspect")
        await deaths(world, "suspect", 2)
        for number in range(40):
            await client.start("busy", id=f"other-{number:02}")
        # It always has one to take up when another has ended.
        engine = await world.engine(registry=registry, concurrency=2)
        run = await engine.wait("suspect")
        assert run.status is RunStatus.COMPLETED
        assert world.now < SUSPECT_SECONDS + 10, "it took the suspect as soon as what it held had ended"
        assert len(order) < 20, "most of the others are still to come"
        for row in (await client.runs(limit=100)).items:
            assert (await client.wait(row.id)).status is RunStatus.COMPLETED


async def test_one_worker_alone_becomes_idle_for_a_suspect() -> None:
    async def node(state: State) -> None:
        await asyncio.sleep(1)

    async with World() as world:
        registry = Registry()
        registry.add(as_workflow(sequence("busy", node=node)))
        client = await world.engine(workers=False, registry=registry)
        await client.start("busy", id="suspect")
        await deaths(world, "suspect", 2)
        for number in range(100):
            await client.start("busy", id=f"other-{number}")
        engines = [await world.engine(registry=registry, concurrency=2) for _ in range(3)]
        reserving = set()
        while (await client.get("suspect")).status is RunStatus.PENDING:
            reserving |= {engine.name for engine in engines if worker_of(engine).holdings.reserved}
            await world.sleep(0.1)
        assert reserving == {"engine-2"}


# --- queues


async def test_a_queue_is_served_by_the_workers_that_say_so(url: str, open_engine: OpenEngine) -> None:
    graph = sequence("queued", node=nothing)
    registry = Registry()
    registry.add(as_workflow(graph))
    plain = await open_engine(url, registry=registry)
    run = await plain.start("queued", queue="gpu")
    await plain.start("queued", id="other")
    assert (await plain.wait("other", timeout=PATIENCE)).status is RunStatus.COMPLETED
    assert (await run.refresh()).status is RunStatus.PENDING
    fast = await open_engine(url, registry=registry, queues=["gpu", "cpu", "gpu"])
    assert (await run.wait(timeout=PATIENCE)).status is RunStatus.COMPLETED
    assert (await fast.store.journal(run.id))[-1].worker == worker_of(fast).id
    assert (await row_of(fast, worker_of(fast).id)).queues == ("gpu", "cpu")


@pytest.mark.parametrize("queues", ["gpu", (), [""], [" gpu"], ["a\nb"], [7], None, {"gpu": 1}])
def test_names_of_queues_are_checked(queues: Any) -> None:
    with pytest.raises(PayloadRejected, match="queues"):
        Engine("sqlite:///:memory:", queues=queues)


# --- patrols


async def test_a_worker_whose_lease_is_over_is_reclaimed_and_its_run_goes_on(
    url: str, open_engine: OpenEngine
) -> None:
    gate, calls = Gate(), []

    def node(state: State, step: StepContext) -> None:
        calls.append(step.attempt)
        if step.attempt == 1:
            gate.wait()

    graph = sequence("expired", node=node)
    first = await open_engine(url)
    await first.start(graph, id="expired")
    await gate.until_reached()
    # It is on a machine that cannot be seen from here, and has not renewed.
    row = await row_of(first, worker_of(first).id)
    await first.store.enlist(msgspec.structs.replace(row, boot="elsewhere", leased_until=1))
    registry = Registry()
    registry.add(as_workflow(graph))
    second = await open_engine(url, registry=registry)
    assert (await second.wait("expired", timeout=PATIENCE)).status is RunStatus.COMPLETED
    gate.open()
    assert calls == [1, 2]


async def test_a_worker_with_a_lease_is_left_alone(url: str, open_engine: OpenEngine) -> None:
    gate = Gate()
    graph = sequence("leased", node=lambda _: gate.wait())
    first = await open_engine(url)
    await first.start(graph, id="leased")
    await gate.until_reached()
    row = await row_of(first, worker_of(first).id)
    await first.store.enlist(msgspec.structs.replace(row, boot="elsewhere"))
    second = await open_engine(url, registry=Registry())
    await worker_of(second).keeper.patrol()
    assert await first.store.held(row.id) == ["leased"]
    gate.open()
    await first.wait("leased")


async def test_a_dead_worker_is_forgotten_only_when_its_jobs_are_free(
    url: str, open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await open_engine(url)
    lock = LifeLock("dead-worker")
    here = Host()
    row = WorkerRow(
        id="dead-worker",
        host=here.name,
        boot=here.boot,
        namespace=here.namespace,
        pid=1,
        lock=str(lock.path),
        leased_until=engine.store.now() + 60_000_000,
    )
    await engine.store.enlist(row)
    lock._file.close()  # as when a process is killed: the lock is free, the file is there
    assert lock.path.exists()

    async def refuse(*_: Any) -> Any:
        raise ConnectionError("the patrol dies here")

    with monkeypatch.context() as patch:
        patch.setattr(engine.store, "reclaim", refuse)
        with pytest.raises(ConnectionError):
            await worker_of(engine).keeper.patrol()
    assert lock.path.exists()
    await worker_of(engine).keeper.patrol()
    assert not lock.path.exists()
    assert (await row_of(engine, "dead-worker")).stopped_at > 0


# --- leases


async def test_a_worker_that_lost_its_lease_drops_its_runs_and_begins_anew(
    url: str, open_engine: OpenEngine, caplog: pytest.LogCaptureFixture
) -> None:
    gate, calls = Gate(), []

    async def node(state: State, step: StepContext) -> dict[str, int]:
        calls.append(step.attempt)
        if step.attempt == 1:
            await gate.passed()
        return {"attempt": step.attempt}

    engine = await open_engine(url)
    worker = worker_of(engine)
    run = await engine.start(sequence("lost", node=node))
    await gate.until_reached()
    assert worker.renew()
    await engine.store.reclaim([worker.id], "died")
    assert not worker.renew()
    worker.lost_lease()
    assert await run.result(timeout=PATIENCE) == {"attempt": 2}
    assert calls == [1, 2]
    assert "lost its lease" in caplog.text
    assert (await row_of(engine, worker.id)).stopped_at == 0
    assert worker.renew()


# --- closing


async def test_a_closed_worker_holds_nothing(url: str, open_engine: OpenEngine) -> None:
    gate = Gate()
    engine = await open_engine(url)
    worker = worker_of(engine)
    await engine.start(sequence("closed", node=lambda _: gate.wait()))
    await gate.until_reached()
    await engine.close(grace=0)
    gate.open()
    client = await open_engine(url, workers=False)
    assert await client.store.held(worker.id) == []
    assert worker.held == {}


async def test_a_job_of_a_workflow_that_went_is_given_back(url: str, open_engine: OpenEngine) -> None:
    graph = sequence("gone", node=nothing)
    registry = Registry()
    registry.add(as_workflow(graph))
    engine = await open_engine(url, registry=registry)
    worker = worker_of(engine)
    client = await open_engine(url, workers=False, registry=Registry())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker.keeper, "_claim", lambda: asyncio.sleep(0))
        await client.start(graph, id="gone")
        claimed = await engine.store.claim_run(worker.id, "gone")
        assert claimed is not None
        patch.setattr(registry, "_workflows", {})
        await worker.holdings.take(claimed)
        assert await engine.store.held(worker.id) == []
    assert (await engine.wait("gone", timeout=PATIENCE)).status is RunStatus.COMPLETED


# --- a first commit whose answer comes late


async def test_an_answer_that_comes_late_does_not_displace_who_claimed_the_run_meanwhile(
    memory_url: str, open_engine: OpenEngine
) -> None:
    gate = Gate()
    engine = await open_engine(memory_url)
    run = await engine.start(sequence("late", node=lambda _: gate.wait()))
    await gate.until_reached()
    holdings = worker_of(engine).holdings
    held = holdings.held[run.id]
    early = copy.copy(held)
    early.epoch = held.epoch - 1
    holdings.adopt(early)
    assert holdings.held[run.id] is held
    assert not held.lost
    gate.open()
    await run.result(timeout=PATIENCE)
