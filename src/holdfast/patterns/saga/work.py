"""How the steps of a saga run: the user's functions with what they take, and what they return as it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from holdfast.core.caching import CachePolicy
from holdfast.core.context import StepContext
from holdfast.core.nesting import runnable
from holdfast.core.policy import Policy, stand_in
from holdfast.core.retries import RetryPolicy
from holdfast.core.work import Outcome
from holdfast.model.profile import StageProfile
from holdfast.model.secrets import Secrets
from holdfast.model.state import split_large
from holdfast.model.values import encode
from holdfast.patterns.saga.actions import Action, Nested

Known = Mapping[str, Callable[[], Any]]
"""What an action may ask for, made when it does."""


class SagaChild:
    """One step, or compensation, that is a child run."""

    queue = ""

    def __init__(self, name: str, action: Nested, retry: RetryPolicy | None, known: Known) -> None:
        """Keep what beginning and end need."""
        self._action = action
        self._known = known
        self.name = name
        self.workflow = runnable(action.workflow, name)
        self.retry = retry
        self.timeout = action.timeout

    def params(self, workflow: Any) -> dict[str, Any]:
        """Return the run's params, and for a workflow that says what it takes, what of the rest it names."""
        given: dict[str, Any] = self._known["params"]()
        schema = workflow.schema()
        if schema.get("additionalProperties") is not False:
            return given
        wanted = schema["properties"].keys()
        results = {} if wanted <= given.keys() else self._known["results"]()
        rest = {
            name: self._known[name]() for name in wanted if name in self._action.known and name in self._known
        }
        return {name: value for name, value in {**given, **results, **rest}.items() if name in wanted}

    def accept(self, result: msgspec.Raw) -> Outcome:
        """Return the child's result as the step's."""
        small, large = split_large({"result": result})
        return Outcome(small["result"], (), large)


class SagaWork:
    """One attempt of an action."""

    __slots__ = ("_action", "_known", "is_async", "name", "policy", "retry", "timeout")
    inline = False
    heartbeat_timeout: float | None = None
    cache: CachePolicy | None = None
    profile: StageProfile | None = None

    def __init__(self, name: str, action: Action, retry: RetryPolicy | None, known: Known) -> None:
        """Keep what the call needs."""
        self._action = action
        self._known = known
        self.name = name
        self.retry = retry
        self.timeout = action.timeout
        self.is_async = action.is_async
        self.policy: Policy | None = action.policy

    def call(self, context: StepContext) -> Any:
        """Call the function with what it takes."""
        action = self._action
        return action.call(self._all(context)) if action.takes else action.fn()

    def instead(self, error: BaseException, context: StepContext) -> Callable[[], Any]:
        """Return what gives the stand-in for what the function would have returned; it may take the same, by name."""
        policy = self.policy
        assert policy is not None  # noqa: S101 - without a policy nothing falls back
        known = {name: make() for name, make in self._all(context).items()}
        return stand_in(policy.fallback, error, (), known)

    def _all(self, context: StepContext) -> Known:
        own: dict[str, Callable[[], Any]] = {
            "step": lambda: context,
            "runtime": lambda: context.runtime,
            "idempotency_key": lambda: context.idempotency_key,
        }
        return {**self._known, **own}

    def accept(self, value: Any, context: StepContext) -> Outcome:
        """Return what was returned, encoded; refuses what cannot be stored or holds a secret."""
        where = self._action.where
        raw = encode(value, where)
        secrets = context.secrets
        if secrets and isinstance(secrets, Secrets):
            secrets.refuse({"result": raw}, where)
        small, large = split_large({"result": raw})
        return Outcome(small["result"], (), large)
