"""What job defaults add to a run of any pattern: it is tried again before it fails, and a hook is its last step.

Where a job has a retry or hooks, the pattern's own program stands within one that looks at what it wants in the end.
A run that is about to fail and has tries left goes on from its failed steps after a
back-off (`ResumeRun`); else the end waits for a hook, a step of the run that neither a pause nor a cancel stops. What
the hook comes to changes nothing of the end. Hooks have the parent RUN, so that no pattern takes them for steps of its
own. Runs without such defaults are opened as they are.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.core.context import StepContext, Suspended
from holdfast.core.events import reader
from holdfast.core.jobs import Hook, Job, takes
from holdfast.core.ledger import Ledger, OpenStep
from holdfast.core.program import START, Program
from holdfast.core.retries import wait_before_next
from holdfast.core.work import Blobs, Child, Outcome, Work
from holdfast.errors import DefinitionError, NondeterminismError, RunFailed, RunTimedOut
from holdfast.model import commands, facts
from holdfast.model.ids import SECOND, Instant, StepId, moment, step_id
from holdfast.model.run import EndingRun
from holdfast.model.values import encode

RUN: Final = "run"
"""Stands for the run itself as the parent of a step."""

ON_SUCCESS: Final = "run:on_success"
ON_FAILURE: Final = "run:on_failure"

FACTORY_WAIT: Final = 3 * SECOND
"""A factory that failed is called again when its run is taken up anew: after a wait for which the run is laid down."""


class Supervised:
    """The progress of a run, and what is known of its end.

    `tries` counts the times that it went on by itself since somebody began it or took it up at `begun`; the last wait
    was `last`. `hook` is the latest hook, `hooks` counts them by name; when that one has ended the run
    ends, with the `result` if it `succeeds`, or with the `error`.
    """

    __slots__ = ("begun", "error", "hook", "hooks", "inner", "last", "result", "started", "succeeds", "tries")

    def __init__(self, inner: Any) -> None:
        """Begin before the first fact."""
        self.inner = inner
        self.started = facts.RunStarted(workflow="")
        self.tries = 0
        self.last = 0
        self.begun: Instant = 0
        self.hook: StepId = ""
        self.hooks: dict[str, int] = {}
        self.succeeds = False
        self.result: msgspec.Raw = facts.NOTHING
        self.error: facts.ErrorInfo | None = None

    @property
    def ledger(self) -> Ledger:
        """The run's ledger."""
        ledger: Ledger = self.inner.ledger
        return ledger


class _Fold(msgspec.Struct):
    """A progress as it is stored; the pattern's own is JSON, too."""

    inner: msgspec.Raw
    started: facts.RunStarted
    tries: int
    last: int
    begun: Instant
    hook: StepId
    hooks: dict[str, int]
    succeeds: bool
    result: msgspec.Raw
    error: facts.ErrorInfo | None


class Supervision:
    """A pattern's program, and how its runs end."""

    def __init__(self, program: Program[Any], job: Job, params: dict[str, Any], blobs: Blobs) -> None:
        """Keep both."""
        self.pattern: Final = program
        self._job = job
        self._params = params
        self._blobs = blobs
        self.checkpoints: Final = program.checkpoints

    @property
    def hash(self) -> str:
        """The definition, and that its runs are supervised: folds of the two differ."""
        inner = self.pattern.hash
        return f"{inner}+job" if inner else ""

    @property
    def problem(self) -> BaseException | None:
        """What keeps today's definition from driving the run."""
        return self.pattern.problem

    def start(self) -> Supervised:
        """Return an empty progress."""
        return Supervised(self.pattern.start())

    # --- absorbing facts

    def evolve(self, progress: Supervised, fact: facts.Fact) -> Supervised:
        """Absorb one fact."""
        had_ended = progress.ledger.ended is not None
        progress.inner = self.pattern.evolve(progress.inner, fact)
        match fact:
            case facts.RunStarted():
                progress.started = msgspec.structs.replace(fact, data=facts.NOTHING, origins=())
                progress.begun = fact.at
            case facts.StepScheduled() if fact.parent == RUN:
                _ends_with(progress, fact)
            case facts.RunResumed():
                _goes_on(progress, fact, had_ended=had_ended)
            case facts.RunForked():
                progress.tries, progress.last, progress.begun = 0, 0, fact.at
                _undecide(progress)
            case _:
                pass
        return progress

    # --- deciding

    def decide(self, progress: Supervised) -> Sequence[commands.Command]:
        """Return what the pattern wants; in place of the end first what the job wants."""
        ledger = progress.ledger
        if progress.hook in ledger.open:
            return ()
        if progress.error is not None:
            return (commands.FailRun(progress.error),)
        if progress.succeeds:
            return (commands.CompleteRun(progress.result),)
        wanted = self._wanted(progress)
        if not wanted or (ledger.paused is not None and ledger.cancelling is None):
            return wanted
        instead = self._instead(progress, wanted[-1])
        return wanted if instead is None else [*wanted[:-1], instead]

    def _wanted(self, progress: Supervised) -> Sequence[commands.Command]:
        """Return what the pattern wants, or the end of a run that was asked to end."""
        wanted, ledger = self.pattern.decide(progress.inner), progress.ledger
        if ledger.cancelling is None:
            return wanted
        return ledger.passing(wanted) or ledger.stopping()

    def _instead(self, progress: Supervised, last: commands.Command) -> commands.Command | None:
        job = self._job
        if isinstance(last, commands.CompleteRun) and job.on_success is not None:
            return _hook(progress, ON_SUCCESS, last.data)
        if not isinstance(last, commands.FailRun):
            return None
        again = self._again(progress, last.error)
        if again is not None or job.on_failure is None:
            return again
        return _hook(progress, ON_FAILURE, msgspec.Raw(msgspec.json.encode(last.error)))

    def _again(self, progress: Supervised, error: facts.ErrorInfo) -> commands.ResumeRun | None:
        """Return how the run goes on after its failed steps; None when it fails.

        What failed without a step, such as an edge, would fail again. A saga that went back begins anew.
        """
        ledger, policy = progress.ledger, self._job.retry
        failed = [step for step in ledger.unresolved.values() if step.failed]
        may = bool(failed) or error.compensated is not None
        if policy is None or not may or ledger.cancelling is not None:
            return None
        wait = wait_before_next(
            *(policy, progress.tries + 1, error.type, _draw(ledger)),
            last=progress.last,
            now=ledger.now,
            begun=progress.begun,
        )
        if wait is None:
            return None
        if any(step.name == START for step in failed):
            wait = max(wait, FACTORY_WAIT)
        return commands.ResumeRun(
            error=error,
            due=ledger.now + wait,
            reopened=tuple((step.step, step.attempt + 1) for step in ledger.unresolved.values()),
            key=f"retry:{ledger.position}",
        )

    # --- running steps, showing and storing progress

    def work(self, progress: Supervised, step: OpenStep) -> Work:
        """Return how to run a step of the pattern, or a hook."""
        if step.parent != RUN:
            return self.pattern.work(progress.inner, step)
        hook = self._job.on_success if step.name == ON_SUCCESS else self._job.on_failure
        if hook is None:
            raise NondeterminismError(f"the workflow has no {step.name.removeprefix('run:')} any more")
        return HookWork(hook, step, progress.started, self._params, self._blobs)

    def child(self, progress: Supervised, step: OpenStep) -> Child:
        """Return what a step of the pattern starts."""
        return self.pattern.child(progress.inner, step)

    def encode(self, progress: Supervised) -> bytes:
        """Return the progress as bytes for a stored fold."""
        fields = {name: getattr(progress, name) for name in _Fold.__struct_fields__ if name != "inner"}
        return msgspec.json.encode(_Fold(inner=msgspec.Raw(self.pattern.encode(progress.inner)), **fields))

    def decode(self, data: bytes) -> Supervised:
        """Return the progress of a stored fold."""
        fold = msgspec.json.decode(data, type=_Fold)
        progress = Supervised(self.pattern.decode(bytes(fold.inner)))
        for name in _Fold.__struct_fields__:
            if name != "inner":
                setattr(progress, name, getattr(fold, name))
        return progress

    def changes(self, given: Mapping[str, Any]) -> msgspec.Raw:
        """Return changes to the user's state as a fork records them."""
        return self.pattern.changes(given)

    def state(self, progress: Supervised) -> dict[str, Any]:
        """Return the user's state as it stands, decoded."""
        return self.pattern.state(progress.inner)


def _ends_with(progress: Supervised, hook: facts.StepScheduled) -> None:
    progress.hook = hook.step
    progress.hooks[hook.name] = hook.iteration
    if hook.name == ON_SUCCESS:
        progress.succeeds, progress.result = True, hook.data
    else:
        progress.error = msgspec.json.decode(hook.data, type=facts.ErrorInfo)


def _undecide(progress: Supervised) -> None:
    """Forget how the run was to end: it goes on."""
    progress.succeeds, progress.result, progress.error = False, facts.NOTHING, None


def _goes_on(progress: Supervised, fact: facts.RunResumed, *, had_ended: bool) -> None:
    """Take note that the run goes on: by itself, for a person who begins anew, or after a pause as before."""
    if had_ended or fact.reopened:
        _undecide(progress)
    if fact.error is not None:
        progress.tries, progress.last = progress.tries + 1, fact.due - fact.at
    elif not fact.unpauses:
        progress.tries, progress.last, progress.begun = 0, 0, max(fact.at, fact.due)


def _hook(progress: Supervised, name: str, data: msgspec.Raw) -> commands.ScheduleStep:
    iteration = progress.hooks.get(name, 0) + 1
    return commands.ScheduleStep(
        step_id(name, iteration), name, iteration=iteration, parent=RUN, data=data, shielded=True
    )


def _draw(ledger: Ledger) -> float:
    """Return a number from 0 to 1 that differs from run to run, and is the same whenever this one decides."""
    seed = hashlib.blake2b(f"{ledger.now}:{ledger.position}".encode(), digest_size=6).digest()
    return int.from_bytes(seed) / 2**48


class HookWork:
    """One call of a hook with the run and what it came to."""

    inline = False
    retry = policy = profile = cache = None
    timeout = heartbeat_timeout = None

    def __init__(
        self,
        hook: Hook,
        step: OpenStep,
        started: facts.RunStarted,
        params: dict[str, Any],
        blobs: Blobs,
    ) -> None:
        """Keep what the call needs."""
        self._hook = hook
        self._step = step
        self._started = started
        self._params = params
        self._blobs = blobs
        self.name = step.name
        self.is_async = inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(
            getattr(hook, "__call__", None)  # noqa: B004 - an object may be called, too
        )

    def call(self, context: StepContext) -> Any:
        """Call the hook; an awaitable when it is async."""
        run = self._run(context)
        outcome = (
            self._failure(run, context) if self.name == ON_FAILURE else reader(self._blobs)(self._step.data)
        )
        given = (run, outcome)[: takes(self.name, self._hook)]
        return self._awaited(given) if self.is_async else self._called(given)

    def _called(self, given: tuple[Any, ...]) -> Any:
        try:
            return self._hook(*given)
        except Suspended as asked:
            raise _no_question(self.name) from asked

    async def _awaited(self, given: tuple[Any, ...]) -> Any:
        try:
            return await self._hook(*given)
        except Suspended as asked:
            raise _no_question(self.name) from asked

    def _run(self, context: StepContext) -> EndingRun:
        started = self._started
        return EndingRun(
            id=context.run_id,
            workflow=started.workflow,
            version=started.version,
            queue=started.queue,
            priority=started.priority,
            tags=started.tags,
            params=self._params,
            created_at=moment(started.at),
        )

    def _failure(self, run: EndingRun, context: StepContext) -> Exception:
        error = msgspec.json.decode(self._step.data, type=facts.ErrorInfo)
        secrets: Any = context.secrets
        if secrets:  # what a router said is written without them
            error = msgspec.structs.replace(error, message=secrets.scrub(error.message))
        if error.code == RunTimedOut.code:
            return RunTimedOut(f"run {run.id!r} timed out: {error.message}")
        where = f" at {error.name}" if error.name else ""
        return RunFailed(
            f"run {run.id!r} failed{where}: {error.type}: {error.message}",
            run_id=run.id,
            stage=error.name,
            attempt=error.attempt,
            error=error,
        )

    def accept(self, value: Any, context: StepContext) -> Outcome:
        """Return what the hook returned, for people to see; refuses what cannot be stored or holds a secret."""
        encoded = encode(value, self.name)
        secrets: Any = context.secrets
        if secrets:
            secrets.refuse({self.name: encoded}, self.name)
        return Outcome(encoded)


def _no_question(name: str) -> DefinitionError:
    return DefinitionError(
        f"{name} cannot wait for an answer: its run is about to end", fix="Ask in a step of the workflow."
    )
