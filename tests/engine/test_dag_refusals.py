"""What a DAG and its tasks do not take, and what each refusal says to do."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import DAGWorkflow, DefinitionError, Task
from holdfast.dags import dag, task


def called(option: dict[str, Any]) -> DAGWorkflow:
    @dag
    def whole() -> None:
        task(list, name="a", **option)()

    return whole


@pytest.mark.parametrize(
    ("option", "told", "fix"),
    [
        ({"executor": "process"}, "task 'a' has no executor", "a workflow with a queue= that they serve"),
        ({"updates": ["orders"]}, "task 'a' has no updates", "a last task start the runs"),
        ({"on_failure": print}, "task 'a' has no on_failure", 'trigger_rule="one_failed"'),
        ({"on_success": print}, "task 'a' has no on_success", "A task that depends on it"),
        ({"queue": "gpu"}, "task 'a' is a function", "DAGWorkflow([Task(...)]), queue='gpu'"),
        ({"queue": 7}, "queue=7 is not allowed", "a text"),
        ({"depends_on": None}, "depends_on=None is not allowed", "the name of a task, or a list of names"),
        ({"depends_on": {"b": 1}}, "depends_on={'b': 1} is not allowed", "the name of a task"),
        ({"depends_on": [None]}, "depends_on=None is not allowed", "a text that is not empty"),
        ({"retries": 3}, "task 'a': retries is no option", "Options are retry, timeout"),
        ({"limit": 3}, "only a map has limit=3", "map_over"),
        ({"trigger_rule": "all_sucess"}, "trigger_rule='all_sucess'", "all_success, all_failed"),
    ],
)
def test_of_a_task(option: dict[str, Any], told: str, fix: str) -> None:
    for build in (
        lambda: Task("a", list, **option),
        lambda: DAGWorkflow().add_task("a", list, **option),
        lambda: called(option),
    ):
        with pytest.raises(DefinitionError) as caught:
            build()
        assert told in caught.value.message
        assert fix in caught.value.fix


def test_a_dag_within_itself() -> None:
    outer, inner = DAGWorkflow(name="outer"), DAGWorkflow(name="inner")
    outer.add_task("inner", inner)
    for name, held in (("outer", outer), ("inner", inner)):
        with pytest.raises(DefinitionError, match=f"task {name!r}: the DAG would contain itself"):
            inner.add_task(name, held)


@pytest.mark.parametrize(
    ("option", "told", "fix"),
    [
        ({"schedule": "@daily"}, "DAGWorkflow has no schedule", "gives each day one run"),
        ({"when": ["orders"]}, "DAGWorkflow has no when", "the last task of one DAG"),
        ({"catchup": True}, "DAGWorkflow: catchup is no option", "version, queue, priority"),
        ({"max_parallel": 0}, "max_parallel=0 is not allowed", "a whole number of at least 1"),
    ],
)
def test_of_a_dag(option: dict[str, Any], told: str, fix: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        DAGWorkflow(**option)
    assert told in caught.value.message
    assert fix in caught.value.fix
