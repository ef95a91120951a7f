"""An agent that answers from a script: for tests, and for programs that shall run without a model."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

from holdfast.agents.request import AgentRequest
from holdfast.errors import AgentRefused, DefinitionError

ANY_TASK: Final = "*"
Rule = str | Exception | Callable[[AgentRequest], Any]


class ScriptedAgent:
    """Answers in order, or by the task that asks. Thread-safe.

    `ScriptedAgent(["first", "second"])` gives each answer once. `ScriptedAgent({"analyze": "…", "*": "…"})` gives the
    answer for the task, as often as it is asked; `"*"` is for all other tasks. A process that takes a run up begins
    with a new script, so durable runs are best answered by task. An answer may be an error, which is raised, or a
    function of the request. `requests` has what was asked, oldest first.
    """

    def __init__(self, answers: Sequence[Rule] | Mapping[str, Rule]) -> None:
        """Take the script. Raises DefinitionError for what is none."""
        if isinstance(answers, str) or not isinstance(answers, Sequence | Mapping):
            raise DefinitionError(
                f"ScriptedAgent: answers are of type {type(answers).__name__}",
                fix="Give a list of answers, or a dict of answers by task.",
            )
        self.requests: list[AgentRequest] = []
        self._by_task = dict(answers) if isinstance(answers, Mapping) else None
        self._in_order = [] if isinstance(answers, Mapping) else list(answers)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"ScriptedAgent(asked {len(self.requests)} times)"

    def __call__(self, request: AgentRequest) -> Any:
        """Return the answer; raises what the script says, and AgentRefused where it says nothing."""
        with self._lock:
            self.requests.append(request)
            answer = self._next(request.task, len(self.requests))
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer

    async def stream(self, request: AgentRequest) -> AsyncIterator[str]:
        """Yield the answer word by word."""
        for piece in str(self(request)).splitlines(keepends=True):
            words = piece.split(" ")
            for word in words[:-1]:
                yield f"{word} "
            yield words[-1]

    def _next(self, task: str, number: int) -> Rule:
        if self._by_task is None:
            if number <= len(self._in_order):
                return self._in_order[number - 1]
            raise AgentRefused(
                f"the script has {len(self._in_order)} answers, and {task!r} asks for one more",
                fix="Add the answer to the script.",
            )
        answer = self._by_task.get(task, self._by_task.get(ANY_TASK))
        if answer is None:
            known = ", ".join(map(repr, self._by_task)) or "none"
            raise AgentRefused(
                f"the script has no answer for the task {task!r}", fix=f"It has: {known}. Add it, or '*'."
            )
        return answer
