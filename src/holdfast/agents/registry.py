"""Agents by name, for every thread of the process."""

from __future__ import annotations

import threading
from typing import Final

from holdfast.agents.request import Agent
from holdfast.errors import AgentNotFound, DefinitionError
from holdfast.model.checks import TEXT, Kind, setting

_AGENT: Final = Kind(callable, "an OpenAIAgent, a Person, a ScriptedAgent or a function of an AgentRequest")
_lock: Final = threading.Lock()
_agents: Final[dict[str, Agent]] = {}


def register_agent(name: str, agent: Agent, *, replace: bool = False) -> None:
    """Register an agent under a name; a name that is taken is refused unless `replace`. Thread-safe."""
    setting("register_agent", "name", name, TEXT)
    setting("register_agent", "agent", agent, _AGENT)
    with _lock:
        if not replace and _agents.get(name, agent) is not agent:
            raise DefinitionError(
                f"an agent named {name!r} is registered already",
                fix="Choose another name, or pass replace=True.",
            )
        _agents[name] = agent


def get_agent(name: str) -> Agent:
    """Return the registered agent; raises AgentNotFound."""
    with _lock:
        agent = _agents.get(name)
        known = ", ".join(sorted(_agents)) or "none"
    if agent is None:
        raise AgentNotFound(
            f"agent {name!r} is not registered",
            fix=f"Registered here: {known}. Call register_agent({name!r}, ...) before the run starts.",
        )
    return agent


def list_agents() -> list[str]:
    """Return the names of all registered agents, in order."""
    with _lock:
        return sorted(_agents)
