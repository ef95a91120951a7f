"""Calls through guards in this process: what `policy.execute(fn)` and decorated functions do."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final
from weakref import ReferenceType, WeakKeyDictionary, ref

from holdfast.core.context import current
from holdfast.core.guarding import Guard
from holdfast.core.policy import Policy, guarded_by, stand_in
from holdfast.core.retries import wait_before_retry
from holdfast.errors import DefinitionError
from holdfast.model.ids import SECOND, seconds
from holdfast.runtime.attempt import Attempt
from holdfast.runtime.calling import call as call_anywhere
from holdfast.runtime.calling import is_async
from holdfast.runtime.clock import SystemClock
from holdfast.runtime.guards.budgets import BudgetGate
from holdfast.runtime.guards.gates import Gates
from holdfast.runtime.guards.hedging import hedged
from holdfast.runtime.guards.rows import LocalRows
from holdfast.runtime.threads import Threads

Loop = asyncio.AbstractEventLoop

_clock: Final = SystemClock()
_rows: Final = LocalRows()
_threads: Final = Threads("holdfast-guarded")
_local: Final[WeakKeyDictionary[Loop, Gates]] = WeakKeyDictionary()
_shared: Final[WeakKeyDictionary[Loop, list[ReferenceType[Gates]]]] = WeakKeyDictionary()
"""Held weakly: the gates of an engine that was never closed know its loop, and neither would ever go."""
_earning: Final[ContextVar[frozenset[str]]] = ContextVar("holdfast_budgets", default=frozenset())


def local_gates() -> Gates:
    """Return the gates of the running loop over the rows of this process."""
    loop = asyncio.get_running_loop()
    gates = _local.get(loop)
    if gates is None:
        for closed in [each for each in list(_local) if each.is_closed()]:
            _local.pop(closed, None)  # its gates know it, so it would stay for ever
        holder = f"loop {_clock.token()}"
        gates = Gates(_rows, now=_clock.now, draw=_clock.draw, holder=holder, local=None)
        _local[loop] = gates
    return gates


def share(gates: Gates) -> None:
    """Have calls on the running loop that are made outside of steps go through these, until `unshare`."""
    _shared.setdefault(asyncio.get_running_loop(), []).append(ref(gates))


def unshare(gates: Gates) -> None:
    """Take back what `share` did."""
    for open_ in _shared.values():
        open_[:] = [each for each in open_ if each() not in (gates, None)]


def _gates_here() -> Gates:
    """Return the gates for a call that is made here: of the step's engine, else of this loop's, else of the process."""
    loop = asyncio.get_running_loop()
    attempt = _attempt_here()
    if attempt is not None and attempt.loop is loop and attempt.gates is not None:
        return attempt.gates
    alive = (gates for each in reversed(_shared.get(loop, ())) if (gates := each()) is not None)
    return next(alive, None) or local_gates()


def _attempt_here() -> Attempt | None:
    context = current.get(None)
    of = None if context is None else context._of  # noqa: SLF001 - a context speaks for its attempt
    return of if isinstance(of, Attempt) else None


class Calls:
    """Calls functions through guards. `home` is the loop for plain functions that are called where no engine is."""

    def __init__(self, home: Callable[[], Loop]) -> None:
        """Begin."""
        self._home = home

    async def execute(
        self, guard: Guard, fn: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        """Return what the function returns, or what stands in for that."""
        return await _Call(guarded_by(guard), fn, arguments, options).run()

    def wrap(self, guard: Guard, fn: Callable[..., Any]) -> Any:
        """Return a function that calls this one so; a plain one waits for it, in whatever thread it is called."""
        if not callable(fn):
            raise DefinitionError(
                f"{type(guard).__name__}: {fn!r} is not callable", fix="Decorate a function."
            )
        if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
            raise DefinitionError(
                f"{type(guard).__name__}: {fn.__qualname__} is a generator", fix="Decorate what one call is."
            )
        if is_async(fn):

            @functools.wraps(fn)
            async def call(*arguments: Any, **options: Any) -> Any:
                return await self.execute(guard, fn, arguments, options)

            return call

        @functools.wraps(fn)
        def wait(*arguments: Any, **options: Any) -> Any:
            work = self.execute(guard, fn, arguments, options)
            return asyncio.run_coroutine_threadsafe(work, self._loop_for_waiting()).result()

        return wait

    def _loop_for_waiting(self) -> Loop:
        """Return a loop that goes on while this thread waits."""
        attempt = _attempt_here()
        try:
            here: Loop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        return attempt.loop if attempt is not None and attempt.loop is not here else self._home()


class _Call:
    """One call through a policy."""

    def __init__(
        self, policy: Policy, fn: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> None:
        self._policy = policy
        self._fn = fn
        self._arguments = arguments
        self._options = options
        self._gates = _gates_here()

    async def run(self) -> Any:
        policy = self._policy
        try:
            return await _within(policy.total_timeout, "in all", self._tries)
        except Exception as error:
            if not policy.falls_back:
                raise
            instead = stand_in(policy.fallback, error, self._arguments, self._options)
            if not callable(policy.fallback):
                return instead()
            return await call_anywhere(_threads, instead)

    async def _tries(self) -> Any:
        gates, retry = self._gates, self._policy.retry
        asked = None if retry is None else retry.budget
        if asked is None or asked.name in _earning.get():
            return await self._tries_within(None if asked is None else gates.budget(asked))
        budget = gates.budget(asked)
        budget.earn()  # not for what a first try calls: that is no first one
        token = _earning.set(_earning.get() | {asked.name})
        try:
            return await self._tries_within(budget)
        finally:
            _earning.reset(token)

    async def _tries_within(self, budget: BudgetGate | None) -> Any:
        policy, gates = self._policy, self._gates
        begun, last, failures = gates.now(), 0, 0
        while True:
            try:
                return await self._try()
            except _NotCalled as refused:
                raise refused.error from None
            except Exception as error:
                failures += 1
                wait = wait_before_retry(
                    policy.retry, failures, error, gates.draw(), last=last, now=gates.now(), begun=begun
                )
                if wait is None or (budget is not None and not await budget.spend()):
                    raise
                last = wait
            await asyncio.sleep(wait / SECOND)

    async def _try(self) -> Any:
        try:
            passage = await self._gates.enter(self._policy, "")
        except Exception as error:  # noqa: BLE001 - carried on
            raise _NotCalled(error) from None
        try:
            value = await _within(self._policy.timeout, "", lambda: hedged(self._policy.hedge, self._call))
        except BaseException as error:
            passage.close(error, known=isinstance(error, Exception))
            raise
        passage.close(None)
        return value

    async def _call(self) -> Any:
        fn = functools.partial(self._fn, *self._arguments, **self._options)
        return await call_anywhere(_threads, fn) if not is_async(self._fn) else await fn()


class _NotCalled(Exception):
    """The call was not made; that is not tried again."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


async def _within(limit: Any, what: str, work: Callable[[], Awaitable[Any]]) -> Any:
    if limit is None:
        return await work()
    time = asyncio.timeout(seconds(limit))
    try:
        async with time:
            return await work()
    except TimeoutError:
        if not time.expired():
            raise
        raise TimeoutError(f"took longer than {seconds(limit):g} s {what}".rstrip()) from None
