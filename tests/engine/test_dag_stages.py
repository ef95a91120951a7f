"""What the audit shows of the tasks of a DAG."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import DAGWorkflow, Engine, StepContext, Task


@pytest.mark.parametrize("supervised", [False, True])
async def test_a_stage_shows_what_its_task_was_given(engine: Engine, supervised: bool) -> None:
    hook: Any = {"on_success": lambda: None} if supervised else {}

    def given(n: int, factor: int, step: StepContext) -> int:
        return n * factor * step.attempt

    dag = DAGWorkflow(name="given", **hook)
    dag.add_task("a", lambda: 1)
    dag.add_task("b", lambda: 2)
    dag.add_task("each", given, map_over=[5, 6, 7], depends_on=["a"])
    dag.add_task("pairs", lambda n, *_: n, map_over="each", batch=2, depends_on=["b"])
    dag.add_task("inner", DAGWorkflow([Task("in", lambda a, b: a + b)]), depends_on=["a", "b", "pairs"])
    dag.add_task("any", lambda **given: len(given), depends_on=["b"])
    run = await engine.start(dag, {"factor": 10})
    await run.result()
    again = await engine.rerun(run.id, "each", item=1)
    await again.result()
    stages = await again.stages(inputs=True)
    shown = [(stage.name, stage.input) for stage in stages if stage.name != "run:on_success"]
    assert sorted(shown, key=repr) == sorted(
        [
            ("a", {}),
            ("b", {}),
            *[("each", {"n": n, "factor": 10}) for n in (5, 6, 7, 6)],
            *[("pairs", {"n": n, "b": 2}) for n in ([50, 60], [70], [50, 60], [70])],
            *[("inner", {"a": 1, "b": 2})] * 2,
            ("any", {"factor": 10, "b": 2}),
        ],
        key=repr,
    )


async def test_a_map_over_nothing_is_drawn_as_completed(engine: Engine) -> None:
    dag = DAGWorkflow(name="nothing")
    dag.add_task("find", list)
    dag.add_task("each", lambda n: n, map_over="find")
    dag.add_task("never", lambda n: n, map_over="each")
    dag.add_task("count", len, depends_on=["each"])
    run = await engine.start(dag)
    await run.result()
    boxes = {box.key: (box.tone, box.note) for box in (await engine.picture(run.id)).boxes}
    assert boxes["each"] == boxes["never"] == ("completed", "no items")
    assert boxes["count"][0] == "completed"
