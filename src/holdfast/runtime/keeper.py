"""The keeper of a worker: claims jobs, wakes held runs, moves what is due, and goes on patrol.

It is woken by what happens (a job enqueued here, a slot set free, a write of another process), never by a fixed poll
alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from holdfast.errors import StoreError
from holdfast.model.ids import SECOND, RunId, WorkerId
from holdfast.model.run import RunStatus
from holdfast.runtime.claims import Claims
from holdfast.runtime.holdings import Holdings, missing
from holdfast.runtime.patrol import Patrol
from holdfast.runtime.secrets import SecretMemory
from holdfast.store.port import Store
from holdfast.store.rows import RunQuery, WorkerRow

logger: Final = logging.getLogger("holdfast")

PATROL_SECONDS: Final = 1.0
SHORTEST_REST: Final = 0.002
"""Seconds. What is due by our view of the store's clock may not be due there yet: no spinning until it is."""

PROVIDE_SECONDS: Final = 60.0
"""How often a worker with a provider of secrets looks for runs that wait for one."""

SUSPECT_SECONDS: Final = 5.0
"""For so long a run that must be held alone waits for an idle worker, before one sees to it that it becomes idle."""


class Keeper:
    """Keeps the holdings of one worker full of what it claims."""

    def __init__(
        self,
        store: Store,
        holdings: Holdings,
        patrol: Patrol,
        worker: WorkerId,
        *,
        claims: Claims,
        secrets: SecretMemory,
    ) -> None:
        """Prepare; nothing is claimed yet."""
        self._store = store
        self._holdings = holdings
        self._patrol = patrol
        self._worker = worker
        self._claims = claims
        self._secrets = secrets
        self._provided = -PROVIDE_SECONDS
        self._hint = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._patrolled = 0.0
        self._starved = False
        self._strays: set[RunId] = set()
        self._suspects = False
        """Whether the last patrol saw a run that must be held alone: else an idle worker asks for none at each ring."""
        self._suspect_since: float | None = None
        holdings.on_free = self._freed

    # --- life

    async def open(self) -> None:
        """Free what dead workers left, and begin to claim."""
        await self.patrol()
        self._task = self._loop.create_task(self._keep(), name="holdfast-keeper")

    async def close(self) -> None:
        """End, when the holdings are closing. A claim under way is let end: else nobody would know of its jobs."""
        self.hint()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Let what comes for held runs reach them while they are laid down: a cancel must not wait for their steps."""
        task = self._loop.create_task(self._listen(), name="holdfast-listener")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            self._hint.clear()
            with contextlib.suppress(StoreError):  # the next look sees it too
                await self._wake_held()
            await self._rest(PATROL_SECONDS)

    async def wake(self, run: RunId) -> None:
        """Have a run that is held here take what was delivered to it before whatever its steps come to from now on."""
        if run in self._holdings.held:
            with contextlib.suppress(StoreError):  # the next round sees it too
                await self._wake_held()
        self.hint()

    def hint(self) -> None:
        """Have the keeper look at once: something was enqueued, delivered, or a slot is free."""
        self._hint.set()

    def _freed(self) -> None:
        if self._starved:  # else there is nothing to claim, and looking costs three reads
            self.hint()

    async def _keep(self) -> None:
        while not self._holdings.closing:
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
        astray = list(self._holdings.astray)
        if astray:
            await self._store.release(self._worker, astray)
            self._holdings.astray.difference_update(astray)
        if self._loop.time() - self._patrolled > PATROL_SECONDS:
            await self.patrol()
            await self._find_strays()
        # At once: what is ready need not wait for what is due. The claim goes first, in this very turn of the loop.
        moving = self._loop.create_task(self._move_due(), name="holdfast-due")
        try:
            await self._claim()
        finally:  # gathered: an error of the one must not hide that the other was cancelled
            (failed,) = await asyncio.gather(moving, return_exceptions=True)
        if failed is not None:
            raise failed
        if self._secrets.provides and self._loop.time() - self._provided > PROVIDE_SECONDS:
            self._provided = self._loop.time()
            await self._provide()

    async def _move_due(self) -> None:
        """Move what is due, claimed with the next round, and have held runs look at what came for them."""
        if await self._store.move_due():
            self.hint()
        await self._wake_held()

    async def _wake_held(self) -> None:
        if not self._holdings.held:
            return
        for run, wakes in (await self._store.woken(self._worker)).items():
            if (held := self._holdings.held.get(run)) is not None:
                held.wake(wakes)

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

    # --- claiming

    async def _claim(self) -> None:
        holdings = self._holdings
        self._starved = True
        while holdings.has_slot:
            room = holdings.room
            claimed = await self._claims.take(room)
            await holdings.take(*claimed)
            if len(claimed) < room:
                self._starved = False
                break
        if self._suspects and holdings.idle:
            await holdings.take(*await self._claims.take(1, suspects=True))

    async def _provide(self) -> None:
        """Take runs up that wait for secrets which the provider has."""
        waiting = RunQuery(status=frozenset({RunStatus.WAITING}), waits_for="secret", ascending=True)
        while rows := await self._store.runs(waiting):
            for row in rows:
                names = [
                    wait.removeprefix("secret ") for wait in row.waiting_on if wait.startswith("secret ")
                ]
                may = self._claims.serves(row) and self._holdings.has_slot
                if may and not missing(names, self._secrets.known(row, names)):
                    await self._holdings.take_run(row.id)
            waiting = msgspec.structs.replace(waiting, after=(rows[-1].created_at, rows[-1].id))

    # --- patrols

    async def patrol(self) -> None:
        """Free what dead workers left, and see whether a run waits to be held alone."""
        self._patrolled = self._loop.time()
        living = await self._patrol.walk()
        waits = await self._suspect_waits(living)
        if not waits:
            self._suspect_since = None
        elif self._suspect_since is None:
            self._suspect_since = self._patrolled
        since = self._suspect_since
        self._holdings.reserved = since is not None and self._patrolled - since >= SUSPECT_SECONDS

    async def _suspect_waits(self, living: Sequence[WorkerRow]) -> bool:
        """Tell whether a suspect waits for this worker: of those that serve it one alone becomes idle for it."""
        suspect = await self._claims.suspect()
        self._suspects = suspect is not None
        row = None if suspect is None else await self._store.run(suspect)
        if row is None:
            return False
        serving = [each.id for each in living if row.queue in each.queues and row.workflow in each.workflows]
        return bool(serving) and min(serving) == self._worker

    async def _find_strays(self) -> None:
        """Give back what is ours in the store and not driven here: an answer that said so was lost."""
        strays = set(await self._store.held(self._worker)) - self._holdings.held.keys()
        self._holdings.astray.update(strays & self._strays)  # at one patrol it may be a run being taken up
        self._strays = strays
