"""OpenAIAgent against a real HTTP server that speaks the protocol."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast import END, START, Engine, RetryPolicy, State, StateGraph, StepContext
from holdfast.agents import AgentRefused, AgentRequest, AgentUnavailable, OpenAIAgent, ask
from holdfast.agents.protocol import seconds_to_wait, stream_data
from holdfast.errors import DefinitionError, PayloadRejected, RunFailed
from tests.servers.model import DONE, ModelServer, event, serving

KEY = "sk-t0p-s3cret"
QUESTION = AgentRequest(
    task="capital",
    instructions="Answer in one word.",
    params={"country": "France"},
    secrets={"MODEL_KEY": KEY},
)


def agent(server: ModelServer, **changes: object) -> OpenAIAgent:
    return OpenAIAgent(server.url, "parrot-1", **changes)  # type: ignore[arg-type]  # what a test likes


async def test_a_chat_is_one_post_with_the_key_in_its_header(model_server: ModelServer) -> None:
    asked = agent(model_server, key="MODEL_KEY", options={"temperature": 0})

    answer = await asked.chat(QUESTION)

    assert (answer.text, answer.model, answer.finish_reason) == ("Paris.", "parrot-1", "stop")
    assert answer.usage == {"prompt_tokens": 7, "completion_tokens": 2}
    [request] = model_server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": "parrot-1",
        "temperature": 0,
        "messages": [
            {"role": "system", "content": "Answer in one word."},
            {"role": "user", "content": "country:\nFrance"},
        ],
    }


async def test_params_and_results_go_along_and_secrets_do_not(model_server: ModelServer) -> None:
    request = AgentRequest(
        task="review", params={"cents": 7}, results={"build": {"ok": True}}, secrets={"K": KEY}
    )

    assert await ask(agent(model_server), request) == "Paris."

    [asked] = model_server.requests
    assert asked.body["messages"] == [{"role": "user", "content": 'cents:\n7\n\nbuild:\n{"ok":true}'}]
    assert "Authorization" not in asked.headers
    assert KEY not in repr(request)


async def test_the_key_may_be_in_the_environment(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_KEY", f"{KEY}\n")

    await agent(model_server, key="MODEL_KEY")(AgentRequest(task="capital"))

    assert model_server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("value", ["", "two\nlines", "schlüssel"])
async def test_a_key_that_is_none_is_refused_before_anything_is_sent(
    model_server: ModelServer, value: str
) -> None:
    request = AgentRequest(task="capital", secrets={"MODEL_KEY": value})

    with pytest.raises(AgentRefused, match="MODEL_KEY") as caught:
        await agent(model_server, key="MODEL_KEY")(request)

    assert model_server.requests == []
    assert not value or value not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n0", "png"),
        (b"\xff\xd8\xff0", "jpeg"),
        (b"GIF89a", "gif"),
        (b"RIFF0000WEBP", "webp"),
    ],
)
async def test_pictures_are_sent_as_data(model_server: ModelServer, image: bytes, kind: str) -> None:
    await agent(model_server)(AgentRequest(task="look", images=(image,)))

    text, picture = model_server.requests[0].body["messages"][0]["content"]
    assert text == {"type": "text", "text": "look"}
    assert picture["image_url"]["url"].startswith(f"data:image/{kind};base64,")


async def test_what_is_no_picture_is_refused(model_server: ModelServer) -> None:
    with pytest.raises(PayloadRejected, match="no PNG"):
        await agent(model_server)(AgentRequest(task="look", images=(b"%PDF-1.7",)))

    assert model_server.requests == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
async def test_a_busy_model_can_be_asked_again(model_server: ModelServer, status: int) -> None:
    model_server.status, model_server.payload = status, "later"
    model_server.headers = {"Retry-After": "7"}

    with pytest.raises(AgentUnavailable, match=f"answered {status}: later") as caught:
        await agent(model_server)(QUESTION)

    assert (caught.value.status, caught.value.retry_after) == (status, 7.0)


@pytest.mark.parametrize("status", [307, 400, 401, 403, 404])
async def test_a_refusal_is_final_and_never_shows_the_key(model_server: ModelServer, status: int) -> None:
    model_server.status, model_server.payload = status, f"no good: Bearer {KEY}"
    model_server.headers = {"Location": "http://127.0.0.1:9/elsewhere"}

    with pytest.raises(AgentRefused, match=r"no good: Bearer \[secret MODEL_KEY\]") as caught:
        await agent(model_server, key="MODEL_KEY")(QUESTION)

    assert caught.value.status == status
    assert KEY not in str(caught.value)
    assert len(model_server.requests) == 1


@pytest.mark.parametrize("payload", ["", "{}", '{"choices": []}', "[1]", '{"choices": [{"message": {}}]}'])
async def test_what_is_no_completion_is_refused(model_server: ModelServer, payload: str) -> None:
    model_server.payload = payload

    with pytest.raises(AgentRefused, match="not a chat completion"):
        await agent(model_server)(QUESTION)


async def test_a_silent_model_is_given_up(model_server: ModelServer) -> None:
    model_server.silent = True

    with pytest.raises(AgentUnavailable, match=r"did not answer within 0\.1 s"):
        await agent(model_server, timeout=0.1)(QUESTION)
    with pytest.raises(AgentUnavailable, match=r"did not answer within 0\.1 s"):
        await anext(agent(model_server, timeout=0.1).stream(QUESTION))


async def test_a_model_that_is_not_there_can_be_asked_again() -> None:
    with serving(ModelServer()) as gone:
        pass

    with pytest.raises(AgentUnavailable, match="does not answer"):
        await agent(gone)(QUESTION)


async def test_a_stream_yields_the_text_as_it_is_written(model_server: ModelServer) -> None:
    model_server.content = "one two three"

    assert [part async for part in agent(model_server).stream(QUESTION)] == ["one ", "two ", "three "]

    assert model_server.requests[0].body["stream"] is True


async def test_a_stream_is_read_however_it_is_cut(model_server: ModelServer) -> None:
    text = "naïve\u2028two\r\nlines"
    sent = b": keep-alive\r\n\r\n" + event(text).replace(b"\n", b"\r\n") + event("!", "stop") + DONE
    model_server.events = [bytes([octet]) for octet in sent]

    assert "".join([part async for part in agent(model_server).stream(QUESTION)]) == f"{text}!"


async def test_events_are_found_whatever_the_size_of_the_pieces() -> None:
    sent = b"data: a\ndata: b\n\n: no\n\ndata:c\r\n\r\ndata: last"
    for size in range(1, len(sent) + 1):

        async def pieces(size: int = size) -> AsyncIterator[bytes]:
            for start in range(0, len(sent), size):
                yield sent[start : start + size]

        assert [data async for data in stream_data(pieces())] == [b"a\nb", b"c", b"last"]


@pytest.mark.parametrize(
    ("events", "error", "said"),
    [
        ([event("half")], AgentUnavailable, "broke off"),
        ([event("half"), b'data: {"error": {"message": "overloaded"}}\n\n'], AgentUnavailable, "overloaded"),
        ([b"data: nonsense\n\n"], AgentRefused, "not a part of a chat completion"),
        ([b'data: {"choices": 1}\n\n'], AgentRefused, "not a part of a chat completion"),
    ],
)
async def test_a_stream_that_breaks_off_says_so(
    model_server: ModelServer, events: list[bytes], error: type[Exception], said: str
) -> None:
    model_server.events = events

    with pytest.raises(error, match=said):
        [part async for part in agent(model_server).stream(QUESTION)]


async def test_a_stream_may_end_without_its_last_word(model_server: ModelServer) -> None:
    model_server.events = [event("all", "stop"), b'data: {"choices": [], "usage": {}}\n\n']

    assert [part async for part in agent(model_server).stream(QUESTION)] == ["all"]


async def test_a_stream_is_refused_before_it_begins(model_server: ModelServer) -> None:
    model_server.status, model_server.payload = 429, "slow down"

    with pytest.raises(AgentUnavailable, match="slow down"):
        await anext(agent(model_server).stream(QUESTION))


async def test_one_agent_serves_several_loops(model_server: ModelServer) -> None:
    shared = agent(model_server)

    def elsewhere() -> str:
        return asyncio.run(shared(QUESTION))

    assert (
        await asyncio.gather(shared(QUESTION), *[asyncio.to_thread(elsewhere) for _ in range(3)])
        == ["Paris."] * 4
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "models.example/v1"},
        {"base_url": "file:///etc/passwd"},
        {"base_url": None},
        {"model": ""},
        {"timeout": 0},
        {"timeout": "soon"},
    ],
    ids=repr,
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    settings = {"base_url": "https://models.example/v1", "model": "parrot-1", **wrong}

    with pytest.raises(DefinitionError, match=next(iter(wrong))):
        OpenAIAgent(**settings)  # type: ignore[arg-type]  # on purpose


async def test_without_httpx_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)

    with pytest.raises(DefinitionError, match="httpx") as caught:
        await OpenAIAgent("https://models.example/v1", "parrot-1")(QUESTION)

    assert caught.value.fix == 'Run `pip install "holdfast[agents]"`.'


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("12", 12.0),
        ("Fri, 20 Nov 2026 12:00:30 GMT", 30.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("", None),
    ],
)
def test_retry_after_has_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert seconds_to_wait(header, datetime(2026, 11, 20, 12, tzinfo=UTC)) == seconds


def graph_asking(server: ModelServer) -> StateGraph:
    async def capital(state: State, step: StepContext) -> dict[str, str]:
        request = AgentRequest(task=step.name, params={"country": state["country"]}, secrets=step.secrets)
        return {"capital": await ask(agent(server, key="MODEL_KEY"), request)}

    graph = StateGraph("capital")
    retry = RetryPolicy(attempts=2, backoff=0.01, retry_on=(AgentUnavailable,))
    return graph.add_node("capital", capital, retry=retry).add_edge(START, "capital").add_edge("capital", END)


async def test_a_run_keeps_the_answer_and_no_key(model_server: ModelServer, url: str, tmp_path: Path) -> None:
    async with Engine(url) as engine:
        secrets = {"MODEL_KEY": KEY}
        result = await engine.execute(graph_asking(model_server), {"country": "France"}, secrets=secrets)

    assert result == {"country": "France", "capital": "Paris."}
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.iterdir())


async def test_a_run_asks_a_busy_model_again_and_a_refusing_one_once(
    model_server: ModelServer, url: str, tmp_path: Path
) -> None:
    model_server.payload = f"Bearer {KEY}"
    async with Engine(url) as engine:
        for status in (503, 401):
            model_server.status = status
            with pytest.raises(RunFailed, match=f"answered {status}"):
                await engine.execute(
                    graph_asking(model_server), {"country": "France"}, secrets={"MODEL_KEY": KEY}
                )

    assert len(model_server.requests) == 2 + 1
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.iterdir())
