"""The context of a running step: what a node may know about itself and tell the engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final, Protocol

import msgspec

from holdfast.core.ledger import OpenStep
from holdfast.errors import PayloadRejected, RequestError
from holdfast.model.checks import PERCENT, WORDS, argument
from holdfast.model.ids import Instant, RunId, StepId
from holdfast.model.profile import StageProfile
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

    @property
    def profile(self) -> StageProfile:
        """The stage's settings."""

    told: bool
    """True once the attempt was told to end."""

    def report(self, percent: float, message: str) -> None:
        """Take a report of progress, from any thread."""

    def beat(self, details: msgspec.Raw | None) -> None:
        """Take a sign of life, from any thread, with what the next attempt shall know."""

    def stream(self, chunk: msgspec.Raw) -> None:
        """Take a chunk for readers, from any thread."""

    def ask(self, name: str, payload: Any, timeout: float | timedelta | None) -> Any:
        """Return the answer to a question of this step, or raise Suspended."""

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function whose result is kept for all attempts of this step."""


class Suspended(BaseException):
    """Ends an attempt that waits for an answer. No `except Exception` of a node keeps it from doing so."""

    def __init__(self, name: str, payload: msgspec.Raw, due: Instant, large: Mapping[str, bytes]) -> None:
        """Keep what is asked, until when (0: for ever), and the large values in it by hash."""
        super().__init__(f"waits for {name!r}")
        self.name = name
        self.payload = payload
        self.due = due
        self.large = large


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
    def profile(self) -> StageProfile:
        """The stage's agent, prompt and options: what the run's profile said when it began, over what the code says."""
        return self._of.profile

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
        self._of.beat(self._small(details, f"the heartbeat of {self.name!r}", "details"))

    def _small(self, value: Any, where: str, field: str) -> msgspec.Raw:
        """Return an encoded value that is neither large nor holds a secret."""
        data = encode(value, where)
        if len(data) > MOST_DETAILS:
            raise PayloadRejected(
                f"{where} has {len(data):,} bytes",
                field=field,
                fix="Keep large things elsewhere, and name them.",
            )
        if isinstance(self.secrets, Secrets):
            self.secrets.refuse({field: data}, where)
        return data

    @property
    def heartbeat_details(self) -> Any:
        """What the last attempt that told any details told last; None when there are none."""
        return decode(self._of.heartbeat)

    def stream(self, chunk: Any) -> None:
        """Send text or other JSON values to readers as the event `stage.chunk`; cheap to call often; from any thread.

        Chunks are kept in batches beside the journal until the run is deleted: no commit, and not what the step
        gives. Those of a process that dies may be lost. Before the first chunk of a repeated attempt readers get
        `stage.chunk_reset`. Raises PayloadRejected when it cannot be stored, is over 64 KiB, or holds a secret.
        """
        self._of.stream(self._small(chunk, f"a chunk of {self.name!r}", "chunk"))

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn` once for all attempts of this step: its result is durable before the node goes on.

        In an async node `await` it; in a plain one it is the result. A later attempt (after a retry, a crash or an
        interrupt) gets the kept result and `fn` is not called; calls are told apart by the function's name and by how
        often it was called before in the attempt. What `fn` raises is raised here and not kept. Should the process
        die between the call and its commit, `fn` is called again.
        """
        if not callable(fn):
            raise RequestError(f"step.call({fn!r})", fix="Give a function, then its arguments.")
        return self._of.call(fn, args, kwargs)


current: Final[ContextVar[StepContext | None]] = ContextVar("holdfast_step", default=None)


def interrupt(name: object, payload: Any = None, timeout: float | timedelta | None = None) -> Any:
    """Return the answer of a person or another system to the question `name`; a plain call in any node.

    Until the answer is there the run waits without a task, thread or slot: the attempt ends here, and when
    `engine.signal(run_id, name, answer)` comes the node runs again from its first line and gets the answer. So side
    effects belong into a node before, or into `step.call`. `payload` is shown to who shall answer, see
    `engine.interrupts()`. Raises SignalTimeout when nobody answers within `timeout` seconds.
    """
    context = current.get()
    if context is None:
        raise RequestError("interrupt() outside of a step", fix="Call it inside a node.")
    if not isinstance(name, str) or not name or "#" in name:
        raise RequestError(
            f"interrupt({name!r:.80}): not a name",
            fix="Give the question a name: text, not empty, without '#'.",
        )
    return context._of.ask(name, payload, timeout)  # noqa: SLF001 - the context hides what it speaks for from users


def step_context() -> StepContext:
    """Return the context of the step that runs here; raises RequestError outside of one."""
    context = current.get()
    if context is None:
        raise RequestError(
            "no step runs here", fix="Call step_context() inside a node, or take `step` as a parameter."
        )
    return context
