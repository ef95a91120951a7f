"""Rows at rest: how the nouns of `model` become columns and come back. Lists and objects are JSON in every database.

Columns stand in the order of the structs' fields, so that a row is `RunRow` field by field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.model.cache import CacheEntry
from holdfast.model.commit import Commit
from holdfast.model.facts import FORMAT, NOTHING, ErrorInfo
from holdfast.model.run import ENDED, Progress, RunRow, RunStatus
from holdfast.store.rows import WorkerRow

PARAMS_HASH: Final = "params"
"""The name under which large params stand among a run's large values; no content hash is that short."""

SMALL_PARAMS: Final = 1024
"""Params up to this many bytes stand in the run's row, which every commit writes anew; larger ones stand apart."""

EMPTY: Final = "[]"

_encode: Final = msgspec.json.Encoder().encode
_texts: Final = msgspec.json.Decoder(tuple[str, ...])
_schemas: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_error: Final = msgspec.json.Decoder(ErrorInfo)
_progress: Final = msgspec.json.Decoder(Progress)
_status: Final = {str(status): status for status in RunStatus}


def texts(values: Iterable[str]) -> str:
    """Return a list of texts as its column."""
    return _encode(tuple(values)).decode() if values else EMPTY


def optional(value: ErrorInfo | Progress | None) -> str | None:
    """Return an error or a progress as its column."""
    return None if value is None else _encode(value).decode()


def status_named(name: str) -> RunStatus:
    """Return the status that a column names."""
    return _status[name]


def opening_columns(commit: Commit, row: RunRow, small_params: bytes | None) -> tuple[Any, ...]:
    """Return the columns of a run that begins with `commit`."""
    return (
        commit.run,
        row.workflow,
        row.version,
        row.hash,
        commit.status.value,
        row.queue,
        row.priority,
        texts(row.tags),
        small_params,
        texts(row.secrets),
        row.parent,
        len(commit.facts),
        commit.epoch,
        commit.id,
        texts(commit.waiting_on),
        optional(commit.error),
        optional(commit.progress),
        max(row.format, FORMAT),
        row.created_at or commit.at,
        row.started_at or (0 if commit.status is RunStatus.PENDING else commit.at),
        commit.at if commit.status in ENDED else 0,
        commit.at,
    )


def run_row(columns: Sequence[Any]) -> RunRow:
    """Return the run of a row; `params` comes as bytes."""
    (
        id_,
        workflow,
        version,
        hash_,
        status,
        queue,
        priority,
        tags,
        params,
        secrets,
        parent,
        position,
        epoch,
    ) = columns[:13]
    (last_commit, waiting_on, error, progress, format_, created_at, started_at, completed_at, updated_at) = (
        columns[13:22]
    )
    return RunRow(
        id=id_,
        workflow=workflow,
        version=version,
        hash=hash_,
        status=_status[status],
        queue=queue,
        priority=priority,
        tags=() if tags == EMPTY else _texts.decode(tags),
        params=NOTHING if params is None else msgspec.Raw(params),
        secrets=() if secrets == EMPTY else _texts.decode(secrets),
        parent=parent,
        position=position,
        epoch=epoch,
        last_commit=last_commit,
        waiting_on=() if waiting_on == EMPTY else _texts.decode(waiting_on),
        error=None if error is None else _error.decode(error),
        progress=None if progress is None else _progress.decode(progress),
        format=format_,
        created_at=created_at,
        started_at=started_at,
        completed_at=completed_at,
        updated_at=updated_at,
    )


def worker_columns(row: WorkerRow) -> tuple[Any, ...]:
    """Return the columns of a worker."""
    return (
        row.id,
        row.host,
        row.boot,
        row.namespace,
        row.pid,
        row.lock,
        texts(row.queues),
        _encode(row.workflows).decode(),
        row.version,
        row.started_at,
        row.leased_until,
        row.stopped_at,
    )


def worker_row(columns: Sequence[Any]) -> WorkerRow:
    """Return the worker of a row."""
    (
        id_,
        host,
        boot,
        namespace,
        pid,
        lock,
        queues,
        workflows,
        version,
        started_at,
        leased_until,
        stopped_at,
    ) = columns
    schemas: Mapping[str, msgspec.Raw] = _schemas.decode(workflows)
    return WorkerRow(
        id=id_,
        host=host,
        boot=boot,
        namespace=namespace,
        pid=pid,
        lock=lock,
        queues=_texts.decode(queues),
        workflows=schemas,
        version=version,
        started_at=started_at,
        leased_until=leased_until,
        stopped_at=stopped_at,
    )


def cache_columns(entry: CacheEntry) -> tuple[Any, ...]:
    """Return the columns of a result in the cache."""
    return (
        *(entry.key, entry.family, entry.scope, entry.workflow, entry.step, entry.run, entry.at),
        *(entry.owner or None, entry.expires, entry.parts, entry.body),
    )


def cache_entry(columns: Sequence[Any]) -> CacheEntry:
    """Return a result in the cache as its columns say."""
    key, family, scope, workflow, step, run, at, owner, expires, parts, body = columns
    return CacheEntry(
        key=key,
        family=family,
        scope=scope,
        workflow=workflow,
        step=step,
        run=run,
        at=at,
        owner=owner,
        expires=expires,
        parts=parts,
        body=body or b"",
    )
