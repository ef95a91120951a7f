"""Commits, deliveries and clocks to try a store with."""

# ruff: noqa: S101 - tests: asserts are their way to speak, numbers what they expect
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from holdfast.model import facts
from holdfast.model.commit import AnyEffect, Commit, Committed, Enqueue
from holdfast.model.ids import SECOND, Instant, RunId
from holdfast.model.run import RunRow, RunStatus
from holdfast.store.port import Store
from holdfast.store.rows import Delivered, Delivery, WorkerRow

NOON = 1_700_000_000 * SECOND
LANE = ("default", "order")
ANY = frozenset(RunStatus)
PENDING, RUNNING, WAITING, PAUSED = RunStatus.PENDING, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED
COMPLETED, FAILED, CANCELLED = RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: Instant = NOON) -> None:
        """Begin at an instant."""
        self.at = at

    def __call__(self) -> Instant:
        """Return the instant."""
        return self.at

    def forward(self, seconds: float) -> Instant:
        """Move on, and return the new instant."""
        self.at += round(seconds * SECOND)
        return self.at


def opening(run: RunId, *, at: Instant = NOON, status: RunStatus = PENDING, **row: Any) -> Commit:
    """Return the first commit of a run, with a ready job."""
    row = {"workflow": "order", "epoch": 1, "created_at": at, **row}
    effects = (Enqueue(row.get("queue", "default"), row["workflow"], row.get("priority", 0)),)
    return Commit(
        id=f"open-{run}",
        run=run,
        position=0,
        epoch=1,
        at=at,
        worker="starter",
        facts=(facts.RunStarted(at=at, workflow=row["workflow"]),),
        status=status,
        was=status,
        effects=effects,
        opened=RunRow(id=run, **row),
    )


def going_on(run: RunId, position: int, *recorded: facts.Fact, **changes: Any) -> Commit:
    """Return a later commit of a run; without facts given it schedules a step."""
    given: dict[str, Any] = {
        "id": f"{run}-{position}",
        "epoch": 1,
        "at": NOON,
        "worker": "holder",
        "status": RUNNING,
        "was": RUNNING,
        "facts": recorded or (facts.StepScheduled(at=NOON, step=f"s{position}", name="pack"),),
    }
    return Commit(run=run, position=position, **(given | changes))


async def opened(store: Store, *runs: RunId, **row: Any) -> None:
    """Commit the opening of runs."""
    for answer in await store.commit([opening(run, **row) for run in runs]):
        assert isinstance(answer, Committed)


async def run_of(store: Store, run: RunId) -> RunRow:
    """Return the row of a run that is there."""
    row = await store.run(run)
    assert row is not None
    return row


async def held(store: Store, run: RunId = "r", worker: str = "holder", **row: Any) -> int:
    """Open a run and claim it; returns its epoch."""
    await opened(store, run, **row)
    claimed = await store.claim_run(worker, run)
    assert claimed is not None
    return claimed.run.epoch


async def effect(store: Store, *effects: AnyEffect, run: RunId = "r", **changes: Any) -> Committed:
    """Commit effects of a run as its holder, without facts."""
    row = await run_of(store, run)
    given: dict[str, Any] = {"epoch": row.epoch, "was": row.status, "status": row.status, "effects": effects}
    commit = going_on(run, row.position, **(given | changes))
    (answer,) = await store.commit([replace(commit, facts=())])
    assert isinstance(answer, Committed)
    return answer


async def send(store: Store, run: RunId, key: str = "", **changes: Any) -> Delivered:
    """Deliver a signal that any status takes and that wakes all that live."""
    given: dict[str, Any] = {
        "fact": facts.Journal.encode_one(facts.SignalReceived(name="go", key=key)),
        "allowed": ANY,
        "wakes": frozenset({PENDING, RUNNING, WAITING}),
    }
    (answer,) = await store.deliver([Delivery(run=run, key=key, **(given | changes))])
    return answer


async def keys(store: Store, run: RunId = "r") -> Sequence[str]:
    """Return the keys of the arrivals that a run may take."""
    return [row.key for row in await store.inbox(run)]


def worker(id_: str, leased_until: Instant = NOON + 30 * SECOND, **changes: Any) -> WorkerRow:
    """Return a worker's row."""
    given: dict[str, Any] = {
        "host": "h",
        "boot": "b",
        "namespace": "n",
        "pid": 7,
        "lock": "/run/l",
        "started_at": NOON,
    }
    return WorkerRow(id=id_, leased_until=leased_until, **(given | changes))
