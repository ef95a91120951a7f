"""Agents as tasks: what they write is run, what fails is asked for again, and nothing else."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from examples.code_agents import demo
from examples.code_agents.script import CARELESS, REFACTORED, SAMPLE, TESTS, fenced, offline
from examples.code_agents.workflow import NAME, code_in, complaints, employ
from holdfast import Engine
from holdfast.agents import OpenAIAgent, ScriptedAgent
from holdfast.errors import RunFailed
from tests.servers.model import ModelServer


async def test_the_demo_goes_on_from_the_refactoring() -> None:
    agent, console = offline(), Console(file=io.StringIO(), width=120)

    assert await demo.main(SAMPLE, agent, console) == 0

    asked = [request.task for request in agent.requests]
    assert sorted(asked) == ["analyze", "refactor", "refactor", "review", "review", "test"]
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "the new code does something else" in printed
    assert "+    dues = length * RATES[kind] * nights" in printed
    assert "APPROVE" in printed


async def test_a_module_that_the_script_does_not_know_is_refused_once() -> None:
    agent, console = offline(), Console(file=io.StringIO(), width=120)

    assert await demo.main("def f(): ...", agent, console) == 1

    assert [request.task for request in agent.requests].count("analyze") == 1


async def run(url: str, **answers: Any) -> dict[str, Any]:
    agent = ScriptedAgent(
        {"analyze": "A", "refactor": fenced(REFACTORED), "test": fenced(TESTS), "review": "APPROVE"} | answers
    )
    employ(agent)
    async with Engine(url, observers=()) as engine:
        result: dict[str, Any] = await engine.execute(NAME, {"source": SAMPLE})
    return result | {"asked": {request.task: request for request in agent.requests}}


async def test_each_agent_gets_the_source_and_what_was_found_before(url: str) -> None:
    result = await run(url)

    asked = result["asked"]
    assert {request.params["source"] for request in asked.values()} == {SAMPLE}
    assert asked["analyze"].results == asked["test"].results == {}
    assert asked["refactor"].results == {"analyze": "A"}
    assert asked["review"].results["check"] == {"before": "", "after": ""}
    assert result["accept"] == REFACTORED


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({"refactor": CARELESS}, "the new code does something else"),
        ({"test": TESTS.replace("15.0", "16.0")}, "do not pass on the old code"),
        ({"review": "REJECT: no names"}, "REJECT: no names"),
    ],
    ids=["careless", "wrong tests", "rejected"],
)
async def test_what_is_not_proven_is_not_accepted(url: str, answers: dict[str, str], why: str) -> None:
    with pytest.raises(RunFailed, match=why):
        await run(url, **answers)


async def test_a_test_module_without_tests_proves_nothing() -> None:
    assert await complaints(SAMPLE, "import subject\n")


async def test_a_model_is_asked_for_each_task(model_server: ModelServer, url: str) -> None:
    model_server.content = "APPROVE"
    employ(OpenAIAgent(model_server.url, "parrot-1"))

    async with Engine(url, observers=()) as engine:
        with pytest.raises(RunFailed, match="do not pass on the old code"):
            await engine.execute(NAME, {"source": SAMPLE})

    assert len(model_server.requests) == 4


def test_code_is_taken_out_of_its_fence() -> None:
    assert code_in(fenced("x = 1\n")) == "x = 1\n"
    assert code_in("```\nx = 1\n```") == "x = 1\n"
    assert code_in("x = 1") == "x = 1"
