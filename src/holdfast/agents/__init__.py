"""Agents: named capabilities that steps and tasks ask, as a model, a person, a function or a script."""

from holdfast.agents.openai import OpenAIAgent
from holdfast.agents.person import Person
from holdfast.agents.protocol import Completion
from holdfast.agents.registry import get_agent, list_agents, register_agent
from holdfast.agents.request import Agent, AgentRequest, ask
from holdfast.agents.scripted import Rule, ScriptedAgent
from holdfast.errors import AgentError, AgentNotFound, AgentRefused, AgentUnavailable

__all__ = [
    "Agent",
    "AgentError",
    "AgentNotFound",
    "AgentRefused",
    "AgentRequest",
    "AgentUnavailable",
    "Completion",
    "OpenAIAgent",
    "Person",
    "Rule",
    "ScriptedAgent",
    "ask",
    "get_agent",
    "list_agents",
    "register_agent",
]
