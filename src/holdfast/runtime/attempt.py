"""One attempt of one step, from its place in the queue to its one end.

Whatever a step does (returns, raises, exits, never stops) ends as one arrival for its run: completed, retried,
suspended, failed or cancelled. An attempt that is cancelled or timed out is told so; a thread that does not stop within
its grace is abandoned, and its late result is refused by its attempt number.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.core.context import StepContext, Suspended, current
from holdfast.core.kept_errors import error_info
from holdfast.core.ledger import OpenStep
from holdfast.core.work import Blobs, Outcome, Work
from holdfast.errors import HoldfastError
from holdfast.model import facts
from holdfast.model.ids import Instant, RunId, microseconds
from holdfast.model.profile import StageProfile, settings_of
from holdfast.model.secrets import Secrets
from holdfast.runtime import ends
from holdfast.runtime.asking import Asking
from holdfast.runtime.calling import post, tell
from holdfast.runtime.guards.attempts import hedge, left_of, refuse_when_hedged, settle, stand_in_for
from holdfast.runtime.reports import Reports, Silence
from holdfast.store.rows import Chunk

if TYPE_CHECKING:
    from holdfast.runtime.clock import Clock
    from holdfast.runtime.executor import Executor
    from holdfast.runtime.guards.gates import Gates, Passage
    from holdfast.runtime.threads import Threads

logger: Final = logging.getLogger("holdfast")


Deliver = Callable[["Attempt", facts.Fact], None]
Record = Callable[[Sequence[facts.Fact], "concurrent.futures.Future[None]"], None]


class Attempt:
    """One attempt of one step, from its place in the queue to its one end."""

    __slots__ = (
        "_asking",
        "_cancelling",
        "_deliver",
        "_ended",
        "_executor",
        "_fallen",
        "_pinned",
        "_record",
        "_reports",
        "_silence",
        "_started",
        "_streams",
        "_task",
        "_timer",
        "attempt",
        "blobs",
        "error",
        "heartbeat",
        "large",
        "learned",
        "passage",
        "placed",
        "run",
        "secrets",
        "services",
        "step",
        "told",
        "work",
        "workflow",
    )

    def __init__(
        self,
        executor: Executor,
        run: RunId,
        step: OpenStep,
        work: Work,
        *,
        services: Any,
        pinned: msgspec.Raw,
        secrets: Secrets,
        blobs: Blobs,
        deliver: Deliver,
        record: Record,
        workflow: str = "",
    ) -> None:
        """Prepare the attempt. On the loop `deliver` gets its progress and its one end, `record` its finished calls."""
        self.run = run
        self.step = step
        self.attempt = step.attempt  # the step goes on to its next attempt while this one may still run
        self.heartbeat = step.heartbeat
        self.work = work
        self.services = services
        self.secrets: Mapping[str, str] = secrets
        self._pinned = pinned
        self.workflow = workflow
        self.told = False
        self.placed = False
        """True while the executor counts it among those that run."""
        self.passage: Passage | None = None
        """What let it through its guards; to be told of its end."""
        self._fallen = False
        self.error: BaseException | None = None
        self.learned: Secrets | None = None
        self.large: Mapping[str, bytes] = {}
        """The large values of its outcome, by hash."""
        self._executor = executor
        self.blobs = blobs
        self._deliver = deliver
        self._record = record
        self._asking: Asking | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cancelling = False
        self._ended = False
        self._started: Instant = 0
        self._reports: Reports | None = None
        self._silence: Silence | None = None
        self._streams = False

    @property
    def profile(self) -> StageProfile:
        """The stage's settings."""
        return settings_of(self.step.name, self.work.profile, self._pinned)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of its engine."""
        return self._executor.loop

    @property
    def gates(self) -> Gates | None:
        """What guards calls for its engine."""
        return self._executor.gates

    @property
    def clock(self) -> Clock:
        """The store's time, and chance."""
        return self._executor.clock

    @property
    def began(self) -> Instant:
        """When it left the queue; 0 before."""
        return self._started

    @property
    def cancelling(self) -> bool:
        """Tell whether the attempt was asked to end."""
        return self._cancelling

    @property
    def threads(self) -> Threads:
        """Where plain functions of its engine run."""
        return self._executor.threads

    @property
    def ended(self) -> bool:
        """Tell whether the attempt came to its end."""
        return self._ended

    # --- running

    def enter(self, passage: Passage) -> None:
        """Begin, unless it came to its end while its guards kept it waiting."""
        if self._ended:
            passage.close(None, known=False)
        else:
            self.passage = passage
            self.start()

    def start(self) -> None:
        """Begin."""
        executor, work = self._executor, self.work
        self._started = executor.clock.now()
        if work.is_async:
            self._task = executor.task(self._run_async(), name=self.step.step)
        else:
            executor.threads.run(self._run_in_thread)
        limit = work.timeout if work.policy is None else left_of(self)
        if limit is not None:
            self._timer = executor.loop.call_later(limit, self._time_out, limit)
        if work.heartbeat_timeout is not None:
            self._silence = Silence(executor.loop, work.heartbeat_timeout, self._fell_silent)

    def run_here(self) -> None:
        """Run an inline step to its end within this call."""
        self._started = self._executor.clock.now()
        context = StepContext(self)
        try:
            outcome = self.work.accept(self.work.call(context), context)
        except BaseException as error:  # noqa: BLE001 - user code
            self._raised(error)
        else:
            self._returned(outcome)

    async def _run_async(self) -> None:
        # The attempt does not hold its context: no cycle for the garbage collector to find, step by step.
        context = StepContext(self)
        current.set(context)
        try:
            policy = self.work.policy
            if policy is None or policy.hedge is None:
                outcome = self.work.accept(await self.work.call(context), context)
            else:
                outcome = await hedge(self.work, policy.hedge, context)
        except BaseException as error:  # noqa: BLE001 - also SystemExit and cancellation: all end as facts
            self._raised(error)
        else:
            self._returned(outcome)

    def _run_in_thread(self) -> None:
        loop = self._executor.loop
        context = StepContext(self)
        current.set(context)
        try:
            value = self.work.call(context)
            if inspect.isawaitable(value):
                loop.call_soon_threadsafe(self._await, value)
                return
            outcome = self.work.accept(value, context)
        except BaseException as error:  # noqa: BLE001
            post(loop, self._raised, error)
        else:
            post(loop, self._returned, outcome)

    def _await(self, value: Any) -> None:
        """Go on with what a plain function returned when that must be awaited."""

        async def finish() -> None:
            context = StepContext(self)
            current.set(context)
            try:
                outcome = self.work.accept(await value, context)
            except BaseException as error:  # noqa: BLE001
                self._raised(error)
            else:
                self._returned(outcome)

        self._task = self._executor.task(finish(), name=self.step.step)
        if self._cancelling:
            self._task.cancel()

    # --- ending

    def _returned(self, outcome: Outcome) -> None:
        if not (self._ended or self._fallen):
            self.complete(outcome)

    def complete(self, outcome: Outcome, instead_of: facts.ErrorInfo | None = None) -> None:
        """End the attempt well; the outcome may stand `instead_of` what it would have given."""
        if self._ended:
            return
        if outcome.blobs:
            self.blobs.add(outcome.blobs)
            self.large = outcome.blobs
        self.learned = outcome.secrets
        self._end(ends.completed(self, outcome, instead_of))

    def _raised(self, error: BaseException) -> None:
        if self._ended or self._fallen:
            return
        if isinstance(error, Suspended):
            self.blobs.add(error.large)
            self._end(ends.cancelled(self) if self._cancelling else ends.suspended(self, error))
            return
        self.error = error
        if self._cancelling and isinstance(error, asyncio.CancelledError):
            self._end(ends.cancelled(self))
            return
        settle(self, error, error_info(error, self.step, self.scrub))

    def fail(self, info: facts.ErrorInfo) -> None:
        """End the attempt, and with it the step, for good."""
        if not self._ended:
            self._end(ends.failed(self, info))

    def retry(self, wait: int, info: facts.ErrorInfo) -> None:
        """End the attempt; another one follows after `wait` microseconds."""
        if not self._ended:
            self._end(ends.retried(self, wait, "failed", info))

    def leave_to(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something else end it; what the attempt itself still does counts no more."""
        self._fallen = True
        self._clear()
        self._leave_guards(known=True)
        self._task = self._executor.task(work, name=self.step.step)

    def refuse(self, error: Exception, wait: int | None) -> None:
        """End an attempt that never began: it is tried again after `wait` microseconds, and no try is lost.

        Without a wait the refusal is a failure of the attempt; where something stands in for results, it does so.
        """
        if self._ended or self._cancelling:
            return
        policy = self.work.policy
        self._started = self.clock.now()
        if wait is None or (policy is not None and policy.falls_back):
            self.error = error
            info = error_info(error, self.step, self.scrub)
            if wait is None:
                settle(self, error, info)
            else:
                stand_in_for(self, error, info)
            return
        reason = error.code if isinstance(error, HoldfastError) else "refused"
        self._end(ends.retried(self, max(1, wait), reason, None))

    def _leave_guards(self, *, known: bool) -> None:
        passage, self.passage = self.passage, None
        if passage is not None:
            passage.close(self.error, known=known)

    def _time_out(self, limit: float) -> None:
        self._overdue("step_timed_out", f"took longer than {limit:g} s")

    def _fell_silent(self) -> None:
        text = f"gave no sign of life for {self.work.heartbeat_timeout:g} s"
        self._overdue("heartbeat_timed_out", text)

    def _overdue(self, code: str, what: str) -> None:
        if self._ended or self._cancelling:
            return
        self.told = True
        error = TimeoutError(f"attempt {self.step.attempt} {what}")
        self.error = error
        self._stop()
        settle(self, error, ends.overdue(self, code, error))

    def cancel(self, grace: float) -> None:
        """Ask the attempt to end as cancelled; after `grace` seconds it is abandoned."""
        if self._ended or self._cancelling:
            return
        self._cancelling = True
        self._stop()
        self._clear()
        if not self._started:
            self._end(ends.cancelled(self))
            return
        self._timer = self._executor.loop.call_later(grace, self._abandon)

    def drop(self) -> None:
        """Stop the attempt without a fact: its run is no longer ours."""
        if not self._ended:
            self._ended = True
            self._clear()
            self._stop()
            self._leave_guards(known=False)
            self._executor.leave(self)

    def _stop(self) -> None:
        self.told = True
        if self._task is not None and not self._task.done():
            self._task.cancel()

    def stopped(self) -> None:
        """Take note that what stood in for the result was cancelled."""
        if not self._ended and self._cancelling:
            self._end(ends.cancelled(self))

    def _abandon(self) -> None:
        if not self._ended:
            logger.warning("step %s did not stop when it was cancelled; it is abandoned", self.step.step)
            self._end(ends.cancelled(self))

    def _end(self, fact: facts.Fact) -> None:
        if self._reports is not None and type(fact) is not facts.StepCompleted:
            self._reports.flush()  # the next attempt shall know
        if self._streams:
            self._executor.streams.flush()  # readers get what was sent before the end
        self._ended = True
        self._clear()
        if not self.told:
            self._task = None  # it holds the context that holds this attempt: a cycle for each step
        if self.passage is not None:
            self._leave_guards(known=type(fact) in ends.KNOWN)
        self._executor.leave(self)
        self._deliver(self, fact)

    def _clear(self) -> None:
        if self._asking is not None:
            self._asking.drop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    # --- questions and calls

    def ask(self, name: str, payload: Any, timeout: float | timedelta | None) -> Any:
        """Return the answer to a question of this step, or raise Suspended."""
        due = 0 if timeout is None else self._executor.clock.now() + microseconds(timeout)
        return self._questions().ask(name, payload, due)

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function whose result is kept for all attempts of this step."""
        return self._questions().call(fn, args, kwargs)

    def _questions(self) -> Asking:
        refuse_when_hedged(self)
        if self._asking is None:
            self._asking = Asking(self, self._executor)
        return self._asking

    def record(
        self,
        ended: Sequence[facts.Fact],
        large: Mapping[str, bytes],
        kept: concurrent.futures.Future[None],
    ) -> None:
        """Have a finished call recorded, from any thread."""
        tell(self._executor.loop, self._record_here, ended, large, kept)

    def _record_here(
        self,
        ended: Sequence[facts.Fact],
        large: Mapping[str, bytes],
        kept: concurrent.futures.Future[None],
    ) -> None:
        if self._ended:
            kept.cancel()
        else:
            self.blobs.add(large)
            self._record(ended, kept)

    def refuse_secrets(self, values: Mapping[str, msgspec.Raw]) -> None:
        """Raise PayloadRejected when a value contains one of the run's secrets."""
        if isinstance(self.secrets, Secrets) and self.secrets:
            self.secrets.refuse(values, f"node {self.step.name!r}")

    # --- progress

    def report(self, percent: float, message: str) -> None:
        """Take a report of progress, from any thread."""
        self._heard()
        tell(self._executor.loop, self._keep_progress, percent, message)

    def beat(self, details: msgspec.Raw | None) -> None:
        """Take a sign of life, from any thread, with what the next attempt shall know."""
        self._heard()
        if details is not None:
            tell(self._executor.loop, self._keep_details, details)

    def _heard(self) -> None:
        silence = self._silence
        if silence is not None:
            silence.heard()

    def stream(self, chunk: msgspec.Raw) -> None:
        """Take a chunk for readers, from any thread."""
        self._heard()
        tell(self._executor.loop, self._keep_chunk, chunk)

    def _keep_chunk(self, chunk: msgspec.Raw) -> None:
        if self._ended:
            return
        streams, run, step = self._executor.streams, self.run, self.step.step
        now = self._executor.clock.now()
        if not self._streams and self.attempt > 1:
            streams.take(Chunk(run, step, self.attempt, now, b""))
        self._streams = True
        streams.take(Chunk(run, step, self.attempt, now, bytes(chunk)))

    def _keep_progress(self, percent: float, message: str) -> None:
        if not self._ended:
            self._reporting().progress(percent, facts.readable(self.scrub(message)))

    def _keep_details(self, details: msgspec.Raw) -> None:
        if not self._ended:
            self._reporting().details(details)

    def _reporting(self) -> Reports:
        if self._reports is None:
            executor, step = self._executor, self.step.step
            self._reports = Reports(executor.loop, executor.clock, step, self.attempt, self._told_of)
        return self._reports

    def _told_of(self, fact: facts.Fact) -> None:
        if not self._ended:
            self._deliver(self, fact)

    def scrub(self, text: str) -> str:
        """Return a text without the run's secrets."""
        return self.secrets.scrub(text) if isinstance(self.secrets, Secrets) else text
