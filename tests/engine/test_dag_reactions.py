"""Tasks that react to how others ended, and tasks whose runs go elsewhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from holdfast import DAGWorkflow, Engine, RunFailed, RunStatus, Task
from holdfast.patterns.dag.binding import bind, shape_of
from holdfast.registry import Registry
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, until


def load(n: int = 0) -> None:
    raise ConnectionError(f"the warehouse is away {n}")


async def test_a_task_is_told_why_those_before_it_failed(engine: Engine) -> None:
    dag = DAGWorkflow([Task("load", load), Task("fine", lambda: 1)], name="told")
    dag.add_task("each", load, map_over=[1, 2])
    dag.add_task("blocked", lambda: 1, depends_on=["load"])
    dag.add_task(
        "alarm",
        lambda errors: {name: [error.type, error.message] for name, error in errors.items()},
        depends_on=["load", "fine", "each", "blocked"],
        trigger_rule="all_done",
    )
    run = await engine.start(dag)
    assert (await run.result())["alarm"] == {
        "load": ["ConnectionError", "the warehouse is away 0"],
        "each": ["ConnectionError", "the warehouse is away 1"],
    }
    (alarm,) = [stage for stage in await run.stages(inputs=True) if stage.name == "alarm"]
    assert alarm.to_dict()["input"]["errors"]["load"]["message"] == "the warehouse is away 0"


async def test_a_reaction_that_raises_leaves_the_failure_as_it_is(engine: Engine) -> None:
    def alarm(errors: dict[str, Any]) -> None:
        raise RuntimeError(errors["load"].message)

    dag = DAGWorkflow([Task("load", load)], name="raises")
    dag.add_task("alarm", alarm, depends_on=["load"], trigger_rule="one_failed")
    with pytest.raises(RunFailed, match=r"failed at load: .*the warehouse is away"):
        await engine.execute(dag)


def test_what_has_a_default_for_errors_keeps_it() -> None:
    def decode(data: bytes, errors: str = "strict") -> str:
        return data.decode(errors=errors)

    assert bind(shape_of(decode), ["page"], None, ()).kwargs == ()


async def test_the_runs_of_a_task_go_to_the_queue_that_it_names(
    url: str, open_engine: OpenEngine, registry: Registry
) -> None:
    dag = DAGWorkflow([Task("before", lambda: None)], name="queued")
    inner = DAGWorkflow([Task("train", lambda n: n)])
    dag.add_task("train", inner, map_over=[1, 2], depends_on=["before"], queue="gpu")
    registry.add(dag)
    plain = await open_engine(url)
    run = await plain.start(dag)
    other = await open_engine(url, queues=["gpu"])
    assert await run.result(timeout=PATIENCE) == {"before": None, "train": [{"train": 1}, {"train": 2}]}
    for child in await plain.children(run.id):
        assert child.queue == "gpu"
        assert [stage.worker for stage in await child.stages()] == [other.worker_id]
    (before, *_) = await run.stages()
    assert before.worker == plain.worker_id


@pytest.mark.parametrize("kind", ["function", "workflow"])
async def test_a_run_is_begun_anew_from_a_task_while_its_map_is_under_way(engine: Engine, kind: str) -> None:
    may_end, begun = asyncio.Event(), Counter[int]()

    async def item(n: int) -> int:
        begun[n] += 1
        if n:
            await may_end.wait()
        return n * 10

    each: Any = item if kind == "function" else DAGWorkflow([Task("item", item)])
    dag = DAGWorkflow([Task("list", lambda: [0, 1, 2])], name="under-way")
    dag.add_task("each", each, map_over="list")
    dag.add_task("count", len, depends_on=["each"])
    run = await engine.start(dag)
    await until(lambda: begun == {0: 1, 1: 1, 2: 1})
    anew = [await engine.rerun(run.id, "list"), await engine.rerun(run.id, "each")]
    await until(lambda: begun == {0: 3, 1: 3, 2: 3})
    may_end.set()
    results = [await one.result(timeout=PATIENCE) for one in (run, *anew)]
    assert results == [results[0]] * 3
    assert (begun, results[0]["count"]) == ({0: 3, 1: 3, 2: 3}, 3)
    for one in anew:
        ended = {(stage.name, str(stage.status)) for stage in await one.stages()}
        assert ended <= {
            (name, how) for name in ("list", "each", "count") for how in ("completed", "cancelled")
        }


@pytest.mark.parametrize("items", [[1], [1, 2, 3, 4]], ids=["fewer", "more"])
async def test_a_map_goes_on_with_the_items_that_it_began_with(
    url: str, open_engine: OpenEngine, items: list[int]
) -> None:
    mended = False

    def item(n: int) -> int:
        if n == 2 and not mended:
            raise ValueError("two")
        return n * 10

    def made(items: list[int]) -> Registry:
        found = Registry()
        found.add(DAGWorkflow([Task("each", item, map_over=items)], name="items"))
        return found

    first = await open_engine(url, registry=made([1, 2, 3]))
    run = await first.start("items")
    await run.wait()
    await first.close()
    mended = True
    second = await open_engine(url, registry=made(items))
    await second.resume(run.id)

    async def parked() -> bool:
        return (await second.get(run.id)).status is RunStatus.PAUSED

    await until(parked)
    told = f"resume: task 'each' maps over {len(items)} items; in the journal over 3"
    assert (await second.get(run.id)).waiting_on == (told,)
    assert [stage.name for stage in await second.stages(run.id, inputs=True)] == ["each"] * 3
    await second.close()
    third = await open_engine(url, registry=made([1, 2, 3]))
    await third.resume(run.id)
    assert await third.result(run.id, timeout=PATIENCE) == {"each": [10, 20, 30]}
