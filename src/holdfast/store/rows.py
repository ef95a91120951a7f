"""What goes into a store and comes out of it: rows as values, arrivals and what became of them, queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from holdfast.model.ids import CommitId, InboxId, Instant, RunId, StepId, WorkerId
from holdfast.model.run import RunRow, RunStatus


class Claimed(msgspec.Struct, frozen=True):
    """A job that this worker now holds: the run's row with its raised epoch, and what the job knew.

    `began` are the facts of a run that only began and has no arrivals, as far as the store gives them with the claim:
    then `load` and `inbox` have nothing to add.
    """

    run: RunRow
    deaths: int
    wakes: int
    began: bytes = b""


class InboxRow(msgspec.Struct, frozen=True):
    """An arrival that waits in a run's inbox. `fact` is empty for a mere wake-up."""

    id: InboxId
    run: RunId
    key: str
    fact: bytes


class Chunk(msgspec.Struct, frozen=True):
    """What a step sent to readers, as JSON; without data: this attempt begins anew what earlier ones sent.

    `position` is how many facts its run had when it was kept; 0 before that.
    """

    run: RunId
    step: StepId
    attempt: int
    at: Instant
    data: bytes
    position: int = 0


class ChunkRow(msgspec.Struct, frozen=True):
    """A chunk that was kept: its number in the order of its store, and how many facts its run had then."""

    number: int
    run: RunId
    position: int
    step: StepId
    attempt: int
    at: Instant
    data: bytes


class JournalRow(msgspec.Struct, frozen=True):
    """One commit in the journal: the position of its first fact, how many facts it holds, and the facts as JSON.

    Positions count from 1, so what was committed at position n (n facts before it) is the row with position n + 1.
    `cursor` says where it stands among the commits of all runs; only its store can read it.
    """

    cursor: str
    run: RunId
    position: int
    count: int
    at: Instant
    commit: CommitId
    worker: WorkerId
    facts: bytes


class Fold(msgspec.Struct, frozen=True):
    """A stored fold: the program's encoded progress after `position` facts, and the hash of the program."""

    position: int
    hash: str
    data: bytes


class Stored(msgspec.Struct, frozen=True):
    """All that is needed to take a run up: its row, the newest fold if any, the journal after it, its large values."""

    run: RunRow
    fold: Fold | None
    rows: Sequence[JournalRow]
    blobs: Mapping[str, bytes]


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """An arrival for a run, from anyone. Refused when the run's status is not in `allowed`.

    `wakes` lists the statuses in which the delivery makes the run's job ready (a paused run is woken by few things).
    `reopens` sets an unheld run to pending, which is the only status that a non-holder writes.
    """

    run: RunId
    key: str
    fact: bytes
    allowed: frozenset[RunStatus]
    wakes: frozenset[RunStatus]
    reopens: bool = False


class Delivered(msgspec.Struct, frozen=True):
    """What became of a delivery. `status` is the run's status before, `worker` who holds it (empty: nobody)."""

    outcome: Literal["delivered", "repeated", "refused", "unknown"]
    status: RunStatus | None = None
    worker: WorkerId = ""


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A worker: where it lives, until when its lease runs, and which workflows it knows (name: parameter schema)."""

    id: WorkerId
    host: str
    boot: str
    namespace: str
    pid: int
    lock: str
    queues: tuple[str, ...] = ("default",)
    workflows: Mapping[str, msgspec.Raw] = {}
    version: str = ""
    started_at: Instant = 0
    leased_until: Instant = 0
    stopped_at: Instant = 0


class RunQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list. `after` is the (created_at, id) of the last one seen; newest first unless `ascending`.

    `waits_for` ("secret", "signal") chooses runs that say in `waiting_on` that they wait for one, `parent` the children
    of a run, `dead` those that failed or killed their workers and that nobody has put away, `code` those with an error
    of that code, `ended_before` those that ended so early and have no parent, `besides` those that are not of
    these workflows.
    """

    workflow: str | None = None
    besides: frozenset[str] = frozenset()
    status: frozenset[RunStatus] = frozenset()
    tags: tuple[str, ...] = ()
    since: Instant | None = None
    until: Instant | None = None
    waits_for: str = ""
    parent: RunId | None = None
    run: RunId = ""
    dead: bool = False
    code: str = ""
    ended_before: Instant | None = None
    ascending: bool = False
    limit: int = 50
    after: tuple[Instant, RunId] | None = None


class StoreStats(msgspec.Struct):
    """Counters since the store was opened: commits of runs, and the transactions that carried them."""

    commits: int = 0
    transactions: int = 0
    bytes: int = 0


class LimitRow(msgspec.Struct, frozen=True):
    """A row that processes change together: how often it was written, and what it says, as JSON."""

    version: int
    body: bytes


class CacheQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which results of the cache are meant: of a workflow, of a step, in a scope; all for none of these."""

    workflow: str | None = None
    step: str | None = None
    scope: str | None = None


class CacheListed(msgspec.Struct, frozen=True):
    """A result of the cache as it is listed: without what it is, but with its `size` in bytes."""

    key: str
    scope: str
    workflow: str
    step: str
    run: RunId
    at: Instant
    expires: Instant
    size: int
