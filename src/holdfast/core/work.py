"""What running a step means: the user's code as the executor sees it, and what a finished attempt gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from holdfast.core.caching import CachePolicy
from holdfast.core.context import StepContext
from holdfast.core.policy import Policy
from holdfast.core.retries import RetryPolicy
from holdfast.model.facts import NOTHING
from holdfast.model.profile import StageProfile
from holdfast.model.secrets import Secrets


class Blobs(dict[str, bytes]):
    """A run's large values by hash. `fresh` are those that no commit has carried yet."""

    fresh: dict[str, bytes]

    def __init__(self, stored: Mapping[str, bytes] | None = None) -> None:
        """Begin with the stored ones."""
        super().__init__(stored or {})
        self.fresh = {}

    def add(self, values: Mapping[str, bytes]) -> None:
        """Take values in. Idempotent: a value is known by its hash."""
        for key, value in values.items():
            if key not in self:
                self[key] = self.fresh[key] = value


class Outcome(msgspec.Struct, frozen=True):
    """What a finished attempt gives to the journal: the encoded value, removed keys, large values by hash.

    `secrets` are all that the run knows from here on, when the attempt changed them; they stay in memory. `unkept` says
    why a step with a cache does not keep this.
    """

    data: msgspec.Raw = NOTHING
    gone: tuple[str, ...] = ()
    blobs: Mapping[str, bytes] = {}
    secrets: Secrets | None = None
    unkept: str = ""


class Child(Protocol):
    """What a step of kind `run` starts, and what the end of that run means to its parent."""

    @property
    def name(self) -> str:
        """The step's name."""

    @property
    def workflow(self) -> Any:
        """The workflow, or the name that it is registered under."""

    @property
    def queue(self) -> str:
        """The queue of the run; empty for that of its workflow, or of its parent."""

    @property
    def retry(self) -> RetryPolicy | None:
        """When a failed child is taken up again."""

    @property
    def timeout(self) -> float | None:
        """Seconds that one attempt may take."""

    def params(self, workflow: Any) -> dict[str, Any]:
        """Return what the child is started with."""

    def accept(self, result: msgspec.Raw) -> Outcome:
        """Return what the child's encoded result, whole, gives; raises PayloadRejected naming step and key."""


class Work(Protocol):
    """How to run one step of one run. Built when the step is due, thrown away after the attempt."""

    @property
    def name(self) -> str:
        """The step's name."""

    @property
    def retry(self) -> RetryPolicy | None:
        """When a failed attempt is tried again."""

    @property
    def timeout(self) -> float | None:
        """Seconds that one attempt may take."""

    @property
    def heartbeat_timeout(self) -> float | None:
        """Seconds after which an attempt that gives no sign of life has failed."""

    @property
    def policy(self) -> Policy | None:
        """What guards an attempt beyond tries and timeout; None: nothing does."""

    @property
    def cache(self) -> CachePolicy | None:
        """How its result is kept for others; then it is a `Cached`, too. None: it is not."""

    @property
    def profile(self) -> StageProfile | None:
        """What the code says of the stage's agent, prompt and options."""

    @property
    def is_async(self) -> bool:
        """Run as a task; else in a thread."""

    @property
    def inline(self) -> bool:
        """Run within the commit that schedules it, without a task: for code that prepares the run."""

    def call(self, context: StepContext) -> Any:
        """Call the user's code; an awaitable when `is_async`."""

    def accept(self, value: Any, context: StepContext) -> Outcome:
        """Return what the attempt gives; raises PayloadRejected, which fails the attempt, naming step and key."""


class Guarded(Work, Protocol):
    """The work of a step with a policy that falls back."""

    def instead(self, error: BaseException, context: StepContext) -> Callable[[], Any]:
        """Return what gives the stand-in for what the user's code would have returned."""
