"""W13: a node that panicked took the whole server down with every run in it.

Whatever user code does (raise, exit, recurse, die in a thread), its run fails, and all others go on.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest

from holdfast import Engine, RunStatus, State, StateGraph, StepContext
from holdfast.patterns.graph.factory import GraphWorkflow
from holdfast.profiles import Profile, StageProfile
from holdfast.registry import Registry, as_workflow
from tests.graphs import Gate, nothing, sequence


def recurse(state: State) -> Any:
    return recurse(state)


def kill_its_thread(state: State) -> None:
    raise SystemExit(1)


async def exit_the_loop(state: State) -> None:
    sys.exit(1)


async def interrupt(state: State) -> None:
    raise KeyboardInterrupt


async def cancel_itself(state: State) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


def start_a_thread_that_dies(state: State) -> None:
    threading.Thread(target=nothing, args=(state,)).start()
    raise BaseException("odd")


@pytest.mark.parametrize(
    "node", [recurse, kill_its_thread, exit_the_loop, interrupt, cancel_itself, start_a_thread_that_dies]
)
async def test_its_run_fails_and_others_go_on(engine: Engine, node: Callable[[State], Any]) -> None:
    gate = Gate()
    bystander = await engine.start(sequence("bystander", wait=lambda _: gate.wait(), then=lambda _: {"n": 1}))
    await gate.until_reached()
    run = await (await engine.start(sequence("bad", node=node))).wait(timeout=10)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error.name == "node"
    gate.open()
    assert await bystander.result(timeout=10) == {"n": 1}
    assert await engine.execute(sequence("next", node=lambda _: {"n": 2})) == {"n": 2}


async def test_a_profile_without_a_prompt_leaves_that_of_the_code(engine: Engine) -> None:
    """A stage's settings were replaced as a whole, and a node that took the prompt for given brought all down."""

    def ask(state: State, step: StepContext) -> dict[str, Any]:
        prompt = step.profile.prompt
        assert prompt is not None
        return {"asked": prompt.upper(), "threshold": step.profile.options["threshold"]}

    made = StateGraph("w13")
    made.add_node("ask", ask, profile=StageProfile(prompt="look", options={"threshold": 0.4}))
    made.set_entry_point("ask").set_exit_point("ask")
    await engine.save_profile(made, Profile("aggressive", {"ask": StageProfile(options={"threshold": 0.6})}))
    assert await engine.execute(made, profile="aggressive") == {"asked": "LOOK", "threshold": 0.6}


@pytest.mark.parametrize("place", ["factory", "router", "predicate", "reducer"])
@pytest.mark.parametrize("error", [ZeroDivisionError(), RecursionError(), SystemExit(1)], ids=repr)
async def test_the_same_holds_where_code_runs_on_the_loop(
    engine: Engine, registry: Registry, place: str, error: BaseException
) -> None:
    def bad(*_: Any) -> Any:
        raise error

    log = TypedDict("log", {"log": Annotated[list[str], bad if place == "reducer" else max]})  # noqa: UP013

    def factory(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> dict[str, Any]:
        if place == "factory":
            bad()
        graph.add_node("a", lambda _: {"log": ["a"]}).add_node("b", nothing).set_entry_point(
            "a"
        ).set_exit_point("b")
        if place == "router":
            graph.add_conditional_edge("a", bad, ["b"])
        elif place == "predicate":
            graph.add_edge("a", "b", when=bad).add_edge("a", "b")
        else:
            graph.add_edge("a", "b")
        return {"log": ["0"]}

    registry.add(GraphWorkflow("bad", factory, schema=log))
    run = await (await engine.start("bad")).wait(timeout=10)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert type(error).__name__ in (run.error.type, run.error.message.split("raised ")[-1].split(":")[0])
    registry.add(as_workflow(sequence("good", node=lambda _: {"n": 1})))
    assert await engine.execute("good") == {"n": 1}
