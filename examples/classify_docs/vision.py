"""A reader that asks a vision model behind an OpenAI-compatible address (only the standard library).

Works with every server that answers ``POST …/chat/completions`` and takes images: OpenAI, Azure, vLLM, Ollama,
llama.cpp. The token goes into one header and nowhere else: no message, no log line and no ``repr`` holds it.
"""

import base64
import http.client
import json
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final

from PIL import Image

from .pages import png_bytes
from .readings import LOCATIONS, FilterSuggestion, Location, Marking, PageReading, clamp

PROMPT: Final = """\
You read scanned pages and report their security markings.
Find every marking and caveat on the page: banner lines at head and foot, stamps, portion markings.
Judge two things apart from each other: how legible a marking is (0 to 1), and whether its ink is faded.
Suggest a filter only when a marking's legibility is below 0.4, else give null: brightness 0 to 200 (100 keeps),
contrast -100 to 100 (0 keeps), saturation 0 to 200 (100 keeps).
Answer with JSON only:
{"page_number": 1,
 "markings_found": [{"text": "SECRET//NOFORN", "location": "header|footer|margin|body",
                     "legibility": 0.9, "faded": false}],
 "clarity_score": 0.9,
 "filter_suggestion": {"brightness": 100, "contrast": 0, "saturation": 100}}"""

_FENCE: Final = re.compile(r"```[^\n`]*\n(?P<body>.*?)```", re.DOTALL)
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_SHOWN: Final = 200


class ReadError(Exception):
    """The model's answer is of no use; asking again in the same way will not help."""


class ReaderUnavailable(Exception):
    """The model could not be asked just now."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    # urllib would carry the Authorization header to wherever it is sent on.
    def redirect_request(self, *_: object) -> None:
        return None


@dataclass
class VisionReader:
    """Reads a page by asking a vision model."""

    base_url: str
    """Up to the version, as in ``https://api.openai.com/v1``."""
    model: str
    token: str | None = field(default=None, repr=False)
    timeout: float = 120.0
    parallel: int = 4
    slots: AbstractContextManager[Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuses an address that is not HTTP."""
        if not self.base_url.startswith(("https://", "http://")):
            raise ValueError(
                f"the vision model's address must begin with https:// or http://, not {self.base_url!r}"
            )
        self.slots = threading.BoundedSemaphore(self.parallel)

    def read(self, image: Image.Image, page_number: int) -> PageReading:
        """Returns what the model found; raises ReadError or, when a retry may help, ReaderUnavailable."""
        answer = self._ask(request_body(self.model, png_bytes(image), page_number))
        return parse_reading(answer, page_number)

    def _ask(self, body: dict[str, Any]) -> str:
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked above
            f"{self.base_url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers
        )
        opener = urllib.request.build_opener(_NoRedirects)
        try:
            with opener.open(request, timeout=self.timeout) as response:
                payload = response.read()
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise ReaderUnavailable(
                f"{self.base_url} does not answer: {self._scrubbed(str(error))}"
            ) from None
        return _content(payload)

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        with error:
            said = self._scrubbed(error.read(2000).decode("utf-8", "replace"))[:_SHOWN]
        message = f"{self.base_url} answered {error.code}: {said}"
        return ReaderUnavailable(message) if error.code in _BUSY else ReadError(message)

    def _scrubbed(self, text: str) -> str:
        # Some servers quote the header they did not like.
        return text.replace(self.token, "[token]") if self.token else text


def vision_from_environment(environment: Mapping[str, str] = os.environ) -> VisionReader | None:
    """Returns the model that VISION_URL, VISION_MODEL and VISION_TOKEN name, or None without VISION_URL."""
    url = environment.get("VISION_URL")
    if not url:
        return None
    model = environment.get("VISION_MODEL")
    if not model:
        raise ValueError("VISION_URL is set, VISION_MODEL is not: which model is to be asked?")
    return VisionReader(url, model, environment.get("VISION_TOKEN"))


def request_body(model: str, png: bytes, page_number: int) -> dict[str, Any]:
    """Returns the chat request for one page."""
    picture = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    content = [
        {"type": "text", "text": f"Page {page_number}"},
        {"type": "image_url", "image_url": {"url": picture}},
    ]
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": content}]
    return {"model": model, "messages": messages, "temperature": 0}


def parse_reading(answer: str, page_number: int) -> PageReading:
    """Returns the reading in a model's answer, each number moved into its range; raises ReadError."""
    found = parse_json(answer)
    markings = found.get("markings_found") or []
    if not isinstance(markings, list):
        raise ReadError("markings_found is not a list")
    return {
        # The page that was asked about: models count from where they like.
        "page_number": page_number,
        "markings_found": [marking for item in markings if (marking := _marking(item))],
        "clarity_score": clamp(_number(found.get("clarity_score"), 0.0)),
        "filter_suggestion": _filter(found.get("filter_suggestion")),
    }


def parse_json(answer: str) -> dict[str, Any]:
    """Returns the object in a model's answer: the whole answer, else its first fenced block; raises ReadError."""
    text = answer.strip()
    candidates = [text]
    fence = _FENCE.search(text)
    if fence:
        candidates.append(fence["body"].strip())
    for candidate in candidates:
        try:
            value = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    raise ReadError(f"no JSON object in the model's answer: {text[:_SHOWN]!r}")


def _content(payload: bytes) -> str:
    """Returns the text of a chat completion."""
    try:
        content = json.loads(payload)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        content = None
    if not isinstance(content, str):
        raise ReadError(f"not a chat completion: {payload[:_SHOWN]!r}")
    return content


def _marking(item: object) -> Marking | None:
    if not isinstance(item, dict) or not str(item.get("text") or "").strip():
        return None
    return {
        "text": str(item["text"]).strip(),
        "location": _location(item.get("location")),
        "legibility": clamp(_number(item.get("legibility"), 0.0)),
        "faded": item.get("faded") is True,
    }


def _location(value: object) -> Location:
    return next((location for location in LOCATIONS if location == str(value).strip().lower()), "body")


def _filter(value: object) -> FilterSuggestion | None:
    if not isinstance(value, dict):
        return None
    return {
        "brightness": clamp(_number(value.get("brightness"), 100.0), 0, 200),
        "contrast": clamp(_number(value.get("contrast"), 0.0), -100, 100),
        "saturation": clamp(_number(value.get("saturation"), 100.0), 0, 200),
    }


def _number(value: object, default: float) -> float:
    """Returns the value as a number, or the default when it is none; a yes is not a one."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default
