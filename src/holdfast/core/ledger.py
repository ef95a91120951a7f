"""The ledger: what all patterns share about a run, folded from its facts.

Holds open steps, unresolved ones (ended without success, a resume reopens them), buffered signals, and whether the
run is paused, cancelling, at fault or ended. Each program's progress holds one and absorbs every fact into it first.
Invariants: a step is open or unresolved, never both; when `ended` is set, nothing is open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from holdfast.model import commands, facts
from holdfast.model.ids import Instant, StepId, step_id

FORKED: Final = "forked"
"""The reason of the attempt that gives a step of a fork a child run of its own."""


class OpenStep(msgspec.Struct, gc=False, omit_defaults=True):
    """A step as the ledger knows it: `due` is when its attempt may start (0: at once), `since` when that was said.

    `begun` is when it was scheduled, or reopened.
    """

    step: StepId
    name: str
    kind: str = "call"
    attempt: int = 1
    failures: int = 0
    due: Instant = 0
    since: Instant = 0
    begun: Instant = 0
    suspended: bool = False
    cancelling: bool = False
    failed: bool = False
    parent: StepId = ""
    shielded: bool = False
    """Neither a pause nor a cancel of the run stops it."""
    data: msgspec.Raw = facts.NOTHING
    error: facts.ErrorInfo | None = None
    heartbeat: msgspec.Raw = facts.NOTHING
    answers: dict[str, msgspec.Raw] | None = None
    """What it asked and was told, by name."""
    lapsed: tuple[str, ...] = ()
    """What it asked and nobody answered in time."""
    results: dict[StepId, msgspec.Raw] | None = None
    """What its calls returned."""
    born: int = 1
    """Of a child run: the attempt that begins it; 0 while that is still to come."""
    kept: bool = False
    """It was asked to end, and before it had, a resume of its run took that back."""
    undoing: bool = False
    """Of a child run: its run goes back, and it could not undo all of its own; reopened it goes on with that alone."""

    @property
    def runs(self) -> bool:
        """Tell whether user code runs for this step now or as soon as it is due."""
        return self.kind == "call" and not self.suspended

    @property
    def goes_on(self) -> bool:
        """Tell whether the step gets on by itself, here or as a child run."""
        return self.runs or self.kind == "run"


class Ledger(msgspec.Struct, gc=False):
    """See the module. `position` counts the facts absorbed, `now` is the instant of the latest one.

    `begins` is when a run that was started with a delay may begin; 0 once it has. `asked` tells that a cancel of the
    run met open steps, which were asked to end. `secrets` are the names of those that the run was ever given.
    `profile` is what the run's profile said when it began, `hash` the definition that it goes on with.
    `waits` counts the waits for each signal, `asking` are the suspended steps whose waits are not yet scheduled,
    `answered` those that may run again. A child run knows its `parent`, the `parent_step` that it is, how many
    ancestors it has, and which `part` of its workflow it is, if not all. `hears` is what the pattern listens to, for
    people.
    """

    position: int = 0
    now: Instant = 0
    begins: Instant = 0
    secrets: list[str] = []
    profile: msgspec.Raw = facts.NOTHING
    hash: str = ""
    open: dict[StepId, OpenStep] = {}
    unresolved: dict[StepId, OpenStep] = {}
    signals: dict[str, list[msgspec.Raw]] = {}
    waits: dict[str, int] = {}
    asking: list[facts.StepSuspended] = []
    answered: list[StepId] = []
    keys: set[str] = set()
    paused: facts.RunPaused | None = None
    cancelling: facts.CancelRequested | None = None
    asked: bool = False
    fault: facts.ErrorInfo | None = None
    ended: facts.RunCompleted | facts.RunFailed | facts.RunCancelled | None = None
    parent: str = ""
    parent_step: StepId = ""
    depth: int = 0
    part: tuple[str, ...] = ()
    origins: tuple[msgspec.Raw, ...] = ()
    hears: tuple[str, ...] = ()

    def absorb(self, fact: facts.Fact) -> None:
        """Fold one fact in. O(1), but for a resume, which costs the steps it reopens."""
        self.position += 1
        if fact.at > self.now:  # noqa: PLR1730 - twice as fast as max(), and every fact passes here
            self.now = fact.at
        fold = _FOLDS.get(type(fact))
        if fold is not None:
            fold(self, fact)

    def failing(self, error: facts.ErrorInfo) -> Sequence[commands.Command]:
        """Return what a run that has decided to fail wants: open steps end, then the run fails.

        Running steps, and children, are let end; those in back-off or suspended, which nobody runs, are cancelled.
        """
        if not self.open:
            return (commands.FailRun(error),)
        idle = (s for s in self.open.values() if not s.cancelling and (s.due > self.now or not s.goes_on))
        return [commands.CancelStep(s.step) for s in idle]

    def stopping(self) -> Sequence[commands.Command]:
        """Return what a run that was asked to end wants: open steps are asked to end, then the run ends."""
        request = self.cancelling
        if request is None:
            return ()
        if self.open:
            return [
                commands.CancelStep(s.step) for s in self.open.values() if not (s.cancelling or s.shielded)
            ]
        if request.code:
            return (commands.FailRun(facts.ErrorInfo(code=request.code, message=request.reason)),)
        return (commands.CancelRun(request.reason),)

    def earned(self, command: commands.Command) -> bool:
        """Tell whether a run that was asked to end has come to this end without being asked; a saga says how it did."""
        if isinstance(command, commands.CompleteRun):
            return not self.asked
        return isinstance(command, commands.FailRun) and (
            not self.asked
            or command.error.compensated is not None
            or any(step.failed for step in self.unresolved.values())
        )

    def passing(self, commanded: Sequence[commands.Command]) -> list[commands.Command]:
        """Return the commands that a cancel of the run lets pass."""
        passing = [command for command in commanded if self.earned(command) or is_shielded(command)]
        return [*self.sheltered(), *passing]

    def sheltered(self) -> list[commands.Command]:
        """Return the waits of suspended steps that neither a pause nor a cancel stops."""
        return self.wanted([ask for ask in self.asking if self._shields(ask.step)])

    def wanted(self, asking: Sequence[facts.StepSuspended]) -> list[commands.Command]:
        """Return the waits that suspended steps ask for, whatever the pattern."""
        counts = dict(self.waits)
        wanted: list[commands.Command] = []
        for ask in asking:
            number = counts[ask.name] = counts.get(ask.name, 0) + 1
            wait = step_id(f"signal:{ask.name}", number)
            wanted.append(
                commands.ScheduleStep(
                    wait,
                    ask.name,
                    kind="signal",
                    iteration=number,
                    due=ask.due,
                    parent=ask.step,
                    data=ask.data,
                    shielded=self._shields(ask.step),
                )
            )
        return wanted

    def _shields(self, step: StepId) -> bool:
        opened = self.open.get(step)
        return opened is not None and opened.shielded

    def _end(self, step: StepId) -> OpenStep | None:
        if self.answered:
            self.answered = [waiting for waiting in self.answered if waiting != step]
        return self.open.pop(step, None)

    def _answer(self, wait: StepId, name: str, data: msgspec.Raw | None) -> None:
        """Give a step what it waits for; None: nobody answered in time."""
        step = self.open.get(wait)
        if step is None:
            return
        if data is None:
            step.lapsed = (*step.lapsed, name)
        else:
            step.answers = {**(step.answers or {}), name: data}
        self.answered.append(wait)


def is_shielded(command: commands.Command) -> bool:
    """Tell whether a command is for a step that neither a pause nor a cancel stops."""
    return isinstance(command, commands.ScheduleStep | commands.RecordDecision) and command.shielded


def _started(ledger: Ledger, fact: facts.RunStarted) -> None:
    ledger.begins, ledger.hash = fact.not_before, fact.hash
    ledger.secrets.extend(fact.secrets)
    if fact.profile is not facts.NOTHING:
        ledger.profile = fact.profile.copy()  # the row that it came in need not stay in memory
    if fact.parent:
        ledger.parent, ledger.parent_step = fact.parent, fact.parent_step
        ledger.depth, ledger.part = fact.depth, fact.part
        ledger.origins = tuple(params.copy() for params in fact.origins)


def _scheduled(ledger: Ledger, fact: facts.StepScheduled) -> None:
    ledger.begins = 0
    if fact.hash:
        ledger.hash = fact.hash
    if fact.kind == "signal":
        ledger.waits[fact.name] = fact.iteration
        ledger.asking = [ask for ask in ledger.asking if ask.step != fact.parent]
        if early := ledger.signals.get(fact.name):
            ledger._answer(fact.parent, fact.name, early.pop(0))  # noqa: SLF001
            return
    ledger.open[fact.step] = OpenStep(
        *(fact.step, fact.name, fact.kind),
        due=fact.due,
        since=fact.at,
        begun=fact.at,
        parent=fact.parent,
        shielded=fact.shielded,
        data=fact.data,
    )


def _progressed(ledger: Ledger, fact: facts.StepProgressed) -> None:
    step = ledger.open.get(fact.step)
    if step is not None and fact.data is not facts.NOTHING:
        step.heartbeat = fact.data.copy()  # the row that it came in need not stay in memory


def _retried(ledger: Ledger, fact: facts.StepRetried) -> None:
    step = ledger.open.get(fact.step)
    if step is None:
        return
    step.attempt, step.due, step.since, step.suspended = fact.attempt, fact.due, fact.at, False
    step.kept = False
    if fact.reason == FORKED:
        step.born = fact.attempt
    if ledger.answered:
        ledger.answered = [waiting for waiting in ledger.answered if waiting != fact.step]
    if fact.error is not None:
        step.failures, step.error = step.failures + 1, fact.error


def _suspended(ledger: Ledger, fact: facts.StepSuspended) -> None:
    step = ledger.open.get(fact.step)
    if step is not None:
        step.suspended = True
        ledger.asking.append(fact)


def _cancel_requested_of_step(ledger: Ledger, fact: facts.StepCancelRequested) -> None:
    step = ledger.open.get(fact.step)
    if step is not None:
        step.cancelling, step.kept = True, False
        ledger.asked = ledger.asked or ledger.cancelling is not None


def _completed(ledger: Ledger, fact: facts.StepCompleted) -> None:
    step = ledger._end(fact.step)  # noqa: SLF001 - the folds are the ledger's own methods, kept in a table by type
    if step is not None and step.parent and (parent := ledger.open.get(step.parent)) is not None:
        parent.results = {} if parent.results is None else parent.results
        parent.results[fact.step] = fact.data
    if fact.secrets:
        ledger.secrets.extend(name for name in fact.secrets if name not in ledger.secrets)


def _step_failed(ledger: Ledger, fact: facts.StepFailed) -> None:
    step = ledger._end(fact.step)  # noqa: SLF001
    if step is not None:
        # What a step raises after it was asked to end is no failure of the run.
        step.failures, step.error, step.failed = step.failures + 1, fact.error, not step.cancelling
        if not fact.started and step.born == step.attempt:
            step.born = 0
        if not step.undoing or fact.error.failed_compensations:
            _unresolved(ledger, step)


def _step_cancelled(ledger: Ledger, fact: facts.StepCancelled) -> None:
    step = ledger._end(fact.step)  # noqa: SLF001
    if step is not None and not step.undoing:
        _unresolved(ledger, step)


def _unresolved(ledger: Ledger, step: OpenStep) -> None:
    """Keep a step that ended without success for a resume; what it waited for begins anew when it asks again."""
    if not step.parent:
        step.lapsed = ()
        ledger.unresolved[step.step] = step
        ledger.asking = [ask for ask in ledger.asking if ask.step != step.step]
    elif step.failed:
        ledger._answer(step.parent, step.name, None)  # noqa: SLF001


def _signal(ledger: Ledger, fact: facts.SignalReceived) -> None:
    _remember(ledger, fact.key)
    waiting = (s for s in ledger.open.values() if s.kind == "signal" and s.name == fact.name)
    first = next(waiting, None)
    if first is not None:
        del ledger.open[first.step]
        ledger._answer(first.parent, fact.name, fact.data)  # noqa: SLF001
    else:
        ledger.signals.setdefault(fact.name, []).append(fact.data)


def _decided(ledger: Ledger, fact: facts.DecisionMade) -> None:
    if fact.hash:
        ledger.hash = fact.hash


def _cancel_requested(ledger: Ledger, fact: facts.CancelRequested) -> None:
    _remember(ledger, fact.key)
    ledger.cancelling = fact


def _paused(ledger: Ledger, fact: facts.RunPaused) -> None:
    _remember(ledger, fact.key)
    ledger.paused = fact


def _resumed(ledger: Ledger, fact: facts.RunResumed) -> None:
    _remember(ledger, fact.key)
    ledger.paused = ledger.cancelling = ledger.fault = ledger.ended = None
    ledger.asked = False
    if fact.due > fact.at and not fact.reopened:
        ledger.begins = fact.due
    for settled, _ in fact.settled:
        ledger.unresolved.pop(settled, None)
    for opened in ledger.open.values():
        if opened.kind != "signal" and opened.cancelling:
            opened.cancelling, opened.kept = False, True
    for name, attempt in fact.reopened:
        step = ledger.unresolved.pop(name, None)
        if step is not None:
            step.attempt, step.failures, step.due, step.since = attempt, 0, fact.due, fact.at
            step.begun = max(fact.at, fact.due)
            step.cancelling = step.suspended = step.failed = False
            step.born = step.born or attempt
            ledger.open[name] = step


def _forked(ledger: Ledger, fact: facts.RunForked) -> None:
    """Begin anew from here: what had not ended well counts as never started, and nothing waits."""
    # What a child of the first run could not undo is for that run to undo.
    steps = [*ledger.open.values(), *(step for step in ledger.unresolved.values() if not step.undoing)]
    ledger.open = {
        step.step: OpenStep(
            *(step.step, step.name, step.kind),
            since=fact.at,
            begun=fact.at,
            data=step.data,
            born=int(step.kind != "run"),
        )
        for step in steps
        if not step.parent
    }
    ledger.unresolved, ledger.asking, ledger.answered = {}, [], []
    ledger.paused = ledger.cancelling = ledger.fault = ledger.ended = None
    ledger.asked, ledger.begins = False, 0


def _ended(ledger: Ledger, fact: Any) -> None:
    ledger.ended = fact


def _remember(ledger: Ledger, key: str) -> None:
    if key:
        ledger.keys.add(key)


_FOLDS: Final[dict[type[facts.Fact], Callable[[Ledger, Any], None]]] = {
    facts.RunStarted: _started,
    facts.StepScheduled: _scheduled,
    facts.StepProgressed: _progressed,
    facts.StepRetried: _retried,
    facts.StepSuspended: _suspended,
    facts.StepCancelRequested: _cancel_requested_of_step,
    facts.StepCompleted: _completed,
    facts.StepFailed: _step_failed,
    facts.StepCancelled: _step_cancelled,
    facts.SignalReceived: _signal,
    facts.DecisionMade: _decided,
    facts.CancelRequested: _cancel_requested,
    facts.RunPaused: _paused,
    facts.RunResumed: _resumed,
    facts.RunForked: _forked,
    facts.RunCompleted: _ended,
    facts.RunFailed: _ended,
    facts.RunCancelled: _ended,
}


_GOING_ON: Final = (facts.StepRetried, facts.StepSuspended)
_STOPPED: Final = (facts.StepCancelled, facts.StepFailed)


def admit(ledger: Ledger, fact: facts.Fact, now: Instant) -> facts.Fact | None:
    """Return the arrival as the fact to record, or None when it is to be consumed and forgotten.

    Forgotten are: what concerns a step that is unknown, ended or at another attempt; what has a key seen before; a
    cancel of a cancelling run; a pause of a paused one; a resume of one that goes on; anything but a resume after the
    end. A step that was asked to end has no next attempt: what would lead to one is its cancellation.
    """
    if type(fact) is facts.RunResumed:
        return _admit_resume(ledger, fact, now)
    if ledger.ended is not None or not _fits(ledger, fact):
        return None
    if not fact.at:
        msgspec.structs.force_setattr(fact, "at", now)
    if isinstance(fact, _STOPPED) and (step := ledger.open[fact.step]).kept:
        error = fact.error if isinstance(fact, facts.StepFailed) else None
        if (
            error is None or step.kind == "call"
        ):  # a child was told of the resume, and fails for reasons of its own
            return facts.StepRetried(
                at=fact.at,
                step=fact.step,
                attempt=fact.attempt + 1,
                reason="resumed",
                started=fact.started,
                error=error,
            )
    if isinstance(fact, _GOING_ON) and (step := ledger.open[fact.step]).cancelling:
        return facts.StepCancelled(at=fact.at, step=step.step, attempt=step.attempt, started=fact.started)
    return fact


def _fits(ledger: Ledger, fact: facts.Fact) -> bool:
    match fact:
        case facts.StepCompleted() | facts.StepFailed() | facts.StepCancelled() | facts.StepProgressed():
            step = ledger.open.get(fact.step)
            return step is not None and step.attempt == fact.attempt
        case facts.StepSuspended():
            step = ledger.open.get(fact.step)
            return step is not None and step.attempt == fact.attempt and not step.suspended
        case facts.StepRetried():
            step = ledger.open.get(fact.step)
            return step is not None and step.attempt + 1 == fact.attempt
        case facts.SignalReceived():
            return not fact.key or fact.key not in ledger.keys
        case facts.CancelRequested():
            return ledger.cancelling is None and fact.key not in ledger.keys
        case facts.RunPaused():
            return ledger.paused is None and ledger.cancelling is None and fact.key not in ledger.keys
        case _:
            return True


def _admit_resume(ledger: Ledger, fact: facts.RunResumed, now: Instant) -> facts.Fact | None:
    if fact.key in ledger.keys or not (ledger.paused or ledger.ended):
        return None
    if isinstance(ledger.ended, facts.RunCompleted) or (fact.unpauses and ledger.ended):
        return None
    anew = {name for name, item in fact.cleared if item < 0}
    settled = tuple(one for one in fact.settled if one[0] in ledger.unresolved)
    spared = {step for step, _ in settled}
    again = (s for s in ledger.unresolved.values() if s.name not in anew and s.step not in spared)
    reopened = tuple((s.step, s.attempt + 1) for s in again)
    return msgspec.structs.replace(fact, at=now, reopened=reopened, settled=settled)
