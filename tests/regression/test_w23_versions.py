"""W23: a run in flight silently went on with whatever code there was; nothing told which it had begun with.

A run keeps version and hash of its definition. With changed code that fits the journal it goes on, and that is a
recorded decision; else the run is parked with what was expected and found, until a person resumes or cancels it.
"""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import END, START, Engine, RunStatus, State, StateGraph, StepContext
from holdfast.patterns.graph.factory import GraphWorkflow
from holdfast.profiles import Profile, StageProfile
from holdfast.registry import Registry, as_workflow
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, parallel, sequence, until


def flaky(state: State, step: StepContext) -> dict[str, int]:
    if step.attempt == 1:
        raise ConnectionError
    return {"b": state["a"] + 1}


def flaky_alone(state: State, step: StepContext) -> dict[str, int]:
    if step.attempt == 1:
        raise ConnectionError
    return {"b": 2}


def first_version() -> StateGraph:
    return sequence("w23", a=lambda _: {"a": 1}, b=flaky)


def longer() -> StateGraph:
    return sequence("w23", a=lambda _: {"a": 100}, b=flaky, c=lambda s: {"c": s["b"] + 1})


def knowing(graph: StateGraph) -> Registry:
    registry = Registry()
    registry.add(as_workflow(graph))
    return registry


async def failed(url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(url, registry=knowing(first_version()))
    run = await engine.start("w23", id="w23")
    assert (await run.wait()).status is RunStatus.FAILED
    await engine.close()


async def test_a_run_keeps_the_version_it_was_started_with(engine: Engine, registry: Registry) -> None:
    def factory(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> dict[str, Any]:
        graph.add_node("a", lambda _: {"a": 1}).set_entry_point("a").set_exit_point("a")
        return {}

    registry.add(GraphWorkflow("w23", factory, version="2026-11"))
    run = await engine.start("w23")
    await run.wait()
    assert run.version == "2026-11"
    row = await engine.store.run(run.id)
    assert row is not None
    assert row.hash
    registry.add(GraphWorkflow("w23", factory, version="2026-12"), replace=True)
    assert (await run.refresh()).version == "2026-11"
    assert (await engine.start("w23")).version == "2026-12"


async def test_a_change_that_fits_the_journal_goes_on(url: str, open_engine: OpenEngine) -> None:
    await failed(url, open_engine)
    engine = await open_engine(url, registry=knowing(longer()))
    await engine.resume("w23")
    # What is finished stays as it was; what follows is new.
    assert await engine.result("w23", timeout=PATIENCE) == {"a": 1, "b": 2, "c": 3}


async def definitions(engine: Engine) -> list[tuple[str, str | None]]:
    return [(d.from_node, d.to_node) for d in await engine.decisions("w23") if d.name == "definition"]


async def test_the_same_definition_in_another_process_is_no_news(url: str, open_engine: OpenEngine) -> None:
    await failed(url, open_engine)
    engine = await open_engine(url, registry=knowing(first_version()))
    await engine.resume("w23")
    assert await engine.result("w23", timeout=PATIENCE) == {"a": 1, "b": 2}
    assert await definitions(engine) == []


async def test_to_go_on_with_a_changed_definition_is_a_recorded_decision(
    url: str, open_engine: OpenEngine
) -> None:
    first, last = (graph().hash for graph in (first_version, longer))
    await failed(url, open_engine)
    engine = await open_engine(url, registry=knowing(longer()))
    await engine.resume("w23")
    assert await engine.result("w23", timeout=PATIENCE) == {"a": 1, "b": 2, "c": 3}
    assert await definitions(engine) == [(first, last)]
    (told,) = [e async for e in engine.events("w23", types=["decision"]) if e.data["to_node"] == last]
    assert told.data["reason"] == "changed; the journal fits"
    # It stands where it was taken: after the resume, before anything that follows from it.
    kinds = [fact["fact"] for fact in await (await engine.get("w23")).journal()]
    assert kinds[kinds.index("RunResumed") :][:3] == ["RunResumed", "DecisionMade", "StepCompleted"]


async def test_a_run_that_another_process_enqueued_tells_which_definition_it_began_with(
    url: str, open_engine: OpenEngine
) -> None:
    client = await open_engine(url, registry=knowing(first_version()), workers=False)
    await client.start("w23", id="w23")
    await client.close()
    engine = await open_engine(url, registry=knowing(first_version()))
    assert (await engine.wait("w23", timeout=PATIENCE)).status is RunStatus.FAILED
    assert await definitions(engine) == []
    await engine.close()
    engine = await open_engine(url, registry=knowing(longer()))
    await engine.resume("w23")
    assert await engine.result("w23", timeout=PATIENCE) == {"a": 1, "b": 2, "c": 3}
    first, last = (graph().hash for graph in (first_version, longer))
    assert await definitions(engine) == [(first, last)]


async def test_a_round_of_which_a_finished_node_is_gone_parks_the_run(
    url: str, open_engine: OpenEngine
) -> None:
    def pair(left: str) -> Registry:
        nodes: dict[str, Any] = {left: lambda _: {"a": 1}, "b": flaky_alone}
        return knowing(parallel("w23", **nodes))

    engine = await open_engine(url, registry=pair("a"))
    run = await engine.start("w23", id="w23")
    assert (await run.wait()).status is RunStatus.FAILED
    await engine.close()
    # Nobody can tell where the edges of a node led that is no longer there.
    engine = await open_engine(url, registry=pair("renamed"))
    await engine.resume("w23")
    await until(lambda: is_paused(engine))
    parked = await engine.get("w23")
    assert parked.error is not None
    assert parked.error.code == "nondeterminism"
    assert "'a'" in parked.error.message
    assert "renamed" in parked.error.message
    assert await definitions(engine) == []
    await engine.close()
    engine = await open_engine(url, registry=pair("a"))
    await engine.resume("w23")
    assert await engine.result("w23", timeout=PATIENCE) == {"a": 1, "b": 2}


async def test_a_change_that_does_not_fit_parks_the_run_and_says_why(
    url: str, open_engine: OpenEngine
) -> None:
    await failed(url, open_engine)
    renamed = sequence("w23", a=lambda _: {"a": 1}, bee=flaky)
    engine = await open_engine(url, registry=knowing(renamed))
    await engine.resume("w23")
    await until(lambda: is_paused(engine))
    parked = await engine.get("w23")
    assert parked.error is not None
    assert parked.error.code == "nondeterminism"
    assert "'b'" in parked.error.message
    assert "a, bee" in parked.error.message
    assert parked.waiting_on[0].startswith("resume: ")
    assert await definitions(engine) == []
    await engine.close()
    # The old code is back: nothing was lost.
    engine = await open_engine(url, registry=knowing(first_version()))
    await engine.resume("w23")
    assert await engine.result("w23", timeout=PATIENCE) == {"a": 1, "b": 2}


async def is_paused(engine: Engine) -> bool:
    return (await engine.get("w23")).status is RunStatus.PAUSED


async def test_editing_or_deleting_a_profile_changes_no_run_in_flight(
    url: str, open_engine: OpenEngine
) -> None:
    """A run keeps what its profile said when it was started, through a failure and in another process."""

    def node(state: State, step: StepContext) -> dict[str, Any]:
        if step.attempt == 1:
            raise ConnectionError
        return {"prompt": step.profile.prompt}

    graph = sequence("w23", node=node)
    first = await open_engine(url, registry=knowing(graph))
    await first.save_profile("w23", Profile("p", {"node": StageProfile(prompt="old")}))
    runs = [await first.start("w23", profile="p") for _ in range(2)]
    for run in runs:
        assert (await run.wait()).status is RunStatus.FAILED
    await first.save_profile("w23", Profile("p", {"node": StageProfile(prompt="new")}))
    await runs[0].resume()
    assert await runs[0].result() == {"prompt": "old"}
    await first.delete_profile("w23", "p")
    await first.close()
    second = await open_engine(url, registry=knowing(graph))
    await second.resume(runs[1].id)
    assert await second.result(runs[1].id, timeout=PATIENCE) == {"prompt": "old"}


async def test_a_parked_run_can_be_cancelled(url: str, open_engine: OpenEngine) -> None:
    await failed(url, open_engine)
    engine = await open_engine(url, registry=knowing(sequence("w23", a=lambda _: {"a": 1}, bee=flaky)))
    await engine.resume("w23")
    await until(lambda: is_paused(engine))
    await engine.cancel("w23")
    assert (await engine.wait("w23", timeout=PATIENCE)).status is RunStatus.CANCELLED


@pytest.mark.parametrize("broken", ["raises", "unsound"])
async def test_a_definition_that_cannot_be_built_parks_the_run(
    url: str, open_engine: OpenEngine, broken: str
) -> None:
    await failed(url, open_engine)

    def factory(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> dict[str, Any]:
        if broken == "raises":
            raise ImportError("no module named scanner")
        graph.add_node("a", lambda _: {}).add_edge(START, "a").add_node("b", flaky).add_edge("b", END)
        return {}

    registry = Registry()
    registry.add(GraphWorkflow("w23", factory))
    engine = await open_engine(url, registry=registry)
    await engine.resume("w23")
    await until(lambda: is_paused(engine))
    parked = await engine.get("w23")
    assert parked.error is not None
    assert ("scanner" if broken == "raises" else "dead end") in parked.error.message
    await engine.close()
    engine = await open_engine(url, registry=knowing(first_version()))
    await engine.resume("w23")
    assert await engine.result("w23", timeout=PATIENCE) == {"a": 1, "b": 2}
    # The attempts count on; the one that was parked began nothing under a number of its own.
    numbers = [one.number for one in (await engine.stages("w23"))[1].attempts]
    assert numbers == sorted(set(numbers))
