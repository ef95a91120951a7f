"""A worker: claims jobs of the workflows it knows, drives their runs, and frees the jobs of workers that died.

It is woken by what happens (a job enqueued here, a slot set free, a write of another process), never by a fixed poll
alone. Its lease is one row, renewed from a thread that a blocked loop cannot stall; the same thread tells when a node
blocks the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.core.effects import Holding
from holdfast.core.program import Workflow
from holdfast.errors import HoldfastError, StoreError
from holdfast.model import facts
from holdfast.model.ids import SECOND, RunId, WorkerId
from holdfast.model.run import RunStatus
from holdfast.model.secrets import Secrets
from holdfast.runtime.committer import Committer
from holdfast.runtime.driver import Driver
from holdfast.runtime.held import Held
from holdfast.runtime.host import Host, Lock
from holdfast.runtime.loading import load_run
from holdfast.runtime.secrets import SecretMemory
from holdfast.store.port import Claimed, RunQuery, Store, WorkerRow

logger: Final = logging.getLogger("holdfast")

LEASE: Final = 30 * SECOND
PATROL_SECONDS: Final = 1.0
LAST_COMMIT_SECONDS: Final = 1.0
SHORTEST_REST: Final = 0.002
"""Seconds. What is due by our view of the store's clock may not be due there yet: no spinning until it is."""

PROVIDE_SECONDS: Final = 60.0
"""How often a worker with a provider of secrets looks for runs that wait for one."""

DEATHS: Final = 3
"""So many workers may die over a run before it is parked."""

SUSPECT_DEATHS: Final = 2


class Worker:
    """Drives up to `slots` runs of the workflows that `workflows` returns."""

    def __init__(
        self,
        store: Store,
        driver: Driver,
        committer: Committer,
        *,
        slots: int,
        workflows: Callable[[], Mapping[str, Workflow]],
        secrets: SecretMemory,
        host: Host,
        queues: tuple[str, ...] = ("default",),
    ) -> None:
        """Begin with nothing held."""
        self.held: dict[RunId, Held] = {}
        self._store = store
        self._driver = driver
        self._committer = committer
        self._slots = slots
        self._workflows = workflows
        self._secrets = secrets
        self._provided = -PROVIDE_SECONDS
        self.queues = queues
        self._tasks: dict[RunId, asyncio.Task[None]] = {}
        self._hint = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False
        self._host = host
        self._watch = host.watch(self)
        self._lock: Lock | None = None
        self._patrolled = 0.0
        self._opening = 0
        self._opened = asyncio.Event()
        self._starved = False
        self._astray: set[RunId] = set()
        self._strays: set[RunId] = set()

    @property
    def id(self) -> str:
        """The worker's id."""
        return self._committer.worker

    @property
    def has_slot(self) -> bool:
        """Tell whether one more run may be held. A run that is suspected of killing workers is held alone."""
        if self._closing or len(self.held) + self._opening >= self._slots:
            return False
        return not any(run.holding.deaths >= SUSPECT_DEATHS for run in self.held.values())

    # --- life

    async def open(self) -> None:
        """Enlist, free what dead workers left, and begin to claim."""
        self._lock = self._host.lock(self.id)
        await self._store.enlist(self._row())
        await self._patrol()
        self._watch.start()
        self._keeper = self._loop.create_task(self._keep(), name="holdfast-keeper")

    async def close(self, grace: float) -> None:
        """Stop claiming, give running steps `grace` seconds, and leave every unfinished run to whoever comes next."""
        self._closing = True
        for run in self.held.values():
            run.close()
        self.hint()
        if self._keeper is not None:
            # Not cancelled: a claim under way would go on in the store, and nobody would know of its jobs.
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._opening:
            await self._opened.wait()
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for run in self.held.values():
                run.lose()
            if late:  # not cancelled at once: what is being committed is still to be told to observers
                _, late = await asyncio.wait(late, timeout=LAST_COMMIT_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._watch.stop()
        with contextlib.suppress(StoreError):
            await self._store.release(self.id, await self._store.held(self.id))
            await self._store.enlist(msgspec.structs.replace(self._row(), stopped_at=self._store.now()))
        self.held.clear()
        if self._lock is not None:
            self._lock.close()

    def _row(self) -> WorkerRow:
        schemas = {
            name: msgspec.Raw(msgspec.json.encode(w.schema())) for name, w in self._workflows().items()
        }
        now = self._store.now()
        return WorkerRow(
            id=self.id,
            host=self._host.name,
            boot=self._host.boot,
            namespace=self._host.namespace,
            pid=self._host.pid,
            lock=str(self._lock.path) if self._lock else "",
            queues=self.queues,
            workflows=schemas,
            started_at=now,
            leased_until=now + LEASE,
        )

    async def registered(self) -> None:
        """List the workflows anew and claim their jobs."""
        while True:
            try:
                await self._store.enlist(self._row())
            except StoreError as error:
                logger.error("worker %s cannot enlist: %s", self.id, error)  # noqa: TRY400 - the text says it all
                await asyncio.sleep(PATROL_SECONDS)
            else:
                self.hint()
                return

    def hint(self) -> None:
        """Have the keeper look at once: something was enqueued, delivered, or a slot is free."""
        self._hint.set()

    # --- holding runs

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Keep a slot while a run is being opened."""
        self._opening += 1
        try:
            yield
        finally:
            self._opening -= 1
            if self._closing and not self._opening:
                self._opened.set()

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
        if self._closing:
            run.close()
        task = self._loop.create_task(work, name=f"run {run.id}")
        self._tasks[run.id] = task
        task.add_done_callback(lambda done: self._dropped(run, done))

    def _dropped(self, run: Held, task: asyncio.Task[None]) -> None:
        if self._tasks.get(run.id) is task:
            del self._tasks[run.id]
        if isinstance(run.ledger.ended, facts.RunCompleted):
            self._secrets.keep(run.id, None)
        if not self._closing and self.held.get(run.id) is run:
            del self.held[run.id]
            if self._starved:  # else there is nothing to claim, and looking costs three reads
                self.hint()
        elif self._closing and run.progress.ledger.ended is not None:
            self.held.pop(run.id, None)

    async def take_run(self, run: RunId) -> None:
        """Hold this one run here, if nobody holds it; give a held one the secrets that came meanwhile."""
        held = self.held.get(run)
        if held is not None:
            row = await self._store.run(run)
            if held.missing and row is not None:
                names = held.ledger.secrets
                known = {**held.secrets, **self._secrets.known(row, names)}
                held.secrets, held.missing = Secrets(known), _missing(names, known)
                held.poke()
            return
        claimed = await self._store.claim_run(self.id, run)
        if claimed is not None:
            await self.take(claimed)

    async def take(self, *claimed: Claimed) -> None:
        """Take claimed runs up. One that this fails for is given back: nobody may hold a run and not drive it."""
        left = [each.run.id for each in claimed]
        try:
            for each in claimed:
                await self._take(each)
                left.remove(each.run.id)
        finally:
            self._astray.update(left)

    async def _take(self, claimed: Claimed) -> None:
        """Fold a run with today's code, and record what its last holder lost."""
        row = claimed.run
        await self._committer.settle(row.id)
        workflow = self._workflows().get(row.workflow)
        if workflow is None:
            await self._store.release(self.id, [row.id])
            return
        if claimed.deaths >= DEATHS:
            await self._committer.bury(row, claimed.deaths)
            return
        try:
            loaded = await load_run(self._store, row.id, workflow, self._driver.services)
        except StoreError:
            await self._store.release(self.id, [row.id])
            raise
        except Exception as error:  # noqa: BLE001 - whatever today's code makes of it, the run must not be lost
            code = error.code if isinstance(error, HoldfastError) else "parked"
            await self._committer.park(row.id, row.position, row.epoch, row.status, str(error), code)
            return
        names = loaded.progress.ledger.secrets
        known = self._secrets.known(row, names)
        run = Held(
            row.id,
            loaded.program,
            loaded.progress,
            blobs=loaded.blobs,
            secrets=Secrets(known),
            holding=Holding(row.queue, row.workflow, row.priority, self.id, claimed.deaths),
            position=row.position,
            epoch=row.epoch,
            status=row.status,
            wakes=claimed.wakes,
        )
        run.size_since_fold, run.fold_size = loaded.size, loaded.fold_size
        run.facts_since_fold = row.position if not loaded.fold_size else 0
        run.missing = _missing(names, known)
        run.woken = True
        lost = row.status is RunStatus.RUNNING or claimed.deaths > 0
        self.adopt(run, self._driver.takeover(run, lost=lost))

    # --- keeping

    async def _keep(self) -> None:
        while not self._closing:
            self._hint.clear()
            try:
                await self._round()
                pause = await self._pause()
            except StoreError as error:
                logger.error("the worker waits for the store: %s", error)  # noqa: TRY400 - the text says it all
                pause = 1.0
            except Exception:
                logger.exception("the worker's keeper goes on after an internal error")
                pause = 1.0
            await self._rest(pause)

    async def _round(self) -> None:
        if self._astray:
            astray = list(self._astray)
            await self._store.release(self.id, astray)
            self._astray.difference_update(astray)
        await self._store.move_due()
        for run, wakes in (await self._store.woken(self.id)).items():
            if (held := self.held.get(run)) is not None:
                held.wake(wakes)
        if self._loop.time() - self._patrolled > PATROL_SECONDS:
            await self._patrol()
            await self._find_strays()
        await self._claim()
        if self._secrets.provides and self._loop.time() - self._provided > PROVIDE_SECONDS:
            self._provided = self._loop.time()
            await self._provide()

    async def _claim(self) -> None:
        lanes = [(queue, name) for queue in self.queues for name in self._workflows()]
        self._starved = True
        while lanes and self.has_slot:
            room = self._slots - len(self.held) - self._opening
            claimed = await self._store.claim(self.id, lanes, room)
            await self.take(*claimed)
            if len(claimed) < room:
                self._starved = False
                break
        if lanes and not self.held and not self._closing:
            await self.take(*await self._store.claim(self.id, lanes, 1, suspects=True))

    async def _provide(self) -> None:
        """Take runs up that wait for secrets which the provider has."""
        waiting = RunQuery(status=frozenset({RunStatus.WAITING}), needs_secret=True, ascending=True)
        while rows := await self._store.runs(waiting):
            for row in rows:
                names = [
                    wait.removeprefix("secret ") for wait in row.waiting_on if wait.startswith("secret ")
                ]
                serves = row.workflow in self._workflows() and row.queue in self.queues
                if serves and self.has_slot and not _missing(names, self._secrets.known(row, names)):
                    await self.take_run(row.id)
            waiting = msgspec.structs.replace(waiting, after=(rows[-1].created_at, rows[-1].id))

    async def _pause(self) -> float:
        """Return how long to rest: until the next arrival is due, at most until the next patrol."""
        due = await self._store.next_due()
        if due is None:
            return PATROL_SECONDS
        return min(PATROL_SECONDS, max(SHORTEST_REST, (due - self._store.now()) / SECOND))

    async def _rest(self, pause: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._hint.wait()

    async def _patrol(self) -> None:
        """Free the jobs of workers that died: at once on this host, else when their lease is over."""
        self._patrolled = self._loop.time()
        now = self._store.now()
        here = (self._host.boot, self._host.namespace)
        died: dict[WorkerId, str] = {}
        expired = []
        for worker in await self._store.workers():
            if worker.id == self.id or worker.stopped_at:
                continue
            if (worker.boot, worker.namespace) == here and self._host.is_dead(worker.lock):
                died[worker.id] = worker.lock
            elif worker.leased_until < now:
                expired.append(worker.id)
        if died:
            self._tell(list(died), await self._store.reclaim(list(died), "died"))
            for lock in died.values():
                self._host.forget(lock)
        if expired:
            self._tell(expired, await self._store.reclaim(expired, "expired"))

    async def _find_strays(self) -> None:
        """Give back what is ours in the store and not driven here: an answer that said so was lost."""
        strays = set(await self._store.held(self.id)) - self.held.keys()
        self._astray |= strays & self._strays  # at one patrol it may be a run that is being taken up
        self._strays = strays

    def _tell(self, workers: list[str], runs: Any) -> None:
        if runs:
            logger.warning("worker %s died; %d of its runs go on here", ", ".join(workers), len(runs))

    def lost_lease(self) -> None:
        """Drop every run: the lease was over, others may hold them. Then begin anew."""
        logger.error(
            "worker %s lost its lease; it drops its %d runs and begins anew", self.id, len(self.held)
        )
        self._astray.update(self.held)  # claimed since the lease was over, some may be ours in the store
        for run in self.held.values():
            run.lose()
        self._loop.create_task(self.registered())

    def renew(self) -> bool:
        """Renew the lease; called from the watch's thread."""
        return self._store.renew(self.id, self._store.now() + LEASE)

    def on_loop(self, call: Callable[[], None]) -> None:
        """Call on the loop, from a thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def doing(self) -> str:
        """Return the name of the task that runs on the loop now, if any; called from the watch's thread."""
        task = asyncio.current_task(self._loop)
        return task.get_name() if task is not None else ""


def _missing(names: Sequence[str], known: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in known)


async def _after(former: asyncio.Task[None], work: Coroutine[Any, Any, None]) -> None:
    """Drive a run that was held here before once its former driver has told what it knows: events stay in order."""
    try:
        await asyncio.wait((former,))
    except BaseException:
        work.close()
        raise
    await work
