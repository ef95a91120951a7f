"""Tasks that react to how others ended, and tasks whose runs go elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import DAGWorkflow, Engine, RunFailed, Task
from holdfast.patterns.dag.binding import bind, shape_of
from holdfast.registry import Registry
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE


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
