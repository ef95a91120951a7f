"""The context of a running step: what a node may know about itself and tell the engine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, Protocol

import msgspec

from holdfast.core.ledger import OpenStep
from holdfast.errors import PayloadRejected, RequestError
from holdfast.model.checks import PERCENT, WORDS, argument
from holdfast.model.ids import RunId, StepId
from holdfast.model.secrets import Secrets
from holdfast.model.values import decode, encode

_MESSAGE: Final = WORDS.or_none()
MOST_DETAILS: Final = 65_536
logger: Final = logging.getLogger("holdfast.steps")


class _StepLogger(logging.LoggerAdapter[logging.Logger]):
    """Writes records without the run's secrets."""

    def __init__(self, to: logging.Logger, extra: Mapping[str, object], secrets: Mapping[str, str]) -> None:
        super().__init__(to, extra)
        self._secrets = secrets

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        """Write the record if its level is wanted."""
        if not self.isEnabledFor(level):
            return
        if isinstance(self._secrets, Secrets) and self._secrets:
            msg, args = self._secrets.scrub(str(msg) % args if args else str(msg)), ()
        super().log(level, msg, *args, **options)


class Attempting(Protocol):
    """The attempt that a context speaks for."""

    run: RunId
    step: OpenStep
    attempt: int
    services: Any
    secrets: Mapping[str, str]
    heartbeat: msgspec.Raw
    """What an earlier attempt left for this one, encoded."""

    told: bool
    """True once the attempt was told to end."""

    def report(self, percent: float, message: str) -> None:
        """Take a report of progress, from any thread."""

    def beat(self, details: msgspec.Raw | None) -> None:
        """Take a sign of life, from any thread, with what the next attempt shall know."""


class StepContext:
    """The `step` of a node: its attempt, its idempotency key, the run's services and secrets, and progress."""

    __slots__ = ("_of",)

    def __init__(self, of: Attempting) -> None:
        """Made by the executor for each attempt."""
        self._of = of

    @property
    def run_id(self) -> RunId:
        """The run."""
        return self._of.run

    @property
    def step_id(self) -> StepId:
        """The step within the run."""
        return self._of.step.step

    @property
    def name(self) -> str:
        """The node's name."""
        return self._of.step.name

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1; it rises at every start of the code."""
        return self._of.attempt

    @property
    def runtime(self) -> Any:
        """The services given to the engine."""
        return self._of.services

    @property
    def secrets(self) -> Mapping[str, str]:
        """The run's secrets by name."""
        return self._of.secrets

    @property
    def idempotency_key(self) -> str:
        """The same text for every attempt of this step, after retries, resumes and crashes, and for no other step."""
        return f"{self._of.run}:{self._of.step.step}"

    @property
    def cancelled(self) -> bool:
        """True as soon as the attempt shall end: cancelled, timed out, or its run lost to another worker."""
        return self._of.told

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry run, step and attempt."""
        extra = {"run_id": self.run_id, "step": self.step_id, "attempt": self.attempt}
        return _StepLogger(logger, extra, self.secrets)

    def progress(self, percent: float, message: str | None = None) -> None:
        """Tell how far the step is, 0 to 100. Kept at most once a second; cheap to call often; from any thread."""
        argument("percent", percent, PERCENT)
        argument("message", message, _MESSAGE)
        self._of.report(float(percent), message or "")

    def heartbeat(self, details: Any = None) -> None:
        """Tell that the step lives, and what its next attempt shall know if this one is lost or fails.

        The latest details are stored, at most once a second; cheap to call often; from any thread. Raises
        PayloadRejected when they cannot be stored, are over 64 KiB, or hold a secret.
        """
        if details is None:
            self._of.beat(None)
            return
        where = f"the heartbeat of {self.name!r}"
        data = encode(details, where)
        if len(data) > MOST_DETAILS:
            raise PayloadRejected(
                f"{where} has {len(data):,} bytes",
                field="details",
                fix="Keep large things elsewhere, and name them.",
            )
        if isinstance(self.secrets, Secrets):
            self.secrets.refuse({"details": data}, where)
        self._of.beat(data)

    @property
    def heartbeat_details(self) -> Any:
        """What the last attempt that told any details told last; None when there are none."""
        return decode(self._of.heartbeat)


current: Final[ContextVar[StepContext | None]] = ContextVar("holdfast_step", default=None)


def step_context() -> StepContext:
    """Return the context of the step that runs here; raises RequestError outside of one."""
    context = current.get()
    if context is None:
        raise RequestError(
            "no step runs here", fix="Call step_context() inside a node, or take `step` as a parameter."
        )
    return context
