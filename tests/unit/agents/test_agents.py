"""Agents by name, any callable as an agent, and the one that answers from a script."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from holdfast.agents import (
    AgentNotFound,
    AgentRefused,
    AgentRequest,
    AgentUnavailable,
    ScriptedAgent,
    ask,
    get_agent,
    list_agents,
    register_agent,
    registry,
)
from holdfast.errors import DefinitionError, RequestError


@pytest.fixture(autouse=True)
def no_names_are_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known = dict(registry._agents)
    registry._agents.clear()
    yield
    registry._agents.clear()
    registry._agents.update(known)


def test_a_registered_agent_is_found() -> None:
    agent = ScriptedAgent(["yes"])

    register_agent("reviewer", agent)
    register_agent("reviewer", agent)

    assert get_agent("reviewer") is agent
    assert list_agents() == ["reviewer"]


def test_an_unknown_agent_is_told_with_those_that_are_known() -> None:
    register_agent("reviewer", ScriptedAgent(["yes"]))

    with pytest.raises(AgentNotFound, match="'critic' is not registered") as caught:
        get_agent("critic")

    assert "reviewer" in caught.value.fix
    assert isinstance(caught.value, RequestError)


def test_a_name_twice_is_refused_unless_on_purpose() -> None:
    register_agent("reviewer", ScriptedAgent(["yes"]))
    other = ScriptedAgent(["no"])

    with pytest.raises(DefinitionError, match="registered already"):
        register_agent("reviewer", other)
    register_agent("reviewer", other, replace=True)

    assert get_agent("reviewer") is other


@pytest.mark.parametrize(("name", "agent"), [("", print), (7, print), ("reviewer", "gpt")])
def test_what_is_no_agent_is_refused(name: object, agent: object) -> None:
    with pytest.raises(DefinitionError):
        register_agent(name, agent)  # type: ignore[arg-type]  # on purpose

    assert list_agents() == []


@pytest.mark.parametrize("task", ["", None, 7])
def test_a_request_names_its_task(task: object) -> None:
    with pytest.raises(RequestError, match="task="):
        AgentRequest(task=task)  # type: ignore[arg-type]  # on purpose


async def test_any_callable_is_an_agent() -> None:
    async def async_agent(request: AgentRequest) -> str:
        return f"async {request.task}"

    class Counting:
        async def __call__(self, request: AgentRequest) -> str:
            return f"object {request.task}"

    request = AgentRequest(task="count")
    assert await ask(async_agent, request) == "async count"
    assert await ask(Counting(), request) == "object count"
    assert await ask(lambda asked: async_agent(request=asked), request) == "async count"


async def test_a_plain_function_may_block() -> None:
    assert (
        await ask(lambda _: threading.current_thread(), AgentRequest(task="x")) is not threading.main_thread()
    )


def test_a_script_answers_in_order_until_its_end() -> None:
    agent = ScriptedAgent(["one", AgentUnavailable("busy"), lambda request: request.params["n"]])
    request = AgentRequest(task="count", params={"n": 3})

    assert agent(request) == "one"
    with pytest.raises(AgentUnavailable, match="busy"):
        agent(request)
    assert agent(request) == 3
    with pytest.raises(AgentRefused, match="3 answers"):
        agent(request)
    assert agent.requests == [request] * 4


def test_a_script_answers_by_task_as_often_as_it_is_asked() -> None:
    agent = ScriptedAgent({"analyze": "A", "*": lambda request: request.task.upper()})

    assert [agent(AgentRequest(task=task)) for task in ("analyze", "reason", "analyze")] == [
        "A",
        "REASON",
        "A",
    ]
    with pytest.raises(AgentRefused, match="no answer for the task 'reason'") as caught:
        ScriptedAgent({"analyze": "A"})(AgentRequest(task="reason"))
    assert "'analyze'" in caught.value.fix


async def test_a_script_streams_its_answer() -> None:
    text = "Two  lines,\nof words."

    parts = [part async for part in ScriptedAgent([text]).stream(AgentRequest(task="x"))]

    assert "".join(parts) == text
    assert len(parts) > 3


@pytest.mark.parametrize("answers", ["yes", 7, None])
def test_what_is_no_script_is_refused(answers: object) -> None:
    with pytest.raises(DefinitionError, match="answers are of type"):
        ScriptedAgent(answers)  # type: ignore[arg-type]  # on purpose
