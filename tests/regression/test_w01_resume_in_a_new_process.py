"""W1: resuming from a stored checkpoint crashed at the next node, for a loaded state had lost its parts.

A run resumes in a new process, through the file, with a state that nodes can read, change and take secrets from.
"""

from __future__ import annotations

import os
from typing import Any

from holdfast import Engine, RunStatus, State, StateGraph, StepContext
from holdfast.registry import Registry, as_workflow
from tests.elsewhere import elsewhere
from tests.graphs import sequence


def graph() -> StateGraph:
    def second(state: State, step: StepContext) -> State:
        if step.attempt == 1:
            raise ConnectionError("not in this process")
        changed = state.set("second", state["first"] + 1).merge(
            {"token": len(state.get_secret("token") or "")}
        )
        return changed.delete("scratch")

    def third(state: State) -> State:
        return state.set("third", state["second"] + 1)

    return sequence(
        "w01",
        first=lambda _: {"first": 1, "scratch": [1, {"deep": "value"}], "pid": os.getpid()},
        second=second,
        third=third,
    )


async def fail(url: str) -> list[Any]:
    async with Engine(url, observers=(), registry=Registry()) as engine:
        run = await (
            await engine.start(graph(), {"given": True}, id="w01", secrets={"token": "t0ken"})
        ).wait()
        return [run.status, os.getpid()]


async def resume(url: str) -> dict[str, Any]:
    registry = Registry()
    registry.add(as_workflow(graph()))
    async with Engine(url, observers=(), registry=registry) as engine:
        await engine.resume("w01", secrets={"token": "t0ken"})
        result: dict[str, Any] = await engine.result("w01", timeout=10)
        return result


async def test_a_failed_run_resumes_in_a_new_process(url: str) -> None:
    status, pid = await elsewhere(fail, url)
    assert status == RunStatus.FAILED
    result = await elsewhere(resume, url)
    assert result == {"given": True, "first": 1, "second": 2, "third": 3, "token": 5, "pid": pid}
    assert pid != os.getpid()
