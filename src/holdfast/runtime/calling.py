"""Calling a function of the user's without holding the loop: on it when it is async, in a thread when it is plain."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from holdfast.runtime.threads import Threads


def is_async(fn: Callable[..., Any]) -> bool:
    """Tell whether calling `fn` gives an awaitable at once."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


async def call(threads: Threads, fn: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `fn` returns, raise what it raises. When it is cancelled, a thread goes on by itself."""
    result = fn(*arguments) if is_async(fn) else await in_thread(threads, fn, *arguments)
    return await result if inspect.isawaitable(result) else result


async def in_thread(threads: Threads, fn: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `fn` returns in a thread, raise what it raises there."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

    def settle(outcome: tuple[Any, BaseException | None]) -> None:
        if not done.done():
            done.set_result(outcome)

    def work() -> None:
        outcome: tuple[Any, BaseException | None]
        try:
            outcome = fn(*arguments), None
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            outcome = None, error
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(settle, outcome)

    threads.run(work)
    result, error = await done
    if error is not None:
        raise error
    return result


def is_own(error: BaseException) -> bool:
    """Tell whether an exception ends the task that it was caught in, and is no failure of what the task called."""
    if isinstance(error, GeneratorExit):
        return True
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)


def tell(loop: asyncio.AbstractEventLoop, fn: Callable[..., None], *arguments: Any) -> None:
    """Call `fn` on the loop, from any thread; there at once, lest the attempt ends before."""
    try:
        here = asyncio.get_running_loop() is loop
    except RuntimeError:
        here = False
    if here:
        fn(*arguments)
    else:
        post(loop, fn, *arguments)


def post(loop: asyncio.AbstractEventLoop, fn: Callable[..., None], *arguments: Any) -> None:
    """Call `fn` on the loop, from any thread. A loop that is closed no longer cares."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(fn, *arguments)
