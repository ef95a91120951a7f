"""The public contract of DAGs, as users write it: each name and each parameter."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import DAGWorkflow, DefinitionError, Engine, RetryPolicy, Task
from holdfast.agents import AgentRequest, register_agent
from holdfast.agents import registry as agents


def fetch_api_data() -> list[int]:
    return [1, 2]


def process(data: list[int]) -> list[int]:
    return [n * 2 for n in data]


def save(result: list[int]) -> str:
    return f"saved {result}"


def test_a_list_of_tasks_is_executed() -> None:
    workflow = DAGWorkflow([
        Task("fetch_data", run=lambda: fetch_api_data()),  # noqa: PLW0108 - as the contract has it
        Task("process", run=lambda data: process(data), depends_on=["fetch_data"]),  # noqa: PLW0108
        Task("save", run=lambda result: save(result), depends_on=["process"]),  # noqa: PLW0108
    ])  # fmt: skip
    result = workflow.execute()
    assert result == {"fetch_data": [1, 2], "process": [2, 4], "save": "saved [2, 4]"}


async def test_a_dag_is_built_task_by_task(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "_agents", {})
    asked: list[AgentRequest] = []

    def review(request: AgentRequest) -> str:
        asked.append(request)
        return "fine"

    register_agent("code-reviewer", review)

    def task_a() -> str:
        return "a"

    def task_b(a: str) -> str:
        return a + "b"

    def task_c(a: str) -> str:
        return a + "c"

    def task_d(b: str, c: str) -> list[str]:
        return [b, c]

    def handle(item: str) -> str:
        return item.upper()

    dag = DAGWorkflow(name="etl", max_parallel=4)
    dag.add_task("A", func=task_a)
    dag.add_task("B", func=task_b, depends_on=["A"])
    dag.add_task(
        "C",
        func=task_c,
        depends_on=["A"],
        trigger_rule="all_done",
        retry=RetryPolicy(attempts=3),
        timeout=60,
    )
    dag.add_task("D", func=task_d, depends_on=["B", "C"])
    dag.add_task("each", func=handle, map_over="D")  # one durable instance per item
    dag.add_task("review", agent="code-reviewer", depends_on=["each"])
    dag.validate()
    assert dag.topological_sort() == ["A", "B", "C", "D", "each", "review"]
    assert dag.to_mermaid().startswith("flowchart")
    assert await engine.execute(dag) == {
        "A": "a",
        "B": "ab",
        "C": "ac",
        "D": ["ab", "ac"],
        "each": ["AB", "AC"],
        "review": "fine",
    }
    assert asked[0].results == {"each": ["AB", "AC"]}


def test_every_parameter_is_there() -> None:
    dag = DAGWorkflow(
        (),
        name="all",
        max_parallel=2,
        params=None,
        default_retry=RetryPolicy(attempts=2),
        default_timeout=5,
        version="2",
        queue="default",
        priority=1,
        timeout=60,
        retry=None,
    )
    made = dag.add_task(
        "a",
        lambda item: item,
        instructions=None,
        depends_on=(),
        map_over="items",
        limit=2,
        tolerate=0.5,
        batch=3,
        trigger_rule="all_success",
        retry=None,
        timeout=None,
        priority=0,
        fallback=0,
    )
    assert (made.timeout, made.retry) == (5, RetryPolicy(attempts=2))
    assert dag.execute({"items": [1, 2, 3, 4]}) == {"a": [1, 2, 3, 4]}


def test_what_was_finished_is_in_the_error() -> None:
    def boom() -> None:
        raise ValueError("boom")

    dag = DAGWorkflow([Task("a", lambda: 1), Task("b", boom, depends_on=["a"])])
    with pytest.raises(ValueError, match="boom") as caught:
        dag.execute({})
    error: Any = caught.value
    assert error.results == {"a": 1}


def test_a_cycle_is_refused_with_its_path() -> None:
    dag = DAGWorkflow([Task("a", list, depends_on=["c"]), Task("b", list, depends_on=["a"])])
    dag.add_task("c", list, depends_on=["b"])
    with pytest.raises(DefinitionError, match="a -> b -> c -> a"):
        dag.execute()
