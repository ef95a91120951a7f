"""The engine for synchronous callers: the same names without `await`, over one background loop per process.

Nothing is decided here: each call runs the asyncio engine's method on the loop's thread and waits for it.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from holdfast import engine as asynchronous
from holdfast import run as handles
from holdfast.core.program import Workflow
from holdfast.errors import RequestError, RunFailed
from holdfast.model.ids import RunId
from holdfast.registry import Registry

P = ParamSpec("P")
T = TypeVar("T")


class Portal:
    """One event loop in a daemon thread, started when it is first needed."""

    def __init__(self) -> None:
        """Begin without a thread."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop."""
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="holdfast-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work()` on the loop and return its result; raises what it raises. KeyboardInterrupt cancels it."""
        if threading.current_thread() is self._thread:
            raise RequestError(
                "a blocking call on Holdfast's own loop would wait for itself",
                fix="In async code use `holdfast.Engine` and await it.",
            )

        async def run() -> T:
            return await work()

        future = asyncio.run_coroutine_threadsafe(run(), self.loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


portal: Final = Portal()


def _value(method: Callable[Concatenate[Any, P], Awaitable[T]]) -> Callable[Concatenate[Any, P], T]:
    """Return the method as one that waits for its value."""

    def call(self: Any, /, *arguments: P.args, **options: P.kwargs) -> T:
        return portal.call(lambda: method(self._of, *arguments, **options))

    functools.update_wrapper(call, method)
    return call


def _run(method: Callable[Concatenate[Any, P], Awaitable[handles.Run]]) -> Callable[Concatenate[Any, P], Run]:
    """Return the method as one that waits for a run."""
    wait = _value(method)

    def call(self: Any, /, *arguments: P.args, **options: P.kwargs) -> Run:
        return Run(wait(self, *arguments, **options))

    functools.update_wrapper(call, method)
    return call


def _page(
    method: Callable[Concatenate[Any, P], Awaitable[handles.Page]],
) -> Callable[Concatenate[Any, P], Page]:
    """Return the method as one that waits for a page."""
    wait = _value(method)

    def call(self: Any, /, *arguments: P.args, **options: P.kwargs) -> Page:
        return Page(wait(self, *arguments, **options))

    functools.update_wrapper(call, method)
    return call


def _stream(
    method: Callable[Concatenate[Any, P], AsyncIterator[T]],
) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """Return the method as one that gives a plain iterator."""

    def call(self: Any, /, *arguments: P.args, **options: P.kwargs) -> Iterator[T]:
        return _iterate(method(self._of, *arguments, **options))

    functools.update_wrapper(call, method)
    return call


def _iterate(source: AsyncIterator[T]) -> Iterator[T]:
    end = object()

    async def following() -> Any:
        return await anext(source, end)

    try:
        while (item := portal.call(following)) is not end:
            yield item
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            portal.call(close)


class Run:
    """`holdfast.Run` without `await`."""

    __slots__ = ("_of",)

    def __init__(self, of: handles.Run) -> None:
        """Made by the engine."""
        self._of: Final = of

    def __getattr__(self, name: str) -> Any:
        """Return the handle's field."""
        return getattr(self._of, name)

    def __repr__(self) -> str:
        """Show id, workflow and status."""
        return repr(self._of)

    refresh = _run(handles.Run.refresh)
    wait = _run(handles.Run.wait)
    result = _value(handles.Run.result)
    events = _stream(handles.Run.events)
    stages = _value(handles.Run.stages)
    decisions = _value(handles.Run.decisions)
    checkpoints = _value(handles.Run.checkpoints)
    to_mermaid = _value(handles.Run.to_mermaid)
    to_svg = _value(handles.Run.to_svg)
    journal = _value(handles.Run.journal)
    state = _value(handles.Run.state)
    interrupts = _value(handles.Run.interrupts)
    fork = _run(handles.Run.fork)
    diff = _value(handles.Run.diff)
    signal = _value(handles.Run.signal)
    send = _value(handles.Run.send)
    cancel = _run(handles.Run.cancel)
    pause = _run(handles.Run.pause)
    resume = _run(handles.Run.resume)
    delete = _value(handles.Run.delete)


class Page:
    """`holdfast.Page` with a plain iterator."""

    def __init__(self, page: handles.Page) -> None:
        """Made by the engine."""
        self._page = page
        self.items: Final = [Run(run) for run in page.items]
        self.next: Final = page.next
        self.total: Final = page.total

    def __iter__(self) -> Iterator[Run]:
        """Yield this page's runs and those of all that follow."""
        return (Run(run) for run in _iterate(self._page.__aiter__()))

    def __len__(self) -> int:
        """Return how many runs this page has."""
        return len(self.items)


class Engine:
    """`holdfast.Engine` without `await`; use it with `with`, or `open` and `close`. Safe from many threads."""

    def __init__(self, url: str | None = None, **options: Any) -> None:
        """Take what `holdfast.Engine` takes."""
        self._of: Final = asynchronous.Engine(url, **options)

    def __enter__(self) -> Self:
        """Open."""
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def open(self) -> Self:
        """Open the store, and take unfinished runs of registered workflows up."""
        portal.call(self._of.open)
        return self

    def lag(self) -> dict[str, int]:
        """Return for each observer how many commits it is behind."""
        return self._of.lag()

    def redrive_many(
        self, workflow: str | None = None, code: str | None = None, **options: Any
    ) -> Iterator[Run]:
        """Redrive the letters that are there now; yields each run. Leave it to stop."""
        return (Run(run) for run in _iterate(self._of.redrive_many(workflow, code, **options)))

    close = _value(asynchronous.Engine.close)
    start = _run(asynchronous.Engine.start)
    execute = _value(asynchronous.Engine.execute)
    get = _run(asynchronous.Engine.get)
    wait = _run(asynchronous.Engine.wait)
    result = _value(asynchronous.Engine.result)
    runs = _page(asynchronous.Engine.runs)
    count = _value(asynchronous.Engine.count)
    workflows = _value(asynchronous.Engine.workflows)
    save_profile = _value(asynchronous.Engine.save_profile)
    delete_profile = _value(asynchronous.Engine.delete_profile)
    profiles = _value(asynchronous.Engine.profiles)
    workers = _value(asynchronous.Engine.workers)
    events = _stream(asynchronous.Engine.events)
    stages = _value(asynchronous.Engine.stages)
    decisions = _value(asynchronous.Engine.decisions)
    checkpoints = _value(asynchronous.Engine.checkpoints)
    picture = _value(asynchronous.Engine.picture)
    journal = _value(asynchronous.Engine.journal)
    state = _value(asynchronous.Engine.state)
    interrupts = _value(asynchronous.Engine.interrupts)
    fork = _run(asynchronous.Engine.fork)
    rerun = _run(asynchronous.Engine.rerun)
    clear = _run(asynchronous.Engine.clear)
    diff = _value(asynchronous.Engine.diff)
    signal = _value(asynchronous.Engine.signal)
    send = _value(asynchronous.Engine.send)
    cancel = _run(asynchronous.Engine.cancel)
    pause = _run(asynchronous.Engine.pause)
    resume = _run(asynchronous.Engine.resume)
    delete = _value(asynchronous.Engine.delete)
    dead_letters = _value(asynchronous.Engine.dead_letters)
    dead_letter = _value(asynchronous.Engine.dead_letter)
    redrive = _run(asynchronous.Engine.redrive)
    stop_redriving = _value(asynchronous.Engine.stop_redriving)
    discard = _run(asynchronous.Engine.discard)
    breakers = _value(asynchronous.Engine.breakers)
    force_breaker = _value(asynchronous.Engine.force_breaker)
    cached = _value(asynchronous.Engine.cached)
    clear_cache = _value(asynchronous.Engine.clear_cache)


class Embedded:
    """The engine in memory that `graph.execute` runs on; one per process, made when it is first needed."""

    def __init__(self) -> None:
        """Open it on the background loop, with a registry of its own."""
        self._of: Final = asynchronous.Engine("sqlite:///:memory:", observers=(), registry=Registry())
        portal.call(self._of.open)

    def execute(self, workflow: Workflow, params: Mapping[str, Any], secrets: Mapping[str, str]) -> Any:
        """Run to the end and return the result; raises RunFailed, whose `run_id` can be resumed."""
        return portal.call(lambda: self._finish(self._of.start(workflow, params, secrets=secrets)))

    def resume(self, run: RunId) -> Any:
        """Go on with a failed run to its end and return the result."""
        return portal.call(lambda: self._finish(self._of.resume(run)))

    async def _finish(self, beginning: Awaitable[handles.Run]) -> Any:
        run = await beginning
        try:
            result = await run.result()
        except RunFailed as error:
            error.fix = "Mend the cause, then go on from there: graph.resume(error.run_id)"
            raise
        finally:
            await self._of.settle()
        await self._of.store.delete(run.id, tombstone=False)  # nobody can ask for it again
        self._of.registry.remove(run.workflow)
        return result


_embedded: Final[list[Embedded]] = []
_lock: Final = threading.Lock()


def embedded() -> Embedded:
    """Return the process's engine in memory."""
    with _lock:
        if not _embedded:
            _embedded.append(Embedded())
        return _embedded[0]
