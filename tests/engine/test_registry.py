"""The registry: names for workflows, for every thread; and what concurrent runs share."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, TypedDict

import pytest

from holdfast import (
    END,
    START,
    DefinitionError,
    Engine,
    State,
    StateGraph,
    WorkflowNotFound,
    get_workflow,
    list_workflows,
    register,
    workflow_factory,
)
from holdfast import registry as registries
from holdfast.model.run import ENDED, RESUMABLE, TRANSITIONS, RunStatus
from holdfast.patterns.graph.factory import GraphWorkflow
from holdfast.registry import Registry, as_workflow
from tests.conftest import OpenEngine
from tests.graphs import nothing, parallel, sequence


@pytest.fixture
def default(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The default registry, empty for this test."""
    made = Registry()
    monkeypatch.setattr(registries, "default", made)
    return made


class Order(TypedDict):
    order: str
    cents: int


def factory(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
    """Do next to nothing.

    At length.
    """
    graph.add_node("a", nothing).add_edge(START, "a").add_edge("a", END)
    return State(params)


def test_the_decorator_registers_and_leaves_the_function_as_it_is(default: Registry) -> None:
    made = workflow_factory(
        "order", "Takes orders", params=Order, version="2", queue="q", priority=3, timeout=60
    )(factory)
    assert made is factory
    workflow = get_workflow("order")
    assert (workflow.name, workflow.description, workflow.version) == ("order", "Takes orders", "2")
    assert (workflow.queue, workflow.priority, workflow.timeout) == ("q", 3, 60)
    assert workflow.schema()["required"] == ["order", "cents"]
    assert factory.workflow is workflow  # type: ignore[attr-defined]  # so that MODULE:function finds it


def test_register_is_the_same_without_the_decorator(default: Registry) -> None:
    register("one", factory)
    register("two", sequence("inner", a=nothing), "A graph")
    register("three", GraphWorkflow("else", factory, "Another name"))
    assert [workflow.name for workflow in list_workflows()] == ["one", "three", "two"]
    assert get_workflow("one").description == "Do next to nothing."
    assert get_workflow("two").description == "A graph"
    assert get_workflow("three").description == "Another name"


def test_a_name_is_given_once_unless_replaced_on_purpose(default: Registry) -> None:
    register("taken", factory)
    first = get_workflow("taken")
    with pytest.raises(DefinitionError, match="'taken' is registered already") as caught:
        register("taken", factory)
    assert "replace=True" in caught.value.fix
    assert get_workflow("taken") is first
    register("taken", factory, replace=True)
    assert get_workflow("taken") is not first
    default.add(get_workflow("taken"))  # the very same is no other


@pytest.mark.parametrize("name", ["", "  ", None, 5], ids=repr)
def test_a_workflow_needs_a_name(default: Registry, name: Any) -> None:
    with pytest.raises(DefinitionError):
        register(name, GraphWorkflow("x", factory))


def test_what_is_not_there_is_told_with_what_is(default: Registry) -> None:
    with pytest.raises(WorkflowNotFound, match="'one' is not registered") as caught:
        get_workflow("one")
    assert "none" in caught.value.fix
    register("two", factory)
    with pytest.raises(WorkflowNotFound) as caught:
        get_workflow("one")
    assert "two" in caught.value.fix


def test_many_threads_register_and_list_at_once() -> None:
    registry, start = Registry(), threading.Barrier(8)
    errors: list[BaseException] = []
    heard: list[int] = []
    registry.listen(lambda: heard.append(1))

    def work(thread: int) -> None:
        try:
            start.wait(10)
            for n in range(50):
                registry.add(GraphWorkflow(f"{thread}-{n}", factory))
                assert list(registry.all()) == sorted(registry.all())
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(registry.all()) == len(heard) == 400


def test_a_listener_may_end() -> None:
    registry, heard = Registry(), []
    end = registry.listen(lambda: heard.append(1))
    registry.add(GraphWorkflow("one", factory))
    end()
    registry.add(GraphWorkflow("two", factory))
    assert heard == [1]


async def test_a_registration_from_another_thread_reaches_the_engine(
    any_url: str, open_engine: OpenEngine, registry: Registry
) -> None:
    engine = await open_engine(any_url)
    await asyncio.to_thread(registry.add, as_workflow(sequence("elsewhere", node=lambda _: {"n": 1})))
    assert await engine.execute("elsewhere") == {"n": 1}


# --- what runs share


async def test_concurrent_runs_share_the_transactions_of_their_commits(engine: Engine) -> None:
    async def node(state: State) -> dict[str, int]:
        await asyncio.sleep(0)
        return {"n": state["n"] + 1}

    graph = sequence("shared", a=node, b=node, c=node)
    stats = engine.store.stats
    commits, transactions = stats.commits, stats.transactions
    results = await asyncio.gather(*[engine.execute(graph, {"n": n}) for n in range(50)])
    assert [result["n"] for result in results] == [n + 3 for n in range(50)]
    assert stats.commits - commits == 50 * 4, "one per step and one for the beginning"
    assert stats.transactions - transactions < 50 * 4 / 3


async def test_results_that_arrive_together_are_one_commit(engine: Engine) -> None:
    async def node(state: State) -> None: ...

    run = await engine.start(parallel("together", **{f"n{i}": node for i in range(50)}))
    await run.wait()
    assert len(await engine.store.journal(run.id)) < 10


# --- statuses


def test_the_table_of_statuses_is_whole() -> None:
    assert set(TRANSITIONS) == set(RunStatus)
    assert {status for status, after in TRANSITIONS.items() if not after} == {RunStatus.COMPLETED}
    assert {status for status, after in TRANSITIONS.items() if RunStatus.PENDING in after} >= RESUMABLE
    for status in ENDED - {RunStatus.COMPLETED}:
        assert TRANSITIONS[status] == {RunStatus.PENDING}
