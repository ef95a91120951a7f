"""The OpenAI-compatible chat protocol: requests into bodies, answers into text. Nothing here does I/O."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from holdfast.agents.request import AgentRequest
from holdfast.errors import AgentRefused, AgentUnavailable, PayloadRejected
from holdfast.model.values import encode

BUSY: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same request may succeed."""
_SHOWN: Final = 200
_MEDIA: Final = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer: its text, who gave it, why it ended (`stop`, `length`, …) and the tokens by kind."""

    text: str
    model: str
    finish_reason: str
    usage: Mapping[str, int]


def chat_body(model: str, request: AgentRequest, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a chat request: instructions as system message; params, results and images as the user's.

    Raises PayloadRejected for an image of unknown kind and for params that are no JSON.
    """
    text = "\n\n".join(
        f"{name}:\n{_said(name, value)}" for name, value in {**request.params, **request.results}.items()
    )
    content: Any = text or request.task
    if request.images:
        pictures = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in request.images]
        content = [{"type": "text", "text": content}, *pictures]
    system = [{"role": "system", "content": request.instructions}] if request.instructions else []
    return {**options, "model": model, "messages": [*system, {"role": "user", "content": content}]}


def _said(name: str, value: Any) -> str:
    return value if isinstance(value, str) else bytes(encode(value, name)).decode()


def data_url(image: bytes) -> str:
    """Return the image as a data URL; raises PayloadRejected when it is no PNG, JPEG, GIF or WebP."""
    kind = next((kind for start, kind in _MEDIA.items() if image.startswith(start)), None)
    if kind is None and image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        kind = "webp"
    if kind is None:
        raise PayloadRejected(
            f"an image begins with {image[:8]!r}, which is no PNG, JPEG, GIF or WebP",
            field="images",
            fix="Give the bytes of a picture file.",
        )
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def completion(payload: bytes) -> Completion:
    """Return the completion in a response; raises AgentRefused when there is none."""
    try:
        found = json.loads(payload)
        choice = found["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, LookupError, TypeError):
        text = None
    if not isinstance(text, str):
        raise AgentRefused(
            f"not a chat completion: {payload[:_SHOWN]!r}",
            fix="Check that the address is one of an OpenAI-compatible server, up to its version, as in …/v1.",
        )
    usage = found.get("usage") if isinstance(found.get("usage"), dict) else {}
    return Completion(
        text,
        str(found.get("model") or ""),
        str(choice.get("finish_reason") or ""),
        {str(kind): count for kind, count in usage.items() if isinstance(count, int)},
    )


async def stream_data(received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of each server-sent event, wherever the network cut the bytes.

    Lines end where the bytes say so: a line separator of Unicode inside of JSON is part of the text.
    """
    rest, data = b"", list[bytes]()
    async for chunk in received:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            bare = line.removesuffix(b"\r")
            if bare.startswith(b"data:"):
                data.append(bare[5:].removeprefix(b" "))
            elif not bare and data:
                yield b"\n".join(data)
                data = []
    if rest.startswith(b"data:"):
        data.append(rest[5:].strip())
    if data:
        yield b"\n".join(data)


def delta(data: bytes) -> tuple[str, bool]:
    """Return the text in one event of a stream, and whether it ends the answer; raises for an error in its place."""
    try:
        found = msgspec.json.decode(data)
        if isinstance(found, dict) and found.get("error"):
            raise AgentUnavailable(f"the answer broke off: {str(found['error'])[:_SHOWN]}")
        choices = found["choices"]
        choice = choices[0] if choices else {}  # the last event may have the usage alone
        return choice.get("delta", {}).get("content") or "", bool(choice.get("finish_reason"))
    except (msgspec.DecodeError, LookupError, TypeError, AttributeError):
        raise AgentRefused(f"not a part of a chat completion: {data[:_SHOWN]!r}") from None


def seconds_to_wait(retry_after: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds in a Retry-After header, which has them or a date; None without a usable one."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    aware = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (aware - (now or datetime.now(UTC))).total_seconds())
