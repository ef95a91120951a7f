"""Tasks that ask an agent: what it is asked, and with what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from holdfast.core.context import StepContext

_NO_ITEM: Final = object()


def asking(task: str, agent: str, instructions: str) -> Callable[..., Awaitable[Any]]:
    """Return the function of a task that asks the registered agent, with the run's params and the results before."""

    async def ask_agent(
        step: StepContext, params: dict[str, Any], _results: dict[str, Any], item: Any = _NO_ITEM
    ) -> Any:
        from holdfast.agents.registry import get_agent  # noqa: PLC0415 - only for who asks agents
        from holdfast.agents.request import AgentRequest, ask  # noqa: PLC0415

        profile = step.profile
        request = AgentRequest(
            task=task,
            instructions=profile.prompt or instructions,
            params=params if item is _NO_ITEM else {**params, "item": item},
            results=_results,
            secrets=step.secrets,
        )
        return await ask(get_agent(profile.agent or agent), request)

    return ask_agent
