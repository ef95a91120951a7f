"""Runs: their statuses with the one table of allowed changes, and the run's row."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from holdfast.model.facts import NOTHING, ErrorInfo
from holdfast.model.ids import CommitId, Instant, RunId


class RunStatus(StrEnum):
    """The lifecycle of a run."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepStatus(StrEnum):
    """The lifecycle of a step."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    RETRYING = "retrying"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


_P, _R, _W, _H = RunStatus.PENDING, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED
_DONE, _FAILED, _CANCELLED = RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED

TRANSITIONS: Final[dict[RunStatus, frozenset[RunStatus]]] = {
    _P: frozenset({_R, _W, _H, _DONE, _FAILED, _CANCELLED}),
    _R: frozenset({_W, _H, _DONE, _FAILED, _CANCELLED}),
    _W: frozenset({_R, _P, _H, _DONE, _FAILED, _CANCELLED}),
    _H: frozenset({_P, _R, _CANCELLED}),
    _DONE: frozenset(),
    _FAILED: frozenset({_P}),
    _CANCELLED: frozenset({_P}),
}
"""From each status the statuses that may follow. A commit may pass through several, so a pending run may complete."""

ENDED: Final = frozenset({_DONE, _FAILED, _CANCELLED})
RESUMABLE: Final = frozenset({_H, _FAILED, _CANCELLED})


class Progress(msgspec.Struct, frozen=True):
    """How far a run is, as its steps told: percent 0 to 100, a message, and the step that said so."""

    percent: float = 0.0
    message: str = ""
    step: str = ""
    index: int = 0
    total: int = 0


class EndingRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its last step sees it: what it was started as. What it came to is the hook's other argument."""

    id: RunId
    workflow: str
    version: str
    queue: str
    priority: int
    tags: tuple[str, ...]
    params: dict[str, Any]
    created_at: datetime


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its row in `workflow_runs` tells: everything people list runs by."""

    id: RunId
    workflow: str
    version: str = ""
    hash: str = ""
    status: RunStatus = RunStatus.PENDING
    queue: str = "default"
    priority: int = 0
    tags: tuple[str, ...] = ()
    params: msgspec.Raw = NOTHING
    secrets: tuple[str, ...] = ()
    parent: RunId = ""
    position: int = 0
    epoch: int = 0
    last_commit: CommitId = ""
    waiting_on: tuple[str, ...] = ()
    error: ErrorInfo | None = None
    progress: Progress | None = None
    format: int = 1
    created_at: Instant = 0
    started_at: Instant = 0
    completed_at: Instant = 0
    updated_at: Instant = 0
