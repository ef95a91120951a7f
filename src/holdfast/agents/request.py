"""What an agent is asked, and how any agent is asked."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from holdfast.model.checks import DATA, TEXT, WORDS, argument
from holdfast.model.secrets import Secrets

_KINDS: Final = {"task": TEXT, "instructions": WORDS, "params": DATA, "results": DATA}


class Agent(Protocol):
    """Anything that is called with a request and returns its answer, or an awaitable of it."""

    def __call__(self, request: AgentRequest, /) -> Any:
        """Return the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRequest:
    """One question to an agent: which task it is for, what to do, and with what. Shows no secret."""

    task: str
    """The task or step that asks."""
    instructions: str = ""
    """What the agent shall do; a model gets it as its system message."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """What it shall do it with, by name."""
    results: Mapping[str, Any] = field(default_factory=dict)
    """What the tasks before returned, by their names."""
    images: tuple[bytes, ...] = ()
    """Pictures to look at, each a PNG, JPEG, GIF or WebP file."""
    secrets: Mapping[str, str] = field(default_factory=Secrets, repr=False)
    """The secrets of the run, for the agent's key. They are no part of the question."""

    def __post_init__(self) -> None:
        """Refuse a request for no task, and what is not sent under names."""
        for name, kind in _KINDS.items():
            argument(name, getattr(self, name), kind)


async def ask(agent: Agent, request: AgentRequest) -> Any:
    """Return the agent's answer. A plain function runs in a thread, so it may block."""
    if inspect.iscoroutinefunction(agent) or inspect.iscoroutinefunction(getattr(agent, "__call__", None)):  # noqa: B004 - asks of what kind the call is
        return await agent(request)
    answer = await asyncio.to_thread(agent, request)
    return await answer if inspect.isawaitable(answer) else answer
