"""A reader that asks an agent who sees: a vision model behind an OpenAI-compatible address, or a script."""

import asyncio
import json
import os
import re
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final

from PIL import Image

from examples.models import model_from_environment
from holdfast.agents import Agent, AgentRequest, ask

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
_SHOWN: Final = 200


class ReadError(Exception):
    """The model's answer is of no use; asking again in the same way will not help."""


@dataclass
class VisionReader:
    """Reads a page by asking an agent, which is sent the picture."""

    agent: Agent
    parallel: int = 4
    slots: AbstractContextManager[Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Makes room for the pages that are asked about at once."""
        self.slots = threading.BoundedSemaphore(self.parallel)

    def read(self, image: Image.Image, page_number: int) -> PageReading:
        """Returns what the agent found; raises ReadError, AgentRefused or, when a retry may help, AgentUnavailable."""
        request = AgentRequest(
            task="detect", instructions=PROMPT, params={"page": page_number}, images=(png_bytes(image),)
        )
        return parse_reading(asyncio.run(ask(self.agent, request)), page_number)


def vision_from_environment(environment: Mapping[str, str] = os.environ) -> VisionReader | None:
    """Returns the model that VISION_URL, VISION_MODEL and VISION_TOKEN name, or None without VISION_URL."""
    model = model_from_environment("VISION", environment)
    return VisionReader(model) if model else None


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
