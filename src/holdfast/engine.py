"""The engine: starts runs, drives them, and answers everything that is asked about them, from any process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Literal, Self

import msgspec

from holdfast import registry as registries
from holdfast.core.children import is_child
from holdfast.core.observers import Observer
from holdfast.core.program import Workflow
from holdfast.core.retention import Retention
from holdfast.errors import (
    InvalidStatus,
    RequestError,
    RunConflict,
    RunNotFound,
    SecretsNeedWorker,
    StoreUnavailable,
)
from holdfast.model import facts
from holdfast.model.checks import (
    CALLABLE,
    COUNT,
    DATA,
    DURATION,
    FLAG,
    LABEL,
    NAMES,
    PRIORITY,
    TEXT,
    TEXTS,
    WORDS,
    Kind,
    argument,
    instance_of,
)
from holdfast.model.ids import RunId, check_new_run_id, check_run_id, microseconds, seconds
from holdfast.model.run import ENDED, RESUMABLE, RunStatus
from holdfast.model.sameness import is_same
from holdfast.model.secrets import Secrets
from holdfast.model.values import encode
from holdfast.reading import ALL
from holdfast.remembering import Remembering
from holdfast.run import Run
from holdfast.runtime.assembly import Assembly
from holdfast.runtime.clock import Clock, SharedClock, SystemClock, new_id
from holdfast.runtime.host import Host
from holdfast.runtime.secrets import SecretMemory, given_secrets, refuse_secret
from holdfast.sending import Sending
from holdfast.services import Runtime
from holdfast.settings import store_url
from holdfast.store.open import open_store
from holdfast.store.port import Store
from holdfast.store.rows import Delivered, Delivery

logger: Final = logging.getLogger("holdfast")

UNENDED: Final = ALL - ENDED
CANCEL_GRACE: Final = 5.0

SecretProvider = Callable[[Run, str], "str | None"]

_OBSERVERS: Final = Kind(
    lambda given: isinstance(given, Sequence) and not isinstance(given, str),
    'a list of observers, such as ["logging"]',
)
_KINDS: Final = {
    "url": TEXT.or_none(),
    "runtime": instance_of(Runtime, expected="a Runtime").or_none(),
    "observers": _OBSERVERS,
    "secrets": CALLABLE.or_none(),
    "retention": instance_of(Retention, expected="a Retention").or_none(),
    "registry": instance_of(registries.Registry, expected="a Registry").or_none(),
    "workers": FLAG,
    "concurrency": COUNT,
    "queues": NAMES,
    "only": instance_of(set, expected="a set of the ids of runs").or_none(),
}
_ON_CONFLICT: Final = ("return", "reject", "restart")
_START: Final = {
    "params": DATA.or_none(),
    "on_conflict": Kind(lambda given: given in _ON_CONFLICT, "return, reject or restart"),
    "queue": LABEL.or_none(),
    "priority": PRIORITY.or_none(),
    "tags": TEXTS.or_none(),
    "delay": DURATION.or_none(),
    "timeout": DURATION.or_none(),
}


class Engine(Remembering, Sending):
    """Durable runs on one store. Use it with `async with`, or `open` and `close`.

    With workers it drives runs of the registered workflows that are in one of its `queues`, at most `concurrency` at
    once, and takes unfinished ones up by itself when it opens; without, it is a client. A run belongs to the engine,
    not to the request that started it.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        runtime: Runtime | None = None,
        observers: Sequence[str | Observer | type[Observer]] = ("logging",),
        secrets: SecretProvider | None = None,
        retention: Retention | None = None,
        registry: registries.Registry | None = None,
        workers: bool = True,
        concurrency: int = 100,
        queues: Sequence[str] = ("default",),
        only: set[RunId] | None = None,
        store: Store | None = None,
        clock: Clock | None = None,
        host: Host | None = None,
    ) -> None:
        """Keep the settings; nothing is opened yet. `store`, `clock` and `host` are for tests and tools.

        With `only`, a set of ids that may grow, it drives just these runs, those that are started here and their
        children, of any queue.
        """
        given: dict[str, Any] = {
            "url": url,
            "runtime": runtime,
            "observers": observers,
            "secrets": secrets,
            "retention": retention,
            "registry": registry,
        }
        given |= {"workers": workers, "concurrency": concurrency, "queues": queues, "only": only}
        for field, value in given.items():
            argument(field, value, _KINDS[field])
        self.url = store_url(url)
        self.runtime = runtime or Runtime()
        self.registry = registry or registries.default
        self._host: Host = host or Host()
        self._store: Store = store or open_store(self.url)
        self._clock: Clock = SharedClock(clock or SystemClock(), self._store.now)
        self._given_observers = tuple(observers)
        self._workers = workers
        self.concurrency: Final = concurrency
        self._queues = tuple(dict.fromkeys(queues))
        self._only = only
        provider = None if secrets is None else (lambda row, name: secrets(Run(self, row), name))
        self._secrets = SecretMemory(provider)
        self._provider = secrets
        self._retention = retention or Retention()
        self._opened = False
        self._parts: Assembly | None = None
        self._unlisten: Callable[[], None] | None = None

    def on(self, url: str, store: Store, **changes: Any) -> Engine:
        """Return an engine, not open, with the settings of this one but for `changes`, and another store; for tools."""
        settings: dict[str, Any] = {
            "runtime": self.runtime,
            "observers": self._given_observers,
            "secrets": self._provider,
            "retention": self._retention,
            "registry": self.registry,
            "concurrency": self.concurrency,
            "queues": self._queues,
        }
        return Engine(url, store=store, **(settings | changes))

    # --- life

    async def __aenter__(self) -> Self:
        """Open."""
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    async def open(self) -> Self:
        """Open the store, and take unfinished runs of registered workflows up. Idempotent."""
        if self._parts is not None:
            return self
        await self._store.open()
        try:
            self._parts = parts = Assembly(
                store=self._store,
                clock=self._clock,
                worker_id=self._host.new_worker_id(),
                services=self.runtime,
                workflows=self.registry.all,
                secrets=self._secrets,
                observers=self._given_observers,
                concurrency=self.concurrency,
                queues=self._queues,
                only=self._only,
                drives=self._workers,
                cancel_grace=CANCEL_GRACE,
                host=self._host,
                retention=self._retention,
            )
            self._unlisten = self.registry.listen(parts.registered)
            await parts.open()
        except BaseException:
            await self.close(grace=0)
            await self._store.close()  # without parts it is open still
            raise
        return self

    async def close(self, grace: float = 30) -> None:
        """Stop claiming, give running steps `grace` seconds, and keep every unfinished run for who comes next.

        Idempotent.
        """
        argument("grace", grace, DURATION)
        parts, self._parts = self._parts, None
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        if parts is not None:
            await parts.close(grace)
            await self._store.close()

    @property
    def worker_id(self) -> str:
        """The id of this engine's worker; empty when it has none or is not open."""
        parts = self._parts
        return parts.worker.id if parts is not None and parts.worker is not None else ""

    @property
    def store(self) -> Store:
        """The store; for tests and tools."""
        return self._store

    @property
    def _open(self) -> Assembly:
        if self._parts is None:
            raise StoreUnavailable(
                "the engine is not open", fix="Use `async with Engine(...) as engine:`, or open()."
            )
        return self._parts

    # --- starting

    async def start(
        self,
        workflow: Any,
        params: Mapping[str, Any] | None = None,
        *,
        id: RunId | None = None,
        profile: str | None = None,
        secrets: Mapping[str, str] | None = None,
        queue: str | None = None,
        priority: int | None = None,
        tags: Sequence[str] | None = None,
        delay: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        on_conflict: Literal["return", "reject", "restart"] = "return",
    ) -> Run:
        """Start a run and return its handle; the run is committed before this returns.

        The same id with the same workflow and params gives the same run, unless `on_conflict` is "reject" (RunConflict)
        or "restart" (a new one if the old has ended). Raises WorkflowNotFound, PayloadRejected naming the field,
        RunConflict, SecretsNeedWorker. The run keeps what its `profile` says now, whatever is saved later.
        """
        parts = self._open
        options = {"queue": queue, "priority": priority, "tags": tags, "delay": delay, "timeout": timeout}
        for field, value in {"params": params, "on_conflict": on_conflict, **options}.items():
            argument(field, value, _START[field])
        definition, checked = await self._definition(workflow, params)
        known = given_secrets(secrets)
        encoded = self._encode_params(checked, known)
        pinned = await self._pinned(definition, checked, profile)
        known.refuse({"profile": pinned})
        run_id = new_id(self._clock) if id is None else check_new_run_id(id)
        refuse_secret(known, {"id": run_id, **{f"tags[{n}]": tag for n, tag in enumerate(tags or ())}})
        if known and (parts.worker is None or (queue or definition.queue) not in parts.worker.queues):
            raise SecretsNeedWorker
        now = self._clock.now()
        limit = definition.timeout if timeout is None else seconds(timeout)
        wait = 0.0 if delay is None else seconds(delay)
        started = facts.RunStarted(
            at=now,
            workflow=definition.name,
            version=definition.version,
            queue=queue or definition.queue,
            priority=definition.priority if priority is None else priority,
            tags=tuple(tags or ()),
            secrets=known.names,
            deadline=0 if limit is None else now + microseconds(limit),
            not_before=now + microseconds(wait) if wait else 0,
            profile=pinned,
            data=encoded,
        )
        return await self._begin(run_id, started, definition, checked, known, on_conflict)

    async def _begin(
        self,
        run_id: RunId,
        started: facts.RunStarted,
        definition: Workflow,
        checked: dict[str, Any],
        known: Secrets,
        on_conflict: str,
    ) -> Run:
        """Begin the run, or return the one that has its id."""
        before = self._secrets.of(run_id)
        if known:
            self._secrets.keep(run_id, known)
        while (row := await self._open.begin(run_id, started, definition, checked, known)) is None:
            try:
                existing = await self._existing(run_id, started, on_conflict)
            except RequestError:
                self._secrets.keep(run_id, before)
                raise
            if existing is not None:
                return existing
        return Run(self, row)

    async def execute(self, /, workflow: Any, params: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Start a run and wait for its result; takes what `start` takes. Raises what `Run.result` raises."""
        run = await self.start(workflow, params, **options)
        return await self.result(run.id)

    async def _definition(
        self, workflow: Any, params: Mapping[str, Any] | None
    ) -> tuple[Workflow, dict[str, Any]]:
        found = await self._found(workflow)
        return found, found.check(params or {})

    def _encode_params(self, params: dict[str, Any], known: Secrets) -> msgspec.Raw:
        encoded = encode(params, "params")
        if known:
            known.refuse({key: encode(value, key) for key, value in params.items()}, "params")
        return encoded

    async def _existing(self, run_id: RunId, started: facts.RunStarted, on_conflict: str) -> Run | None:
        """Return the run that has the id; None when it was deleted so that it can be started anew."""
        row = await self._store.run(run_id)
        if row is None:
            raise RunConflict(
                f"run {run_id!r} was deleted", fix="Choose another id; this one stays taken for a while."
            )
        same = row.workflow == started.workflow and is_same(row.params, started.data)
        if not same:
            raise RunConflict(
                f"run {run_id!r} exists already: {row.workflow}, with other params or of another workflow",
                fix="Choose another id.",
            )
        if on_conflict == "reject":
            raise RunConflict(f"run {run_id!r} exists already", fix="Choose another id, or get() the run.")
        if on_conflict == "restart" and row.status in ENDED:
            self._refused(
                run_id,
                await self._store.delete(run_id, tombstone=False),
                "only ended runs can be restarted",
                "Cancel its children first.",
            )
            return None
        return Run(self, row)

    # --- acting

    async def signal(self, id: RunId, name: str, value: Any = None, key: str | None = None) -> None:
        """Send a run a named value; the same `key` again changes nothing. Raises RunNotFound, InvalidStatus."""
        argument("name", name, LABEL)
        argument("key", key, LABEL.or_none())
        data = encode(value, f"signal {name!r}")
        known = Secrets(self._secrets.of(id))
        known.refuse({name: data}, "the signal")
        refuse_secret(known, {"name": name, "key": key or ""})
        fact = facts.SignalReceived(name=name, key=key or new_id(self._clock), data=data)
        await self._deliver(id, fact, fact.key, UNENDED, wakes=UNENDED - {RunStatus.PAUSED}, strict=True)

    async def cancel(self, id: RunId, reason: str = "") -> Run:
        """Ask a run to end, wherever it is driven; stored at once. Changes nothing on an ended one."""
        reason = self._reason(id, reason)
        fact = facts.CancelRequested(reason=facts.readable(reason), key=f"cancel:{new_id(self._clock)}")
        await self._deliver(id, fact, fact.key, UNENDED)
        return await self.get(id)

    async def pause(self, id: RunId, reason: str = "") -> Run:
        """Let nothing new start until the run is resumed; running steps end. Changes nothing on an ended one."""
        reason = self._reason(id, reason)
        fact = facts.RunPaused(reason=facts.readable(reason), key=f"pause:{new_id(self._clock)}")
        await self._deliver(id, fact, fact.key, UNENDED - {RunStatus.PAUSED})
        return await self.get(id)

    async def resume(self, id: RunId, secrets: Mapping[str, str] | None = None) -> Run:
        """Go on with a paused, failed or cancelled run; changes nothing on one that goes on.

        What is finished is not run again. `secrets` are given to this process, which then holds the run. Raises
        InvalidStatus on a completed run.
        """
        parts = self._open
        # In this order: a pause that is taken between the two reads is seen by one of them.
        arrivals = await self._store.inbox(check_run_id(id))
        row = await self._row(id)
        if row.status is RunStatus.COMPLETED:
            raise InvalidStatus(
                f"run {id!r} is completed; there is nothing to resume", fix="Start a new run."
            )
        if secrets:
            if parts.worker is None:
                raise SecretsNeedWorker
            self._secrets.keep(id, {**self._secrets.of(id), **given_secrets(secrets)})
        if row.status in RESUMABLE:
            fact = facts.RunResumed(key=f"resume:{row.position}")
            await self._deliver(id, fact, fact.key, RESUMABLE, reopens=True)
        elif any(b'"RunPaused"' in arrival.fact for arrival in arrivals):
            # A pause is on its way; what was asked last counts.
            fact = facts.RunResumed(key=f"resume:{row.position}:{new_id(self._clock)}")
            await self._deliver(id, fact, fact.key, UNENDED)
        if secrets and parts.worker is not None:
            await parts.worker.holdings.take_run(id)
        return await self.get(id)

    async def delete(self, id: RunId) -> None:
        """Delete an ended run with all that is its own, and its children. Its id stays taken for a while.

        Where the workflows are registered, their checkpoint stores are told to delete it and its children, too, after
        the commit: what they raise is reported in the log, and the run is deleted all the same.
        """
        parts, row = self._open, await self._row(id)
        if is_child(row.id):
            raise InvalidStatus(
                f"run {id!r} is a child of run {row.parent!r}; it goes with that",
                fix=f"Delete {row.parent!r} when it has ended.",
            )
        answer = await parts.forgetting.delete(row)
        self._refused(id, answer, "only ended runs can be deleted", "Cancel it first.")
        self._secrets.keep(id, None)

    def _reason(self, run: RunId, given: str) -> str:
        return Secrets(self._secrets.of(run)).scrub(argument("reason", given, WORDS))

    async def _deliver(
        self,
        run: RunId,
        fact: facts.Fact,
        key: str,
        allowed: frozenset[RunStatus],
        *,
        wakes: frozenset[RunStatus] = ALL,
        reopens: bool = False,
        strict: bool = False,
    ) -> None:
        parts = self._open
        delivery = Delivery(
            run=check_run_id(run),
            key=key,
            fact=facts.Journal.encode_one(fact),
            allowed=allowed,
            wakes=wakes,
            reopens=reopens,
        )
        (answer,) = await self._store.deliver((delivery,))
        if strict or answer.outcome == "unknown":
            resumable = answer.status is not RunStatus.COMPLETED
            fix = "Resume it first." if resumable else "A completed run takes nothing more; start a new one."
            self._refused(run, answer, "it takes no signal", fix)
        await parts.wake(run)

    def _refused(self, run: RunId, answer: Delivered, what: str, fix: str) -> None:
        if answer.outcome == "unknown":
            raise RunNotFound(f"run {run!r} not found")
        if answer.outcome == "refused":
            status = answer.status.value if answer.status else "unknown"
            raise InvalidStatus(f"run {run!r} is {status}; {what}", fix=fix)

    async def settle(self, timeout: float | timedelta = 5) -> None:
        """Wait until checkpoint stores, and observers that workflows brought along, have what is committed.

        Waits for `timeout` at most.
        """
        await self._open.settle(seconds(timeout))

    def lag(self) -> dict[str, int]:
        """Return for each observer, and each checkpoint store, how many commits it is behind."""
        return self._open.observers.lag() | self._open.checkpoints.lag()
