"""SagaOrchestrator: a saga in memory that is awaited where it stands, on the caller's own loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from holdfast.core.embedding import run_here
from holdfast.errors import RunFailed
from holdfast.model.checks import DATA, argument
from holdfast.patterns.saga.builder import Saga, original


class SagaOrchestrator:
    """Executes sagas from async code: its steps run on the loop of whoever awaits `execute`.

    It takes what `Saga` takes. Nothing is kept when the process ends; for that, run the saga on an engine.
    """

    def __init__(self, name: str | None = None, **options: Any) -> None:
        """Begin without steps."""
        self._name = name or "saga"
        self._options = options
        self.saga = Saga(self._name, **options)

    def add_step(
        self,
        name: str | None,
        forward: Callable[..., Any],
        compensate: Callable[..., Any] | None = None,
        **options: Any,
    ) -> SagaOrchestrator:
        """Add a step, as `Saga.add_step` does."""
        self.saga.add_step(name, forward=forward, compensate=compensate, **options)
        return self

    async def execute(
        self, steps: Iterable[Any] = (), params: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run its steps, or `steps`: objects with `forward()` and `compensate()`; returns {step: result}.

        When a step fails, the compensations run in reverse and the step's own error is raised; its
        `failed_compensations` lists those that failed, too.
        """
        argument("params", params, DATA.or_none())
        given = list(steps)
        saga = Saga(self._name, steps=given, **self._options) if given else self.saga
        try:
            result: dict[str, Any] = await run_here(saga, saga.check(params or {}))
        except RunFailed as failure:
            raise original(failure) from None
        return result
