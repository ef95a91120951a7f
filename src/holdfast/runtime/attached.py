"""Observers that workflows bring along: each sees the runs of its workflow alone, beside the engine's own observers.

A run that is started here is seen, up to its end, by the observer of the very object that it was started with; any
other run by that of the workflow that is registered under its name. So each of two graphs of one name and shape, built
anew for each request, has its own events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar

from msgspec.structs import replace

from holdfast.core.observers import ObserverLike, instance_of, observer_of
from holdfast.core.program import Workflow
from holdfast.errors import DefinitionError
from holdfast.model import facts
from holdfast.model.ids import RunId
from holdfast.runtime.feed import Entry, patiently
from holdfast.runtime.observing import Observers, Reader
from holdfast.store.port import Store

T = TypeVar("T")

_REMEMBERED: Final = 10_000
"""Runs whose observer, or workflow, is known without asking the store."""

_ENDS: Final = facts.RunCompleted | facts.RunFailed | facts.RunCancelled


class Attached:
    """Who brought which observer: workflows by name, and runs that were started here."""

    def __init__(
        self, observers: Observers, store: Store, registered: Callable[[], Mapping[str, Workflow]]
    ) -> None:
        """Begin without any. `registered` tells which workflows there are."""
        self._observers = observers
        self._store = store
        self._registered = registered
        self._readers: dict[str | int, Reader] = {}
        self._named: dict[str, Reader] = {}
        self._started: OrderedDict[RunId, Reader | None] = OrderedDict()
        """None for one whose end its reader has seen: others, which are behind, must not take it for theirs."""
        self._starting: Counter[Reader] = Counter()
        self._workflows: OrderedDict[RunId, str] = OrderedDict()

    def follow(self) -> None:
        """Feed the observers of the workflows that are registered with what is committed from now on. Idempotent."""
        named = {name: self._reader(workflow) for name, workflow in self._registered().items()}
        self._named = {name: reader for name, reader in named.items() if reader is not None}
        self._tidy()

    def starting(
        self, workflow: Workflow, run: RunId
    ) -> contextlib.AbstractContextManager[Callable[[], None]]:
        """Have the workflow's observer see what is committed within; what is given, when called, has it see the run."""
        reader = self._reader(workflow)
        return _UNSEEN if reader is None else self._seeing(reader, run)

    @contextlib.contextmanager
    def _seeing(self, reader: Reader, run: RunId) -> Iterator[Callable[[], None]]:
        self._starting[reader] += 1
        try:
            yield lambda: _remember(self._started, run, reader)
        finally:
            self._starting[reader] -= 1
            self._tidy()

    def _reader(self, workflow: Workflow) -> Reader | None:
        """Return who reads for the workflow's observer; None when it has none, or one that is the engine's, too."""
        given = observer_of(workflow)
        if given is None:
            return None
        key = _key(given)
        if key in self._readers:
            return self._readers[key]
        engine = self._observers.names
        if (isinstance(given, str) and given in engine) or any(given is each for each in engine.values()):
            return None
        try:
            observer = instance_of(given)
        except DefinitionError:
            return None  # its runs fail with this error, which tells more there
        name = given if isinstance(given, str) else type(observer).__name__
        reader = self._readers[key] = self._observers.add(f"{workflow.name}:{name}", observer, self._pick)
        return reader

    def _tidy(self) -> None:
        """Let go of readers that nobody brings any more."""
        kept = {*self._named.values(), *self._started.values(), *(+self._starting)}
        for key, reader in list(self._readers.items()):
            if reader not in kept:
                del self._readers[key]
                self._observers.drop(reader)

    async def _pick(self, reader: Reader, entry: Entry) -> Entry | None:
        """Return what of an entry is of a reader's runs."""
        if entry.chunks:
            chunks = [chunk for chunk in entry.chunks if await self._of(chunk.run) is reader]
            return replace(entry, chunks=tuple(chunks)) if chunks else None
        if await self._of(entry.run, entry) is not reader:
            return None
        if isinstance(entry.facts[-1], _ENDS):
            if entry.run in self._started:
                self._started[entry.run] = None
            if reader not in self._named.values():
                self._tidy()
        return entry

    async def settle(self, timeout: float) -> None:
        """Wait until their observers have seen all that is committed, at most for `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for reader in list(self._readers.values()):
                    while reader.lag:
                        reader.moved.clear()
                        await reader.moved.wait()

    async def _of(self, run: RunId, entry: Entry | None = None) -> Reader | None:
        if (
            self._started.get(run, self) is None
            and entry is not None
            and isinstance(entry.facts[0], facts.RunResumed)
        ):
            del self._started[run]  # it goes on as any other
        if run in self._started or not self._named:
            return self._started.get(run)
        if run not in self._workflows:
            _remember(self._workflows, run, await self._workflow(run, entry))
        return self._named.get(self._workflows[run])

    async def _workflow(self, run: RunId, entry: Entry | None) -> str:
        first = entry.facts[0] if entry is not None else None
        if isinstance(first, facts.RunStarted):
            return first.workflow
        row = await patiently(lambda: self._store.run(run))
        return "" if row is None else row.workflow


def _key(given: ObserverLike) -> str | int:
    return given if isinstance(given, str) else id(given)


def _nothing() -> None:
    """Do nothing."""


_UNSEEN: Final = contextlib.nullcontext(_nothing)


def _remember(known: OrderedDict[RunId, T], run: RunId, what: T) -> None:
    known[run] = what
    if len(known) > _REMEMBERED:
        known.popitem(last=False)
