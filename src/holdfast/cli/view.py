"""What is to be seen of a run, folded from its events: its stages in groups, its decisions, what it waits for.

Stages of one node that were scheduled together (a fan-out) are one group, so that a thousand items are one line with
counts. Folding costs O(1) per event; what is drawn looks only at groups and at the few stages worth a line.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from holdfast.model.event import RunEvent
from holdfast.model.run import ENDED, RunStatus, StepStatus

OPEN = frozenset({StepStatus.RUNNING, StepStatus.RETRYING})


@dataclass(slots=True)
class StageView:
    """One execution of a node. An open one counts as running since `since`; who retries waits until then."""

    name: str
    iteration: int
    since: datetime
    attempt: int = 1
    status: StepStatus = StepStatus.RUNNING
    duration: float | None = None
    percent: float | None = None
    message: str = ""
    error: str = ""
    reason: str = ""
    cached: bool = False

    @property
    def is_open(self) -> bool:
        """Tell whether it has not ended."""
        return self.status in OPEN

    def waits(self, now: datetime) -> bool:
        """Tell whether its next attempt has not begun yet."""
        return self.status is StepStatus.RETRYING and self.since > now


@dataclass(slots=True)
class DecisionView:
    """One choice with every edge it looked at: plain fields of the event."""

    source: str
    edges: list[dict[str, Any]]

    @property
    def is_telling(self) -> bool:
        """Tell whether there was something to choose; an only edge that is always taken is no news."""
        return len(self.edges) != 1 or self.edges[0]["reason"] != "always"


@dataclass(slots=True)
class GroupView:
    """The stages of one node that were scheduled together."""

    name: str
    begun: datetime
    stages: dict[int, StageView] = field(default_factory=dict)
    counts: Counter[StepStatus] = field(default_factory=Counter)
    telling: dict[int, StageView] = field(default_factory=dict)
    """Stages worth a line of their own in a group of many: with progress, a retry or an error."""
    decisions: list[DecisionView] = field(default_factory=list)
    ended: datetime | None = None
    retries: int = 0
    cached: int = 0

    @property
    def open(self) -> int:
        """How many stages have not ended."""
        return self.counts[StepStatus.RUNNING] + self.counts[StepStatus.RETRYING]

    @property
    def status(self) -> StepStatus:
        """The status of all together."""
        for status in (StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.FAILED, StepStatus.CANCELLED):
            if self.counts[status]:
                return status
        return StepStatus.COMPLETED

    @property
    def only(self) -> StageView | None:
        """The stage of a group of one."""
        return next(iter(self.stages.values())) if len(self.stages) == 1 else None

    def change(self, stage: StageView, status: StepStatus, at: datetime) -> None:
        """Give a stage another status and keep the counts."""
        self.counts[stage.status] -= 1
        self.counts[status] += 1
        stage.status = status
        if stage.is_open:
            self.ended = None
        elif not self.open:
            self.ended = at


@dataclass(slots=True)
class WaitView:
    """A wait for a timer or a signal."""

    kind: str
    name: str
    until: datetime | None


class RunView:
    """A run as its events tell. `absorb` them in order, from the first."""

    def __init__(self, run: str, workflow: str = "") -> None:
        """Begin before the first event."""
        self.id = run
        self.workflow = workflow
        self.status = RunStatus.PENDING
        self.groups: list[GroupView] = []
        self.first: list[DecisionView] = []
        """Decisions at START."""
        self.waits: dict[tuple[str, str], WaitView] = {}
        self.waiting_on: tuple[str, ...] = ()
        self.reason = ""
        self.begun: datetime | None = None
        self.ended: datetime | None = None
        self.forked: tuple[str, int] | None = None
        """The run that it was forked from, and the position."""
        self.position = 0
        self._of: dict[tuple[str, int], GroupView] = {}
        self._last: dict[str, GroupView] = {}

    @property
    def open(self) -> int:
        """How many stages have not ended."""
        return sum(group.open for group in self.groups)

    @property
    def running(self) -> int:
        """How many stages run, as far as events tell."""
        return sum(group.counts[StepStatus.RUNNING] for group in self.groups)

    @property
    def completed(self) -> int:
        """How many stages are completed."""
        return sum(group.counts[StepStatus.COMPLETED] for group in self.groups)

    @property
    def total(self) -> int:
        """How many stages there are so far."""
        return sum(len(group.stages) for group in self.groups)

    def absorb(self, event: RunEvent) -> None:
        """Take an event in; one of an unknown type changes nothing."""
        self.position = event.position
        kind, _, what = event.type.partition(".")
        data = event.envelope
        match kind:
            case "run":
                self._run(what, data, event.at)
            case "stage":
                self._stage(what, data, event.at)
            case "wait":
                self._wait(what, data)
            case "signal":
                self.waits.pop(("signal", data["name"]), None)
            case "decision":
                self._decide(DecisionView(data["from_node"], data["edges"]))
            case _:
                pass

    def group_of(self, data: dict[str, Any]) -> GroupView | None:
        """Return the group that an event's stage is in."""
        return self._of.get((data["name"], data["iteration"]))

    # --- the run

    def _run(self, what: str, data: dict[str, Any], at: datetime) -> None:
        match what:
            case "started":
                self.workflow, self.begun = data["workflow"], at
                self.status = RunStatus.RUNNING
            case "forked":
                self._fork(data, at)
            case "paused":
                self.status, self.reason = RunStatus.PAUSED, data["reason"]
            case "resumed":
                self._resume(data, at)
            case "completed" | "failed" | "cancelled":
                self.status, self.ended = RunStatus(what), at
                self.waits.clear()
                self.reason = _why(data)
            case _:
                pass

    def _fork(self, data: dict[str, Any], at: datetime) -> None:
        """Begin anew: what had not ended well in the other run counts as never started, and nothing waits."""
        self.forked = data["source"], data["at"]
        self.status, self.reason, self.begun, self.ended = RunStatus.RUNNING, "", at, None
        self.waits.clear()
        for group in self.groups:
            for stage in group.stages.values():
                if stage.status is not StepStatus.COMPLETED:
                    stage.attempt, stage.since, stage.duration = 1, at, None
                    group.change(stage, StepStatus.RUNNING, at)

    def _resume(self, data: dict[str, Any], at: datetime) -> None:
        self.status, self.reason, self.ended = RunStatus.RUNNING, "", None
        for each in data["stages"]:
            group = self.group_of(each)
            if group is not None:
                stage = group.stages[each["iteration"]]
                stage.attempt, stage.since, stage.duration = each["attempt"], data.get("next_at", at), None
                status = StepStatus.RETRYING if "next_at" in data else StepStatus.RUNNING
                group.change(stage, status, at)

    def settle(self, status: RunStatus, waiting_on: tuple[str, ...]) -> None:
        """Take over what the run's row tells."""
        self.waiting_on = waiting_on
        if self.status not in ENDED:
            self.status = status

    # --- its stages

    def _stage(self, what: str, data: dict[str, Any], at: datetime) -> None:
        if what == "scheduled":
            self._schedule(data, at)
            return
        group = self.group_of(data) if "iteration" in data else None
        if group is None:
            return
        stage = group.stages[data["iteration"]]
        match what:
            case "progress":
                stage.percent, stage.message = data["percent"], data["message"]
                group.telling[stage.iteration] = stage
            case "retried":
                stage.attempt, stage.since = data["attempt"], data["next_at"]
                stage.error, stage.reason = _message(data.get("error")), data.get("reason", "")
                stage.percent, stage.message = None, ""
                group.retries += 1
                group.telling[stage.iteration] = stage
                group.change(stage, StepStatus.RETRYING, at)
            case "completed" | "failed" | "cancelled":
                self._end(group, stage, StepStatus(what), data, at)
            case _:
                pass

    def _schedule(self, data: dict[str, Any], at: datetime) -> None:
        name, iteration = data["name"], data["iteration"]
        if (name, iteration) in self._of:  # asked for once more
            return
        group = self._last.get(name)
        if group is None or group.begun != at:
            group = self._last[name] = GroupView(name, at)
            self.groups.append(group)
        group.stages[iteration] = StageView(name, iteration, at)
        group.counts[StepStatus.RUNNING] += 1
        self._of[name, iteration] = group

    def _end(
        self, group: GroupView, stage: StageView, status: StepStatus, data: dict[str, Any], at: datetime
    ) -> None:
        stage.duration = data["duration"]
        if data.get("cached"):
            stage.cached = True
            group.cached += 1
        if status is StepStatus.FAILED:
            stage.error = _message(data.get("error"))
            group.telling[stage.iteration] = stage
        else:
            stage.error = ""
            group.telling.pop(stage.iteration, None)
        group.change(stage, status, at)

    # --- decisions and waits

    def _decide(self, decision: DecisionView) -> None:
        group = self._last.get(decision.source)
        (self.first if group is None else group.decisions).append(decision)

    def _wait(self, what: str, data: dict[str, Any]) -> None:
        key = (data["kind"], data["name"])
        if what == "started":
            self.waits[key] = WaitView(data["kind"], data["name"], data["until"])
        else:
            self.waits.pop(key, None)


def _message(error: dict[str, Any] | None) -> str:
    if error is None:
        return ""
    return ": ".join(part for part in (error.get("type"), error.get("message")) if part)


def _why(data: dict[str, Any]) -> str:
    return _message(data["error"]) if "error" in data else str(data.get("reason", ""))
