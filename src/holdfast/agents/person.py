"""A person as an agent: who asks waits, at the cost of a row, until somebody answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from holdfast.agents.request import AgentRequest
from holdfast.core.context import interrupt
from holdfast.model.checks import DURATION, LABEL, setting


class Person:
    """Whoever works on a queue of questions, such as `Person("legal")`.

    Asking it in a node is an interrupt named `legal/TASK`, listed by `engine.interrupts()` with the request as its
    payload; the run waits without a task or slot, and `engine.signal(run_id, "legal/TASK", answer)` answers. Then the
    node runs again from its first line and gets the answer. Raises SignalTimeout when nobody answers within `timeout`
    seconds, and RequestError outside of a node.
    """

    def __init__(self, queue: str, timeout: float | timedelta | None = None) -> None:
        """Name the queue, and how long a question may wait there."""
        self.queue: Final[str] = setting("Person", "queue", queue, LABEL)
        self.timeout: Final[float | timedelta | None] = setting(
            "Person", "timeout", timeout, DURATION.or_none()
        )

    def __repr__(self) -> str:
        return f"Person({self.queue!r})"

    async def __call__(self, request: AgentRequest) -> Any:
        """Return the answer, when it is there."""
        asked: dict[str, Any] = {"task": request.task, "instructions": request.instructions}
        asked |= {"params": dict(request.params), "results": dict(request.results)}
        if request.images:
            asked["images"] = list(request.images)
        return interrupt(f"{self.queue}/{request.task}", asked, self.timeout)
