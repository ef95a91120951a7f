"""The pure program of a durable machine: the interpreter's turns, folded from the decisions that they were recorded as.

An event from outside is a signal. Deciding takes the oldest one as far as it goes without an action, and records what
that came to; the fold knows what the record says and asks neither guards nor the chart. Actions are steps, one after
the other; when the last of a microstep has ended, the next decision has it take effect, and goes on. The decision that
ends a turn carries the key of the signal, so whoever sent that finds the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.core.ledger import Ledger, OpenStep
from holdfast.core.nesting import runnable
from holdfast.core.work import Blobs
from holdfast.errors import NondeterminismError
from holdfast.model import commands, facts
from holdfast.model.ids import StepId, step_id
from holdfast.model.state import State
from holdfast.model.values import encode, encode_map, unpack
from holdfast.patterns.machine.actions import Call
from holdfast.patterns.machine.chart import Chart
from holdfast.patterns.machine.deciding import Deciding
from holdfast.patterns.machine.events import KeptEvent, done_invoke, failed_invoke
from holdfast.patterns.machine.kept import DECIDED, Context, Decided, Draft, Wait, invoke_of, packed
from holdfast.patterns.machine.turn import Situation
from holdfast.patterns.machine.work import ActionWork, ChildAction


class MachineProgress(msgspec.Struct):
    """What is known of a run. `step` is the action under way, `draft` what actions changed that has no effect yet.

    `queue` are the events to take, `deferred` those put aside, `waits` timers and invoked workflows by key; `unstarted`
    of them are to be scheduled, `stale` steps to be cancelled, `lapsed` are the waits of invoked workflows that failed.
    """

    ledger: Ledger = msgspec.field(default_factory=Ledger)
    now: Situation[KeptEvent] = msgspec.field(default_factory=Situation)
    context: Context = {}
    draft: Draft = msgspec.field(default_factory=Draft)
    queue: list[KeptEvent] = []
    deferred: list[KeptEvent] = []
    waits: dict[str, Wait] = {}
    unstarted: dict[str, None] = {}
    stale: dict[StepId, None] = {}
    lapsed: dict[StepId, Wait] = {}
    owners: dict[StepId, str] = {}
    visits: dict[str, int] = {}
    step: StepId = ""
    begun: bool = False


class MachineProgram:
    """One run of a machine."""

    checkpoints = True

    def __init__(
        self, chart: Chart, context: Mapping[str, Any], blobs: Blobs, problem: BaseException | None = None
    ) -> None:
        """Keep the chart, and the context that the run begins with."""
        self.problem: Final = problem
        self.chart: Final = chart
        self.hash: Final = chart.fingerprint if problem is None else ""
        self._first = encode_map(context, "the context")
        self._blobs = blobs
        self._deciding = Deciding(chart, blobs)

    def start(self) -> MachineProgress:
        """Return the progress before any fact."""
        return MachineProgress(context=dict(self._first))

    # --- absorbing facts

    def evolve(self, progress: MachineProgress, fact: facts.Fact) -> MachineProgress:
        """Absorb one fact."""
        progress.ledger.absorb(fact)
        absorb = _FOLDS.get(type(fact))
        if absorb is not None:
            absorb(self, progress, fact)
        return progress

    def _signal(self, progress: MachineProgress, fact: facts.SignalReceived) -> None:
        if progress.ledger.signals.pop(fact.name, None) is not None:  # else an action had asked for it
            payload = fact.data if fact.data is facts.NOTHING else fact.data.copy()
            progress.queue.append(KeptEvent(fact.name, "sent", payload, fact.key))

    def _decided(self, progress: MachineProgress, fact: facts.DecisionMade) -> None:
        if fact.data is facts.NOTHING:
            return
        said = DECIDED.decode(fact.data)
        progress.begun = True
        if said.took or said.recalled or said.ends == "dropped":
            self._taken(progress, said)
        if said.ends:
            if said.ends == "kept":
                progress.context = progress.draft.over(progress.context)
            progress.draft = Draft()
        if said.context is not facts.NOTHING:
            progress.context = {**progress.context, **unpack(said.context)}
        if said.draft is not facts.NOTHING:
            progress.draft.take(unpack(said.draft))
        self._moved(progress, said)
        if said.over or said.waits:
            for key in said.over:
                self._end_wait(progress, key)
            for wait in said.waits:
                self._end_wait(progress, wait.key)
                progress.waits[wait.key], progress.unstarted[wait.key] = wait, None

    def _moved(self, progress: MachineProgress, said: Decided) -> None:
        now, chart = progress.now, self.chart
        now.inner, now.doing, now.event = said.inner, said.doing, said.event
        now.microsteps, now.changed = said.microsteps, said.changed
        if said.state:
            now.leaves = said.state
            progress.ledger.hears = () if chart.missing(said.state) else chart.events(said.state)
        if said.histories:
            now.histories |= said.histories

    def _taken(self, progress: MachineProgress, said: Decided) -> None:
        if said.took:
            taken = progress.queue.pop(0)
            if taken.step:
                progress.ledger.unresolved.pop(taken.step, None)
                progress.lapsed.pop(taken.step, None)
            if said.deferred:
                progress.deferred.append(taken)
        if said.ends == "dropped":
            progress.ledger.unresolved.pop(progress.step, None)
            progress.step = ""
        if said.recalled:
            progress.queue = [*progress.deferred, *progress.queue]
            progress.deferred = []

    def _end_wait(self, progress: MachineProgress, key: str) -> None:
        wait = progress.waits.pop(key, None)
        progress.unstarted.pop(key, None)
        if wait is not None and wait.step:
            progress.owners.pop(wait.step, None)
            progress.stale[wait.step] = None

    def _scheduled(self, progress: MachineProgress, fact: facts.StepScheduled) -> None:
        if fact.parent:
            return
        progress.visits[fact.name] = fact.iteration
        key = None
        if progress.unstarted:
            key = next((k for k in progress.unstarted if progress.waits[k].name == fact.name), None)
        if key is None or progress.waits[key].kind != fact.kind:
            progress.step = fact.step
            return
        del progress.unstarted[key]
        progress.waits[key].step = fact.step
        progress.owners[fact.step] = key

    def _completed(self, progress: MachineProgress, fact: facts.StepCompleted) -> None:
        progress.stale.pop(fact.step, None)
        if fact.step == progress.step:
            progress.step = ""
            progress.draft.take({} if fact.data is facts.NOTHING else unpack(fact.data), fact.gone)
            doing = progress.now.doing
            if doing is not None:
                doing.at += 1
        elif (key := progress.owners.pop(fact.step, None)) is not None:
            wait = progress.waits.pop(key)
            progress.queue.append(_said(wait, fact.data))

    def _failed(self, progress: MachineProgress, fact: facts.StepFailed) -> None:
        progress.stale.pop(fact.step, None)
        key = progress.owners.pop(fact.step, None)
        if key is not None:
            wait = progress.lapsed[fact.step] = progress.waits.pop(key)
            payload = encode(
                {"message": fact.error.message, "type": fact.error.type, "code": fact.error.code}
            )
            progress.queue.append(KeptEvent(failed_invoke(wait.name), "failure", payload, step=fact.step))
        elif fact.step != progress.step:
            progress.ledger.unresolved.pop(fact.step, None)

    def _cancelled(self, progress: MachineProgress, fact: facts.StepCancelled) -> None:
        progress.stale.pop(fact.step, None)
        key = progress.owners.get(fact.step)
        if key is None:
            if fact.step != progress.step:
                progress.ledger.unresolved.pop(fact.step, None)
        elif progress.waits[key].kind == "timer":
            self._stop(progress, key)
        elif progress.ledger.cancelling is None:
            error = facts.ErrorInfo(code="cancelled", message="it was cancelled")
            self._failed(progress, facts.StepFailed(step=fact.step, attempt=fact.attempt, error=error))

    def _stop(self, progress: MachineProgress, key: str) -> None:
        """Let a timer rest until the run goes on; it begins anew then."""
        wait = progress.waits[key]
        progress.owners.pop(wait.step, None)
        progress.ledger.open.pop(wait.step, None)
        progress.ledger.unresolved.pop(wait.step, None)
        wait.step = ""

    def _cancel_requested(self, progress: MachineProgress, fact: facts.StepCancelRequested) -> None:
        progress.stale.pop(fact.step, None)

    def _resumed(self, progress: MachineProgress, fact: facts.RunResumed) -> None:
        self._reopened(progress, {step for step, _ in fact.reopened})
        self._start_timers(progress)

    def _start_timers(self, progress: MachineProgress) -> None:
        for key, wait in progress.waits.items():
            if wait.kind == "timer" and not wait.step:
                progress.unstarted[key] = None

    def _reopened(self, progress: MachineProgress, steps: set[StepId]) -> None:
        """Wait again for invoked workflows whose failure is taken back."""
        for step in [*progress.lapsed]:
            if step in steps:
                wait = progress.lapsed.pop(step)
                progress.waits[wait.key], progress.owners[step] = wait, wait.key
        progress.queue = [event for event in progress.queue if not event.step or event.step not in steps]

    def _forked(self, progress: MachineProgress, fact: facts.RunForked) -> None:
        if fact.data is not facts.NOTHING:
            progress.context = {**progress.context, **unpack(fact.data)}
        self._reopened(progress, set(progress.lapsed))
        for key, wait in progress.waits.items():
            if wait.kind == "timer":
                self._stop(progress, key)
        self._start_timers(progress)

    # --- deciding

    def decide(self, progress: MachineProgress) -> Sequence[commands.Command]:
        """Return what the run wants next; nothing while it waits for an action or an event."""
        ledger = progress.ledger
        if ledger.fault is not None:
            return ledger.failing(ledger.fault)
        if self.problem is not None:
            return ()
        if progress.stale or progress.unstarted:
            return self._clocks(progress)
        unknown = self.chart.missing(progress.now.leaves)
        if unknown:
            misfit = self._misfit(f"is in state {unknown!r}")
            return (commands.PauseRun(str(misfit), facts.ErrorInfo(code=misfit.code, message=str(misfit))),)
        return self._deciding.next(progress)

    def _clocks(self, progress: MachineProgress) -> list[commands.Command]:
        wanted: list[commands.Command] = [commands.CancelStep(step) for step in progress.stale]
        counts: dict[str, int] = {}
        for key in progress.unstarted:
            wait = progress.waits[key]
            number = counts[wait.name] = counts.get(wait.name, progress.visits.get(wait.name, 0)) + 1
            timer = wait.kind == "timer"
            step = step_id(f"timer:{wait.name}" if timer else wait.name, number)
            due = progress.ledger.now + wait.delay if timer else 0
            wanted.append(commands.ScheduleStep(step, wait.name, wait.kind, number, due))
        return wanted

    def _misfit(self, what: str) -> NondeterminismError:
        return NondeterminismError(
            f"the run {what}; the machine {self.chart.name!r} has only {', '.join(self.chart.states)}"
        )

    # --- running steps, showing and storing progress

    def work(self, progress: MachineProgress, step: OpenStep) -> ActionWork:
        """Return how to run the action under way."""
        call = self._call(progress, step)
        context = progress.draft.over(progress.context)
        doing = progress.now.doing
        return ActionWork(step.name, call, context, doing.event if doing else None, self._blobs)

    def child(self, progress: MachineProgress, step: OpenStep) -> ChildAction:
        """Return what an action that is a workflow, or an invoke, starts."""
        context = progress.draft.over(progress.context)
        key = progress.owners.get(step.step)
        if key is None:
            call = self._call(progress, step)
            parts = (_runnable(call.workflow, step.name), call.retry, call.timeout)
            return ChildAction(step.name, *parts, context, self._blobs, merges=True)
        invoke = invoke_of(self.chart, progress.waits[key])
        if invoke is None:
            raise self._misfit(f"waits for the invoked workflow {step.name!r}")
        parts = (_runnable(invoke.workflow, step.name), invoke.retry, invoke.timeout)
        return ChildAction(step.name, *parts, context, self._blobs, merges=False)

    def _call(self, progress: MachineProgress, step: OpenStep) -> Call:
        doing = progress.now.doing
        if doing is not None and step.step == progress.step and doing.at < len(doing.plan.items):
            action = self.chart.actions.get(doing.plan.items[doing.at].place)
            if isinstance(action, Call) and (action.workflow is None) == (step.kind == "call"):
                return action
        raise self._misfit(f"has the action {step.name!r} under way")

    def changes(self, given: Mapping[str, Any]) -> msgspec.Raw:
        """Return keys to set in the context, encoded."""
        return packed(encode_map(given, "changes"), self._blobs)

    def state(self, progress: MachineProgress) -> dict[str, Any]:
        """Return where the machine is, and its context."""
        leaves = progress.now.leaves
        return {
            "state": leaves[0] if len(leaves) == 1 else list(leaves),
            "context": dict(State.view(progress.context, blobs=self._blobs)),
        }

    def encode(self, progress: MachineProgress) -> bytes:
        """Return the progress as JSON."""
        return msgspec.json.encode(progress)

    def decode(self, data: bytes) -> MachineProgress:
        """Return the progress of a stored fold."""
        return _PROGRESS.decode(data)


_PROGRESS: Final = msgspec.json.Decoder(MachineProgress)


def _runnable(workflow: Any, name: str) -> Any:
    return workflow if isinstance(workflow, str) else runnable(workflow, name)


def _said(wait: Wait, data: msgspec.Raw) -> KeptEvent:
    if wait.kind == "run":
        return KeptEvent(done_invoke(wait.name), "raised", data)
    return KeptEvent(wait.event, "sent" if wait.sent else "raised")


_FOLDS: Final[dict[type[facts.Fact], Any]] = {
    facts.SignalReceived: MachineProgram._signal,  # noqa: SLF001 - its own methods, kept in a table by type
    facts.DecisionMade: MachineProgram._decided,  # noqa: SLF001
    facts.StepScheduled: MachineProgram._scheduled,  # noqa: SLF001
    facts.StepCompleted: MachineProgram._completed,  # noqa: SLF001
    facts.StepFailed: MachineProgram._failed,  # noqa: SLF001
    facts.StepCancelled: MachineProgram._cancelled,  # noqa: SLF001
    facts.StepCancelRequested: MachineProgram._cancel_requested,  # noqa: SLF001
    facts.RunResumed: MachineProgram._resumed,  # noqa: SLF001
    facts.RunForked: MachineProgram._forked,  # noqa: SLF001
}
