"""What people audit a run by: stages with every attempt, decisions with every edge that was tried, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, cast

from holdfast.model.event import plain
from holdfast.model.facts import ErrorInfo
from holdfast.model.run import StepStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a stage. `reason` says why it came to nothing without an error, for instance "worker lost"."""

    number: int
    status: StepStatus
    error: ErrorInfo | None = None
    reason: str = ""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration: float | None = None
    worker: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the attempt as values that JSON knows."""
        return _shown(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One execution of a node, task or action. Times, duration (seconds) and worker are those of the last attempt.

    `error` is the last one known, also while the stage is tried again. `input` is what a fan-out item or a call
    was given, and a task's arguments by name; a node's is the run's state at `position`, where the stage was scheduled.

    Of a stage with a cache: `cached` is the run whose result it took instead of running, `missed` says why there was
    none, `unkept` why its own result was not kept for others.
    """

    name: str
    iteration: int
    attempt: int
    status: StepStatus
    input: Any = None
    output: Any = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration: float | None = None
    error: ErrorInfo | None = None
    worker: str = ""
    attempts: tuple[Attempt, ...] = ()
    position: int = 0
    cached: str = ""
    missed: str = ""
    unkept: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the stage as values that JSON knows."""
        return _shown(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One edge that a choice looked at: taken when `result` is true, else left aside for `reason`.

    `count` is how many items of a fan-out went along it. `to_node` is None when the choice had no edge to look at.
    The edges of one choice have the same `position`.
    """

    from_node: str
    to_node: str | None
    name: str = ""
    result: bool = True
    reason: str = ""
    at: datetime
    count: int = 1
    position: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as values that JSON knows."""
        return _shown(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt:
    """A question that a node asked and nobody has answered: `signal(run_id, name, answer)` does.

    `payload` is what the node shows to who shall answer; after `deadline` the node is told that nobody did.
    """

    run_id: str
    workflow: str
    name: str
    payload: Any = None
    node: str
    since: datetime
    deadline: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the interrupt as values that JSON knows."""
        return _shown(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A key that two states do not have alike; `in_left` and `in_right` tell who has it."""

    key: str
    left: Any
    right: Any
    in_left: bool
    in_right: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as values that JSON knows."""
        return _shown(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDiff:
    """How two runs differ: `common` facts are the same but for their times; from there each went a path of nodes."""

    left: str
    right: str
    common: int
    left_path: tuple[str, ...]
    right_path: tuple[str, ...]
    state: tuple[Difference, ...]
    states_known: bool
    """False where their workflows are not registered: then their states cannot be folded here."""

    def to_dict(self) -> dict[str, Any]:
        """Return the differences as values that JSON knows."""
        return _shown(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A position at which a round had ended; `state(at=position)` is what its nodes made. Round 0 is the beginning."""

    position: int
    nodes: tuple[str, ...]
    round: int
    at: datetime

    @property
    def node(self) -> str:
        """The round's node; several are told in the order in which they were scheduled."""
        return ", ".join(self.nodes)

    def to_dict(self) -> dict[str, Any]:
        """Return the checkpoint as values that JSON knows."""
        return {"node": self.node} | _shown(self)


def error_data(error: ErrorInfo) -> dict[str, Any]:
    """Return an error as events and JSON show it. Where it happened is said beside it."""
    shown = {"code": error.code, "type": error.type, "message": error.message}
    more = {"fix": error.fix, "traceback": error.traceback}
    return shown | {name: text for name, text in more.items() if text}


def _shown(record: Any) -> dict[str, Any]:
    shown = {field.name: getattr(record, field.name) for field in fields(record)}
    if shown.get("error") is not None:
        shown["error"] = error_data(shown["error"])
    if "attempts" in shown:
        shown["attempts"] = [_shown(attempt) for attempt in shown["attempts"]]
    if isinstance(record, RunDiff):
        shown["state"] = [_shown(difference) for difference in record.state]
    return cast("dict[str, Any]", plain(shown))
