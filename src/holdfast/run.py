"""The handle of a run: a snapshot of its row, and everything that can be asked of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from holdfast.model.audit import Checkpoint, Decision, Interrupt, RunDiff, Stage
from holdfast.model.event import RunEvent
from holdfast.model.facts import ErrorInfo
from holdfast.model.ids import Instant, RunId, WorkerId, moment
from holdfast.model.run import Progress, RunRow, RunStatus
from holdfast.model.values import decode

if TYPE_CHECKING:
    from holdfast.engine import Engine
    from holdfast.sending import Outcome


class Run:
    """One execution of a workflow, as it was when it was last looked at; `refresh` looks again.

    It belongs to the store, not to who holds this handle.
    """

    __slots__ = ("_engine", "_row")

    def __init__(self, engine: Engine, row: RunRow) -> None:
        """Made by the engine."""
        self._engine: Final = engine
        self._row = row

    @property
    def id(self) -> RunId:
        """The run's id."""
        return self._row.id

    @property
    def workflow(self) -> str:
        """The name of its workflow."""
        return self._row.workflow

    @property
    def version(self) -> str:
        """The version of the workflow it was started with."""
        return self._row.version

    @property
    def status(self) -> RunStatus:
        """Its status."""
        return self._row.status

    @property
    def params(self) -> Any:
        """The params it was started with."""
        return decode(self._row.params)

    @property
    def parent(self) -> RunId | None:
        """The id of the run whose step it is, None when somebody started it."""
        return self._row.parent or None

    @property
    def error(self) -> ErrorInfo | None:
        """Why it failed or is parked."""
        return self._row.error

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags."""
        return self._row.tags

    @property
    def queue(self) -> str:
        """The queue its job goes to."""
        return self._row.queue

    @property
    def priority(self) -> int:
        """Its priority; the larger goes first."""
        return self._row.priority

    @property
    def progress(self) -> Progress | None:
        """What a step last told of how far it is."""
        return self._row.progress

    @property
    def position(self) -> int:
        """How many facts its journal has."""
        return self._row.position

    @property
    def waiting_on(self) -> tuple[str, ...]:
        """For people: what it waits for."""
        return self._row.waiting_on

    @property
    def created_at(self) -> datetime:
        """When it was started by its caller."""
        return moment(self._row.created_at)

    @property
    def started_at(self) -> datetime | None:
        """When a worker first drove it."""
        return _moment(self._row.started_at)

    @property
    def completed_at(self) -> datetime | None:
        """When it ended."""
        return _moment(self._row.completed_at)

    @property
    def updated_at(self) -> datetime:
        """When its last commit was made."""
        return moment(self._row.updated_at)

    async def refresh(self) -> Run:
        """Look again; returns itself."""
        self._row = (await self._engine.get(self.id))._row  # noqa: SLF001 - of the same class
        return self

    async def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the end and return the result.

        Raises RunFailed, RunCancelled or RunTimedOut for the outcome, TimeoutError when `timeout` is over before.
        """
        return await self._engine.result(self.id, timeout)

    async def wait(self, timeout: float | timedelta | None = None) -> Run:
        """Wait for the end, whatever it is, and return the run; raises TimeoutError when `timeout` is over before."""
        self._row = (await self._engine.wait(self.id, timeout))._row  # noqa: SLF001
        return self

    def events(self, after: int = 0, types: str | Collection[str] | None = None) -> AsyncIterator[RunEvent]:
        """Yield the run's events after a position, from the store, then live; ends with the run."""
        return self._engine.events(self.id, after, types)

    async def stages(self, *, inputs: bool = False) -> list[Stage]:
        """Return the audit of its nodes: attempts, durations, outputs, errors; with `inputs` the states they saw."""
        return await self._engine.stages(self.id, inputs=inputs)

    async def decisions(self) -> list[Decision]:
        """Return every edge that was tried, with its outcome and reason."""
        return await self._engine.decisions(self.id)

    async def children(self) -> list[Run]:
        """Return the runs that its steps started, in the order in which they began."""
        return await self._engine.children(self.id)

    async def checkpoints(self) -> list[Checkpoint]:
        """Return the positions at which its rounds had ended, with their nodes."""
        return await self._engine.checkpoints(self.id)

    async def _drawn(self, format: str) -> str:
        from holdfast.core.picture.drawing import drawn  # noqa: PLC0415 - only for pictures

        return drawn(await self._engine.picture(self.id), format)

    async def to_mermaid(self) -> str:
        """Return its graph with its path over it as Mermaid text: counts, durations, failures, in colours."""
        return await self._drawn("mermaid")

    async def to_svg(self) -> str:
        """Return its graph with its path over it as an SVG document."""
        return await self._drawn("svg")

    async def journal(self) -> list[dict[str, Any]]:
        """Return the facts in order, as plain dicts with their positions."""
        return await self._engine.journal(self.id)

    async def state(self, at: int | None = None) -> dict[str, Any]:
        """Return the user's state now, or after the fact at position `at`."""
        return await self._engine.state(self.id, at)

    async def interrupts(self) -> list[Interrupt]:
        """Return what it asks and nobody has answered."""
        return await self._engine.interrupts(run=self.id)

    async def fork(self, at: int | None = None, changes: Mapping[str, Any] | None = None) -> Run:
        """Start a new run that begins as this one did up to position `at`, with changes to the state there."""
        return await self._engine.fork(self.id, at, changes)

    async def diff(self, other: Run | RunId) -> RunDiff:
        """Return how it and another run differ."""
        return await self._engine.diff(self.id, other.id if isinstance(other, Run) else other)

    async def signal(self, name: str, value: Any = None, key: str | None = None) -> None:
        """Send it a named value."""
        await self._engine.signal(self.id, name, value, key)

    async def send(
        self,
        event: str,
        data: Any = None,
        id: str | None = None,
        timeout: float | timedelta | None = None,
    ) -> Outcome:
        """Send an event to the machine and return the outcome: `.state`, `.changed`. The same `id` again sends nothing.

        Raises InvalidTransition when its state does not allow the event, ActionFailed, TimeoutError.
        """
        return await self._engine.send(self.id, event, data, id, timeout)

    async def cancel(self, reason: str = "") -> Run:
        """Ask it to end."""
        return self._replaced(await self._engine.cancel(self.id, reason))

    async def pause(self, reason: str = "") -> Run:
        """Let nothing new start until it is resumed."""
        return self._replaced(await self._engine.pause(self.id, reason))

    async def resume(self, secrets: dict[str, str] | None = None) -> Run:
        """Go on with it when it is paused, failed or cancelled."""
        return self._replaced(await self._engine.resume(self.id, secrets))

    async def delete(self) -> None:
        """Delete it, when it has ended."""
        await self._engine.delete(self.id)

    def _replaced(self, run: Run) -> Run:
        self._row = run._row
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot as plain values."""
        return {
            "id": self.id,
            "workflow": self.workflow,
            "version": self.version,
            "status": str(self.status),
            "params": self.params,
            "parent": self.parent,
            "error": None if self.error is None else msgspec.to_builtins(self.error),
            "tags": list(self.tags),
            "queue": self.queue,
            "priority": self.priority,
            "progress": None if self.progress is None else msgspec.to_builtins(self.progress),
            "position": self.position,
            "waiting_on": list(self.waiting_on),
            "created_at": self.created_at,
            "started_at": self.started_at,
            "completed_at": self.completed_at,
            "updated_at": self.updated_at,
        }

    def __repr__(self) -> str:
        """Show id, workflow and status."""
        return f"Run({self.id!r}, {self.workflow!r}, {self.status.value})"


def _moment(at: Instant) -> datetime | None:
    return moment(at) if at else None


class Page:
    """Some runs of a list: `items`, the cursor `next` (None: that was all) and the `total`; `async for` walks on."""

    def __init__(self, items: Sequence[Run], following: str | None, total: int, more: Any) -> None:
        """`more(cursor)` gives the page after this one."""
        self.items: Final = list(items)
        self.next: Final = following
        self.total: Final = total
        self._more = more

    async def __aiter__(self) -> AsyncIterator[Run]:
        """Yield this page's runs and those of all that follow."""
        page: Page | None = self
        while page is not None:
            for run in page.items:
                yield run
            page = await page._more(page.next) if page.next is not None else None  # noqa: SLF001

    def __len__(self) -> int:
        """Return how many runs this page has."""
        return len(self.items)


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as the store knows it: where it lives, what it serves, and how many runs it holds.

    `lease` is "alive", "expired" when the worker is dead or cannot reach the store, "stopped" when it has closed or
    its runs were given to others.
    """

    id: WorkerId
    host: str
    pid: int
    queues: tuple[str, ...]
    workflows: tuple[str, ...]
    runs: int
    lease: Literal["alive", "expired", "stopped"]
    started_at: datetime
    stopped_at: datetime | None = None


class WorkflowInfo(msgspec.Struct, frozen=True):
    """A workflow that can be started: registered here, or listed by a worker."""

    name: str
    description: str
    version: str
    schema: dict[str, Any]
    here: bool = True
