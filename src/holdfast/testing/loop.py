"""Virtual time on the running event loop, and processes that can be frozen or killed within it.

While installed, the loop never sleeps: when nothing is left to do it jumps to its next timer. Everything runs on one
thread, in an order that only the program and its random numbers decide. A `Process` owns the tasks and callbacks that
were begun in its context. Frozen, none of them runs; killed, none ever will again, no `finally` and no `except` either,
as with SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import selectors
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

from holdfast.errors import HoldfastError
from holdfast.testing.clock import VirtualClock

T = TypeVar("T")
Callback = Callable[..., Any]

PATIENCE: Final = 5.0
"""Real seconds to wait for another thread when the loop has neither work nor timers."""

DAY: Final = 86_400.0
"""The longest sleep that asyncio asks for, however far its next timer is."""

MOST_TURNS: Final = 200_000
"""Turns of the loop in which no time passes, after which the world is held to spin."""

_PROCESS: Final[contextvars.ContextVar[Process | None]] = contextvars.ContextVar(
    "holdfast_process", default=None
)


class ProcessDied(HoldfastError):
    """The simulated process was killed."""

    code = "process_died"


class StandStill(AssertionError):
    """Nothing will ever happen again: no task can go on, no timer is set."""


def current_process() -> Process | None:
    """Return the process whose code runs now; None in the test's own code."""
    return _PROCESS.get()


class Process:
    """A simulated process: the tasks and callbacks that were begun in its context."""

    def __init__(self, name: str) -> None:
        """Begin alive."""
        self.name: Final = name
        self.frozen = False
        self.dead = False
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._context.run(_PROCESS.set, self)
        self._kept: list[Callable[[], Any]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._prune_at = 64
        self._death: asyncio.Future[None] = self._loop.create_future()

    @property
    def runs(self) -> bool:
        """Tell whether its code runs."""
        return not self.frozen

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` inside and return its outcome. Raises ProcessDied when that will never come."""
        if self.dead:
            work.close()
            raise ProcessDied(f"{self.name} was killed")
        if current_process() is self:
            return await work
        task = self._loop.create_task(work, context=self._context.copy())
        try:
            await asyncio.wait((task, self._death), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            raise ProcessDied(f"{self.name} was killed")
        return task.result()

    def freeze(self) -> None:
        """Let nothing of it run until it is thawed: a machine that is suspended, a process that is stopped."""
        if self.frozen:
            return
        self.frozen = True
        # Handles that are ready cannot be taken out of the loop's queue while it walks along it.
        for handle in tuple(self._loop._ready):  # type: ignore[attr-defined]  # noqa: SLF001
            if not handle.cancelled() and handle._context.get(_PROCESS) is self:  # noqa: SLF001
                self._keep(_copy(handle, self._loop))
                handle.cancel()

    def freeze_for(self, seconds: float) -> None:
        """Freeze, and thaw after a while."""
        self.freeze()
        timer = contextvars.Context().run(self._loop.call_later, seconds, self.thaw)
        self._death.add_done_callback(lambda _: timer.cancel())

    def thaw(self) -> None:
        """Go on where it was."""
        if self.dead or not self.frozen:
            return
        self._go_on()

    def kill(self) -> None:
        """Let nothing of it ever run again."""
        if not self.dead:
            self.freeze()
            self.dead = True
            self._death.set_result(None)

    async def bury(self) -> None:
        """End the tasks it left, when nobody looks at what they do any more."""
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        self._go_on()
        if tasks:
            await asyncio.wait(tasks, timeout=3600)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()

    def _go_on(self) -> None:
        self.frozen = False
        kept, self._kept = self._kept, []
        for call in kept:
            self._loop.call_soon(call)

    def _keep(self, call: Callable[[], Any]) -> None:
        self._kept.append(call)

    def _own(self, task: asyncio.Task[Any]) -> None:
        """Hold the task, which nobody else might when the process is killed."""
        self._tasks.add(task)
        if len(self._tasks) > self._prune_at:
            self._tasks = {each for each in self._tasks if not each.done()}
            self._prune_at = 64 + 2 * len(self._tasks)


def _copy(handle: asyncio.Handle, loop: asyncio.AbstractEventLoop) -> Callable[[], Any]:
    twin = asyncio.Handle(handle._callback, handle._args, loop, handle._context)  # type: ignore[attr-defined]  # noqa: SLF001
    return _runner(twin)


def _runner(handle: asyncio.Handle, timer: asyncio.Handle | None = None) -> Callable[[], None]:
    def run() -> None:
        if not handle.cancelled() and not (timer is not None and timer.cancelled()):
            handle._run()  # noqa: SLF001

    return run


class _Timer:
    """A timer's callback that asks, when its time has come, whether its process runs."""

    __slots__ = ("_arguments", "_callback", "_loop", "_process", "handle")
    handle: asyncio.TimerHandle

    def __init__(
        self, process: Process, callback: Callback, arguments: Iterable[Any], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._process = process
        self._callback = callback
        self._arguments = tuple(arguments)
        self._loop = loop

    def __call__(self) -> None:
        if self._process.runs:
            self._callback(*self._arguments)
            return
        twin = asyncio.Handle(self._callback, self._arguments, self._loop, contextvars.copy_context())
        self._process._keep(_runner(twin, self.handle))  # noqa: SLF001 - of this module


class _Selector:
    """Stands before the loop's selector: where the loop would sleep, the clock jumps."""

    def __init__(self, real: selectors.BaseSelector, clock: VirtualClock, loop: Any) -> None:
        self._loop = loop
        self._real = real
        self._clock = clock
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            self._turns += 1
            if self._turns > MOST_TURNS:
                raise StandStill(f"the loop turned {MOST_TURNS} times within one instant: something spins")
            return ready
        self._turns = 0
        if timeout is None:
            ready = self._real.select(PATIENCE)
            if not ready:
                raise StandStill("nothing will ever happen again: no task can go on, no timer is set")
            return ready
        timers = self._loop._scheduled  # noqa: SLF001 - exactly to the timer: sums of floats would differ by history
        due = timers[0].when() if timers else 0.0
        self._clock.elapsed = (
            max(self._clock.elapsed, due) if timeout < DAY else self._clock.elapsed + timeout
        )
        return ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class VirtualTime:
    """Puts a virtual clock in place of the running loop's time."""

    def __init__(self, clock: VirtualClock) -> None:
        """Prepare."""
        self._clock = clock
        self._loop: Any = None
        self._selector: Any = None
        self._factory: Any = None
        self._timers: list[asyncio.TimerHandle] = []

    def install(self) -> None:
        """Take the running loop's time over. Raises TypeError for a loop that is not one of asyncio's own."""
        loop: Any = asyncio.get_running_loop()
        if not isinstance(loop, asyncio.BaseEventLoop) or not hasattr(loop, "_selector"):
            raise TypeError(f"virtual time needs a loop of asyncio, not {type(loop).__name__}")
        if "call_soon" in vars(loop):
            raise TypeError("this loop's time is virtual already")
        self._install(loop)

    def _install(self, loop: Any) -> None:
        self._loop = loop
        self._selector = loop._selector  # noqa: SLF001 - asyncio has no other way to sleep otherwise
        self._factory = loop.get_task_factory()
        self._soon, self._at = loop.call_soon, loop.call_at
        # Apart, for among timers of one instant the shape of the heap decides which goes first.
        self._timers, loop._scheduled = loop._scheduled, []  # noqa: SLF001
        loop._selector = _Selector(self._selector, self._clock, loop)  # noqa: SLF001
        loop.time = lambda: self._clock.elapsed
        loop.call_soon, loop.call_at = self._call_soon, self._call_at
        loop.set_task_factory(self._task)

    def uninstall(self) -> None:
        """Give the loop its own time back. Timers that are still set go on in it, those of processes are gone."""
        loop = self._loop
        loop._selector = self._selector  # noqa: SLF001
        loop.set_task_factory(self._factory)
        del loop.time, loop.call_soon, loop.call_at
        left, later = loop._scheduled, loop.time() - self._clock.elapsed  # noqa: SLF001
        loop._scheduled = self._timers  # noqa: SLF001
        for timer in left:
            if timer.cancelled() or isinstance(timer._callback, _Timer):  # noqa: SLF001
                timer.cancel()
            else:
                timer._when += later  # noqa: SLF001
                loop._scheduled.append(timer)  # noqa: SLF001
        heapq.heapify(loop._scheduled)  # noqa: SLF001

    def _call_soon(
        self, callback: Callback, *arguments: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is None or process.runs:
            made: asyncio.Handle = self._soon(callback, *arguments, context=context)
            return made
        handle = asyncio.Handle(callback, arguments, self._loop, context)
        process._keep(_runner(handle))  # noqa: SLF001 - of this module
        return handle

    def _call_at(
        self, when: float, callback: Callback, *arguments: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is None:
            made: asyncio.TimerHandle = self._at(when, callback, *arguments, context=context)
            return made
        timer = _Timer(process, callback, arguments, self._loop)
        timer.handle = self._at(when, timer, context=context)
        return timer.handle

    def _task(self, loop: Any, work: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any]
        task = (
            self._factory(loop, work, **options)
            if self._factory
            else asyncio.Task(work, loop=loop, **options)
        )
        context = options.get("context")
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is not None:
            process._own(task)  # noqa: SLF001 - of this module
        return task
