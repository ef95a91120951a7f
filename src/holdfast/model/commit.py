"""The commit: all that one transaction writes on behalf of one run, and the rows that go with it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from holdfast.model.cache import CacheEntry
from holdfast.model.facts import ErrorInfo, Fact
from holdfast.model.ids import CommitId, InboxId, Instant, RunId, WorkerId
from holdfast.model.run import Progress, RunRow, RunStatus


class Effect(msgspec.Struct, frozen=True, gc=False):
    """A row beside the journal that follows from the facts of a commit."""


class Enqueue(Effect, frozen=True):
    """Insert the run's job, or update it; held by `worker` when given, else ready. Deaths start at 0 again."""

    queue: str
    workflow: str
    priority: int = 0
    worker: WorkerId = ""


class Dequeue(Effect, frozen=True):
    """Delete the run's job. With `wakes` only where the job was not woken since; else the run stays held."""

    wakes: int | None = None


class Deliver(Effect, frozen=True):
    """Put an arrival into the inbox of `run` (empty: this run), to be taken when `due` has come (0: at once).

    `fact` is the JSON of the arriving fact, empty for a mere wake-up. A second row with the same key is ignored. One
    that `reopens` makes another run pending that is failed, cancelled or paused, and that nobody holds.
    """

    key: str
    due: Instant = 0
    fact: bytes = b""
    run: RunId = ""
    reopens: bool = False


class Withdraw(Effect, frozen=True):
    """Delete the run's inbox rows: the one with this key, those that begin so if it ends in `*`, all if it is empty."""

    key: str = ""


class StartRun(Effect, frozen=True):
    """Begin another run with its first commit, in the same transaction, unless it has begun before."""

    first: Commit


class Keep(Effect, frozen=True):
    """Put a result into the cache, in place of one with the same key."""

    entry: CacheEntry


AnyEffect = Enqueue | Dequeue | Deliver | Withdraw | StartRun | Keep


class Commit(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """All that one transaction writes for one run.

    `position` is the expected number of facts in the journal (the optimistic lock), `epoch` the holder's claim number
    (the fence). The first commit of a run has position 0 and `opened`, the row to insert. `was` is the status before.
    `blobs` are large values by hash, insert-only. A commit without facts adds no journal row; it releases the run.
    """

    id: CommitId
    run: RunId
    position: int
    epoch: int
    at: Instant
    worker: WorkerId
    facts: tuple[Fact, ...]
    status: RunStatus
    was: RunStatus
    waiting_on: tuple[str, ...] = ()
    consumed: tuple[InboxId, ...] = ()
    effects: tuple[AnyEffect, ...] = ()
    opened: RunRow | None = None
    error: ErrorInfo | None = None
    progress: Progress | None = None
    checkpoint: bytes | None = None
    checkpoint_hash: str = ""
    blobs: Mapping[str, bytes] = {}


class Committed(msgspec.Struct, frozen=True, gc=False):
    """The commit is durable. `released` tells whether a Dequeue took the job away; if not, `wakes` is the job's count.

    `size` is how many bytes its journal row takes.
    """

    run: RunId
    position: int
    released: bool = False
    wakes: int = 0
    size: int = 0


class Conflict(msgspec.Struct, frozen=True):
    """The run is at another position or held under another epoch: nothing of the commit was written."""

    run: RunId
