"""The parts of an open engine, put together: executor, driver, worker, observers, and how a run begins."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from holdfast.core.effects import Holding, opening_row
from holdfast.core.ledger import Ledger
from holdfast.core.observers import ObserverLike
from holdfast.core.program import Program, Workflow
from holdfast.core.retention import Retention
from holdfast.core.work import Blobs
from holdfast.errors import StoreError, StoreUnavailable
from holdfast.model import facts
from holdfast.model.commit import Commit, Committed, Conflict
from holdfast.model.ids import RunId
from holdfast.model.run import RunRow
from holdfast.model.secrets import Secrets
from holdfast.runtime.attached import Attached
from holdfast.runtime.caching import Caching
from holdfast.runtime.checkpoints import Checkpoints
from holdfast.runtime.children import Children
from holdfast.runtime.clock import Clock
from holdfast.runtime.committer import Committer
from holdfast.runtime.driver import Driver
from holdfast.runtime.executor import Executor
from holdfast.runtime.feed import Feed
from holdfast.runtime.forgetting import Forgetting
from holdfast.runtime.guards.calls import local_gates, share, unshare
from holdfast.runtime.guards.gates import Gates
from holdfast.runtime.held import Held
from holdfast.runtime.host import Host
from holdfast.runtime.listed import Listed
from holdfast.runtime.observing import Observers
from holdfast.runtime.opening import opened
from holdfast.runtime.pulse import Pulse
from holdfast.runtime.retention import Retaining
from holdfast.runtime.secrets import SecretMemory
from holdfast.runtime.streaming import Streams
from holdfast.runtime.worker import Worker
from holdfast.store.port import Store

ASYNC_LIMIT = 1000
"""Async steps of one engine that run at once; they are cheap, but each may hold a connection of the user's."""


class Assembly:
    """Everything of an engine that lives while it is open."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        worker_id: str,
        services: Any,
        workflows: Callable[[], Mapping[str, Workflow]],
        secrets: SecretMemory,
        observers: Sequence[ObserverLike],
        concurrency: int,
        queues: Sequence[str],
        only: set[RunId] | None,
        drives: bool,
        cancel_grace: float,
        host: Host,
        retention: Retention,
    ) -> None:
        """Make the parts, on the running loop. Without `drives` there is no worker."""
        self.feed = Feed()
        self._store = store
        self._services = services
        self._streams = Streams(store, self.feed)
        self.gates = Gates(store, now=clock.now, draw=clock.draw, holder=worker_id, local=local_gates())
        self._executor = Executor(
            clock, concurrency, ASYNC_LIMIT, self._streams, host.threads("holdfast-step"), self.gates
        )
        self._committer = Committer(store, self.feed, clock, worker_id)
        children = Children(clock, store, self._committer, workflows)
        parts = (self._committer, self._executor, children, Caching(store), clock)
        self._driver = Driver(*parts, services, cancel_grace)
        self._workflows = workflows
        self.worker: Worker | None = None
        if drives:
            self.worker = Worker(
                store,
                self._driver,
                self._committer,
                slots=concurrency,
                queues=queues,
                only=only,
                workflows=workflows,
                secrets=secrets,
                host=host,
            )
            self._committer.on_sent = self.worker.keeper.hint
            self._committer.on_begun = self.worker.holdings.begun
        self.observers = Observers(self.feed, store, worker_id, observers, host.threads("holdfast-observer"))
        self.checkpoints = Checkpoints(
            self.feed, store, worker_id, services, workflows, host.threads("holdfast-checkpoint")
        )
        self._attached = Attached(self.observers, store, workflows)
        self.forgetting = Forgetting(store, self.checkpoints, workflows, services)
        delete = self.forgetting.delete
        self.retaining = Retaining(store, self.gates, retention, workflows, delete) if drives else None
        self._pulse = Pulse(store, self._beat)
        self._loop = asyncio.get_running_loop()
        self._listing: asyncio.Task[None] | None = None
        self._late: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Start what runs by itself."""
        share(self.gates)
        self.observers.start()
        self._follow()
        if self.worker is not None:
            await self.worker.open()
        if self.retaining is not None:
            self.retaining.start()
        self._pulse.start()

    async def close(self, grace: float) -> None:
        """Stop, in the order that loses nothing: first the work, then who watches it."""
        if self._late:
            _, waiting = await asyncio.wait(self._late, timeout=grace)
            for task in waiting:
                task.cancel()
        if self.worker is not None:
            await self.worker.close(grace)
        await self._pulse.close()
        if self.retaining is not None:
            await self.retaining.close()
        self._executor.close()
        unshare(self.gates)
        await self.gates.close()
        await self._streams.close()
        await asyncio.gather(self.observers.close(min(grace, 5)), self.checkpoints.close(min(grace, 5)))
        self.feed.nudge()

    async def settle(self, timeout: float) -> None:
        """Wait until checkpoint stores and the workflows' observers have what is committed, at most for `timeout`."""
        await asyncio.gather(self.checkpoints.settle(timeout), self._attached.settle(timeout))

    def _beat(self) -> None:
        self.feed.nudge()
        self.hint()

    async def wake(self, run: RunId) -> None:
        """Have the worker look for what was delivered to a run."""
        if self.worker is not None:
            await self.worker.keeper.wake(run)

    def hint(self) -> None:
        """Have the worker look for what there is to do."""
        if self.worker is not None:
            self.worker.keeper.hint()

    def registered(self) -> None:
        """List the workflows anew, from any thread: one was registered."""
        self._loop.call_soon_threadsafe(self._list)

    def _follow(self) -> None:
        for workflow in self._workflows().values():
            self.checkpoints.follow(workflow)
        self._attached.follow()

    def _list(self) -> None:
        self._follow()
        if self.worker is not None and (self._listing is None or self._listing.done()):
            self._listing = self._loop.create_task(self.worker.registered())

    async def begin(
        self,
        run_id: RunId,
        started: facts.RunStarted,
        workflow: Workflow,
        params: dict[str, Any],
        known: Secrets,
    ) -> RunRow | None:
        """Commit a new run and drive it here when there is a slot; None when its id is taken."""
        self.checkpoints.follow(workflow)
        with self._attached.starting(workflow, run_id) as see:
            row = await self._begin(run_id, started, workflow, params, known)
            if row is not None:
                see()
        return row

    async def _begin(
        self,
        run_id: RunId,
        started: facts.RunStarted,
        workflow: Workflow,
        params: dict[str, Any],
        known: Secrets,
    ) -> RunRow | None:
        worker = self.worker
        here = (
            worker is not None
            and (
                worker.holdings.has_slot or bool(known)
            )  # secrets live here: nobody else could drive the run
            and not started.not_before
            and started.queue in worker.queues
            and self._workflows().get(workflow.name) is workflow
        )
        if worker is None or not here:
            return await self._enqueue(run_id, started)
        with worker.holdings.slot():
            run = self._held(
                run_id, started, opened(workflow, self._services, params, blobs := Blobs()), blobs, known
            )
            commit = await self._driver.open(run, started, held=True)
            if not await self._open_run(run, commit):
                return None
        row = commit.opened
        assert row is not None  # noqa: S101 - the first commit has the row
        return msgspec.structs.replace(row, status=commit.status, position=run.position)

    async def _enqueue(self, run_id: RunId, started: facts.RunStarted) -> RunRow | None:
        run = self._held(run_id, started, _Unopened(), Blobs(), Secrets({}))
        run.holding.worker = ""
        commit = await self._driver.open(run, started, held=False)
        return commit.opened if await self._open_run(run, commit) else None

    async def fork(
        self,
        run_id: RunId,
        started: facts.RunStarted,
        after: Sequence[facts.Fact],
        forked: facts.RunForked,
        blobs: Mapping[str, bytes],
    ) -> RunRow | None:
        """Commit a run that begins with another one's journal, for any worker; None when its id is taken."""
        run = self._held(run_id, started, _Unopened(started.hash), Blobs(), Secrets({}))
        run.holding.worker = ""
        run.blobs.add(blobs)
        journal = (started, *after, forked)
        for fact in journal:
            run.progress = run.program.evolve(run.progress, fact)
        # What the copied facts led to was led to in the other run; from them nothing follows here but the fork.
        row = opening_row(run_id, msgspec.structs.replace(started, at=forked.at))  # it is made now
        commit = self._committer.build(run, (started, forked), opened=row, held=False)
        commit = msgspec.structs.replace(commit, facts=journal)
        return commit.opened if await self._open_run(run, commit) else None

    async def _open_run(self, run: Held, commit: Commit) -> bool:
        """Write a first commit and go on after it; False when the run's id is taken."""
        if self.worker is not None:
            self.worker.claims.opened(run.id)
        self._committer.doubt(commit)
        try:
            answer = await self._committer.write_first(commit)
        except asyncio.CancelledError:
            # Who asked is gone, the commit is on its way, and a run belongs to the engine.
            self._later(partial(self._open_late, run, commit))
            raise
        except StoreUnavailable:
            self._later(
                partial(self._committer.settle, run.id)
            )  # if it was written, the worker gives the run back
            raise
        return await self._opened(run, commit, answer)

    def _later(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self._loop.create_task(_quietly(work))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _open_late(self, run: Held, commit: Commit) -> None:
        await self._opened(run, commit, await self._committer.write_first(commit))

    async def _opened(self, run: Held, commit: Commit, answer: Committed | Conflict) -> bool:
        if isinstance(answer, Conflict):
            if await self._committer.settled(commit):
                return True  # it was written, and others have gone on with the run since
            self._committer.answered(commit)
            return False
        self._driver.opened(run, commit)
        if self.worker is None or not run.holding.worker:
            self.hint()
        elif run.ledger.ended is None:
            self.worker.holdings.adopt(run)
        return True

    def _held(
        self, run_id: RunId, started: facts.RunStarted, program: Program[Any], blobs: Blobs, known: Secrets
    ) -> Held:
        msgspec.structs.force_setattr(started, "hash", program.hash)  # nobody else has seen the fact yet
        return Held(
            run_id,
            program,
            program.start(),
            blobs=blobs,
            secrets=known,
            params=started.data,
            holding=Holding(
                started.queue, started.workflow, started.priority, self._committer.worker, run=run_id
            ),
        )

    async def listed(self, name: str) -> Workflow | None:
        """Return a stand-in for a workflow as the newest worker lists it, to start runs of it."""
        for worker in reversed(await self._store.workers()):
            if name in worker.workflows:
                return Listed(name, msgspec.json.decode(worker.workflows[name]))
        return None


async def _quietly(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do what nobody waits for any more: a store that fails has told it to who asked."""
    with contextlib.suppress(StoreError):
        await work()


class _Progress:
    """The progress of a run that nobody drives yet: its ledger."""

    def __init__(self) -> None:
        self.ledger = Ledger()


class _Unopened:
    """The program of a run that a worker will open: absorbs its first fact and wants nothing."""

    checkpoints = False
    problem: Exception | None = None

    def __init__(self, hash_: str = "") -> None:
        self.hash = hash_

    def start(self) -> _Progress:
        return _Progress()

    def evolve(self, progress: _Progress, fact: facts.Fact) -> _Progress:
        progress.ledger.absorb(fact)
        return progress

    def decide(self, progress: _Progress) -> Sequence[Any]:
        return ()

    def work(self, progress: _Progress, step: Any) -> Any:
        raise LookupError(step)

    def child(self, progress: _Progress, step: Any) -> Any:
        raise LookupError(step)

    def changes(self, given: Mapping[str, Any]) -> Any:
        raise LookupError

    def state(self, progress: _Progress) -> dict[str, Any]:
        return {}

    def encode(self, progress: _Progress) -> bytes:
        raise LookupError

    def decode(self, data: bytes) -> _Progress:
        raise LookupError
