"""The pure program of a saga: its steps forward, and when one fails their compensations, in reverse order of the log.

A compensation is registered with the fact that schedules its step. It is due when the step ended well, or ended so that
nobody knows: it took too long, its worker was lost, or it was cancelled on its way. Steps that failed by themselves
have done nothing. A group of parallel steps is undone at once, after all of them have ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

import msgspec

from holdfast.core.ledger import OpenStep
from holdfast.core.retries import RetryPolicy
from holdfast.core.work import Blobs
from holdfast.errors import NondeterminismError
from holdfast.model import commands, facts
from holdfast.model.ids import COMPENSATION, compensation_of, is_compensation, step_id
from holdfast.model.state import State, split_large
from holdfast.model.values import encode_map, pack
from holdfast.patterns.saga.actions import Action, Nested
from holdfast.patterns.saga.definition import COMPENSATION_RETRY, Definition, SagaStep
from holdfast.patterns.saga.folding import BACKWARD, SAVEPOINT, absorb
from holdfast.patterns.saga.items import chosen_items
from holdfast.patterns.saga.log import Entry, SagaProgress
from holdfast.patterns.saga.work import Known, SagaChild, SagaWork


class SagaProgram:
    """One run of a saga."""

    checkpoints = True
    problem: BaseException | None = None

    def __init__(self, definition: Definition, params: Mapping[str, Any], blobs: Blobs) -> None:
        """Keep the definition and what the run was started with."""
        self.definition: Final = definition
        self.hash: Final = definition.hash
        self._params = params
        self._blobs = blobs

    def start(self) -> SagaProgress:
        """Return an empty progress."""
        return SagaProgress()

    def evolve(self, progress: SagaProgress, fact: facts.Fact) -> SagaProgress:
        """Absorb one fact."""
        absorb(self.definition, progress, fact)
        return progress

    # --- deciding

    def decide(self, progress: SagaProgress) -> Sequence[commands.Command]:
        """Return what the run wants next; nothing while its steps go on."""
        ledger = progress.ledger
        if progress.misfit:
            return self._misfits(progress, progress.misfit)
        if progress.undoing:
            return self._undo(progress)
        group = progress.group
        if group is not None and group.open:
            return self._wait(progress)
        if progress.error is not None:
            return self._recover(progress, progress.error)
        number = 0 if group is None else group.number + 1
        if ledger.cancelling is not None and number <= self.definition.pivot:
            return self._undo(progress) if progress.next_due() is not None else ()
        return self._forward(progress, number)

    def _wait(self, progress: SagaProgress) -> Sequence[commands.Command]:
        """Let open steps end. After a failure those that would only begin later are cancelled."""
        ledger = progress.ledger
        if progress.error is None:
            return ()
        return ledger.failing(progress.error)

    def _forward(self, progress: SagaProgress, number: int) -> Sequence[commands.Command]:
        definition = self.definition
        if number == len(definition.groups):
            return (commands.CompleteRun(self._result(progress)),)
        chosen: list[commands.Command] = []
        wanted: list[commands.Command] = []
        for step in definition.groups[number]:
            if step.foreach is None:
                wanted.append(self._schedule(progress, step))
                continue
            edge, items = chosen_items(step, self._known(progress, progress.top), self._blobs)
            chosen.append(commands.RecordDecision(step.name, (edge,), shielded=self.definition.shields(step)))
            if not edge.result:
                return chosen[-1:]
            wanted += [self._schedule(progress, step, n, item) for n, item in enumerate(items)]
        return chosen + wanted

    def _schedule(
        self, progress: SagaProgress, step: SagaStep, index: int = 0, item: msgspec.Raw | None = None
    ) -> commands.ScheduleStep:
        iteration = progress.counts.get(step.name, 0) + 1 + index
        id_ = step_id(step.name, iteration)
        told = {} if item is None else {"item": item}
        if step.compensation is not None:
            # Registered before the step begins: what may have taken effect can be taken back, whatever happens then.
            told["compensation"] = msgspec.Raw(msgspec.json.encode(compensation_of(id_)))
        return commands.ScheduleStep(
            id_,
            step.name,
            step.forward.kind,
            iteration,
            data=pack(told) if told else facts.NOTHING,
            shielded=self.definition.shields(step),
        )

    def _recover(self, progress: SagaProgress, error: facts.ErrorInfo) -> Sequence[commands.Command]:
        """Return the way back; there is none from behind the point of no return, and forward by choice."""
        definition, cancelled = self.definition, progress.ledger.cancelling is not None
        number = definition.numbers[progress.failed]
        if definition.recovery == "forward" or definition.is_past(number):
            return progress.ledger.failing(error)
        if progress.undecided and not cancelled:
            return (_undecided(progress.failed, error),)
        if not cancelled and (edge := self._savepoint(progress, number)) is not None:
            return (commands.RecordDecision(progress.failed, (edge,), shielded=True),)
        due = progress.next_due()
        if due is None:
            return progress.ledger.failing(msgspec.structs.replace(error, compensated=()))
        last = next(step for step in reversed(due.steps) if progress.entries[step].due)
        target = COMPENSATION + progress.entries[last].name
        edge = facts.EdgeTried(target, BACKWARD, reason=progress.reason)
        return (commands.RecordDecision(progress.failed, (edge,), shielded=True),)

    def _savepoint(self, progress: SagaProgress, number: int) -> facts.EdgeTried | None:
        """Return the way to the nearest savepoint at which the saga may begin once more."""
        for found, attempts in self.definition.savepoints(number):
            if progress.tries.get(found, 1) < attempts:
                return facts.EdgeTried(
                    self.definition.groups[found][0].name, SAVEPOINT, reason=progress.reason
                )
        return None

    def _undo(self, progress: SagaProgress) -> Sequence[commands.Command]:
        """Return the compensations of the uppermost group that has some, or the end when there are no more."""
        ledger = progress.ledger
        if ledger.open:
            return ()
        due = None if self._stops(progress) else progress.next_due()
        if due is None:
            return self._back(progress)
        wanted: list[commands.Command] = []
        for step in reversed(due.steps):
            entry = progress.entries[step]
            if entry.due:
                defined = self.definition.by_name.get(entry.name)
                if defined is None or defined.compensation is None:
                    return self._misfits(progress, _no_compensation(entry.name))
                wanted.append(_compensate(entry, defined))
        return wanted

    def _misfits(self, progress: SagaProgress, why: str) -> Sequence[commands.Command]:
        """Return that a person must look; a cancel ends the run with what was not undone as its error."""
        if progress.ledger.cancelling is None:
            return (commands.PauseRun(why, _misfit_info(why)),)
        left = [progress.entries[step] for group in progress.stack(progress.top) for step in group.steps]
        broken = [_misfit_info(why, COMPENSATION + entry.name) for entry in left if entry.due]
        return (
            self._failure(progress, _misfit_info(why), broken) if broken and not progress.ledger.open else ()
        )

    def _stops(self, progress: SagaProgress) -> bool:
        return bool(progress.broken) and self.definition.on_failure == "stop"

    def _back(self, progress: SagaProgress) -> Sequence[commands.Command]:
        """Return the end of a saga that went back: its error, with what was undone and what could not be."""
        error = progress.error
        broken = (*progress.broken.values(), *progress.inherited)
        if error is None:
            code = progress.request.code if progress.request is not None else ""
            if not broken and not code:
                return (commands.CancelRun("" if progress.request is None else progress.request.reason),)
            error = facts.ErrorInfo(code=code or "cancelled", message=progress.reason)
        return self._failure(progress, error, broken)

    def _failure(
        self, progress: SagaProgress, error: facts.ErrorInfo, broken: Sequence[facts.ErrorInfo]
    ) -> Sequence[commands.Command]:
        skipped = [entry.name for entry in progress.entries.values() if entry.undo == "skipped"]
        left = f"; left as they are: {', '.join(dict.fromkeys(skipped))}" if skipped else ""
        elsewhere = next((each for each in broken if each.run), None)
        error = msgspec.structs.replace(
            error,
            fix=error.fix if elsewhere is None else _settle_in(elsewhere),
            code="compensation_failed" if broken else error.code,
            message=_with_failures(
                error.message + left, [each for each in broken if each not in error.failed_compensations]
            ),
            compensated=tuple(progress.undone),
            failed_compensations=tuple(msgspec.structs.replace(each, traceback="") for each in broken),
        )
        return (commands.FailRun(error),)

    def _result(self, progress: SagaProgress) -> msgspec.Raw:
        small, large = split_large(progress.outputs(progress.top, self._blobs))
        self._blobs.add(large)
        return pack(small)

    # --- running steps

    def work(self, progress: SagaProgress, step: OpenStep) -> SagaWork:
        """Return how to run a step or its compensation."""
        action, retry, known = self._action(progress, step)
        if isinstance(action, Nested):
            raise NondeterminismError(f"step {step.name!r} is a workflow; in the journal it is a function")
        return SagaWork(step.name, action, retry, known)

    def child(self, progress: SagaProgress, step: OpenStep) -> SagaChild:
        """Return what a step or a compensation that is a workflow starts."""
        action, retry, known = self._action(progress, step)
        if isinstance(action, Action):
            raise NondeterminismError(f"step {step.name!r} is a function; in the journal it is a workflow")
        return SagaChild(step.name, action, retry, known)

    def _action(
        self, progress: SagaProgress, step: OpenStep
    ) -> tuple[Action | Nested, RetryPolicy | None, Known]:
        if not is_compensation(step.step):
            defined, entry = self._defined(progress, step.name), progress.entries[step.step]
            return defined.forward, self.definition.retries[step.name], self._seen(progress, entry)
        entry = progress.compensated_by(step.step)
        action = self._defined(progress, entry.name).compensation
        if action is None:
            raise NondeterminismError(_no_compensation(entry.name))
        known = {
            **self._seen(progress, entry),
            "output": lambda: self._decoded({"": entry.output})[""] if entry.state == "done" else None,
            "reason": lambda: progress.reason,
        }
        return action, action.retry or COMPENSATION_RETRY, known

    def _known(self, progress: SagaProgress, top: int) -> Known:
        return {
            "params": lambda: deepcopy(dict(self._params)),
            "results": lambda: self._decoded(progress.outputs(top, self._blobs)),
        }

    def _seen(self, progress: SagaProgress, entry: Entry) -> Known:
        """Return what a step saw when it was scheduled."""
        return {
            **self._known(progress, progress.groups[entry.group].below),
            "item": lambda: self._decoded({"": entry.item})[""],
            "index": lambda: entry.index,
        }

    def _defined(self, progress: SagaProgress, name: str) -> SagaStep:
        defined = self.definition.by_name.get(name)
        if defined is None or progress.misfit:
            found = ", ".join(self.definition.by_name)
            raise NondeterminismError(
                progress.misfit or f"the journal has a step {name!r}; the saga has only {found}"
            )
        return defined

    # --- showing and storing progress

    def changes(self, given: Mapping[str, Any]) -> msgspec.Raw:
        """Return results to replace, encoded."""
        small, large = split_large(encode_map(given, "changes"))
        self._blobs.add(large)
        return pack(small)

    def _decoded(self, raws: Mapping[str, Any]) -> dict[str, Any]:
        return dict(State.view(dict(raws), blobs=self._blobs))

    def state(self, progress: SagaProgress) -> dict[str, Any]:
        """Return the results so far by step, decoded."""
        return self._decoded(progress.outputs(progress.top, self._blobs))

    def encode(self, progress: SagaProgress) -> bytes:
        """Return the progress as JSON."""
        return msgspec.json.encode(progress)

    def decode(self, data: bytes) -> SagaProgress:
        """Return the progress of a stored fold."""
        return _STORED.decode(data)


_STORED: Final = msgspec.json.Decoder(SagaProgress)


def _compensate(entry: Entry, step: SagaStep) -> commands.ScheduleStep:
    id_ = compensation_of(entry.step)
    assert step.compensation is not None  # noqa: S101 - else it is not due
    iteration = int(entry.step.rpartition("#")[2])
    return commands.ScheduleStep(
        id_, COMPENSATION + entry.name, step.compensation.kind, iteration, shielded=True
    )


def _no_compensation(name: str) -> str:
    return f"the journal has a compensation of step {name!r}; the saga has none"


def _undecided(name: str, error: facts.ErrorInfo) -> commands.PauseRun:
    text = f"nobody knows whether {name!r}, the point of no return, took effect: {error.message}"
    fix = "Resume the run to try the step again, or cancel it to undo what came before."
    return commands.PauseRun(text, facts.ErrorInfo(code="undecided", message=text, fix=fix))


def _misfit_info(text: str, name: str = "") -> facts.ErrorInfo:
    return facts.ErrorInfo(
        code=NondeterminismError.code, message=text, name=name, fix=NondeterminismError.default_fix
    )


def _with_failures(message: str, broken: Sequence[facts.ErrorInfo]) -> str:
    if not broken:
        return message
    told = "; ".join(
        f"{each.name.removeprefix(COMPENSATION)} ({f'in run {each.run}: ' * bool(each.run)}{each.message})"
        for each in broken
    )
    return f"{message}; not compensated: {told}"


def _settle_in(broken: facts.ErrorInfo) -> str:
    """Return what to do about a compensation that failed in a child run."""
    step = broken.name.removeprefix(COMPENSATION)
    return (
        f"Redrive this run to have it tried again; or say that it is undone, or shall stay, and redrive then:"
        f" `holdfast dead-letters redrive {broken.run} --done {step}`, or `--skip {step}`."
    )
