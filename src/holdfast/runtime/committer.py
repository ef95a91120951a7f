"""The committing half of the driver: makes the commits of this process, writes them, and tells of what is durable.

A commit whose answer was lost is never written twice and never forgotten: its id is in the run's row, and it is shown
to observers before any later one of its run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from msgspec.structs import replace

from holdfast.core.effects import Holding, derive, error_of, progress_of, status_of, waiting_on
from holdfast.core.ledger import Ledger, admit
from holdfast.core.program import fold_key
from holdfast.core.takeover import lost_attempts, parked
from holdfast.errors import ConflictError, StoreDamaged, StoreUnavailable
from holdfast.model import facts
from holdfast.model.commit import AnyEffect, Commit, Committed, Conflict, Deliver, Dequeue, Enqueue, StartRun
from holdfast.model.ids import CommitId, InboxId, Instant, RunId
from holdfast.model.run import RunRow, RunStatus
from holdfast.runtime.clock import Clock
from holdfast.runtime.feed import Feed
from holdfast.runtime.held import Held
from holdfast.store.port import Store
from holdfast.store.rows import InboxRow

T = TypeVar("T")
logger: Final = logging.getLogger("holdfast")

FOLD_AFTER: Final = 500
"""A fold is stored at the earliest after so many facts."""

MOST_DOUBTS: Final = 1000
"""Commits whose answers were lost that are kept in mind."""

_ANY_WORKER: Final = ("a worker",)


class Committer:
    """Makes and writes the commits of one worker."""

    def __init__(self, store: Store, feed: Feed, clock: Clock, worker: str) -> None:
        """Keep what every commit needs."""
        self.worker = worker
        self._store = store
        self._feed = feed
        self._clock = clock
        self._commits = 0
        self._doubted: dict[RunId, list[Commit]] = {}
        self._shown: set[CommitId] = set()
        self._unborn: dict[RunId, Commit] = {}
        self.on_sent: Callable[[], None] = lambda: None
        """Called when a commit has put something into another run's inbox, or begun one."""
        self.on_begun: Callable[[Commit], None] = lambda _: None
        """Called with the first commit of a child that was begun here."""

    # --- making

    def build(
        self,
        run: Held,
        recorded: Sequence[facts.Fact],
        consumed: tuple[InboxId, ...] = (),
        release: int | None = None,
        *,
        opened: RunRow | None = None,
        held: bool = True,
    ) -> Commit:
        """Return the commit of what was recorded; with `release` (the wakes seen) it also lays the run down."""
        ledger: Ledger = run.progress.ledger
        now = self._clock.now()
        effects: tuple[AnyEffect, ...] = derive(recorded, ledger, run.holding, release, now, run.blobs)
        if run.sending:
            effects, run.sending = (*run.sending, *effects), []
            self._begins(effects)
        status = status_of(ledger, held=held, releasing=release is not None)
        waits: tuple[str, ...] = ()
        if release is not None or ledger.paused is not None or ledger.begins or ledger.waits:
            waits = waiting_on(ledger, run.missing, run.id)
            if run.closing and status is RunStatus.WAITING and (run.ready or not waits or run.backs_off(now)):
                # What would have run here is for the next worker.
                ready = Enqueue(run.holding.queue, run.holding.workflow, run.holding.priority)
                effects, waits = (*effects, ready), _ANY_WORKER
        blobs, run.blobs.fresh = run.blobs.fresh, {}
        checkpoint = _fold(run, len(recorded))
        return Commit(
            id=self.next_id(),
            run=run.id,
            position=run.position,
            epoch=run.epoch,
            at=now,
            worker=self.worker,
            facts=tuple(recorded),
            status=status,
            was=run.status,
            waiting_on=waits,
            consumed=consumed,
            effects=effects,
            opened=opened,
            error=error_of(ledger),
            progress=progress_of(recorded),
            blobs=blobs,
            checkpoint=checkpoint,
            checkpoint_hash="" if checkpoint is None else fold_key(run.program),
        )

    def next_id(self) -> CommitId:
        """Return the id of one more commit."""
        self._commits += 1
        return f"{self.worker}:{self._commits}"

    # --- writing

    async def write(self, commit: Commit) -> Committed:
        """Write the commit of a held run, however long the store is away. Raises ConflictError if it is not ours."""
        try:
            (answer,) = await self._store.commit((commit,))
        except StoreUnavailable:
            (answer,) = await self.patiently(commit.run, partial(self._store.commit, (commit,)))
        return answer if type(answer) is Committed else await self._own(commit)

    async def write_first(self, commit: Commit) -> Committed | Conflict:
        """Write the first commit of a run, once; a conflict says that the run's id is taken."""
        (answer,) = await self._store.commit((commit,))
        if type(answer) is Conflict:
            row = await self._store.run(commit.run)
            if row is not None and row.last_commit == commit.id:  # it was written by an earlier try
                return Committed(commit.run, row.position)
        return answer

    async def inbox(self, run: RunId) -> Sequence[InboxRow]:
        """Return what others sent to the run, however long the store is away."""
        return await self.patiently(run, partial(self._store.inbox, run))

    def done(self, run: Held, commit: Commit, answer: Committed) -> None:
        """Take note that a commit is durable, and show it."""
        run.position, run.status, run.last_commit = answer.position, commit.status, commit.id
        run.size_since_fold += answer.size
        if run.holding.deaths and any(isinstance(e, Enqueue) for e in commit.effects):
            run.holding.deaths = 0
        ended = run.progress.ledger.ended
        cause = run.causes.get(ended.error.step) if type(ended) is facts.RunFailed else None
        if commit.opened is not None and commit.id in self._shown:
            return  # the run was claimed before the answer came
        self._feed.publish(commit, cause)
        if commit.effects:
            self._tell_others(commit)

    # --- child runs

    def _begins(self, effects: Sequence[AnyEffect]) -> None:
        """Keep in mind the first commits of children until they are durable."""
        for effect in effects:
            if type(effect) is StartRun:
                self._unborn[effect.first.run] = effect.first

    def _tell_others(self, commit: Commit) -> None:
        """Show the children that began with a commit, and have the worker look at what was sent to other runs."""
        for effect in commit.effects:
            if type(effect) is StartRun:
                if self._unborn.get(effect.first.run) is effect.first:
                    del self._unborn[effect.first.run]
                    self._feed.publish(effect.first)
                    self.on_begun(effect.first)
                self.on_sent()
            elif type(effect) is Deliver and effect.run:
                self.on_sent()

    def _forget_beginnings(self, commit: Commit) -> None:
        for effect in commit.effects:
            if type(effect) is StartRun and self._unborn.get(effect.first.run) is effect.first:
                del self._unborn[effect.first.run]

    async def _show_beginning(self, run: RunId) -> None:
        """Show the first commit of a child that is claimed here before its parent's commit was answered."""
        first = self._unborn.get(run)
        if first is not None and await self._is_written(first) and self._unborn.get(run) is first:
            del self._unborn[run]
            self._feed.publish(first)

    async def _own(self, commit: Commit) -> Committed:
        """Return a commit that met a conflict as done if it was our own, written before a connection was lost.

        Raises ConflictError when the run is not ours.
        """
        row = await self.patiently(commit.run, partial(self._store.run, commit.run))
        if row is None or row.last_commit != commit.id:
            self.doubt(commit)
            await self.settle(commit.run)
            self._forget_beginnings(commit)
            raise ConflictError
        gone = row.status is not RunStatus.RUNNING and any(isinstance(e, Dequeue) for e in commit.effects)
        return Committed(commit.run, row.position, released=gone)

    async def patiently(self, run: RunId, call: Callable[[], Awaitable[T]]) -> T:
        """Call the store, again and again while it is unavailable."""
        wait, told = 0.1, ""
        while True:
            try:
                return await call()
            except StoreDamaged:
                raise
            except StoreUnavailable as error:
                if error.message != told:  # once: it may last for hours
                    told = error.message
                    logger.error("run %s waits for the store: %s. %s", run, told, error.fix)  # noqa: TRY400 - the text says it all
                await asyncio.sleep(wait * (0.5 + self._clock.draw()))
                wait = min(wait * 2, 5.0)

    # --- doubts

    def doubt(self, commit: Commit) -> None:
        """Keep in mind a commit whose answer is not here: it is shown before all others of its run, see `settle`."""
        self._doubted.setdefault(commit.run, []).append(commit)
        if len(self._doubted) > MOST_DOUBTS:
            del self._doubted[next(iter(self._doubted))]

    def answered(self, commit: Commit) -> None:
        """Forget a doubted commit whose answer is here."""
        doubted = self._doubted.get(commit.run)
        if doubted is not None and commit in doubted:
            doubted.remove(commit)
            if not doubted:
                del self._doubted[commit.run]

    async def settle(self, run: RunId) -> None:
        """Show a commit whose answer was lost, if it was written all the same: observers shall miss nothing."""
        if run in self._unborn:
            await self._show_beginning(run)
        for commit in self._doubted.get(run, ()):
            if await self._is_written(commit) and commit in self._doubted.pop(run, ()):
                self._shown.add(commit.id)
                self._feed.publish(commit)
                self._tell_others(commit)
                return

    async def settled(self, first: Commit) -> bool:
        """Tell whether a run's first commit that met a conflict was written all the same, and is shown."""
        await self.settle(first.run)
        return first.id in self._shown

    async def _is_written(self, commit: Commit) -> bool:
        rows = await self.patiently(commit.run, partial(self._store.journal, commit.run, commit.position, 1))
        return bool(rows) and rows[0].commit == commit.id

    # --- parking

    async def bury(self, row: RunRow, deaths: int) -> None:
        """Park a run that kills its workers. None of the user's code runs here: a factory may be what kills."""
        ledger = Ledger()
        for each in await self._store.journal(row.id, limit=row.position + 1):
            for fact in facts.Journal.decode(each.facts):
                ledger.absorb(fact)
        reason = f"it was running when its worker died, {deaths} times in a row"
        # The pause comes first, by a moment: who resumes the run must see that the attempts after it never began.
        now = self._clock.now()
        resumed = await self._resumed(row.id, ledger, now)
        lost = lost_attempts(ledger, now + 1)
        holding = Holding(row.queue, row.workflow, row.priority, self.worker, run=row.id)
        clocks = derive(resumed, ledger, holding, None, now)
        await self.park(
            *(row.id, row.position, row.epoch, row.status, reason, "poison", resumed, lost, clocks), at=now
        )

    async def _resumed(self, run: RunId, ledger: Ledger, now: Instant) -> list[facts.Fact]:
        """Absorb and return what makes a run go on that had ended: its pause is of the run as it was resumed.

        It stays in the inbox, where whoever takes the run up next forgets it by its key. Steps that are child runs
        stay as they ended, for the next resume to open: what their children are asked only the run's code knows.
        """
        if ledger.ended is None:
            return []
        came = [facts.Journal.decode_one(row.fact) for row in await self._store.inbox(run) if row.fact]
        for fact in came:
            admitted = admit(ledger, fact, now)
            if isinstance(admitted, facts.RunResumed):
                own = tuple(each for each in admitted.reopened if ledger.unresolved[each[0]].kind != "run")
                resumed = replace(admitted, reopened=own)
                ledger.absorb(resumed)
                return [resumed]
        return []

    async def park(
        self,
        run: RunId,
        position: int,
        epoch: int,
        was: RunStatus,
        reason: str,
        code: str = "parked",
        before: Sequence[facts.Fact] = (),
        lost: Sequence[facts.Fact] = (),
        effects: Sequence[AnyEffect] = (),
        at: Instant = 0,
    ) -> None:
        """Pause a run whose program cannot be driven, by a commit that needs no program."""
        reason = facts.readable(reason)
        commit = Commit(
            id=self.next_id(),
            run=run,
            position=position,
            epoch=epoch,
            at=self._clock.now(),
            worker=self.worker,
            facts=(*before, parked(reason, code, at or self._clock.now()), *lost),
            status=RunStatus.PAUSED,
            was=was,
            waiting_on=(f"resume: {reason}",),
            effects=(*effects, Dequeue()),
            error=facts.ErrorInfo(code=code, message=reason),
        )
        try:
            await self.write(commit)
        except ConflictError:
            return
        self._feed.publish(commit)


def _fold(run: Held, more: int) -> bytes | None:
    """Return the stored fold that goes with a commit of `more` facts, when it is due: rule 5 of the design."""
    run.facts_since_fold += more
    if (
        run.facts_since_fold < FOLD_AFTER
        or run.size_since_fold < run.fold_size
        or not run.program.checkpoints
    ):
        return None
    data = run.program.encode(run.progress)
    run.fold_size = len(data)
    if run.fold_size > run.size_since_fold:
        return None
    run.facts_since_fold = run.size_since_fold = 0
    return data
