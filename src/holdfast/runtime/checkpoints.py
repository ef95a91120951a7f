"""Feeding checkpoint stores: after the commit, from committed facts, beside the runs.

A follower per store walks all commits of this process with a cursor of its own and folds those of the runs whose
workflow names the store: a fold beside that of the driver, so nothing waits for it. A store that raises is reported
and goes on, one that hangs is given up for that call and falls behind; neither touches a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from holdfast.core.checkpoints import Checkpointing, CheckpointStore, Rounds, checkpointing_of
from holdfast.core.nesting import definition_of
from holdfast.core.program import Workflow
from holdfast.core.work import Blobs
from holdfast.errors import DefinitionError, StoreError
from holdfast.model import facts
from holdfast.model.audit import Checkpoint
from holdfast.model.ids import RunId, WorkerId
from holdfast.model.state import State
from holdfast.model.values import decode
from holdfast.runtime.calling import call, is_own
from holdfast.runtime.feed import Cursor, Entry, Feed, patiently
from holdfast.runtime.opening import opened
from holdfast.runtime.threads import Threads
from holdfast.store.port import Store

logger: Final = logging.getLogger("holdfast.checkpoints")

PATIENCE: Final = 30.0
"""Seconds that one call of a store may take."""

_FOLDED: Final = 256
"""Runs whose fold a follower keeps; others are folded again from the journal."""
_REMEMBERED: Final = 10_000
"""Runs of other stores, and deleted ones, that a follower knows without asking."""


class Checkpoints:
    """The followers of one engine: one for each store that a workflow names, so with none it costs nothing."""

    def __init__(
        self,
        feed: Feed,
        store: Store,
        worker_id: WorkerId,
        services: Any,
        registered: Callable[[], Mapping[str, Workflow]],
        threads: Threads,
    ) -> None:
        """Begin without followers. Belongs to the feed's loop. `registered` tells which workflows there are."""
        self._registered = registered
        self._feed = feed
        self._store = store
        self._worker_id = worker_id
        self._services = services
        self._threads = threads
        self._workflows: dict[str, Workflow] = {}
        self._followers: dict[int, _Follower] = {}
        self._tasks: dict[asyncio.Task[None], _Follower] = {}

    def follow(self, workflow: Workflow) -> None:
        """Feed the workflow's store, if it has one, with what is committed from now on. Idempotent."""
        settings = checkpointing_of(workflow)
        if settings.store is None or self._workflows.get(workflow.name) is workflow:
            return
        try:
            target = settings.target()
        except DefinitionError:
            return  # its runs fail with this error, which tells more there
        if target is None:
            return
        self._workflows[workflow.name] = workflow
        self._forget()
        if id(target) not in self._followers:
            follower = _Follower(target, _name(settings, target), self)
            self._followers[id(target)] = follower
            task = asyncio.create_task(_driven(follower), name=f"holdfast-{follower.name}")
            self._tasks[task] = follower
            task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def _forget(self) -> None:
        """Let go of workflows that are gone, and of the stores that only they named."""
        known = self._registered()
        self._workflows = {name: each for name, each in self._workflows.items() if known.get(name) is each}
        named = {id(checkpointing_of(each).target()) for each in self._workflows.values()}
        for key in self._followers.keys() - named:
            self._followers.pop(key).stop()

    def cursor(self, name: str) -> Cursor:
        """Return a cursor after what is committed."""
        return Cursor(self._feed, self._store, self._worker_id, name)

    def fold_of(self, started: facts.RunStarted, target: CheckpointStore) -> _Fold | None:
        """Return the fold of a run before its first fact; None when the run is not of this store."""
        workflow = self._workflows.get(started.workflow)
        if workflow is None:
            return None
        workflow = definition_of(workflow, started, self._services)
        settings = checkpointing_of(workflow)
        with contextlib.suppress(DefinitionError):
            if settings.target() is target:
                return _Fold(workflow, settings, started, self._services)
        return None

    async def facts_of(self, run: RunId, until: int) -> list[facts.AnyFact]:
        """Return a run's facts up to a position."""
        rows = await patiently(lambda: self._store.journal(run, limit=until + 1))
        return [fact for row in rows for fact in facts.Journal.decode(row.facts)][:until]

    async def blobs_of(self, run: RunId) -> Any:
        """Return a run's large values."""
        return await patiently(lambda: self._store.blobs(run))

    async def ask(self, name: str, run: RunId, method: Callable[..., Any], *arguments: Any) -> None:
        """Call a store; what it raises, and that it does not answer, is reported."""
        place = {"store": name, "run_id": run}
        try:
            async with asyncio.timeout(PATIENCE):
                await call(self._threads, method, *arguments)
        except TimeoutError as error:
            message = "%s did not %s run %s within %g seconds"
            logger.error(message, name, method.__name__, run, PATIENCE, exc_info=error, extra=place)  # noqa: TRY400
        except BaseException as error:
            if is_own(error):
                raise
            message = "%s raised %s when asked to %s run %s"
            kind = type(error).__name__
            logger.error(message, name, kind, method.__name__, run, exc_info=error, extra=place)  # noqa: TRY400

    async def delete(self, workflow: Workflow | None, run: RunId) -> None:
        """Have the workflow's store forget a run that was deleted; what it raises is reported."""
        settings = checkpointing_of(workflow)
        with contextlib.suppress(DefinitionError):
            target = settings.target()
            follower = self._followers.get(id(target))
            if follower is not None:
                await follower.delete(run)
            elif target is not None:
                await self.ask(_name(settings, target), run, target.delete, run)

    @property
    def feeds(self) -> bool:
        """Tell whether any store is fed."""
        return bool(self._followers)

    def lag(self) -> dict[str, int]:
        """Return by follower how many commits it has not finished with."""
        return {follower.name: follower.lag for follower in self._followers.values()}

    async def settle(self, timeout: float) -> None:
        """Wait until all that is committed has been fed, at most for `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for task, follower in list(self._tasks.items()):
                    while follower.lag and not task.done():
                        follower.moved.clear()
                        await follower.moved.wait()

    async def close(self, grace: float) -> None:
        """Feed what is committed, for up to `grace` seconds. Idempotent."""
        tasks, self._tasks = self._tasks, {}
        for follower in tasks.values():
            follower.stop()
        late = (await asyncio.wait(tasks, timeout=grace))[1] if tasks else ()
        for task in late:
            follower = tasks[task]
            message = "%s did not get the last %s commits before the engine closed"
            logger.warning(message, follower.name, follower.lag, extra={"store": follower.name})
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1)
        self._threads.close()


async def _driven(follower: _Follower) -> None:
    try:
        await follower.run()
    except Exception:
        logger.exception("%s gets no more checkpoints", follower.name)
    finally:
        follower.moved.set()


def _name(settings: Checkpointing, target: CheckpointStore) -> str:
    name = settings.store if isinstance(settings.store, str) else type(target).__name__
    return f"checkpoints:{name}"


def _remember(runs: OrderedDict[RunId, None], run: RunId) -> None:
    runs[run] = None
    if len(runs) > _REMEMBERED:
        runs.popitem(last=False)


class _Fold:
    """A run folded up to a position."""

    def __init__(
        self, workflow: Workflow, settings: Checkpointing, started: facts.RunStarted, services: Any
    ) -> None:
        self.settings = settings
        self.position = 0
        self.blobs = Blobs()
        self._rounds = Rounds()
        self._program = opened(workflow, services, dict(decode(started.data)), self.blobs)
        self._progress = self._program.start()

    def absorb(self, fact: facts.Fact) -> Checkpoint | None:
        """Return the checkpoint that the next fact makes, when it is one to feed."""
        self.position += 1
        self._progress = self._program.evolve(self._progress, fact)
        found = self._rounds.absorb(self.position, fact)
        return found if found is not None and self.settings.lists(found) else None

    def state(self, run: RunId, checkpoint: Checkpoint) -> State:
        """Return the state now, as the run's checkpoint. Raises StoreError when a large value is not in `blobs`."""
        data = self._program.state(self._progress)
        return State(data, run_id=run, checkpoint_node=checkpoint.node, timestamp=checkpoint.at)


class _Follower:
    """Feeds one store."""

    def __init__(self, target: CheckpointStore, name: str, owner: Checkpoints) -> None:
        self.name = name
        self.moved = asyncio.Event()
        self._target = target
        self._owner = owner
        self._cursor = owner.cursor(name)
        self._done = 0  # of the cursor's batch
        self._folds: OrderedDict[RunId, _Fold] = OrderedDict()
        self._others: OrderedDict[RunId, None] = OrderedDict()
        self._deleted: OrderedDict[RunId, None] = OrderedDict()
        self._asking = asyncio.Lock()

    @property
    def lag(self) -> int:
        return max(self._cursor.lag - self._done, 0)

    def stop(self) -> None:
        self._cursor.stop()

    async def run(self) -> None:
        async with aclosing(self._cursor.commits()) as commits:
            async for batch in commits:
                for entry in batch:
                    if not entry.chunks:
                        await self._take(entry)
                    self._done += 1
                    self.moved.set()
                self._done = 0

    async def delete(self, run: RunId) -> None:
        """Have the store forget a run for good, also when commits of it are still to be fed."""
        _remember(self._deleted, run)
        async with self._asking:
            await self._owner.ask(self.name, run, self._target.delete, run)

    async def _take(self, entry: Entry) -> None:
        try:
            fold = await self._fold(entry)
            if fold is not None:
                await self._feed(fold, entry)
        except Exception:
            place = {"store": self.name, "run_id": entry.run}
            logger.exception("%s: run %s cannot be shown", self.name, entry.run, extra=place)
            self._folds.pop(entry.run, None)

    async def _feed(self, fold: _Fold, entry: Entry) -> None:
        fold.blobs.update(entry.blobs)
        for fact in entry.facts:
            found = fold.absorb(fact)
            if found is not None:
                await self._save(fold, entry.run, found)
            if isinstance(fact, facts.RunCompleted) and not fold.settings.preserve:
                await self._owner.ask(self.name, entry.run, self._target.delete, entry.run)
        if isinstance(entry.facts[-1], facts.RunCompleted | facts.RunFailed | facts.RunCancelled):
            self._folds.pop(entry.run, None)

    async def _save(self, fold: _Fold, run: RunId, found: Checkpoint) -> None:
        try:
            state = fold.state(run, found)
        except StoreError:  # a large value that an earlier commit brought
            fold.blobs.update(await self._owner.blobs_of(run))
            state = fold.state(run, found)
        async with self._asking:
            if run not in self._deleted:
                await self._owner.ask(self.name, run, self._target.save, state)

    async def _fold(self, entry: Entry) -> _Fold | None:
        """Return the fold of the entry's run up to the entry; None when the run is not of this store."""
        run = entry.run
        fold = self._folds.get(run)
        if fold is not None and fold.position == entry.position:
            self._folds.move_to_end(run)
            return fold
        if run in self._others:
            return None
        known = [] if entry.position == 0 else await self._owner.facts_of(run, entry.position)
        started = next((fact for fact in (*known, *entry.facts) if isinstance(fact, facts.RunStarted)), None)
        fold = None if started is None else self._owner.fold_of(started, self._target)
        if fold is None:
            _remember(self._others, run)
            return None
        for fact in known:
            fold.absorb(fact)
        self._folds[run] = fold
        if len(self._folds) > _FOLDED:
            self._folds.popitem(last=False)
        return fold
