"""A store that fails as stores do: refusals, lost answers, late and doubled writes, and processes that die around them.

Each engine of a world has one of these before the store that all share. Whatever was sent to the store happens there
whether or not the sender lives on. What the store really did is told to a witness, in the order in which it did it.
"""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from random import Random
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, cast

from holdfast.errors import StoreUnavailable
from holdfast.model.commit import Commit, Committed, Conflict
from holdfast.model.ids import SECOND, Instant, RunId, WorkerId
from holdfast.model.run import RunRow
from holdfast.store.port import Store
from holdfast.store.rows import (
    Claimed,
    Delivered,
    Delivery,
    InboxRow,
    JournalRow,
    RunQuery,
    Stored,
    WorkerRow,
)
from holdfast.testing.faults_beside import FaultyBeside
from holdfast.testing.loop import Process, ProcessDied, current_process
from holdfast.testing.writes import Writes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Faults:
    """How probable, from 0 to 1, each mishap is at each call of the store that it can befall."""

    crash: float = 0.0
    """The process dies just before or just after a write."""
    freeze: float = 0.0
    """The process stops just before or just after a write, for up to `freeze_seconds`, and then goes on."""
    refuse: float = 0.0
    """The store is unavailable; nothing is written."""
    lose: float = 0.0
    """Something is written, and the answer is lost: `StoreUnavailable` is raised."""
    late: float = 0.0
    """A commit or delivery seems lost and is written all the same, up to `delay_seconds` later."""
    twice: float = 0.0
    """A commit or delivery arrives twice."""
    delay: float = 0.0
    """A call takes up to `delay_seconds`."""
    freeze_seconds: float = 90.0
    delay_seconds: float = 2.0


NO_FAULTS: Final = Faults()
POLL: Final = 0.25
Mishap = Literal["crash", "freeze", "refuse", "lose", "late", "twice", "delay"]

COMMIT: Final[tuple[Mishap, ...]] = ("crash", "freeze", "refuse", "lose", "late", "twice", "delay")
DELIVER: Final[tuple[Mishap, ...]] = ("crash", "refuse", "lose", "late", "twice", "delay")
WRITE: Final[tuple[Mishap, ...]] = ("crash", "freeze", "refuse", "lose", "delay")
READ: Final[tuple[Mishap, ...]] = ("refuse", "delay")

assert {field.name for field in fields(Faults) if not field.name.endswith("_seconds")} == set(COMMIT)  # noqa: S101


class Witness(Protocol):
    """Sees what the store did."""

    def committed(
        self, worker: WorkerId, commits: Sequence[Commit], answers: Sequence[Committed | Conflict]
    ) -> None:
        """Commits were written or refused."""

    def doubt(self, commits: Sequence[Commit]) -> None:
        """Commits are under way whose senders were told that the store is unavailable."""

    def claimed(self, worker: WorkerId, claims: Sequence[Claimed]) -> None:
        """A worker took jobs."""

    def reclaimed(self, workers: Sequence[WorkerId], runs: Sequence[RunId]) -> None:
        """The jobs of dead workers were freed."""


class Plan:
    """Decides what goes wrong: at random, or at a commit that was named."""

    def __init__(self, faults: Faults, random: Random) -> None:
        """Draw from `random`."""
        self.faults = faults
        self.random: Final = random
        self.commits = 0
        """How many commits were sent through any store of this plan."""
        self._named: dict[int, tuple[Mishap, bool]] = {}

    def at_commit(self, number: int, mishap: Mishap, *, after: bool) -> None:
        """Have something go wrong at the commit of that number, counted from 1."""
        self._named[number] = (mishap, after)

    def draw(self, possible: Sequence[Mishap]) -> tuple[Mishap, bool] | None:
        """Return what goes wrong at this call, and whether after the write; mostly None."""
        if possible is COMMIT:
            self.commits += 1
            if (named := self._named.pop(self.commits, None)) is not None:
                return named
        if self.faults is NO_FAULTS:
            return None
        number = self.random.random()
        for mishap in possible:
            number -= getattr(self.faults, mishap)
            if number < 0:
                return mishap, self.random.random() < 0.5  # noqa: PLR2004 - even chances
        return None

    def seconds(self, most: float) -> float:
        """Return how long something takes."""
        return self.random.uniform(0, most)


class _Done(Generic[T]):
    """An answer that is there; may be awaited as often as one likes."""

    def __init__(self, value: T) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, Any, T]:
        yield from ()
        return self._value


async def _rest(begun: Coroutine[Any, Any, T], waits_for: Any) -> T:
    """Go on with a coroutine that has begun to wait. A task takes no generator, from Python 3.12 on."""
    return await _steps(begun, waits_for)


@types.coroutine
def _steps(begun: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    while True:
        try:
            sent = yield waits_for
        except BaseException as error:  # noqa: BLE001 - handed on
            step = partial(begun.throw, error)
        else:
            step = partial(begun.send, sent)
        try:
            waits_for = step()
        except StopIteration as done:
            return cast("T", done.value)


def _nothing() -> None:
    """Tell nothing of a call that failed."""


class FaultyStore(FaultyBeside):
    """One process's way to the store. Has the store's verbs."""

    def __init__(
        self, inner: Store, process: Process, plan: Plan, witness: Witness, writes: Writes, skew: float = 0.0
    ) -> None:
        """Stand before `inner`, whose time is seen `skew` seconds off."""
        self.url = inner.url
        self.stats = inner.stats
        self.cut = False
        """While True the store cannot be reached from here."""
        self._inner = inner
        self._process = process
        self._plan = plan
        self._witness = witness
        self._loop = asyncio.get_running_loop()
        self._outside = contextvars.Context()
        self._sent: set[asyncio.Task[Any]] = set()
        self._writes = writes
        self._skew = round(skew * SECOND)
        self._seen = 0

    # --- how calls go

    async def _read(self, read: Callable[[], Awaitable[T]]) -> T:
        self._check()
        match self._plan.draw(READ):
            case ("refuse", _):
                raise self._unavailable()
            case ("delay", _):
                await asyncio.sleep(self._plan.seconds(self._plan.faults.delay_seconds))
            case _:
                pass
        return await read()

    async def _write(
        self,
        work: Callable[[], Awaitable[T]],
        tell: Callable[[T], None] | None = None,
        possible: Sequence[Mishap] = WRITE,
        commits: Sequence[Commit] = (),
    ) -> T:
        self._check()
        drawn = self._plan.draw(possible)
        if drawn is None:
            return await self._send(work, tell)
        mishap, after = drawn
        match mishap:
            case "crash" | "freeze":
                return await self._stop(work, tell, mishap, after=after)
            case "refuse":
                raise self._unavailable()
            case "lose":
                await self._send(work, tell)
                raise self._unavailable()
            case "late":
                self._witness.doubt(commits)
                self._send(work, tell, self._seconds())
                raise self._unavailable()
            case "twice":
                first, second = self._send(work, tell), self._send(work, tell)
                answers = await first, await second
                return answers[after]
            case "delay":
                answer = self._send(work, tell, 0 if after else self._seconds())
                if after:
                    await asyncio.sleep(self._seconds())
                return await answer

    async def _stop(
        self,
        work: Callable[[], Awaitable[T]],
        tell: Callable[[T], None] | None,
        mishap: Literal["crash", "freeze"],
        *,
        after: bool,
    ) -> T:
        """Kill or freeze the process around the write."""
        answer = self._send(work, tell) if after else None
        if answer is not None:
            await asyncio.wait((asyncio.ensure_future(answer),))
        if mishap == "crash":
            self._process.kill()
            if current_process() is not self._process:
                raise ProcessDied(f"{self._process.name} was killed")
        else:
            self._process.freeze_for(self._plan.seconds(self._plan.faults.freeze_seconds))
        await asyncio.sleep(0)  # a dead process never comes back from here
        self._check()
        return await (self._send(work, tell) if answer is None else answer)

    def _send(
        self, work: Callable[[], Awaitable[T]], tell: Callable[[T], None] | None, delay: float = 0.0
    ) -> Awaitable[T]:
        """Have the store do it, whatever becomes of who asked."""

        async def carry() -> T:
            if delay:
                await asyncio.sleep(delay)
            answer = await (work() if tell is None else self._told(work, tell))
            if answer:  # an empty answer to a claim and the like: nothing was written
                self._writes.wrote(self._process.name)
            return answer

        begun = carry()
        try:
            first = self._outside.run(begun.send, None)
        except (
            StopIteration
        ) as done:  # most claims find nothing; a task for each would cost more than all else
            return _Done(done.value)
        task = self._loop.create_task(_rest(begun, first), context=self._outside)
        self._sent.add(task)
        task.add_done_callback(self._arrived, context=self._outside)
        return asyncio.shield(task)

    async def _told(self, work: Callable[[], Awaitable[T]], tell: Callable[[T], None]) -> T:
        place, told = self._writes.place(), _nothing
        try:
            answer = await work()
            told = partial(tell, answer)
        finally:
            self._writes.tell(place, told)
        return answer

    def _arrived(self, task: asyncio.Task[Any]) -> None:
        self._sent.discard(task)
        if not task.cancelled():
            task.exception()  # who asked may be gone

    def _seconds(self) -> float:
        return self._plan.seconds(self._plan.faults.delay_seconds)

    def _check(self) -> None:
        if self.cut or self._process.dead:
            raise self._unavailable()

    def _unavailable(self) -> StoreUnavailable:
        return StoreUnavailable("the simulated store cannot be reached", fix="Wait.")

    async def arrive(self) -> None:
        """Wait until all that was sent has arrived."""
        while self._sent:
            await asyncio.wait(tuple(self._sent))

    # --- the verbs

    def now(self) -> Instant:
        """As the port says."""
        return self._inner.now() + self._skew

    async def open(self) -> None:
        """The world opened it."""

    async def close(self) -> None:
        """The world closes it."""

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Committed | Conflict]:
        """As the port says; the witness sees it."""
        name = self._process.name
        return await self._write(
            lambda: self._inner.commit(commits),
            lambda answers: self._witness.committed(name, commits, answers),
            COMMIT,
            commits,
        )

    async def deliver(self, deliveries: Sequence[Delivery]) -> Sequence[Delivered]:
        """As the port says."""
        return await self._write(lambda: self._inner.deliver(deliveries), possible=DELIVER)

    async def claim(
        self, worker: WorkerId, lanes: Sequence[tuple[str, str]], limit: int, *, suspects: bool = False
    ) -> Sequence[Claimed]:
        """As the port says; the witness sees it."""
        return await self._write(
            lambda: self._inner.claim(worker, lanes, limit, suspects=suspects),
            lambda claims: self._witness.claimed(worker, claims),
        )

    async def ready(
        self, lanes: Sequence[tuple[str, str]], limit: int, *, suspects: bool = False
    ) -> Sequence[RunId]:
        """As the port says."""
        return await self._read(lambda: self._inner.ready(lanes, limit, suspects=suspects))

    async def claim_run(self, worker: WorkerId, run: RunId) -> Claimed | None:
        """As the port says; the witness sees it."""
        return await self._write(
            lambda: self._inner.claim_run(worker, run),
            lambda claim: self._witness.claimed(worker, [claim] if claim is not None else []),
        )

    async def held(self, worker: WorkerId) -> Sequence[RunId]:
        """As the port says."""
        return await self._read(lambda: self._inner.held(worker))

    async def release(self, worker: WorkerId, runs: Sequence[RunId]) -> None:
        """As the port says."""
        await self._write(lambda: self._inner.release(worker, runs))

    async def enlist(self, worker: WorkerRow) -> None:
        """As the port says."""
        await self._write(lambda: self._inner.enlist(worker))

    def renew(self, worker: WorkerId, until: Instant) -> bool:
        """As the port says."""
        self._check()
        if self._plan.draw(READ) is not None:
            raise self._unavailable()
        return self._inner.renew(worker, until)

    async def dismiss(self, workers: Sequence[WorkerId]) -> None:
        """As the port says."""
        await self._write(lambda: self._inner.dismiss(workers))

    async def reclaim(
        self, workers: Sequence[WorkerId], reason: Literal["died", "expired"]
    ) -> Sequence[RunId]:
        """As the port says; the witness sees it."""
        return await self._write(
            lambda: self._inner.reclaim(workers, reason),
            lambda runs: self._witness.reclaimed(workers, runs),
        )

    async def move_due(self, limit: int = 1000) -> int:
        """As the port says."""
        return await self._write(lambda: self._inner.move_due(limit))

    async def delete(self, run: RunId, *, tombstone: bool = True) -> Delivered:
        """As the port says."""
        return await self._write(lambda: self._inner.delete(run, tombstone=tombstone))

    async def load(self, run: RunId, hash_: str = "") -> Stored | None:
        """As the port says."""
        return await self._read(lambda: self._inner.load(run, hash_))

    async def inbox(self, run: RunId) -> Sequence[InboxRow]:
        """As the port says."""
        return await self._read(lambda: self._inner.inbox(run))

    async def woken(self, worker: WorkerId) -> Mapping[RunId, int]:
        """As the port says."""
        return await self._read(lambda: self._inner.woken(worker))

    async def workers(self) -> Sequence[WorkerRow]:
        """As the port says."""
        return await self._read(self._inner.workers)

    async def next_due(self) -> Instant | None:
        """As the port says."""
        return await self._read(self._inner.next_due)

    async def run(self, run: RunId) -> RunRow | None:
        """As the port says."""
        return await self._read(lambda: self._inner.run(run))

    async def runs(self, query: RunQuery) -> Sequence[RunRow]:
        """As the port says."""
        return await self._read(lambda: self._inner.runs(query))

    async def count(self, query: RunQuery) -> int:
        """As the port says."""
        return await self._read(lambda: self._inner.count(query))

    async def journal(self, run: RunId, after: int = 0, limit: int = 1000) -> Sequence[JournalRow]:
        """As the port says."""
        return await self._read(lambda: self._inner.journal(run, after, limit))

    async def tail(self, worker: WorkerId, after: str, limit: int = 1000) -> Sequence[JournalRow]:
        """As the port says."""
        return await self._read(lambda: self._inner.tail(worker, after, limit))

    async def commits_after(self, after: str, limit: int = 1000) -> Sequence[JournalRow]:
        """As the port says."""
        return await self._read(lambda: self._inner.commits_after(after, limit))

    async def blobs(self, run: RunId) -> Mapping[str, bytes]:
        """As the port says."""
        return await self._read(lambda: self._inner.blobs(run))

    async def wait(self, timeout: float) -> bool:
        """As the port says; it is noticed up to a quarter of a second late."""
        self._check()
        name = self._process.name
        if self._seen == self._writes.of_others(name):
            await asyncio.wait((self._writes.next(name),), timeout=timeout)
        await asyncio.sleep(self._plan.seconds(POLL))
        seen, self._seen = self._seen, self._writes.of_others(name)
        return seen != self._seen

    async def check(self) -> Sequence[str]:
        """As the port says."""
        return await self._inner.check()
