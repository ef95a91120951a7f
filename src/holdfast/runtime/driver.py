"""The one driver: takes arrivals, advances the program, commits, and runs what the commit allows.

Every run that this process holds has one `drive` task. A turn is: arrivals in (results of steps, and what others sent
to the inbox, such as signals), `advance`, one commit, then the steps that became due are started: n steps cost at most
n + 1 commits. Nothing runs and nothing is told that is not committed. After a crash `takeover` comes first. When the
run is found at another position or epoch, another worker has it: everything of it is dropped here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from holdfast.core.advance import advance
from holdfast.core.children import unborn_attempts
from holdfast.core.effects import opening_row
from holdfast.core.takeover import dropped_attempts, judged, lost_attempts, parked, tell_definition
from holdfast.core.waits import answered_attempts
from holdfast.errors import ConflictError, NondeterminismError, StoreDamaged
from holdfast.model import facts
from holdfast.model.commit import Commit, Committed
from holdfast.model.ids import InboxId, StepId
from holdfast.model.run import RunStatus
from holdfast.runtime.caching import Caching
from holdfast.runtime.children import Children
from holdfast.runtime.clock import Clock
from holdfast.runtime.committer import Committer
from holdfast.runtime.executor import Executor
from holdfast.runtime.held import Held
from holdfast.runtime.secrets import scrub

logger: Final = logging.getLogger("holdfast")

SLOW_DECISION: Final = 0.05
"""Seconds after which predicates and reducers are reported: they run on the loop."""

_UNHELD: Final = (RunStatus.PENDING, RunStatus.WAITING)


class Driver:
    """Drives the runs that this process holds."""

    def __init__(
        self,
        committer: Committer,
        executor: Executor,
        children: Children,
        caching: Caching,
        clock: Clock,
        services: Any,
        cancel_grace: float,
    ) -> None:
        """Keep what every run needs."""
        self.services = services
        self._committer = committer
        self._executor = executor
        self._children = children
        self._caching = caching
        self._clock = clock
        self._loop = executor.loop
        self._cancel_grace = cancel_grace

    # --- beginning

    async def open(self, run: Held, started: facts.RunStarted, *, held: bool) -> Commit:
        """Return the first commit of a new run: its facts up to the first steps, or a job for some worker."""
        recorded: list[facts.Fact] = [started]
        run.progress = run.program.evolve(run.progress, started)
        if held:
            recorded += self._prepare(run, [])
            while run.asking:
                recorded += self._prepare(run, await self._caching.answers(run, recorded))
        row = opening_row(run.id, started)
        return self._committer.build(run, recorded, (), None, opened=row, held=held)

    def opened(self, run: Held, commit: Commit) -> None:
        """Go on after the first commit is durable."""
        self._committer.answered(commit)
        self._committer.done(run, commit, Committed(run.id, len(commit.facts)))

    def takeover(self, run: Held, *, lost: bool) -> list[facts.Fact]:
        """Return what a new holder records first: the attempts that were lost with the last one."""
        now = self._clock.now()
        given_up = (lost_attempts if lost else dropped_attempts)(run.ledger, now)
        run.take_over({fact.step for fact in given_up}, now)
        return [*given_up, *unborn_attempts(run.ledger)]

    # --- the loop

    async def drive(self, run: Held, arrivals: list[facts.Fact] | None = None) -> None:
        """Drive the run until it ends, waits, or is lost. Never raises but when cancelled."""
        try:
            if arrivals is None:
                self._start(run)
                if not run.live:  # it waits for others from the beginning
                    run.poke()
            else:
                run.post(arrivals)
            await self._drive(run)
        except ConflictError:
            logger.warning("run %s was taken over by another worker; its steps here are dropped", run.id)
        except StoreDamaged as error:
            logger.error("run %s is given up here: %s", run.id, error)  # noqa: TRY400 - the text says it all
        except Exception as error:
            logger.exception("run %s is parked: an internal error", run.id)
            await self._committer.park(
                run.id, run.position, run.epoch, run.status, f"internal error: {error!r:.500}"
            )
        finally:
            run.drop()

    async def _drive(self, run: Held) -> None:
        """Take turns until the run is no longer held. One coroutine, for a step passes here once."""
        while True:
            if (waiter := run.waiter(self._loop)) is not None:
                await waiter
            arrivals = run.take()
            consumed = await self._inbox(run, arrivals) if run.woken else ()
            recorded = self._advance(run, arrivals)
            while run.asking:
                ask = partial(self._caching.answers, run, recorded)
                recorded += self._prepare(run, await self._committer.patiently(run.id, ask))
            commit = self._commit(run, recorded, consumed)
            if commit is not None:
                answer = await self._committer.write(commit)
                if not self._holds_on(run, commit, answer):
                    return
            if run.telling:
                run.tell()
            if run.lost:
                return
            self._start(run)

    async def _inbox(self, run: Held, arrivals: list[facts.Fact]) -> tuple[InboxId, ...]:
        """Add what others sent to the arrivals; returns the rows that the next commit consumes."""
        rows, run.woken, run.arrived = run.arrived, False, None
        if rows is None:  # else they were read with the run
            rows = await self._committer.inbox(run.id)
        arrivals += await self._children.arrived(run, rows)
        arrivals += run.take()  # a step may have ended meanwhile, and its run must not be laid down without
        arrivals += judged(run.program, run.progress)
        return tuple(row.id for row in rows)

    def _advance(self, run: Held, arrivals: list[facts.Fact]) -> list[facts.Fact]:
        """Advance the run; returns the facts to commit."""
        for step in run.pop_due(self._clock.now()) if run.backoff else ():
            self._plan(run, step, arrivals)
        return self._prepare(run, arrivals)

    def _commit(self, run: Held, recorded: list[facts.Fact], consumed: tuple[InboxId, ...]) -> Commit | None:
        """Return what is to be committed, if anything."""
        run.releasing = run.idle and not run.starts_soon(self._clock)
        taken = run.status in _UNHELD  # nothing may start before the row says that somebody has the run
        if not (recorded or consumed or run.releasing or taken):
            return None
        # One that has ended before is laid down as any other: somebody woke it for nothing.
        ending = run.progress.ledger.ended is not None and bool(recorded)
        return self._committer.build(
            run, recorded, consumed, run.wakes if run.releasing and not ending else None
        )

    def _holds_on(self, run: Held, commit: Commit, answer: Committed) -> bool:
        """Take note that the commit is durable; False when the run is no longer held."""
        self._committer.done(run, commit, answer)
        if answer.released or (run.progress.ledger.ended is not None and commit.facts):
            run.committed = True
            return False
        if run.releasing:
            run.status = RunStatus.RUNNING  # what the store wrote: somebody woke the run meanwhile
            run.wake(answer.wakes)
        return True

    def _prepare(self, run: Held, arrivals: list[facts.Fact]) -> list[facts.Fact]:
        """Advance until neither arrivals nor inline steps are left; returns the facts to commit."""
        recorded: list[facts.Fact] = []
        while True:
            begun = time.perf_counter()
            run.progress, more = advance(run.program, run.progress, arrivals, self._clock.now())
            if time.perf_counter() - begun > SLOW_DECISION:
                logger.warning(
                    "run %s: deciding took over %d ms; it holds the loop", run.id, SLOW_DECISION * 1000
                )
            recorded += more
            if run.secrets:
                scrub(more, run.secrets)
            arrivals = self._follow(run, more)
            if not arrivals:
                return recorded

    def _follow(self, run: Held, recorded: Sequence[facts.Fact]) -> list[facts.Fact]:
        """Note which steps to start after the commit; return arrivals that belong into the same commit."""
        arrivals: list[facts.Fact] = []
        if not run.progress.ledger.hash:
            tell_definition(recorded, run.progress.ledger, run.program.hash)
        for fact in recorded:
            if type(fact) in _WITH_STEPS:
                self._follow_one(run, fact, arrivals)
        if run.kept:
            self._caching.keep(run, recorded)
        if run.progress.ledger.answered:
            arrivals += answered_attempts(run.progress.ledger)
        return arrivals

    def _follow_one(self, run: Held, fact: facts.Fact, arrivals: list[facts.Fact]) -> None:
        match fact:
            case facts.StepScheduled():
                if fact.kind == "run" or (fact.kind == "call" and (fact.shielded or not fact.parent)):
                    self._plan(run, fact.step, arrivals)
            case facts.StepRetried():
                if not run.backs_off_at(fact):
                    self._plan(run, fact.step, arrivals)
            case facts.RunResumed():
                for step in run.reopened(fact):
                    self._plan(run, step, arrivals)
            case facts.StepCancelRequested():
                run.asked = True
                opened = run.ledger.open.get(fact.step)
                if fact.step not in run.live and opened is not None and opened.kind != "run":
                    run.ready.pop(fact.step, None)
                    arrivals.append(facts.StepCancelled(step=fact.step, attempt=opened.attempt))

    def _plan(self, run: Held, step: StepId, arrivals: list[facts.Fact]) -> None:
        """Plan a step for after the commit; an inline one runs now, one that the code does not know parks the run."""
        opened = run.progress.ledger.open.get(step)
        if opened is None:
            return
        if opened.cancelling and opened.kind == "run" and opened.born == opened.attempt:
            arrivals.append(facts.StepCancelled(step=step, attempt=opened.attempt))  # its child never begins
            return
        try:
            if opened.kind == "run":
                failed = self._children.start(run, opened)
                arrivals += () if failed is None else (failed,)
                return
            work = run.program.work(run.progress, opened)
        except NondeterminismError as error:
            arrivals.append(parked(str(error), error.code))
            return
        if work.inline:
            attempt = run.attempt(
                self._executor, self.services, step, work, lambda _, fact: arrivals.append(fact)
            )
            attempt.run_here()
            run.learn(attempt)
        else:
            run.ready[step] = work
            if work.cache is not None:
                self._caching.plan(run, opened, work)

    def _start(self, run: Held) -> None:
        """Start what is planned, ask to end what shall end, and set the timer."""
        ledger = run.progress.ledger
        for attempt in run.asked_attempts() if run.asked else ():
            attempt.cancel(self._cancel_grace)
        for step, work in run.startable() if run.ready else ():
            if step in ledger.open:
                attempt = run.attempt(self._executor, self.services, step, work, run.deliver)
                run.live[step] = attempt
                self._executor.enter(attempt)
        if run.backoff:
            run.set_timer(self._loop, self._clock.now())


_WITH_STEPS: Final = frozenset(
    {facts.StepScheduled, facts.StepRetried, facts.RunResumed, facts.StepCancelRequested}
)
