"""The runs that a worker holds: taken up, each driven by a task of its own, and laid down when the worker closes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.core.effects import Holding
from holdfast.core.ledger import Ledger
from holdfast.core.letters import DISCARDED
from holdfast.core.program import Workflow
from holdfast.errors import HoldfastError, StoreError
from holdfast.model import facts
from holdfast.model.commit import Commit
from holdfast.model.ids import RunId
from holdfast.model.run import RunRow, RunStatus
from holdfast.model.secrets import Secrets
from holdfast.runtime.committer import Committer
from holdfast.runtime.driver import Driver
from holdfast.runtime.held import Held
from holdfast.runtime.loading import Loaded, load_beginning, load_ending, load_row
from holdfast.runtime.rested import Rested
from holdfast.runtime.secrets import SecretMemory
from holdfast.store.port import Store
from holdfast.store.rows import Claimed, InboxRow

logger: Final = logging.getLogger("holdfast.runs")

LAST_COMMIT_SECONDS: Final = 1.0

DEATHS: Final = 3
"""So many workers may die over a run before it is parked."""

SUSPECT_DEATHS: Final = 2


class Holdings:
    """Up to `slots` runs of the workflows that `workflows` returns."""

    def __init__(
        self,
        store: Store,
        driver: Driver,
        committer: Committer,
        *,
        slots: int,
        workflows: Callable[[], Mapping[str, Workflow]],
        secrets: SecretMemory,
    ) -> None:
        """Begin with nothing held."""
        self.held: Final[dict[RunId, Held]] = {}
        self.astray: Final[set[RunId]] = set()
        """Runs that are ours in the store, and that nobody drives here: to be given back."""
        self.reserved = False
        """True while no more runs are taken, because one is waiting that must be held alone."""
        self.closing = False
        self.on_free: Callable[[], None] = lambda: None
        """Called when a slot is free again."""
        self._store = store
        self._driver = driver
        self._committer = committer
        self._slots = slots
        self._workflows = workflows
        self._secrets = secrets
        self._tasks: dict[RunId, asyncio.Task[None]] = {}
        self._taking: set[asyncio.Task[None]] = set()
        self._again: set[RunId] = set()
        """Runs that were given secrets while they were being laid down: to be taken up again."""
        self._rested: Final = Rested()
        self._loop = asyncio.get_running_loop()
        self._opening = 0
        self._opened = asyncio.Event()

    @property
    def room(self) -> int:
        """How many more runs there are slots for."""
        return self._slots - len(self.held) - self._opening

    @property
    def has_slot(self) -> bool:
        """Tell whether one more run may be held. A run that is suspected of killing workers is held alone."""
        if self.closing or self.reserved or self.room <= 0:
            return False
        return not any(run.holding.deaths >= SUSPECT_DEATHS for run in self.held.values())

    @property
    def idle(self) -> bool:
        """Tell whether nothing is held and nothing will be in a moment."""
        return not (self.held or self._opening or self.closing)

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Keep a slot while a run is being opened."""
        self._opening += 1
        try:
            yield
        finally:
            self._opening -= 1
            if self.closing and not self._opening:
                self._opened.set()

    # --- driving

    def adopt(self, run: Held, arrivals: list[facts.Fact] | None = None) -> None:
        """Drive a run from here on."""
        former, driving = self.held.get(run.id), self._tasks.get(run.id)
        if former is not None and former.epoch > run.epoch:
            return  # claimed anew before the answer to the first commit came
        work = self._driver.drive(run, arrivals)
        if former is not None and driving is not None:
            former.lose()
            work = _after(driving, work)
        self.held[run.id] = run
        run.keep = self._secrets.keep
        if run.secrets:
            run.keep(run.id, run.secrets)
        if self.closing:
            run.close()
        task = self._loop.create_task(work, name=f"run {run.id}")
        self._tasks[run.id] = task
        task.add_done_callback(lambda done: self._dropped(run, done))

    def _dropped(self, run: Held, task: asyncio.Task[None]) -> None:
        if self._tasks.get(run.id) is task:
            del self._tasks[run.id]
        if isinstance(run.ledger.ended, facts.RunCompleted):
            self._secrets.keep(run.id, None)
        if not self.closing and self.held.get(run.id) is run:
            del self.held[run.id]
            if run.committed and not run.lost and run.ledger.ended is None:
                self._rested.keep(run)
            self.on_free()
            if run.id in self._again:
                self._again.discard(run.id)
                self._take_soon(self.take_run(run.id), run.id)
        elif self.closing and run.progress.ledger.ended is not None:
            self.held.pop(run.id, None)

    def lose_all(self) -> None:
        """Drop every run: others may hold them. Claimed since the lease was over, some may be ours in the store."""
        self.astray.update(self.held)
        for run in self.held.values():
            run.lose()

    # --- taking up

    async def take_run(self, run: RunId) -> None:
        """Hold this one run here, if nobody holds it; give a held one the secrets that came meanwhile."""
        while (held := self.held.get(run)) is not None:
            row = await self._store.run(run)
            if self.held.get(run) is not held:
                continue  # it was laid down meanwhile
            if held.missing and row is not None:
                names = held.ledger.secrets
                known = {**held.secrets, **self._secrets.known(row, names)}
                held.secrets, held.missing = Secrets(known), missing(names, known)
                held.poke()
                if held.releasing:  # the commit under way may lay it down, for want of these very secrets
                    self._again.add(run)
            return
        claimed = await self._store.claim_run(self._committer.worker, run)
        if claimed is not None:
            await self.take(claimed)

    def begun(self, first: Commit) -> None:
        """Take a child up that was begun here with secrets, and that is ours from the beginning."""
        if first.opened is None or not first.opened.secrets:
            return
        row = msgspec.structs.replace(first.opened, position=len(first.facts), last_commit=first.id)
        claimed = Claimed(row, 0, 0, facts.Journal.encode(first.facts))
        self._take_soon(self.take(claimed), first.run)

    def _take_soon(self, work: Coroutine[Any, Any, None], run: RunId) -> None:
        task = self._loop.create_task(work, name=f"take {run}")
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def take(self, *claimed: Claimed) -> None:
        """Take claimed runs up. One that this fails for is given back: nobody may hold a run and not drive it."""
        left = {each.run.id for each in claimed}

        async def take(each: Claimed) -> None:
            await self._take(each)
            left.remove(each.run.id)

        try:
            if len(claimed) == 1:
                await take(claimed[0])
                return
            # At once: what they ask the store goes over together.
            outcomes = await asyncio.gather(*map(take, claimed), return_exceptions=True)
        finally:
            self.astray.update(left)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _take(self, claimed: Claimed) -> None:
        """Fold a run with today's code, and record what its last holder lost."""
        row = claimed.run
        await self._committer.settle(row.id)
        workflow = self._workflows().get(row.workflow)
        if workflow is None:
            await self._release([row.id])
            return
        kills = claimed.deaths >= DEATHS
        if (kills or _is_poison(row)) and await self._end(claimed):
            return
        if kills:
            await self._committer.bury(row, claimed.deaths)
            return
        try:
            loaded, arrived = await self._load(claimed, workflow)
        except StoreError:
            await self._release([row.id])
            raise
        except Exception as error:  # noqa: BLE001 - whatever today's code makes of it, the run must not be lost
            code = error.code if isinstance(error, HoldfastError) else "parked"
            if not await self._end(claimed):
                await self._committer.park(row.id, row.position, row.epoch, row.status, str(error), code)
            return
        self._hold(claimed, loaded, arrived, workflow)

    async def _end(self, claimed: Claimed) -> bool:
        """Hold a run without its code, which cannot drive it, if it has ended or shall; return whether that is so."""
        run = claimed.run.id
        loaded, arrived = await asyncio.gather(load_ending(self._store, run), self._store.inbox(run))
        sent = [facts.Journal.decode_one(row.fact) for row in arrived if row.fact]
        ledger: Ledger = loaded.progress.ledger
        asked = ledger.cancelling if ledger.ended is None else None  # a resume takes back what ended it
        requests = [fact for fact in (asked, *sent) if isinstance(fact, facts.CancelRequested)]
        if loaded.progress.needs_code:
            requests = [request for request in requests if request.code == DISCARDED]
        ended = ledger.ended is not None and not any(isinstance(fact, facts.RunResumed) for fact in sent)
        if not requests and not ended:
            return False
        self._hold(claimed, loaded, arrived)
        return True

    def _hold(
        self,
        claimed: Claimed,
        loaded: Loaded,
        arrived: Sequence[InboxRow],
        workflow: Workflow | None = None,
    ) -> None:
        row = claimed.run
        names = loaded.progress.ledger.secrets
        known = self._secrets.known(row, names)
        worker = self._committer.worker
        run = Held(
            row.id,
            loaded.program,
            loaded.progress,
            blobs=loaded.blobs,
            secrets=Secrets(known),
            params=row.params,
            holding=Holding(row.queue, row.workflow, row.priority, worker, claimed.deaths, row.id),
            position=row.position,
            epoch=row.epoch,
            status=row.status,
            wakes=claimed.wakes,
        )
        run.size_since_fold, run.fold_size = loaded.size, loaded.fold_size
        run.facts_since_fold, run.workflow = loaded.facts, workflow
        run.missing = missing(names, known)
        run.woken, run.arrived = True, arrived
        lost = row.status is RunStatus.RUNNING or claimed.deaths > 0
        if logger.isEnabledFor(logging.INFO):
            place = {"run_id": row.id, "event": "run.taken", "subject": row.workflow}
            logger.info("run.taken %s subject=%s", row.id, row.workflow, extra=place)
        self.adopt(run, self._driver.takeover(run, lost=lost))

    async def _load(self, claimed: Claimed, workflow: Workflow) -> tuple[Loaded, Sequence[InboxRow]]:
        """Return the run folded with today's code, and what came for it."""
        services = self._driver.services
        if claimed.began:
            return load_beginning(claimed, workflow, services), ()
        rested = self._rested.take(claimed.run, workflow)
        if rested is not None:
            return rested, await self._store.inbox(claimed.run.id)
        loading = load_row(self._store, claimed.run, workflow, services)
        return await asyncio.gather(loading, self._store.inbox(claimed.run.id))

    async def _release(self, runs: Sequence[RunId]) -> None:
        await self._store.release(self._committer.worker, runs)

    # --- closing

    def stop(self) -> None:
        """Take nothing more, and let nothing new begin in the runs that are held."""
        self.closing = True
        for run in self.held.values():
            run.close()

    async def close(self, grace: float) -> None:
        """Give running steps `grace` seconds, and record what they came to. Nothing is taken any more."""
        if self._opening:
            await self._opened.wait()
        tasks = list(self._tasks.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace)
        for run in self.held.values():
            run.lose()
        if late:  # not cancelled at once: what is being committed is still to be told to observers
            _, late = await asyncio.wait(late, timeout=LAST_COMMIT_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def missing(names: Sequence[str], known: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of secrets that are not known."""
    return tuple(name for name in names if name not in known)


async def _after(former: asyncio.Task[None], work: Coroutine[Any, Any, None]) -> None:
    """Drive a run that was held here before once its former driver has told what it knows: events stay in order."""
    try:
        await asyncio.wait((former,))
    except BaseException:
        work.close()
        raise
    await work


def _is_poison(row: RunRow) -> bool:
    """Whether the run was parked because it kills its workers."""
    return row.status is RunStatus.PAUSED and row.error is not None and row.error.code == "poison"
