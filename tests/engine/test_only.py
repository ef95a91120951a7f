"""An engine that drives a few runs only, as `holdfast run` does: what others left behind stays where it is."""

from __future__ import annotations

from typing import Any

from holdfast import Engine, RunStatus, interrupt
from holdfast.registry import Registry, as_workflow
from holdfast.runtime.claims import Family
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, sequence, until


def known(registry: Registry, **nodes: Any) -> None:
    registry.add(as_workflow(sequence("some", **nodes)))


async def left_behind(url: str, open_engine: OpenEngine, *ids: str) -> None:
    client = await open_engine(url, workers=False)
    for id_ in ids:
        await client.start("some", {"id": id_}, id=id_, queue="elsewhere")
    await client.close()


async def test_of_what_others_left_only_the_named_runs_go_on(
    url: str, open_engine: OpenEngine, registry: Registry
) -> None:
    known(registry, a=lambda s: {"a": s["id"]})
    await left_behind(url, open_engine, "left", "wanted", "late")
    only = {"wanted"}
    engine = await open_engine(url, only=only)
    assert await engine.result("wanted", timeout=PATIENCE) == {"id": "wanted", "a": "wanted"}
    assert await engine.execute("some", {"id": "new"}) == {"id": "new", "a": "new"}
    assert (await engine.get("left")).status is RunStatus.PENDING
    only.add("late")  # the set may grow
    assert await engine.result("late", timeout=PATIENCE) == {"id": "late", "a": "late"}
    assert (await engine.get("left")).status is RunStatus.PENDING
    # Nobody counts on it: it is listed without queues.
    assert [worker.queues for worker in await engine.workers() if worker.id == engine.worker_id] == [()]


async def test_a_run_that_waits_is_taken_up_when_there_is_news(
    url: str, open_engine: OpenEngine, registry: Registry
) -> None:
    known(registry, ask=lambda _: {"answer": interrupt("approve")})
    engine = await open_engine(url, only=set())
    run = await engine.start("some", {})
    other = await open_engine(url, workers=False)
    await until(lambda: is_(other, run.id, RunStatus.WAITING))
    await other.signal(run.id, "approve", 7)
    assert await engine.result(run.id, timeout=PATIENCE) == {"answer": 7}


async def is_(engine: Engine, run: str, status: RunStatus) -> bool:
    return (await engine.get(run)).status is status


async def test_a_forked_run_is_driven_where_it_was_forked(
    url: str, open_engine: OpenEngine, registry: Registry
) -> None:
    known(registry, a=lambda _: {"a": 1})
    engine = await open_engine(url, only=set())
    run = await engine.start("some", {"b": 2})
    await run.wait()
    assert await (await run.fork(at=1)).result(timeout=PATIENCE) == {"a": 1, "b": 2}


async def test_a_run_that_killed_others_is_taken_all_the_same(
    url: str, open_engine: OpenEngine, registry: Registry
) -> None:
    known(registry, a=lambda _: {"a": 1})
    await left_behind(url, open_engine, "deadly")
    client = await open_engine(url, workers=False)
    for _ in range(2):
        worker = await open_engine(url, queues=["none"])
        assert await client.store.claim_run(worker.worker_id, "deadly")
        await client.store.reclaim([worker.worker_id], "died")
        await worker.close()
    engine = await open_engine(url, only={"deadly"})
    assert await engine.result("deadly", timeout=PATIENCE) == {"id": "deadly", "a": 1}


async def test_children_are_driven_where_their_parent_is(
    url: str, open_engine: OpenEngine, registry: Registry
) -> None:
    registry.add(as_workflow(sequence("child", a=lambda _: {"a": 1})))
    known(registry, nested=registry.get("child"))
    engine = await open_engine(url, only=set())
    assert await engine.execute("some", {"b": 2}) == {"a": 1, "b": 2}


async def test_a_run_of_an_unknown_workflow_or_another_family_is_none_of_it(engine: Engine) -> None:
    run = await engine.start(sequence("one", a=lambda _: {}), {})
    row = await engine.store.run(run.id)
    assert row is not None
    knows: dict[str, Any] = {"one": object()}
    family = Family({run.id}, engine.store, "w", lambda: knows, {})
    assert family.serves(row)
    knows.clear()
    assert not family.serves(row)
    family = Family(set(), engine.store, "w", lambda: {"one": object()}, {})  # type: ignore[dict-item]
    assert not family.serves(row)
    family.opened(run.id)
    assert family.serves(row)
    assert await family.suspect() is None
