"""The vision model: its answer parsed, and the whole exchange with a real server that speaks the protocol."""

import asyncio
import base64
import io
import json

import pytest
from PIL import Image

from examples.classify_docs.readings import PageReading
from examples.classify_docs.vision import (
    ReadError,
    VisionReader,
    parse_json,
    parse_reading,
    vision_from_environment,
)
from holdfast.agents import AgentUnavailable, OpenAIAgent, ScriptedAgent
from tests.servers.model import ModelServer

ANSWER = {
    "page_number": 1,
    "markings_found": [{"text": "SECRET//NOFORN", "location": "header", "legibility": 0.9, "faded": False}],
    "clarity_score": 0.8,
    "filter_suggestion": {"brightness": 80, "contrast": 20, "saturation": 100},
}


@pytest.mark.parametrize(
    "answer",
    [
        '{"a": 1}',
        '  \n{"a": 1}\n ',
        'Here it is:\n```json\n{"a": 1}\n```\nAnything else?',
        'Here it is:\n```\n{"a": 1}\n```',
        '```json\n{"a": 1}\n```\n```json\n{"a": 2}\n```',
    ],
    ids=["direct", "with space around", "fenced", "bare fence", "first of two fences"],
)
def test_the_answer_is_the_whole_text_or_its_first_fenced_block(answer: str) -> None:
    assert parse_json(answer) == {"a": 1}


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I see no markings.",
        '{"a": ',
        "[1, 2]",
        '```json\n{"a": \n```',
        'the object {"a": 1} is in the text',
    ],
)
def test_anything_else_is_an_error(answer: str) -> None:
    with pytest.raises(ReadError, match="no JSON object"):
        parse_json(answer)


def test_a_good_answer_is_taken_as_it_is_except_for_the_page_number() -> None:
    reading = parse_reading(json.dumps(ANSWER), page_number=7)

    assert reading == {**ANSWER, "page_number": 7}


def test_numbers_are_moved_into_their_ranges() -> None:
    answer = {
        "markings_found": [{"text": "SECRET", "location": "header", "legibility": 1.7, "faded": True}],
        "clarity_score": -3,
        "filter_suggestion": {"brightness": 999, "contrast": -999, "saturation": -1},
    }

    reading = parse_reading(json.dumps(answer), 1)

    assert reading["markings_found"][0]["legibility"] == 1.0
    assert reading["clarity_score"] == 0.0
    assert reading["filter_suggestion"] == {"brightness": 200, "contrast": -100, "saturation": 0}


def test_what_is_missing_or_of_the_wrong_kind_gets_a_harmless_value() -> None:
    answer = """{"markings_found": [{"text": " SECRET ", "location": "Top", "legibility": "high", "faded": "yes"},
                 {"text": ""}, {"location": "header"}, "SECRET"], "clarity_score": NaN, "filter_suggestion": {}}"""

    reading = parse_reading(answer, 1)

    assert reading["markings_found"] == [
        {"text": "SECRET", "location": "body", "legibility": 0.0, "faded": False}
    ]
    assert reading["clarity_score"] == 0.0
    assert reading["filter_suggestion"] == {"brightness": 100, "contrast": 0, "saturation": 100}


def test_a_page_without_markings_is_a_good_answer() -> None:
    reading = parse_reading('{"markings_found": null, "clarity_score": 1, "filter_suggestion": null}', 1)

    assert reading == {
        "page_number": 1,
        "markings_found": [],
        "clarity_score": 1.0,
        "filter_suggestion": None,
    }


def test_markings_that_are_no_list_are_an_error() -> None:
    with pytest.raises(ReadError, match="not a list"):
        parse_reading('{"markings_found": "SECRET"}', 1)


def page() -> Image.Image:
    return Image.new("RGB", (20, 30), "white")


async def asked(model: ModelServer, page_number: int = 1) -> PageReading:
    """Reads as the engine does: in a thread."""
    reader = VisionReader(OpenAIAgent(model.url, "eyes-1"))
    return await asyncio.to_thread(reader.read, page(), page_number)


async def test_a_page_is_sent_as_a_picture_and_the_answer_read(model_server: ModelServer) -> None:
    model_server.content = json.dumps(ANSWER)

    reading = await asked(model_server, 3)

    assert reading == {**ANSWER, "page_number": 3}
    [asked_for] = model_server.requests
    system, user = asked_for.body["messages"]
    assert "caveat" in system["content"]
    text, picture = user["content"]
    assert text == {"type": "text", "text": "page:\n3"}
    kind, data = picture["image_url"]["url"].split(",")
    assert kind == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (20, 30)


async def test_a_fenced_answer_is_read(model_server: ModelServer) -> None:
    model_server.content = f"Gladly:\n```json\n{json.dumps(ANSWER)}\n```"

    assert (await asked(model_server))["clarity_score"] == 0.8


async def test_a_busy_model_is_worth_another_try(model_server: ModelServer) -> None:
    model_server.status, model_server.payload = 503, "later"

    with pytest.raises(AgentUnavailable, match="answered 503: later"):
        await asked(model_server)


def test_any_agent_can_read() -> None:
    script = ScriptedAgent({"detect": json.dumps(ANSWER)})

    assert VisionReader(script).read(page(), 2) == {**ANSWER, "page_number": 2}
    assert script.requests[0].images[0].startswith(b"\x89PNG")


def test_the_environment_configures_the_model() -> None:
    named = {"VISION_URL": "http://m/v1", "VISION_MODEL": "eyes-1"}
    keyed = vision_from_environment({**named, "VISION_TOKEN": "t0p-s3cret"})

    assert keyed is not None
    assert keyed.agent == OpenAIAgent("http://m/v1", "eyes-1", "VISION_TOKEN", options={"temperature": 0})
    assert "t0p-s3cret" not in repr(keyed)
    assert vision_from_environment(named) is not None
    assert vision_from_environment({}) is None
    with pytest.raises(ValueError, match="VISION_MODEL"):
        vision_from_environment({"VISION_URL": "http://m/v1"})
