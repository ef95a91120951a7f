"""How a durable machine decides: one turn, as far as it goes without an action, as commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.core.kept_errors import MESSAGE_LIMIT
from holdfast.core.work import Blobs
from holdfast.errors import HoldfastError, NondeterminismError
from holdfast.model import commands, facts
from holdfast.model.facts import EdgeTried
from holdfast.model.ids import step_id
from holdfast.model.values import encode, pack
from holdfast.patterns.machine.actions import Call
from holdfast.patterns.machine.chart import Chart
from holdfast.patterns.machine.events import KeptEvent
from holdfast.patterns.machine.kept import Decided, Kept, packed, waits_of
from holdfast.patterns.machine.turn import Endless, Raised, Tried, Turn

if TYPE_CHECKING:
    from holdfast.patterns.machine.program import MachineProgress

Commands = Sequence[commands.Command]

_to_json: Final = msgspec.json.Encoder().encode


class Deciding:
    """Decides for the runs of one chart."""

    def __init__(self, chart: Chart, blobs: Blobs) -> None:
        """Keep the chart; large values go to `blobs`."""
        self._chart = chart
        self._blobs = blobs

    def next(self, progress: MachineProgress) -> Commands:
        """Return what the machine wants where it is."""
        ledger, now = progress.ledger, progress.now
        if progress.step:
            failed = ledger.unresolved.get(progress.step)
            return () if failed is None or not failed.failed else self._after_failure(progress, failed.error)
        if not progress.begun:
            turn = self._turn(progress)
            turn.begin()
            return self._go(progress, turn, Decided())
        if now.doing is not None:
            return self._go(progress, self._turn(progress), Decided())
        if self._chart.is_over(now.leaves):
            return self._end(progress)
        if progress.queue:
            return self._take(progress, progress.queue[0])
        return ()

    def _turn(self, progress: MachineProgress) -> Turn[Kept]:
        kept = Kept(progress.context, progress.draft, self._blobs)
        return Turn(self._chart, progress.now.copy(), kept)

    # --- events

    def _take(self, progress: MachineProgress, event: KeptEvent) -> Commands:
        turn = self._turn(progress)
        verdict = turn.take(event)
        if verdict == "taken":
            return self._go(progress, turn, Decided(took=True))
        said = Decided(took=True)
        if event.kind == "failure":  # nobody answers it, and nobody else will hear of it
            error = progress.ledger.unresolved.get(event.step)
            if error is not None and error.error is not None:
                return progress.ledger.failing(error.error)
        if verdict == "unheard" and event.kind == "sent":
            if self._chart.unhandled == "refuse":
                said.refused = str(self._chart.refusal(progress.now.leaves, event.name))
            said.deferred = self._chart.unhandled == "defer"
        if turn.now.inner:  # guards that raised
            return self._go(progress, turn, said)
        return self._recorded(progress, turn, said, event.key)

    def _end(self, progress: MachineProgress) -> Commands:
        """Refuse what came too late, have what is still under way end, then complete the run."""
        leaves = progress.now.leaves
        if progress.queue:
            event = progress.queue[0]
            refused = str(self._chart.refusal(leaves, event.name)) if event.kind == "sent" else ""
            said = Decided(took=True, refused=refused)
            return self._recorded(progress, self._turn(progress), said, event.key)
        over = [*progress.waits]
        if over:
            return self._recorded(progress, self._turn(progress), Decided(over=over))
        if progress.ledger.open:
            return [
                commands.CancelStep(step.step)
                for step in progress.ledger.open.values()
                if not step.cancelling
            ]
        return (commands.CompleteRun(self._result(progress)),)

    def _result(self, progress: MachineProgress) -> msgspec.Raw:
        leaves = progress.now.leaves
        state = encode(leaves[0] if len(leaves) == 1 else list(leaves))
        return pack({"state": state, "context": pack(progress.context)})

    # --- turns

    def _after_failure(self, progress: MachineProgress, error: facts.ErrorInfo | None) -> Commands:
        """Take the transition that answers the failure of an action; else be as before, and tell the sender."""
        assert error is not None  # noqa: S101 - it failed
        said, turn = Decided(ends="dropped"), self._turn(progress)
        if self._is_unanswered(turn, said, error, error.name):
            return progress.ledger.failing(error)
        return self._go(progress, turn, said)

    def _is_unanswered(self, turn: Turn[Kept], said: Decided, error: facts.ErrorInfo, action: str) -> bool:
        """Drop the microstep whose action failed; True when neither a transition nor a sender hears of it."""
        if turn.failed({"message": error.message, "type": error.type, "action": action}):
            return False
        said.error = error
        event = turn.now.event
        return event is None or not event.key

    def _go(self, progress: MachineProgress, turn: Turn[Kept], said: Decided) -> Commands:
        """Go as far as the turn goes without an action; returns its record, and the action's step."""
        while True:
            try:
                call = turn.go()
            except Raised as failure:
                error = _info(failure.__cause__ or failure, failure.name)
                if progress.now.doing is not None and not turn.effects:
                    said.ends = "dropped"
                if self._is_unanswered(turn, said, error, failure.name):
                    return progress.ledger.failing(error)
            except Endless as endless:
                return progress.ledger.failing(_info(endless))
            except NondeterminismError as misfit:
                return (commands.PauseRun(str(misfit), _info(misfit)),)
            else:
                break
        if call is None:
            return self._at_rest(progress, turn, said)
        step = self._step(progress, turn, call)
        return (
            (step,)
            if self._is_recorded(progress, turn, said)
            else [*self._recorded(progress, turn, said), step]
        )

    def _is_recorded(self, progress: MachineProgress, turn: Turn[Kept], said: Decided) -> bool:
        """Tell whether the microstep under way goes on with its next action, and nothing else was done."""
        before, doing = progress.now.doing, turn.now.doing
        if before is None or doing is None or turn.effects or said.ends:
            return False
        return before.at == doing.at

    def _at_rest(self, progress: MachineProgress, turn: Turn[Kept], said: Decided) -> Commands:
        event = turn.now.event
        said.recalled = bool(progress.deferred) and turn.now.leaves != progress.now.leaves
        return self._recorded(progress, turn, said, "" if event is None else event.key)

    def _step(self, progress: MachineProgress, turn: Turn[Kept], call: Call) -> commands.Command:
        doing = turn.now.doing
        assert doing is not None  # noqa: S101 - `go` gave an action of it
        name = self._chart.label(doing.plan.items[doing.at].place, call)
        number = progress.visits.get(name, 0) + 1
        kind = "call" if call.workflow is None else "run"
        return commands.ScheduleStep(step_id(name, number), name, kind, number)

    def _recorded(
        self, progress: MachineProgress, turn: Turn[Kept], said: Decided, key: str = ""
    ) -> list[commands.Command]:
        """Return the record of what a turn came to; its last decision says what follows from all, and answers `key`."""
        before, now = progress.now, turn.now
        if not said.ends and before.doing is not None and turn.effects:
            said.ends = "kept"
        if key or now.leaves != before.leaves:
            said.state = now.leaves
        if now.histories:
            known = before.histories
            said.histories = {name: each for name, each in now.histories.items() if known.get(name) != each}
        if turn.data.assigned:
            said.context = packed(turn.data.assigned, self._blobs)
        said.inner, said.doing = now.inner, now.doing
        if now.doing is not None:
            said.draft = packed(turn.data.fresh, self._blobs)
            said.event, said.microsteps = now.event, now.microsteps
        said.changed = now.changed and not said.refused
        if turn.left or turn.entered or turn.sends:
            over, said.waits = waits_of(self._chart, turn)
            said.over += over
        tried = turn.tried or [Tried(", ".join(now.leaves))]
        if said.refused:
            edge = EdgeTried("", progress.queue[0].name, result=False, reason=said.refused)
            tried = [Tried(", ".join(now.leaves), (edge,))]
        last = commands.RecordDecision(*tried[-1], key, msgspec.Raw(_to_json(said)))
        return [last] if len(tried) == 1 else [*(commands.RecordDecision(*each) for each in tried[:-1]), last]


def _info(error: BaseException, name: str = "") -> facts.ErrorInfo:
    kind = type(error)
    return facts.ErrorInfo(
        code=error.code if isinstance(error, HoldfastError) else "action_failed",
        message=facts.readable(str(error))[:MESSAGE_LIMIT],
        type=kind.__qualname__,
        name=name,
        fix=error.fix if isinstance(error, HoldfastError) else "",
    )
