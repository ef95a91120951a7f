"""A model behind an OpenAI-compatible address: chat, pictures and streaming.

Works with every server that answers `POST …/chat/completions`: OpenAI, Azure, vLLM, Ollama, llama.cpp. The key goes
into one header and nowhere else: no message, no log line and no `repr` holds it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from holdfast.agents import protocol
from holdfast.agents.request import AgentRequest
from holdfast.errors import AgentRefused, AgentUnavailable, DefinitionError
from holdfast.model.checks import DATA, TEXT, Kind, is_number, setting
from holdfast.model.secrets import Secrets

if TYPE_CHECKING:
    import httpx

_ADDRESS: Final = Kind(
    lambda given: isinstance(given, str) and given.startswith(("https://", "http://")),
    "an address with https:// or http:// before it and the version at its end, as in https://api.openai.com/v1",
)
_KINDS: Final = {
    "base_url": _ADDRESS,
    "model": TEXT,
    "key": TEXT.or_none(),
    "timeout": Kind(lambda given: is_number(given) and given > 0, "seconds, more than 0"),
    "options": DATA,
}
_SAID: Final = 2000
_SHOWN: Final = 200


@dataclass(frozen=True)
class OpenAIAgent:
    """Asks a model. Called with a request it returns the text of the answer. Safe to share between threads and loops.

    It asks once: `RetryPolicy(retry_on=(AgentUnavailable,))` on the node asks again, durably. Raises AgentUnavailable
    when a later try may help (busy, broken, out of reach, too slow) and AgentRefused otherwise.
    """

    base_url: str
    """Up to the version, as in `https://api.openai.com/v1`."""
    model: str
    key: str | None = None
    """The name of the secret of the run, or else of the environment variable, that holds the key; None: no key."""
    timeout: float = 120.0
    """Seconds for a whole answer; in a stream, from one part to the next."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """More of the request's body, as `temperature` or `max_tokens`."""

    def __post_init__(self) -> None:
        """Refuse settings that name no server and no model, naming the field."""
        for name, kind in _KINDS.items():
            setting("OpenAIAgent", name, getattr(self, name), kind)

    async def __call__(self, request: AgentRequest) -> str:
        """Return the text of the answer."""
        return (await self.chat(request)).text

    async def chat(self, request: AgentRequest) -> protocol.Completion:
        """Return the answer with its model, end and tokens."""
        try:
            async with asyncio.timeout(self.timeout), self._asked(request, {}) as response:
                payload = await response.aread()
        except TimeoutError:
            raise self._too_slow() from None
        return protocol.completion(payload)

    async def stream(self, request: AgentRequest) -> AsyncIterator[str]:
        """Yield the text of the answer part by part, as the model writes it.

        Raises AgentUnavailable when the answer breaks off: what was yielded before is then incomplete.
        """
        async with self._asked(request, {"stream": True}) as response:
            ended = False
            async for data in protocol.stream_data(response.aiter_bytes()):
                if data == b"[DONE]":
                    return
                text, last = protocol.delta(data)
                ended = ended or last
                if text:
                    yield text
        if not ended:
            raise AgentUnavailable(f"{self.base_url} broke off its answer")

    @asynccontextmanager
    async def _asked(self, request: AgentRequest, more: Mapping[str, Any]) -> AsyncIterator[httpx.Response]:
        """Enter with a response of status 200 whose body is still to be read."""
        httpx = _httpx()
        key = self._key(request)
        body = protocol.chat_body(self.model, request, {**self.options, **more})
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        hidden = Secrets({**request.secrets, **({self.key: key} if self.key and key else {})})
        # A client of its own for each question: connections belong to a loop, and agents are asked from many.
        client = httpx.AsyncClient(timeout=self.timeout, verify=self._trust, follow_redirects=False)
        with self._out_of_reach(httpx, hidden):
            async with client, client.stream("POST", self._url, json=body, headers=headers) as response:
                if response.status_code != 200:  # noqa: PLR2004 - OK
                    raise await self._refusal(response, hidden)
                yield response

    @property
    def _url(self) -> str:
        return f"{self.base_url.rstrip('/')}/chat/completions"

    @cached_property
    def _trust(self) -> Any:
        return _httpx().create_ssl_context()

    def _key(self, request: AgentRequest) -> str | None:
        if self.key is None:
            return None
        key = request.secrets.get(self.key) or os.environ.get(self.key)
        if not key:
            raise AgentRefused(
                f"no key for {self.base_url}: the run has no secret {self.key!r}, nor the environment that variable",
                fix=f"Start the run with secrets={{{self.key!r}: ...}}, or set the variable {self.key}.",
            )
        if not (key.strip().isascii() and key.strip().isprintable()):
            raise AgentRefused(
                f"the key {self.key!r} has characters that no header can carry",
                fix="Was it copied whole, and alone?",
            )
        return key.strip()

    @contextmanager
    def _out_of_reach(self, httpx: ModuleType, hidden: Secrets) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            raise self._too_slow() from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = hidden.scrub(str(error) or type(error).__name__)
            raise AgentUnavailable(f"{self.base_url} does not answer: {said}") from None

    def _too_slow(self) -> AgentUnavailable:
        return AgentUnavailable(f"{self.base_url} did not answer within {self.timeout:g} s")

    async def _refusal(self, response: httpx.Response, hidden: Secrets) -> Exception:
        said = b""
        async for chunk in response.aiter_bytes():
            said += chunk
            if len(said) >= _SAID:
                break
        # Some servers quote the header that they did not like.
        text = hidden.scrub(said[:_SAID].decode("utf-8", "replace"))[:_SHOWN]
        status = response.status_code
        message = f"{self.base_url} answered {status}: {text}"
        wait = protocol.seconds_to_wait(response.headers.get("Retry-After"))
        if status in protocol.BUSY:
            return AgentUnavailable(message, status=status, retry_after=wait)
        return AgentRefused(message, status=status, fix=_FIXES.get(status))


_FIXES: Final = {
    401: "Check the key: is it the one of this server, and has it not expired?",
    403: "Check what the key may do.",
    404: "Check the address, up to its version as in …/v1, and the model's name.",
}


def _httpx() -> ModuleType:
    try:
        import httpx  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise DefinitionError(
            f"OpenAIAgent needs the package httpx ({error})", fix='Run `pip install "holdfast[agents]"`.'
        ) from error
    return httpx
