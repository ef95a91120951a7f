"""The examples that ask an agent: offline, and over real HTTP with a server that speaks the models' protocol."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from examples.approve_document import demo as approving
from examples.approve_document import workflow as approval
from examples.models import model_from_environment
from examples.reasoning import demo as thinking
from examples.reasoning import workflow as reasoning
from examples.summarize import demo as summarizing
from examples.summarize import workflow as summary
from holdfast import Engine, Runtime, State, StepContext
from holdfast.agents import AgentUnavailable, OpenAIAgent, Rule, ScriptedAgent
from holdfast.errors import RunFailed
from tests.servers.model import ModelServer


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=120)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def run(url: str, name: str, params: dict[str, Any], **services: Any) -> dict[str, Any]:
    async with Engine(url, runtime=Runtime(**services), observers=()) as engine:
        result: dict[str, Any] = await engine.execute(name, params)
        return result


async def test_summarize_runs_offline(console: Console) -> None:
    assert await summarizing.main(summarizing.SAMPLE, summary.offline(), console) == 0

    assert "✓ summarize" in printed(console)
    assert "by a script, offline" in printed(console)


def test_the_key_sentence_is_one_of_the_text() -> None:
    sentence = summary.key_sentence(summarizing.SAMPLE)

    assert sentence in summarizing.SAMPLE
    assert sentence.count("lighthouse") == 1
    assert summary.key_sentence("Go!") == "Go!"


async def test_summarize_asks_a_model(model_server: ModelServer, url: str) -> None:
    model_server.content = " Ships need light.\n"
    agent = OpenAIAgent(model_server.url, "parrot-1")

    result = await run(url, summary.NAME, {"text": "Three ships."}, agent=agent)

    assert result == {"text": "Three ships.", "summary": "Ships need light."}
    system, user = model_server.requests[0].body["messages"]
    assert (system["content"], user["content"]) == (summary.INSTRUCTIONS, "text:\nThree ships.")


async def test_an_empty_text_is_refused_and_nobody_asked(console: Console) -> None:
    agent = ScriptedAgent(["never"])

    assert await summarizing.main("  ", agent, console) == 1

    assert agent.requests == []
    assert "the text is empty" in printed(console)


async def test_a_refusing_model_ends_the_demo_with_its_words(
    model_server: ModelServer, console: Console
) -> None:
    model_server.status, model_server.payload = 401, "who are [you]?"

    assert await thinking.main("why?", OpenAIAgent(model_server.url, "parrot-1"), console) == 1

    assert "answered 401: who are [you]?" in printed(console)
    assert "✗ analyze" in printed(console)


async def test_reasoning_runs_offline(console: Console) -> None:
    assert await thinking.main(reasoning.SAMPLE, reasoning.offline(), console) == 0

    assert "The ball costs 0.05." in printed(console)


async def test_reasoning_without_a_model_knows_one_problem(console: Console) -> None:
    assert await thinking.main("why?", reasoning.offline(), console) == 1

    assert "knows the sample problem only" in printed(console)


async def test_each_thought_has_those_before_it(url: str) -> None:
    agent = ScriptedAgent({"analyze": "A", "reason": "R", "conclude": "C"})

    result = await run(url, reasoning.NAME, {"problem": "P"}, agent=agent)

    assert result == {"problem": "P", "analysis": "A", "reasoning": "R", "conclusion": "C"}
    assert [(request.task, request.results) for request in agent.requests] == [
        ("analyze", {}),
        ("reason", {"analysis": "A"}),
        ("conclude", {"analysis": "A", "reasoning": "R"}),
    ]


async def test_a_failed_thought_is_asked_for_again_and_no_other(url: str) -> None:
    agent = ScriptedAgent(["A", ValueError("nonsense"), "R", "C"])
    async with Engine(url, runtime=Runtime(agent=agent), observers=()) as engine:
        started = await engine.start(reasoning.NAME, {"problem": "P"})
        with pytest.raises(RunFailed, match="nonsense"):
            await started.result()
        result = await (await engine.resume(started.id)).result()

    assert result["conclusion"] == "C"
    assert [request.task for request in agent.requests] == ["analyze", "reason", "reason", "conclude"]


def test_all_ask_a_busy_model_again() -> None:
    for policy in (summary._PATIENT, reasoning._PATIENT, approval._PATIENT):
        assert policy.retry_on == (AgentUnavailable,)


@pytest.mark.parametrize(("yes", "outcome", "files"), [(True, "published", 2), (False, "rejected", 1)])
async def test_the_demo_waits_for_a_person(
    console: Console, monkeypatch: pytest.MonkeyPatch, yes: bool, outcome: str, files: int
) -> None:
    published: list[str] = []
    publish = approval.publish

    def counted(state: State, step: StepContext) -> dict[str, str]:
        published.append(state["title"])
        return publish(state, step)

    monkeypatch.setattr(approval, "publish", counted)

    assert await approving.main(approval.offline(), console, yes=yes) == 0

    shown = printed(console)
    assert "offer asks to approve" in shown
    assert f"Ada says {'yes' if yes else 'no'}" in shown
    assert shown.rstrip().endswith(outcome)
    assert len(published) == files


async def test_what_is_published_is_what_was_approved(url: str, tmp_path: Path) -> None:
    document = tmp_path / "offer.md"
    document.write_text("Roof\nEUR 1,000 and EUR 200\n", "utf-8")
    runtime = Runtime(agent=approval.offline(), outbox=tmp_path)
    async with Engine(url, runtime=runtime, observers=()) as engine:
        run = await engine.start(approval.NAME, {"document": str(document)})
        await anext(run.events(types=["wait.started"]))
        [asked] = await engine.interrupts()
        document.write_text("Roof\nEUR 1,000,000\n", "utf-8")
        await engine.signal(run.id, approval.QUESTION, {"yes": True, "by": "Ada"})
        result = await run.result()

    assert asked.payload["amounts"] == [1000, 200]
    assert asked.payload["why"] == "it binds us to pay 1,200"
    assert Path(result["place"]).read_text("utf-8") == "Roof\nEUR 1,000 and EUR 200"
    assert (result["by"], result["outcome"]) == ("Ada", "published")


async def test_an_answer_that_says_nothing_fails_the_run_and_publishes_nothing(
    url: str, tmp_path: Path
) -> None:
    document = tmp_path / "offer.md"
    document.write_text("Roof\nEUR 1,000\n", "utf-8")
    runtime = Runtime(agent=approval.offline(), outbox=tmp_path)
    async with Engine(url, runtime=runtime, observers=()) as engine:
        run = await engine.start(approval.NAME, {"document": str(document)})
        await engine.signal(run.id, approval.QUESTION, "maybe")
        with pytest.raises(RunFailed, match="answer with"):
            await run.result()

    assert not list(tmp_path.glob("*.txt"))


@pytest.mark.parametrize("answer", ['{"risk": "none"}', "[]", "I think it is fine."])
async def test_an_assessment_that_names_no_risk_publishes_nothing(
    url: str, tmp_path: Path, answer: Rule
) -> None:
    document = tmp_path / "notice.md"
    document.write_text("Hours\n", "utf-8")

    with pytest.raises(RunFailed, match="assess"):
        await run(
            url,
            approval.NAME,
            {"document": str(document)},
            agent=ScriptedAgent({"assess": answer}),
            outbox=tmp_path,
        )

    assert not list(tmp_path.glob("*.txt"))


async def test_a_model_assesses(model_server: ModelServer, url: str, tmp_path: Path) -> None:
    document = tmp_path / "notice.md"
    document.write_text("Hours\n", "utf-8")
    model_server.content = json.dumps({"risk": "low", "why": "harmless"})
    agent = OpenAIAgent(model_server.url, "parrot-1")

    result = await run(url, approval.NAME, {"document": str(document)}, agent=agent, outbox=tmp_path)

    assert (result["risk"], result["why"], result["outcome"]) == ("low", "harmless", "published")


def test_the_environment_names_the_model() -> None:
    named = {"AGENT_URL": "http://m/v1", "AGENT_MODEL": "parrot-1"}

    assert model_from_environment("AGENT", {}) is None
    assert model_from_environment("AGENT", named) == OpenAIAgent(
        "http://m/v1", "parrot-1", options={"temperature": 0}
    )
    keyed = model_from_environment("AGENT", {**named, "AGENT_TOKEN": "t0p"})
    assert keyed is not None
    assert keyed.key == "AGENT_TOKEN"
    with pytest.raises(ValueError, match="AGENT_MODEL is not"):
        model_from_environment("AGENT", {"AGENT_URL": "http://m/v1"})
