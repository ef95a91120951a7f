"""What everyone but a run's holder writes, as statements: arrivals, claims, leases, deaths, deletions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Literal

from msgspec.structs import astuple
from psycopg.pq.abc import PGresult

from holdfast.model.facts import FORMAT
from holdfast.model.ids import Instant, RunId, WorkerId
from holdfast.model.run import RunStatus
from holdfast.store import codec
from holdfast.store.postgres.link import Statement
from holdfast.store.postgres.queries import NAMES, SQL
from holdfast.store.postgres.wire import Value, blob, documents, number, numbers, rows, text, texts
from holdfast.store.rows import CacheQuery, Chunk, Claimed, Delivered, Delivery, WorkerRow

SUSPECT_DEATHS: Final = 2
"""From so many deaths on a run is claimed alone, so that it takes no others with it."""

TRANSACTION: Final = Statement(SQL["transaction"])

_FORMAT: Final = number(FORMAT)
_ANY_DEATHS: Final = 1 << 60


def deliver(deliveries: Sequence[Delivery], at: Instant | None) -> Statement:
    """Put arrivals into inboxes, in order, and see to it that somebody looks at them."""
    return _statement(
        "deliver",
        texts([each.run for each in deliveries]),
        texts([each.key or None for each in deliveries]),
        documents([each.fact for each in deliveries]),
        texts([_statuses(each.allowed) for each in deliveries]),
        texts([_statuses(each.wakes) for each in deliveries]),
        numbers([int(each.reopens) for each in deliveries]),
        number(at),
    )


def _statuses(statuses: Collection[RunStatus]) -> str:
    return f",{','.join(status.value for status in statuses)},"


def delivered(result: PGresult) -> list[Delivered]:
    """Return what became of deliveries."""
    return [
        Delivered(outcome) if outcome == "unknown" else Delivered(outcome, codec.status_named(status), worker)
        for outcome, status, worker in rows(result)
    ]


def stream(chunks: Sequence[Chunk]) -> Statement:
    """Keep chunks of runs that are there, and read the positions of these."""
    return _statement(
        "chunks_insert",
        texts([each.run for each in chunks]),
        texts([each.step for each in chunks]),
        numbers([each.attempt for each in chunks]),
        numbers([each.at for each in chunks]),
        documents([each.data for each in chunks]),
    )


def claim(
    worker: WorkerId, lanes: Sequence[tuple[str, str]], limit: int, at: Instant | None, *, suspects: bool
) -> Statement:
    """Take ready jobs for a worker; from here on no earlier holder of their runs can commit."""
    return _statement("take_up", text(worker), *_jobs(lanes, limit, suspects=suspects), number(at))


def ready(lanes: Sequence[tuple[str, str]], limit: int, *, suspects: bool) -> Statement:
    """Read which jobs could be taken."""
    return _statement("ready", *_jobs(lanes, limit, suspects=suspects))


def _jobs(lanes: Sequence[tuple[str, str]], limit: int, *, suspects: bool) -> Sequence[Value]:
    fewest, most = (SUSPECT_DEATHS, _ANY_DEATHS) if suspects else (0, SUSPECT_DEATHS - 1)
    distinct = list(dict.fromkeys(lanes))
    return (
        texts([queue for queue, _ in distinct]),
        texts([workflow for _, workflow in distinct]),
        *(number(limit), number(fewest), number(most), _FORMAT),
    )


def claim_run(worker: WorkerId, run: RunId) -> Statement:
    """Take the job of one run, unless somebody holds it or nothing is left to do."""
    return _statement("claim_run", text(worker), text(run), _FORMAT)


def claimed(result: PGresult) -> list[Claimed]:
    """Return the jobs that were taken."""
    return [
        Claimed(codec.run_row(columns), deaths, wakes, began or b"")
        for deaths, wakes, began, *columns in rows(result)
    ]


def release(worker: WorkerId, runs: Sequence[RunId]) -> Statement:
    """Make jobs of a worker ready again."""
    return _statement("release", text(worker), texts(runs))


def enlist(row: WorkerRow) -> Statement:
    """Insert or replace a worker's row."""
    values = [
        number(column) if isinstance(column, int) else text(column) for column in codec.worker_columns(row)
    ]
    return _statement("worker_upsert", *values)


def dismiss(workers: Sequence[WorkerId]) -> Statement:
    """Forget workers that have stopped."""
    return _statement("worker_delete", texts(workers))


def save_profile(workflow: str, name: str, body: bytes | None) -> Statement:
    """Keep a profile, or forget it."""
    if body is None:
        return _statement("profile_delete", text(workflow), text(name))
    return _statement("profile_upsert", text(workflow), text(name), blob(body))


def set_limit(name: str, version: int, body: bytes) -> Statement:
    """Write a row that nobody else wrote; it comes back when it was written."""
    if version:
        return _statement("limit_update", text(name), text(body.decode()), number(version))
    return _statement("limit_insert", text(name), text(body.decode()))


def discard(run: RunId, position: int, now: Instant) -> Statement:
    """Put a failed run away; it comes back when it was."""
    return _statement("letter_discard", number(now), text(run), number(position))


def forget(before: Instant, limit: int) -> Statement:
    """Set ids of deleted runs free; they come back."""
    return _statement("tombstone_delete", number(before), number(limit))


def clear_cache(query: CacheQuery, limit: int) -> Statement:
    """Forget results that match; their keys come back."""
    return _statement("cache_clear", *(text(each) for each in astuple(query)), number(limit))


def forget_cached(before: Instant, limit: int) -> Statement:
    """Forget results that expired; their keys come back."""
    return _statement("cache_forget", number(before), number(limit))


def reclaim(workers: Sequence[WorkerId], reason: Literal["died", "expired"], at: Instant | None) -> Statement:
    """Free the jobs of dead workers and shut these out: one that comes back can neither renew nor commit."""
    return _statement("reclaim", texts(workers), number(int(reason == "expired")), number(at))


def move_due(limit: int, at: Instant | None) -> Statement:
    """Make the runs of due arrivals ready."""
    return _statement("move_due", number(at), number(limit))


def delete(run: RunId, at: Instant | None, *, tombstone: bool) -> Statement:
    """Delete an ended run and its descendants; with a tombstone their ids stay taken."""
    return _statement("delete_run", text(run), number(int(tombstone)), number(at))


def _statement(name: str, *values: Value) -> Statement:
    return Statement(SQL[name], values, NAMES.get(name, b""))


def transaction(result: PGresult) -> int:
    """Return the number of the transaction in which TRANSACTION was run; 0 when it wrote nothing."""
    ((number_,),) = rows(result)
    return number_ or 0
