"""The vision model: its answer parsed, and the whole exchange with a real server that speaks the protocol."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from examples.classify_docs.vision import (
    ReadError,
    ReaderUnavailable,
    VisionReader,
    parse_json,
    parse_reading,
    vision_from_environment,
)

TOKEN = "t0p-s3cret"
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


@dataclass
class Model:
    """A server that answers like a vision model, and what it was asked."""

    url: str = ""
    status: int = 200
    content: str | None = field(default_factory=lambda: json.dumps(ANSWER))
    body: str | None = None
    """Sent as it is, instead of a completion around `content`."""
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)


@contextmanager
def serving(model: Model) -> Iterator[Model]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            model.requests.append((self.path, dict(self.headers), sent))
            completion = {"choices": [{"message": {"role": "assistant", "content": model.content}}]}
            answer = (json.dumps(completion) if model.body is None else model.body).encode()
            self.send_response(model.status)
            if 300 <= model.status < 400:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Stays quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        model.url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield model
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def model() -> Iterator[Model]:
    with serving(Model()) as running:
        yield running


def page() -> Image.Image:
    return Image.new("RGB", (20, 30), "white")


def test_a_page_is_sent_as_a_picture_and_the_answer_read(model: Model) -> None:
    reader = VisionReader(model.url, "eyes-1", TOKEN)

    reading = reader.read(page(), 3)

    assert reading == {**ANSWER, "page_number": 3}
    [(path, headers, body)] = model.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert body["model"] == "eyes-1"
    system, user = body["messages"]
    assert "caveat" in system["content"]
    text, picture = user["content"]
    assert text == {"type": "text", "text": "Page 3"}
    kind, data = picture["image_url"]["url"].split(",")
    assert kind == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (20, 30)


def test_a_fenced_answer_is_read(model: Model) -> None:
    model.content = f"Gladly:\n```json\n{json.dumps(ANSWER)}\n```"

    assert VisionReader(model.url, "eyes-1").read(page(), 1)["clarity_score"] == 0.8


def test_without_a_token_none_is_sent(model: Model) -> None:
    VisionReader(model.url, "eyes-1").read(page(), 1)

    assert "Authorization" not in model.requests[0][1]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_model_is_worth_another_try(model: Model, status: int) -> None:
    model.status, model.body = status, "later"

    with pytest.raises(ReaderUnavailable, match=f"answered {status}: later"):
        VisionReader(model.url, "eyes-1").read(page(), 1)


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_final_and_never_shows_the_token(model: Model, status: int) -> None:
    model.status, model.body = status, f"no good: Bearer {TOKEN}"

    with pytest.raises(ReadError, match=r"no good: Bearer \[token\]") as caught:
        VisionReader(model.url, "eyes-1", TOKEN).read(page(), 1)

    assert TOKEN not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_redirect_is_not_followed_with_the_token(model: Model) -> None:
    model.status, model.body = 307, ""

    with pytest.raises(ReadError, match="answered 307"):
        VisionReader(model.url, "eyes-1", TOKEN).read(page(), 1)


@pytest.mark.parametrize(
    "body", ["", "{}", '{"choices": []}', '{"choices": [{"message": {"content": null}}]}', "[1]"]
)
def test_what_is_no_completion_is_an_error(model: Model, body: str) -> None:
    model.body = body

    with pytest.raises(ReadError, match="not a chat completion"):
        VisionReader(model.url, "eyes-1").read(page(), 1)


def test_a_model_that_is_not_there_is_unavailable() -> None:
    with serving(Model()) as gone:
        url = gone.url

    with pytest.raises(ReaderUnavailable, match="does not answer"):
        VisionReader(url, "eyes-1", timeout=5).read(page(), 1)


def test_the_token_is_in_no_repr() -> None:
    assert TOKEN not in repr(VisionReader("https://models.example/v1", "eyes-1", TOKEN))


@pytest.mark.parametrize("url", ["", "models.example/v1", "file:///etc/passwd", "ftp://models.example"])
def test_only_http_addresses_are_taken(url: str) -> None:
    with pytest.raises(ValueError, match="https://"):
        VisionReader(url, "eyes-1")


def test_the_environment_configures_the_model() -> None:
    reader = vision_from_environment(
        {"VISION_URL": "http://m/v1", "VISION_MODEL": "eyes-1", "VISION_TOKEN": TOKEN}
    )

    assert reader is not None
    assert (reader.base_url, reader.model, reader.token) == ("http://m/v1", "eyes-1", TOKEN)
    assert vision_from_environment({}) is None
    with pytest.raises(ValueError, match="VISION_MODEL"):
        vision_from_environment({"VISION_URL": "http://m/v1"})
