"""Items processed in this process: one after another, in parallel, or on a route that the state chooses.

Nothing is stored and no engine is needed. Functions may be async or plain; plain ones run in threads. Being cancelled
ends them all: what is async is cancelled with its caller, a thread goes on by itself and its result is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar, overload

from holdfast.core.context import Suspended
from holdfast.errors import ChainError, ConditionalError, ParallelError, TaskError
from holdfast.patterns.chain.results import (
    ChainResult,
    Gathering,
    ParallelResult,
    handler_of,
    pool_size,
    worker_count,
)
from holdfast.patterns.graph.configs import ChainConfig, ConditionalConfig, ParallelConfig
from holdfast.runtime.calling import call, is_own
from holdfast.runtime.telling import Teller, telling
from holdfast.runtime.threads import Threads

T = TypeVar("T")
S = TypeVar("S")
R = TypeVar("R")

Progress = Callable[[int, int, Any], object]
"""Called after each success with how many there are, of how many items, and the result or state. On the loop."""

logger: Final = logging.getLogger("holdfast.processing")


async def process_chain(
    items: Iterable[T],
    initial: S,
    fn: Callable[[T, S], Awaitable[S] | S],
    config: ChainConfig | None = None,
    progress: Progress | None = None,
) -> ChainResult[S]:
    """Return the state that `fn(item, state)` makes of `initial`, item after item.

    Raises ChainError with the failed step's index and item and the state before it; nothing after it is run.
    """
    given, state, settings = list(items), initial, ChainConfig().merge(config or ChainConfig())
    between = [initial] if settings.capture_intermediate_states else []
    async with telling(settings.observer, "chain") as tell:
        tell("chain.start", item_count=len(given))
        with _threads() as threads:
            for index, item in enumerate(given):
                place = {"step_index": index, "total_steps": len(given)}
                await asyncio.sleep(0)  # so that a cancel is seen between steps that wait for nothing
                tell("step.start", **place)
                try:
                    state = await call(threads, fn, item, state)
                except BaseException as error:
                    tell.failed("step.complete", error, **place)
                    tell.failed("chain.complete", error, steps_completed=index)
                    if is_own(error) or isinstance(error, Suspended):
                        raise
                    raise ChainError(index, item, state, error) from error
                tell("step.complete", **place)
                if between:
                    between.append(state)
                await _report(progress, index + 1, len(given), state)
        tell("chain.complete", steps_completed=len(given))
    return ChainResult(state, tuple(between), len(given))


@overload
async def process_parallel(
    items: Iterable[T],
    fn: Callable[[T], Awaitable[R]],
    config: ParallelConfig | None = None,
    progress: Progress | None = None,
) -> ParallelResult[R]: ...
@overload
async def process_parallel(
    items: Iterable[T],
    fn: Callable[[T], R],
    config: ParallelConfig | None = None,
    progress: Progress | None = None,
) -> ParallelResult[R]: ...
async def process_parallel(
    items: Iterable[T],
    fn: Callable[[T], Any],
    config: ParallelConfig | None = None,
    progress: Progress | None = None,
) -> ParallelResult[Any]:
    """Return the results of `fn(item)` in the order of the items, with the errors of those that failed.

    With `fail_fast` nothing begins after the first failure, what has begun ends, and ParallelError is raised with
    the partial result; without it, ParallelError is raised only when no item succeeded.
    """
    given, settings = list(items), ParallelConfig().merge(config or ParallelConfig())
    gathering: Gathering[Any] = Gathering(given, fail_fast=settings.fail_fast is not False)
    workers = worker_count(len(given), os.cpu_count() or 1, settings.max_workers, settings.worker_cap)
    async with telling(settings.observer, "parallel") as tell:
        tell("parallel.start", item_count=len(given), worker_count=workers)
        await _gather(gathering, given, fn, workers, tell, progress)
        done = gathering.result()
        counts = {"items_processed": len(done.results), "items_failed": len(done.errors)}
        try:
            result = gathering.finished()
        except ParallelError as error:
            tell.failed("parallel.complete", error, **counts)
            raise
        tell("parallel.complete", **counts)
    return result


@overload
async def worker_pool(items: Iterable[T], fn: Callable[[T], Awaitable[R]]) -> list[R]: ...
@overload
async def worker_pool(items: Iterable[T], fn: Callable[[T], R]) -> list[R]: ...
async def worker_pool(items: Iterable[T], fn: Callable[[T], Any]) -> list[Any]:
    """Return the results of `fn(item)` in the order of the items, made by as many workers as there are processors.

    Raises what the first failed item raised; nothing begins after a failure, what has begun ends.
    """
    given = list(items)
    gathering: Gathering[Any] = Gathering(given, fail_fast=True)
    async with telling(None, "pool") as tell:
        await _gather(gathering, given, fn, pool_size(len(given), os.cpu_count() or 1), tell, None)
    result = gathering.result()
    if result.errors:
        raise result.errors[0].error
    return result.results


async def process_conditional(
    state: S,
    predicate: Callable[[S], Any],
    routes: Mapping[str, Callable[[S], Awaitable[S] | S]],
    default: Callable[[S], Awaitable[S] | S] | None = None,
    config: ConditionalConfig | None = None,
) -> S:
    """Return what the handler of the route makes of the state; `predicate(state)` names the route.

    Raises ConditionalError with the route and the state as it was given, also for an unknown route without a default.
    """
    settings = ConditionalConfig().merge(config or ConditionalConfig())
    route = ""
    async with telling(settings.observer, "conditional") as tell:
        with _threads() as threads:
            try:
                tell("route.evaluate", route_count=len(routes))
                route, handler = handler_of(await call(threads, predicate, state), routes, default)
                tell("route.select", route=route, has_default=default is not None)
                made: S = await call(threads, handler, state)
            except BaseException as error:
                if is_own(error) or isinstance(error, Suspended):
                    raise
                raise ConditionalError(route, state, error) from error
        tell("route.execute", route=route)
    return made


async def _gather(
    gathering: Gathering[Any],
    items: list[T],
    fn: Callable[[T], Any],
    workers: int,
    tell: Teller,
    progress: Progress | None,
) -> None:
    """Have workers take the items in order until none is left or one has failed and that stops the others.

    A step's item that waits for an answer stops nobody; when nothing failed for good, the step waits in the end.
    """
    waiting = iter(enumerate(items))
    asked: dict[int, Suspended] = {}

    async def work(worker: int, threads: Threads) -> None:
        for index, item in waiting:
            place = {"worker_id": worker, "item_index": index, "total_items": len(items)}
            tell("worker.start", **place)
            try:
                result = await call(threads, fn, item)
            except Suspended as question:
                asked[index] = question
            except BaseException as error:
                if is_own(error):
                    raise
                gathering.fail(index, error)
                tell.failed("worker.complete", error, **place)
            else:
                gathering.keep(index, result)
                tell("worker.complete", **place)
                await _report(progress, gathering.succeeded, len(items), result)
            if gathering.stopped:
                return
            await asyncio.sleep(0)  # so that the others get their turn when `fn` waits for nothing

    with _threads() as threads:
        async with asyncio.TaskGroup() as group:
            for worker in range(min(workers, len(items))):
                group.create_task(work(worker, threads))
    if asked and not gathering.stopped:
        raise asked[min(asked)]


async def _report(progress: Progress | None, done: int, total: int, value: Any) -> None:
    if progress is None:
        return
    try:
        result = progress(done, total, value)
        if isinstance(result, Awaitable):
            await result
    except Exception:
        logger.exception("a progress callback raised after %s of %s", done, total)


@contextmanager
def _threads() -> Iterator[Threads]:
    threads = Threads("holdfast-processing")
    try:
        yield threads
    finally:
        threads.close()


__all__ = [
    "ChainResult",
    "ParallelResult",
    "TaskError",
    "process_chain",
    "process_conditional",
    "process_parallel",
    "worker_pool",
]
