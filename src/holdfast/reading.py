"""What can be asked of runs, from any process on the same store: the reading half of the engine."""

from __future__ import annotations

import asyncio
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import msgspec

from holdfast.core.audit import decisions as audit_decisions
from holdfast.core.audit import stages as audit_stages
from holdfast.core.checkpoints import checkpointing_of
from holdfast.core.checkpoints import checkpoints as audit_checkpoints
from holdfast.core.events import CHUNK_TYPES, chunk_event, events_of, reader
from holdfast.core.program import Workflow
from holdfast.errors import PayloadRejected, RequestError, RunCancelled, RunFailed, RunNotFound, RunTimedOut
from holdfast.model import facts
from holdfast.model.audit import Checkpoint, Decision, Stage
from holdfast.model.checks import DURATION, LABEL, POSITION, TEXTS, WORDS, Kind, argument, instance_of
from holdfast.model.event import RunEvent
from holdfast.model.ids import Instant, RunId, check_run_id, instant, moment, seconds
from holdfast.model.run import ENDED, RunRow, RunStatus
from holdfast.registry import Registry
from holdfast.run import Page, Run, WorkerInfo, WorkflowInfo
from holdfast.runtime.assembly import Assembly
from holdfast.runtime.host import Host
from holdfast.runtime.loading import Loaded, load_inputs, load_run, own_definition, params_of
from holdfast.services import Runtime
from holdfast.store.open import is_in_memory
from holdfast.store.port import Store
from holdfast.store.rows import ChunkRow, RunQuery, WorkerRow

if TYPE_CHECKING:
    from holdfast.core.picture.shape import Picture
    from holdfast.engine import Engine

ALL: Final = frozenset(RunStatus)
MOST: Final = 10_000
"""Runs on one page at most."""

_PAGE: Final = 500
"""Commits, and chunks, that are read at once."""

_TIMEOUT: Final = DURATION.or_none()
_FILTERS: Final = {
    "workflow": LABEL.or_none(),
    "status": instance_of(str, Collection, expected="a status or a list of them").or_none(),
    "tags": TEXTS.or_none(),
}
_ORDER: Final = Kind(lambda given: given in ("newest", "oldest"), "newest or oldest")
_LIMIT: Final = Kind(lambda given: type(given) is int and 1 <= given <= MOST, f"1 to {MOST}")


class Reading(ABC):
    """Waits for runs, lists them, and shows their journals as events, stages, decisions and states."""

    url: str
    runtime: Runtime
    registry: Registry
    _store: Store
    _host: Host

    @property
    @abstractmethod
    def _open(self) -> Assembly:
        """The parts of the open engine; raises StoreUnavailable when it is closed."""

    def _run(self, row: RunRow) -> Run:
        return Run(cast("Engine", self), row)

    async def get(self, id: RunId) -> Run:
        """Return the run; raises RunNotFound."""
        return self._run(await self._row(id))

    async def wait(self, id: RunId, timeout: float | timedelta | None = None) -> Run:
        """Wait until the run has ended and return it; raises RunNotFound, TimeoutError."""
        argument("timeout", timeout, _TIMEOUT)
        async with asyncio.timeout(None if timeout is None else seconds(timeout)):
            return self._run(await self._ended(id))

    async def result(self, id: RunId, timeout: float | timedelta | None = None) -> Any:
        """Wait until the run has ended and return its result; raises RunFailed, RunCancelled, RunTimedOut."""
        if argument("timeout", timeout, _TIMEOUT) is None:
            ended, blobs = await self._end_of(id)
        else:
            async with asyncio.timeout(seconds(timeout or 0)):
                ended, blobs = await self._end_of(id)
        match ended:
            case facts.RunCompleted():
                return reader(blobs)(ended.data)
            case facts.RunCancelled():
                raise RunCancelled(f"run {id!r} was cancelled{': ' if ended.reason else ''}{ended.reason}")
            case facts.RunFailed():
                raise await self._failure(id, ended.error)
        raise RunNotFound(f"run {id!r} has no end in its journal")

    async def _end_of(self, run: RunId) -> tuple[Any, Mapping[str, bytes]]:
        """Wait for the run's end; return its last fact and the large values. A run that is driven here tells itself."""
        worker = self._open.worker
        held = None if worker is None else worker.held.get(run)
        if held is not None:
            await held.over()
            if held.ledger.ended is not None and held.committed:
                return held.ledger.ended, held.blobs
        return await self._last(await self._ended(run))

    async def _ended(self, run: RunId) -> RunRow:
        parts = self._open
        while True:
            waiter = parts.feed.waiter(run)
            row = await self._row(run)
            if row.status in ENDED:
                waiter.cancel()
                return row
            await waiter

    async def _last(self, row: RunRow) -> tuple[Any, Mapping[str, bytes]]:
        rows = await self._store.journal(row.id, after=row.position - 1)
        blobs = await self._store.blobs(row.id)
        return (facts.Journal.decode(rows[-1].facts)[-1] if rows else None), blobs

    async def _failure(self, run: RunId, error: facts.ErrorInfo) -> Exception:
        if error.code == "run_timed_out":
            return RunTimedOut(f"run {run!r} timed out: {error.message}")
        path = tuple(stage.name for stage in await self.stages(run))
        state: dict[str, Any] | None = None
        if self.registry.find((await self._row(run)).workflow) is not None:
            state = await self.state(run)
        where = f" at {error.name}" if error.name else ""
        what = f"run {run!r} failed{where}: {error.type}: {error.message}"
        failure = RunFailed(
            f"{what.rstrip('.')}. {error.fix}" if error.fix else what,
            run_id=run,
            stage=error.name,
            attempt=error.attempt,
            error=error,
            state=state,
            path=path,
            fix=f"Mend the cause, then go on from there: {self._way_on(run)}",
        )
        failure.__cause__ = self._open.feed.cause(run)
        return failure

    def _way_on(self, run: RunId) -> str:
        """Return how to resume a run: the command line does not reach what is in this process's memory."""
        here = f"engine.resume({run!r})"
        return here if is_in_memory(self.url) else f"{here}, or on the command line: holdfast resume {run}"

    async def _row(self, run: RunId) -> RunRow:
        self._open  # noqa: B018 - raises when the engine is closed
        row = await self._store.run(check_run_id(run))
        if row is None:
            raise RunNotFound(f"run {run!r} not found")
        return row

    async def runs(
        self,
        workflow: str | None = None,
        status: str | Collection[str] | None = None,
        tags: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        order: Literal["newest", "oldest"] = "newest",
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """Return runs that match, a page at a time; `after` is the `next` of the page before."""
        query = _query(workflow, status, tags, since, until, order, limit, after)
        self._open  # noqa: B018
        rows = await self._store.runs(msgspec.structs.replace(query, limit=limit + 1))
        total = await self._store.count(query)
        shown, following = rows[:limit], cursor_after(rows, limit)

        async def more(cursor: str) -> Page:
            return await self.runs(workflow, status, tags, since, until, order, limit, cursor)

        return Page([self._run(row) for row in shown], following, total, more)

    async def count(
        self,
        workflow: str | None = None,
        status: str | Collection[str] | None = None,
        tags: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> int:
        """Return how many runs match."""
        self._open  # noqa: B018
        return await self._store.count(_query(workflow, status, tags, since, until, "newest", 1, None))

    async def children(self, id: RunId) -> list[Run]:
        """Return the runs that a run's steps started, in the order in which they began; raises RunNotFound."""
        await self._row(id)
        query = RunQuery(parent=id, ascending=True, limit=MOST)
        found: list[Run] = []
        while rows := await self._store.runs(query):
            found += map(self._run, rows)
            query = msgspec.structs.replace(query, after=(rows[-1].created_at, rows[-1].id))
        return found

    async def workflows(self) -> list[WorkflowInfo]:
        """Return the workflows that are registered here or listed by a worker, in the order of their names."""
        here = {
            w.name: WorkflowInfo(w.name, w.description, w.version, w.schema())
            for w in self.registry.all().values()
        }
        for worker in reversed(await self._store.workers()):
            for name, schema in worker.workflows.items():
                if name not in here:
                    here[name] = WorkflowInfo(name, "", "", msgspec.json.decode(schema), here=False)
        return [here[name] for name in sorted(here)]

    async def workers(self, *, stopped: bool = False) -> list[WorkerInfo]:
        """Return the workers of this store, the oldest first, with `stopped` also those that ended of late."""
        self._open  # noqa: B018
        now = self._store.now()
        rows = [row for row in await self._store.workers() if stopped or not row.stopped_at]
        return [self._worker(row, now, len(await self._store.held(row.id))) for row in rows]

    def _worker(self, row: WorkerRow, now: Instant, runs: int) -> WorkerInfo:
        dead = row.leased_until <= now or self._host.saw_die(row.boot, row.namespace, row.lock)
        return WorkerInfo(
            id=row.id,
            host=row.host,
            pid=row.pid,
            queues=row.queues,
            workflows=tuple(sorted(row.workflows)),
            runs=runs,
            lease="stopped" if row.stopped_at else "expired" if dead else "alive",
            started_at=moment(row.started_at),
            stopped_at=moment(row.stopped_at) if row.stopped_at else None,
        )

    def events(
        self, id: RunId, after: int = 0, types: str | Collection[str] | None = None
    ) -> AsyncIterator[RunEvent]:
        """Yield the run's events after a position, of the given types, from the store, then live; ends with the run.

        Raises PayloadRejected at once, RunNotFound when the first event is asked for.
        """
        argument("after", after, POSITION)
        wanted = {types} if isinstance(types, str) else argument("types", types, TEXTS.or_none())
        return self._events(check_run_id(id), after, wanted)

    async def _events(
        self, id: RunId, after: int, types: Collection[str] | None
    ) -> AsyncGenerator[RunEvent, None]:
        feed = self._open.feed
        position, number = after, 0
        read = reader({})
        while True:
            waiter = feed.waiter(id)
            row = await self._row(id)
            rows = await self._store.journal(id, after=position, limit=_PAGE)
            end = rows[-1].position + rows[-1].count - 1 if rows else position
            sent = await self._sent(id, number, end, types)
            if len(sent) == _PAGE:  # the facts after these wait for the chunks that come before them
                end = max(position, sent[-1].position)
            if rows or sent:
                waiter.cancel()
                if rows:
                    read = reader(await self._store.blobs(id))
                shown = (
                    (event.position, event)
                    for event in events_of(rows, position, types, read)
                    if event.position <= end
                )
                chunks = ((chunk.position, chunk_event(chunk)) for chunk in sent if chunk.position >= after)
                for _, event in merge(shown, chunks, key=itemgetter(0)):
                    if types is None or event.type in types:
                        yield event
                position = end
                number = sent[-1].number if sent else number
            elif row.status in ENDED:
                waiter.cancel()
                return
            else:
                await waiter

    async def _sent(
        self, id: RunId, after: int, end: int, types: Collection[str] | None
    ) -> Sequence[ChunkRow]:
        """Return what the run's steps sent after a chunk, up to a position in the journal."""
        if types is not None and not {*types} & {*CHUNK_TYPES}:
            return []
        found = await self._store.chunks(id, after, limit=_PAGE)
        return [chunk for chunk in found if chunk.position <= end]

    async def stages(self, id: RunId, *, inputs: bool = False) -> list[Stage]:
        """Return the audit of the run's nodes; with `inputs` also what each was given, which costs a fold.

        That needs the workflow to be registered here.
        """
        row = await self._row(id)
        rows = await self._all(row)
        read = reader(await self._store.blobs(id))
        held = row.status is RunStatus.RUNNING
        found = audit_stages(rows, held=held, now=self._store.now(), decode=read)
        if not inputs:
            return found
        workflow = self.registry.get(row.workflow)
        given = await load_inputs(self._store, row, workflow, self.runtime, found)
        return [dataclasses.replace(stage, input=value) for stage, value in zip(found, given, strict=True)]

    async def decisions(self, id: RunId) -> list[Decision]:
        """Return every edge that was tried, with its outcome and reason."""
        return audit_decisions(await self._all(await self._row(id)))

    async def checkpoints(self, id: RunId) -> list[Checkpoint]:
        """Return the positions at which rounds had ended, with their nodes; `state(id, at=position)` tells the rest.

        The workflow's `CheckpointConfig.interval` says which are listed, where the workflow is registered.
        """
        row = await self._row(id)
        known = self.registry.find(row.workflow) is not None
        settings = checkpointing_of(await self._workflow_of(row) if known else None)
        return list(audit_checkpoints(await self._all(row), settings))

    async def picture(self, id: RunId) -> Picture:
        """Return the run's graph with the run's path over it, for `holdfast.core.picture` to draw.

        Needs the workflow to be registered here. Raises RequestError when it has no picture.
        """
        from holdfast.core.picture.trace import activated, laid_over, traced  # noqa: PLC0415 - only for pictures

        row = await self._row(id)
        workflow = await self._workflow_of(row)
        made = getattr(workflow, "picture", None)
        if made is None:
            raise RequestError(f"{row.workflow} is no graph", fix="Only graphs have a picture.")
        picture: Picture = made(self.runtime, workflow.check(params_of(row)))
        shown = laid_over(picture, traced(await self.stages(id), await self.decisions(id)))
        if not getattr(workflow, "answers", False) or row.status in ENDED:
            return shown
        state: Any = (await self.state(id)).get("state")
        return activated(shown, state if isinstance(state, list) else [state])

    async def journal(self, id: RunId) -> list[dict[str, Any]]:
        """Return the facts in order, as plain dicts with their positions."""
        return [
            {"position": position, **fact}
            for row in await self._all(await self._row(id))
            for position, fact in enumerate(msgspec.json.decode(row.facts), row.position)
        ]

    async def _all(self, row: RunRow) -> Sequence[Any]:
        return await self._store.journal(row.id, limit=row.position + 1)

    async def state(self, id: RunId, at: int | None = None) -> dict[str, Any]:
        """Return the user's state now, or after the fact at position `at`. Needs the workflow to be registered here."""
        loaded = await self._load(id, argument("at", at, POSITION.or_none()))
        state: dict[str, Any] = loaded.program.state(loaded.progress)
        return state

    async def _workflow_of(self, row: RunRow) -> Workflow:
        """Return the definition of a run; raises WorkflowNotFound when its workflow is not registered here."""
        workflow = self.registry.get(row.workflow)
        return await own_definition(self._store, row, workflow, self.runtime) if row.parent else workflow

    async def _load(self, run: RunId, at: int | None = None) -> Loaded:
        row = await self._row(run)
        return await load_run(self._store, run, self.registry.get(row.workflow), self.runtime, at)


def cursor_after(rows: Sequence[RunRow], limit: int) -> str | None:
    """Return the cursor behind the first `limit` rows; None when there are no more."""
    return f"{rows[limit - 1].created_at}:{rows[limit - 1].id}" if len(rows) > limit else None


def read_cursor(after: str | None) -> tuple[int, str] | None:
    """Return where a page begins that a caller asks for. Raises PayloadRejected when that is no cursor."""
    argument("after", after, WORDS.or_none())
    if after is None:
        return None
    created, _, run = after.partition(":")
    if not (created.isascii() and created.isdigit() and len(created) < len(str(2**63)) and run):
        raise PayloadRejected(
            f"malformed cursor {after!r:.80}", field="after", fix="Give the `next` of a page."
        )
    return int(created), run


def _query(
    workflow: str | None,
    status: str | Collection[str] | None,
    tags: Sequence[str] | None,
    since: datetime | None,
    until: datetime | None,
    order: str,
    limit: int,
    after: str | None,
) -> RunQuery:
    """Return the store's query; raises PayloadRejected naming what is wrong."""
    for field, value in {"workflow": workflow, "status": status, "tags": tags}.items():
        argument(field, value, _FILTERS[field])
    statuses = [status] if isinstance(status, str) else list(status or ())
    for each in statuses:
        if each not in ALL:
            raise PayloadRejected(
                f"unknown status {each!r}", field="status", fix=f"Use one of {', '.join(RunStatus)}."
            )
    argument("order", order, _ORDER)
    argument("limit", limit, _LIMIT)
    return RunQuery(
        workflow=workflow,
        status=frozenset(RunStatus(each) for each in statuses),
        tags=tuple(tags or ()),
        since=_instant("since", since),
        until=_instant("until", until),
        ascending=order == "oldest",
        limit=limit,
        after=read_cursor(after),
    )


def _instant(field: str, given: object) -> int | None:
    if given is None:
        return None
    if not isinstance(given, datetime) or given.tzinfo is None:
        raise PayloadRejected(f"{field}={given!r:.80}", field=field, fix="Give a datetime with a time zone.")
    return instant(given)
