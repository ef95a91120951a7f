"""The store port: what a database must do for the engine, and what it promises.

One write path: `commit`, for the holder of a run, whose claim raised its epoch. All others (a signal, a cancel, a due
timer, a child's end) write to the run's inbox by `deliver`; the holder takes that into its next commit. A store groups
commits of concurrent runs into one transaction. Every method is safe to call from the engine's event loop; none holds
the loop for longer than a short flush. All raise `StoreUnavailable` when the database cannot be reached, in which case
nothing of the call was written unless the text says otherwise. Instants are microseconds; `now` is the store's clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, Protocol

from holdfast.model.commit import Commit, Committed, Conflict
from holdfast.model.ids import Instant, RunId, WorkerId
from holdfast.model.run import RunRow
from holdfast.store.beside import Beside
from holdfast.store.rows import (
    Claimed,
    Delivered,
    Delivery,
    Fold,
    InboxRow,
    JournalRow,
    RunQuery,
    Stored,
    StoreStats,
)


class Store(Beside, Protocol):
    """A database that keeps runs."""

    url: str
    stats: StoreStats

    @property
    def now(self) -> Callable[[], Instant]:
        """The store's clock."""

    async def open(self) -> None:
        """Connect, and create or upgrade the schema. Raises SchemaTooNew, SchemaTooOld, StoreUnavailable."""

    async def close(self) -> None:
        """Finish the writes under way and disconnect. Idempotent."""

    def commit(self, commits: Sequence[Commit]) -> Awaitable[Sequence[Committed | Conflict]]:
        """Write each commit wholly or not at all; answers in the order given, after they are durable.

        - The first commit of a run (`opened`) conflicts when the id is taken, by a run or by a tombstone.
        - Any other conflicts unless the run is at `position` under `epoch`.
        - A conflict never touches the other commits of the group.
        - A Dequeue with `wakes` that does not match leaves the job, the status is then `running`. When the
          job is not the worker's any more, it was released before: the same commit may come again after a lost answer.
        - A commit without facts adds no row to the journal; `last_commit` tells that it was written.
        - `error` is kept with a change of status, `progress` until it is told anew.
        - A Deliver to another run is dropped when that is unknown or completed; it wakes all but ended runs.
        - A StartRun is written after its commit is accepted, and not at all when that run has begun before.
        - Raises StoreError when the data of one of these commits cannot be written; then none of this call was.
        """

    async def load(self, run: RunId, hash_: str = "") -> Stored | None:
        """Return the run with its newest fold of that program hash and the journal after it; None if unknown."""

    async def fold(self, run: RunId, hash_: str, until: int) -> Fold | None:
        """Return the run's newest fold of that program hash after at most `until` facts."""

    async def deliver(self, deliveries: Sequence[Delivery]) -> Sequence[Delivered]:
        """Put arrivals into inboxes and make the runs' jobs ready or raise their `wakes`, in one transaction.

        - "repeated" while an arrival with that key waits there; an empty key is never repeated.
        - An ended or paused run that `reopens` and that nobody holds is pending from then on.
        """

    async def inbox(self, run: RunId) -> Sequence[InboxRow]:
        """Return the run's arrivals that are due, moved or not: in the order they came, a timer when it was due."""

    async def claim(
        self, worker: WorkerId, lanes: Sequence[tuple[str, str]], limit: int, *, suspects: bool = False
    ) -> Sequence[Claimed]:
        """Take up to `limit` ready jobs of these (queue, workflow) lanes and raise the runs' epochs, atomically.

        - Larger priority first, then the older job.
        - None for a worker that was reclaimed: what it took, nobody would take from it again.
        - Only jobs of runs whose format this code knows.
        - Without `suspects` only jobs with fewer than two deaths, with it only the others.
        """

    async def ready(
        self, lanes: Sequence[tuple[str, str]], limit: int, *, suspects: bool = False
    ) -> Sequence[RunId]:
        """Return the runs that `claim` would take, in order, and take none."""

    async def claim_run(self, worker: WorkerId, run: RunId) -> Claimed | None:
        """Take this run's job, inserted when there is none; None when somebody holds it, it ended or is unknown."""

    async def woken(self, worker: WorkerId) -> Mapping[RunId, int]:
        """Return runs held by the worker that have due arrivals, with their jobs' `wakes`."""

    async def held(self, worker: WorkerId) -> Sequence[RunId]:
        """Return the runs whose jobs the worker holds."""

    async def release(self, worker: WorkerId, runs: Sequence[RunId]) -> None:
        """Make jobs that the worker holds ready again, without a death."""

    def renew(self, worker: WorkerId, until: Instant) -> bool:
        """Extend the worker's lease; False when it was taken. Called from a thread, on a connection of its own."""

    async def reclaim(
        self, workers: Sequence[WorkerId], reason: Literal["died", "expired"]
    ) -> Sequence[RunId]:
        """Free the jobs of dead workers, each with one more death, and mark the workers stopped; returns the runs.

        With "expired" only those whose lease is over by the store's clock. Who held a job can no longer commit.
        """

    async def move_due(self, limit: int = 1000) -> int:
        """Make the jobs of runs with due inbox rows ready, or raise their `wakes`; returns how many rows moved.

        The earliest due first; the rows of ended runs are moved and wake nobody.
        """

    async def next_due(self) -> Instant | None:
        """Return the earliest due instant of all inbox rows that are not moved yet."""

    async def run(self, run: RunId) -> RunRow | None:
        """Return the run's row."""

    async def runs(self, query: RunQuery) -> Sequence[RunRow]:
        """Return the runs that match, in order."""

    async def count(self, query: RunQuery) -> int:
        """Return how many runs match, whatever the query's limit and cursor."""

    async def journal(self, run: RunId, after: int = 0, limit: int = 1000) -> Sequence[JournalRow]:
        """Return the commits that hold facts at positions greater than `after`, in order (positions count from 1)."""

    async def tail(self, worker: WorkerId, after: str, limit: int = 1000) -> Sequence[JournalRow]:
        """Return the commits that the worker made after the one with that cursor, all for "", in order.

        A commit that is acknowledged is there at once, and none appears later before one that was returned.
        """

    async def commits_after(self, after: str, limit: int = 1000) -> Sequence[JournalRow]:
        """Return the commits of all runs after the one with that cursor, all for "", in one order for all readers.

        None appears later before one that was returned; so a commit may be held back while transactions that began
        before it go on, here of any program on the same server. Those of one run come in the order of their positions.
        """

    async def blobs(self, run: RunId) -> Mapping[str, bytes]:
        """Return the run's large values by hash."""

    async def delete(self, run: RunId, *, tombstone: bool = True) -> Delivered:
        """Delete an ended run with all that is its own and its children, atomically; a tombstone keeps its id taken.

        Refused, with the status found, while the run or one of its descendants has not ended.
        """
