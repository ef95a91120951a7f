"""The runtime's side of child runs: how a step's run begins, and what its end means to the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from holdfast.core.children import MOST_ANCESTORS, child_id, taken_up
from holdfast.core.effects import Holding, derive, opening_row
from holdfast.core.ending import Ending
from holdfast.core.events import resolved
from holdfast.core.kept_errors import error_info
from holdfast.core.ledger import Ledger, OpenStep
from holdfast.core.nesting import labelled
from holdfast.core.program import Workflow
from holdfast.core.retries import wait_before_retry
from holdfast.core.work import Child
from holdfast.errors import DefinitionError, NondeterminismError, RunFailed, WorkflowNotFound
from holdfast.model import facts
from holdfast.model.commit import Commit, StartRun
from holdfast.model.ids import Instant, RunId, microseconds
from holdfast.model.run import RunStatus
from holdfast.model.values import encode
from holdfast.runtime.clock import Clock
from holdfast.runtime.committer import Committer
from holdfast.runtime.held import Held
from holdfast.store.port import Store
from holdfast.store.rows import InboxRow


class Children:
    """Starts the children of runs that are held here, and takes their ends."""

    def __init__(
        self,
        clock: Clock,
        store: Store,
        committer: Committer,
        workflows: Callable[[], Mapping[str, Workflow]],
    ) -> None:
        """Keep what every child needs."""
        self._clock = clock
        self._store = store
        self._committer = committer
        self._workflows = workflows

    # --- beginning

    def start(self, run: Held, opened: OpenStep) -> facts.Fact | None:
        """Have the next commit start the step's child, or take it up again; returns the failure when that cannot be.

        Raises NondeterminismError.
        """
        child = run.program.child(run.progress, opened)
        now = self._clock.now()
        limit = 0 if child.timeout is None else max(now, opened.due) + microseconds(child.timeout)
        if opened.born != opened.attempt:
            run.sending.append(taken_up(run.id, opened.step, opened.attempt, opened.due, limit))
            return None
        try:
            run.sending.append(StartRun(self._first(run, opened, child, now, limit)))
        except Exception as error:  # noqa: BLE001 - user code among it: a factory, a mapping of the state
            info = error_info(error, opened, run.secrets.scrub)
            return facts.StepFailed(at=now, step=opened.step, attempt=opened.attempt, error=info)
        return None

    def _first(self, run: Held, opened: OpenStep, child: Child, now: Instant, limit: Instant) -> Commit:
        """Return the first commit of the step's child, for any worker that knows its workflow, or for this one."""
        ledger = run.ledger
        if ledger.depth >= MOST_ANCESTORS:
            raise DefinitionError(
                f"{labelled(run.holding.workflow, ledger.part)} is nested {MOST_ANCESTORS} runs deep",
                fix="A workflow that starts itself, also by way of others, must come to an end.",
            )
        definition, registered = self._found(child.workflow)
        params = definition.check(child.params(definition))
        encoded = encode(params, f"the params of {child.name!r}")
        run.secrets.refuse({"params": encoded}, f"node {child.name!r}")
        ends = [limit] if limit else []
        if definition.timeout is not None:
            ends.append(now + microseconds(definition.timeout))
        started = facts.RunStarted(
            at=now,
            workflow=definition.name if registered else run.holding.workflow,
            version=definition.version,
            queue=child.queue or (definition.queue if registered else run.holding.queue),
            priority=run.holding.priority,
            secrets=tuple(ledger.secrets),
            deadline=min(ends, default=0),
            profile=facts.NOTHING if registered else ledger.profile,
            data=encoded,
            parent=run.id,
            parent_step=opened.step,
            depth=ledger.depth + 1,
            part=() if registered else (*ledger.part, opened.name),
            origins=() if registered else (*ledger.origins, run.params),
        )
        return self._commit(child_id(run.id, opened.step), started)

    def _found(self, given: Any) -> tuple[Workflow, bool]:
        """Return a node's workflow, and whether workers know it by its name."""
        known = self._workflows()
        if not isinstance(given, str):
            workflow: Workflow = given
            return workflow, known.get(workflow.name) is workflow
        if given not in known:
            raise WorkflowNotFound(
                f"workflow {given!r} is not registered",
                fix=f"Register it where the run is driven; registered there: {', '.join(known)}.",
            )
        return known[given], True

    def _commit(self, id_: RunId, started: facts.RunStarted) -> Commit:
        ledger = Ledger()
        ledger.absorb(started)
        # What lives in this process alone, it alone can give.
        worker = self._committer.worker if started.secrets else ""
        holding = Holding(started.queue, started.workflow, started.priority, worker, run=id_)
        return Commit(
            id=self._committer.next_id(),
            run=id_,
            position=0,
            epoch=1,
            at=started.at,
            worker=self._committer.worker,
            facts=(started,),
            status=RunStatus.PENDING,
            was=RunStatus.PENDING,
            effects=derive((started,), ledger, holding, None, started.at),
            opened=opening_row(id_, started),
        )

    # --- ending

    async def arrived(self, run: Held, rows: Iterable[InboxRow]) -> list[facts.Fact]:
        """Return what others sent: ends of children as those of their steps, and after a resume what had ended well.

        Of several ends of one child the last counts: it was resumed by itself after the others.
        """
        arrivals: list[facts.Fact] = []
        sent = [facts.Journal.decode_one(row.fact) for row in rows if row.fact]
        last = {fact.step: fact for fact in sent if isinstance(fact, facts.STEP_ENDS)}
        for fact in sent:
            step = run.ledger.open.get(fact.step) if isinstance(fact, facts.STEP_ENDS) else None
            if step is None or step.kind != "run":
                arrivals.append(fact)
            elif last[step.step] is fact:
                arrivals.append(self._end(run, step, fact))
            if isinstance(fact, facts.RunResumed) and not fact.unpauses:
                arrivals += await self._completed(run)
        return arrivals

    async def _completed(self, run: Held) -> list[facts.Fact]:
        """Return the ends of steps that a resume reopens, whose children have nothing left to do."""
        ends: list[facts.Fact] = []
        for step in run.ledger.unresolved.values():
            if step.kind != "run":
                continue
            child = child_id(run.id, step.step)
            anew = replace(step, attempt=step.attempt + 1)
            if step.undoing:
                error = await self._committer.patiently(run.id, partial(self._undone, child))
                if error is not None:
                    ends.append(_failure(anew, _of_step(error, run.id, anew), self._clock.now()))
                continue
            result = await self._committer.patiently(run.id, partial(self._result, child))
            if result is not None:
                end = facts.StepCompleted(step=step.step, attempt=0, data=result)
                ends.append(self._end(run, anew, end))
        return ends

    async def _undone(self, run: RunId) -> facts.ErrorInfo | None:
        """Return the error of a run that has undone all that it had done: somebody settled what had been in the way."""
        row = await self._store.run(run)
        error = None if row is None or row.status is not RunStatus.FAILED else row.error
        is_undone = error is not None and error.compensated is not None and not error.failed_compensations
        return error if is_undone else None

    async def _result(self, run: RunId) -> msgspec.Raw | None:
        """Return the result of a run that is completed, whole."""
        row = await self._store.run(run)
        if row is None or row.status is not RunStatus.COMPLETED:
            return None
        last = await self._store.journal(run, row.position - 1)
        completed = facts.Journal.decode(last[-1].facts)[-1]
        data: msgspec.Raw = getattr(completed, "data", facts.NOTHING)
        return resolved(data, await self._store.blobs(run))

    def _end(self, run: Held, step: OpenStep, fact: Any) -> facts.Fact:
        """Return what a child's end is to its step: a result that fits, the next attempt, or a failure."""
        now = self._clock.now()
        cancelled = facts.StepCancelled(at=now, step=step.step, attempt=step.attempt, started=step.since)
        try:
            child = run.program.child(run.progress, step)
        except NondeterminismError:
            if not step.cancelling and not isinstance(run.program, Ending):
                raise
            return cancelled  # the run is ended without its code, which would know what to make of a result
        match fact:
            case facts.StepCompleted():
                return self._accepted(run, step, child, fact.data, now)
            case facts.StepFailed():
                return self._failed(run, step, child, _of_step(fact.error, run.id, step), now)
            case _ if step.cancelling or step.kept:
                return cancelled
            case _:
                return _failure(step, _cancelled(run.id, step), now)

    def _accepted(
        self, run: Held, step: OpenStep, child: Child, result: msgspec.Raw, now: Instant
    ) -> facts.Fact:
        try:
            outcome = child.accept(result)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the result
            return _failure(step, error_info(error, step, run.secrets.scrub), now)
        run.blobs.add(outcome.blobs)
        return facts.StepCompleted(
            at=now,
            step=step.step,
            attempt=step.attempt,
            started=step.since,
            gone=outcome.gone,
            data=outcome.data,
        )

    def _failed(
        self, run: Held, step: OpenStep, child: Child, error: facts.ErrorInfo, now: Instant
    ) -> facts.Fact:
        wait = None
        if not (step.cancelling or step.undoing):
            failure = RunFailed(error.message, run_id=child_id(run.id, step.step), error=error)
            wait = wait_before_retry(child.retry, step.failures + 1, failure, self._clock.draw())
        if wait is None:
            return facts.StepFailed(
                at=now, step=step.step, attempt=step.attempt, started=step.since, error=error
            )
        return facts.StepRetried(
            at=now,
            step=step.step,
            attempt=step.attempt + 1,
            reason="failed",
            due=now + wait,
            started=step.since,
            error=error,
        )


def _failure(step: OpenStep, error: facts.ErrorInfo, now: Instant) -> facts.StepFailed:
    return facts.StepFailed(at=now, step=step.step, attempt=step.attempt, started=step.since, error=error)


def _cancelled(parent: RunId, step: OpenStep) -> facts.ErrorInfo:
    return facts.ErrorInfo(
        code="child_cancelled",
        message=f"run {child_id(parent, step.step)} was cancelled",
        type="RunCancelled",
        step=step.step,
        name=step.name,
        attempt=step.attempt,
    )


def _of_step(error: facts.ErrorInfo, parent: RunId, step: OpenStep) -> facts.ErrorInfo:
    """Return a child's error as that of its step. That the child took too long is no timeout of its parent."""
    where = f" at {error.name}" if error.name else ""
    child = child_id(parent, step.step)
    return replace(
        error,
        failed_compensations=tuple(
            replace(each, run=each.run or child) for each in error.failed_compensations
        ),
        code="step_timed_out" if error.code == "run_timed_out" else error.code,
        message=f"run {child_id(parent, step.step)} failed{where}: {error.message}",
        step=step.step,
        name=step.name,
        attempt=step.attempt,
    )
