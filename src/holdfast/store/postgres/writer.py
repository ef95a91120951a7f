"""Group commit: all that waits while a group is under way goes over in the next one, in one round trip.

Commits of runs make one transaction, deliveries another; whatever else is written has one of its own. What a writer
was given in one turn of the loop is sent at once on its connection and answered in order. A group that is large enough
does not wait for the one before: so the server writes while the loop makes the next commits.

Others are rung once their work is durable. Behind a commit that goes alone the ring follows at once on the same
connection, which spares it the way here and back; else it goes on one of its own, since it may wait for a lock.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import psycopg
from psycopg.pq.abc import PGresult

from holdfast.errors import StoreError, StoreUnavailable
from holdfast.model.commit import Commit, Committed, Conflict
from holdfast.model.ids import Instant
from holdfast.store.postgres import changes
from holdfast.store.postgres.bell import Bell
from holdfast.store.postgres.commits import Group
from holdfast.store.postgres.failures import explained, is_passing, is_unavailable
from holdfast.store.postgres.lines import Line
from holdfast.store.postgres.link import Statement
from holdfast.store.postgres.wire import number
from holdfast.store.rows import Delivered, Delivery, StoreStats

T = TypeVar("T")

LARGEST_GROUP: Final = 256
"""Calls in one transaction; beyond that the loop would be held for longer than the round trip saves."""

FULL_GROUP: Final = 32
"""Commits that are sent although a group is under way: from so many on a flush costs each of them little."""

UNDER_WAY: Final = 2
"""Sendings that may be under way at once; what comes then makes larger groups."""

TRIES: Final = 8
"""How often a group that met a deadlock is written anew."""

REMEMBERED: Final = 10_000
"""Numbers of our own transactions that are kept, to tell others' from ours."""


class _Call(NamedTuple):
    """One caller's writes: all in one transaction, or none. `rings`: they make work for others."""

    future: asyncio.Future[Any]
    given: Any
    rings: bool = False


class _Parcel(NamedTuple):
    """What goes over for some calls, and how their answers are read from what comes back."""

    statements: Sequence[Statement]
    read: Callable[[Sequence[PGresult]], Sequence[Any]]


_Pack = Callable[[Sequence[_Call]], _Parcel]


class Writer:
    """Writes for all tasks of one event loop."""

    def __init__(
        self, line: Line, bell: Bell, where: str, stats: StoreStats, at: Callable[[], Instant | None]
    ) -> None:
        """`at` gives the instant of a delivery; None leaves it to the server."""
        self._line = line
        self._bell = bell
        self._where = where
        self._stats = stats
        self._at = at
        self._turn = number(secrets.randbits(31))
        self._commits: deque[_Call] = deque()
        self._deliveries: deque[_Call] = deque()
        self._others: deque[_Call] = deque()
        self._loop = asyncio.get_running_loop()
        self._busy = False
        self._alone = False
        """True when the last group was one call: then gathering until the next turn of the loop only costs time."""
        self._left = 0
        self._recovering: set[asyncio.Task[None]] = set()
        self._idle: asyncio.Future[None] | None = None
        self._closed = False
        self.ours: set[int] = set()
        """The numbers of the transactions that were written here lately."""

    def commit(
        self, commits: Sequence[Commit], *, rings: bool = False
    ) -> asyncio.Future[list[Committed | Conflict]]:
        """Return the future answers to these commits; with `rings` others are rung as soon as they are durable."""
        return self._gather(self._commits, commits, rings=rings)

    def deliver(self, deliveries: Sequence[Delivery]) -> asyncio.Future[list[Delivered]]:
        """Return the future answers to these deliveries."""
        return self._gather(self._deliveries, deliveries)

    def submit(self, statement: Statement, read: Callable[[PGresult], T]) -> asyncio.Future[T]:
        """Return the future answer of a statement in a transaction of its own: it gains nothing from a group."""
        future = self._gather(self._others, (statement, read))
        if self._others and self._left < UNDER_WAY:
            self._flush()
        return future

    def _gather(self, calls: deque[_Call], given: Any, *, rings: bool = False) -> asyncio.Future[Any]:
        if self._closed:
            raise StoreUnavailable(f"the store {self._where} is closed", fix="Open it again.")
        future: asyncio.Future[Any] = self._loop.create_future()
        calls.append(_Call(future, given, rings))
        if not self._busy:
            self._busy = True
            if self._alone:
                self._flush()
            else:
                self._loop.call_soon(self._go_on)
        elif len(self._commits) >= FULL_GROUP:
            self._go_on()
        return future

    async def close(self) -> None:
        """Finish the writes under way."""
        self._closed = True
        if self._busy:
            self._idle = self._loop.create_future()
            await self._idle

    def _go_on(self) -> None:
        """Send what waits if nothing is under way, or if it is much and little is under way."""
        if not self._left or (self._left < UNDER_WAY and len(self._commits) >= FULL_GROUP):
            self._flush()

    def _flush(self) -> None:
        """Send what waits."""
        bundles = self._take()
        self._left += len(bundles)
        if bundles:
            self._alone = self._left == 1 and len(bundles[0][1]) == 1
        for pack, calls in bundles:
            self._send(pack, calls)
        if not self._left:
            self._busy = False
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)

    def _send(self, pack: _Pack, calls: list[_Call]) -> None:
        link = self._line.ready
        if link is None:
            self._recover(pack, calls, None)
            return
        try:
            parcel = pack(calls)
        except Exception as error:  # noqa: BLE001 - what a caller's data raised goes to that caller
            self._recover(pack, calls, error)
            return

        rung = self._alone and calls[0].rings

        def heard(results: list[PGresult], error: Exception | None) -> None:
            if error is None:
                try:
                    self._answer(calls, parcel.read(results), rung=rung)
                except Exception as met:  # noqa: BLE001 - as above
                    error = met
                else:
                    self._ended()
                    return
            self._recover(pack, calls, error)

        link.post(parcel.statements, heard)
        if rung:
            self._bell.ring_behind(link)

    def _ended(self) -> None:
        self._left -= 1
        self._go_on()

    def _recover(self, pack: _Pack, calls: list[_Call], error: Exception | None) -> None:
        """Go on in a task with calls that could not be sent, or that met an error."""

        def over(task: asyncio.Task[None]) -> None:
            self._recovering.discard(task)
            self._ended()

        task = self._loop.create_task(self._write(pack, calls, error), name="holdfast-writer")
        self._recovering.add(task)
        task.add_done_callback(over)

    def _take(self) -> list[tuple[_Pack, list[_Call]]]:
        """Return what goes over now: commits come after whatever else was asked, such as the chunks before an end."""
        bundles: list[tuple[_Pack, list[_Call]]] = [
            (self._pack_other, [call]) for call in _first(self._others)
        ]
        if self._commits:
            bundles.append((self._pack_commits, _first(self._commits)))
        if self._deliveries:
            bundles.append((self._pack_deliveries, _first(self._deliveries)))
        return bundles

    async def _write(self, pack: _Pack, calls: list[_Call], met: Exception | None = None) -> None:
        """Write calls in one transaction and answer them; each for itself when one of them is in error."""
        try:
            answers = await self._transact(pack, calls, met)
        except Exception as error:  # noqa: BLE001 - what a caller's data raised goes to that caller
            if len(calls) == 1 or (isinstance(error, psycopg.Error) and is_unavailable(error)):
                self._refuse(calls, error)
            else:
                for call in calls:
                    await self._write(pack, [call])
            return
        self._answer(calls, answers)

    def _answer(self, calls: Sequence[_Call], answers: Sequence[Any], *, rung: bool = False) -> None:
        for call, answer in zip(calls, answers, strict=True):
            if not call.future.done():  # else the caller was cancelled
                call.future.set_result(answer)
            if call.rings and not rung:
                self._bell.ring()

    async def _transact(self, pack: _Pack, calls: Sequence[_Call], met: Exception | None) -> Sequence[Any]:
        """Write calls in one transaction, again when the error passes; `met` is what the first try met."""
        for tries in range(TRIES):
            try:
                if met is not None:
                    raise met
                parcel = pack(calls)
                link = self._line.ready or await self._line.link()
                return parcel.read(await link.send(*parcel.statements))
            except psycopg.Error as error:
                if not is_passing(error) or tries == TRIES - 1:
                    raise
                met = None
            await asyncio.sleep(random.uniform(0.001, 0.01) * 2**tries)  # noqa: S311 - jitter
        raise AssertionError

    def _refuse(self, calls: Sequence[_Call], error: Exception) -> None:
        for call in calls:
            if not call.future.done():
                call.future.set_exception(self._explained(error))

    def _explained(self, error: Exception) -> StoreError:
        if isinstance(error, psycopg.Error):
            return explained(error, self._where)
        if isinstance(error, StoreError):
            return error
        return StoreError(f"the store {self._where} cannot write that: {error}")

    def _pack_commits(self, calls: Sequence[_Call]) -> _Parcel:
        commits = [commit for call in calls for commit in call.given]
        group = Group(commits, self._turn)

        def read(results: Sequence[PGresult]) -> Sequence[Any]:
            answers, tx = group.read(results)
            self._count(answers, tx)
            return _divided(calls, answers)

        return _Parcel(group.statements, read)

    def _count(self, answers: Sequence[Committed | Conflict], tx: int) -> None:
        self._remember(tx)
        self._stats.transactions += 1
        for answer in answers:
            if type(answer) is Committed:
                self._stats.commits += 1
                self._stats.bytes += answer.size

    def _remember(self, tx: int) -> None:
        if len(self.ours) > REMEMBERED:
            self.ours = set(sorted(self.ours)[REMEMBERED // 2 :])
        self.ours.add(tx)

    def _pack_deliveries(self, calls: Sequence[_Call]) -> _Parcel:
        deliveries = [delivery for call in calls for delivery in call.given]
        return self._parcel(
            changes.deliver(deliveries, self._at()),
            lambda result: _divided(calls, changes.delivered(result)),
        )

    def _pack_other(self, calls: Sequence[_Call]) -> _Parcel:
        ((_, (statement, read), _),) = calls
        return self._parcel(statement, lambda result: [read(result)])

    def _parcel(self, statement: Statement, read: Callable[[PGresult], Sequence[Any]]) -> _Parcel:
        """Return a parcel of one statement; its transaction's number comes after the answer."""

        def both(results: Sequence[PGresult]) -> Sequence[Any]:
            if tx := changes.transaction(results[1]):
                self._remember(tx)
            return read(results[0])

        return _Parcel((statement, changes.TRANSACTION), both)


def _first(calls: deque[_Call]) -> list[_Call]:
    return [calls.popleft() for _ in range(min(len(calls), LARGEST_GROUP))]


def _divided(calls: Sequence[_Call], answers: Sequence[Any]) -> Sequence[Sequence[Any]]:
    """Return the answers by call; each call gave as many things as it gets answers."""
    divided, begin = [], 0
    for call in calls:
        end = begin + len(call.given)
        divided.append(answers[begin:end])
        begin = end
    return divided
