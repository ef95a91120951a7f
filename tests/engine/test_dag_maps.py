"""Maps that are disturbed: cancelled amid many items, with results that cannot be stored."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from holdfast import DAGWorkflow, Engine, RunFailed, RunStatus, StepStatus
from tests.graphs import until

ITEMS = 1_200
FREE = 1_000


async def test_a_cancel_in_the_middle_of_a_large_map_loses_nothing(engine: Engine) -> None:
    may_end, begun = asyncio.Event(), Counter[int]()

    async def item(n: int) -> int:
        begun[n] += 1
        if n >= FREE:
            await may_end.wait()
        return n

    dag = DAGWorkflow(name="large")
    dag.add_task("each", item, map_over=list(range(ITEMS)))
    dag.add_task("sum", sum, depends_on=["each"])
    run = await engine.start(dag)
    await until(lambda: len(begun) == ITEMS)
    await engine.cancel(run.id)
    assert (await run.wait()).status is RunStatus.CANCELLED
    stages = await run.stages()
    done = {stage.output for stage in stages if stage.status is StepStatus.COMPLETED}
    ends = Counter(stage.status for stage in stages)
    assert ends == {StepStatus.COMPLETED: len(done), StepStatus.CANCELLED: ITEMS - len(done)}

    may_end.set()
    await engine.resume(run.id)
    assert (await run.result())["sum"] == sum(range(ITEMS))
    assert all(begun[n] == 1 for n in done)
    assert max(begun.values()) == (2 if len(done) < ITEMS else 1)


@pytest.mark.parametrize("tolerate", [2, 0.5])
async def test_an_item_whose_result_cannot_be_stored_counts_as_failed(
    engine: Engine, tolerate: float
) -> None:
    def item(n: int) -> Any:
        return object() if n == 1 else n

    dag = DAGWorkflow(name="tolerated")
    dag.add_task("each", item, map_over=[0, 1, 2, 3], tolerate=tolerate)
    dag.add_task("count", len, depends_on=["each"])
    assert await engine.execute(dag) == {"each": [0, 2, 3], "count": 3}
    dag = DAGWorkflow(name="not-tolerated")
    dag.add_task("each", item, map_over=[0, 1, 2, 3])
    with pytest.raises(
        RunFailed, match="the result of task 'each' is of type object, which cannot be stored"
    ):
        await engine.execute(dag)


def test_without_an_engine_a_map_over_no_list_tells_how_to_go_on() -> None:
    found: list[Any] = ["no list"]
    dag = DAGWorkflow(name="no-list")
    dag.add_task("find", lambda: found[0])
    dag.add_task("each", lambda n: n, map_over="find")
    with pytest.raises(RunFailed, match="task 'each' cannot map over 'find'") as caught:
        dag.execute()
    assert caught.value.fix == "Mend the cause, then go on from there: dag.resume(error.run_id)"
    assert caught.value.results == {"find": "no list"}
