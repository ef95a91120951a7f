"""What an attempt asks of its run while it runs: answers of people, and calls whose results are kept.

The next attempt finds both again: an answer by its name, a result by the name of what was called and how often that
was called before in the attempt.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from holdfast.core.context import Suspended
from holdfast.errors import DefinitionError, SignalTimeout
from holdfast.model import facts
from holdfast.model.ids import Instant, StepId, step_id
from holdfast.model.state import State, split_large
from holdfast.model.values import decode, encode
from holdfast.runtime.calling import call as call_anywhere

if TYPE_CHECKING:
    from holdfast.runtime.attempt import Attempt
    from holdfast.runtime.executor import Executor

Function = Callable[..., Any]


class _Call(NamedTuple):
    """One call within an attempt: the step that it is, and when it began."""

    step: StepId
    name: str
    number: int
    started: Instant


class Asking:
    """The questions and calls of one attempt."""

    def __init__(self, attempt: Attempt, executor: Executor) -> None:
        """Begin with nothing asked in this attempt."""
        self._attempt = attempt
        self._executor = executor
        self._asked: set[str] = set()
        self._called: dict[str, int] = {}
        self._pending: set[concurrent.futures.Future[None]] = set()

    # --- questions

    def ask(self, name: str, payload: Any, due: Instant) -> Any:
        """Return the answer to a question, if it is there; else raise Suspended, which ends the attempt."""
        if name in self._asked:
            raise DefinitionError(
                f"the interrupt {name!r} is asked twice in one attempt of {self._attempt.step.name!r}",
                fix="Give each question of a node a name of its own.",
            )
        self._asked.add(name)
        step = self._attempt.step
        if step.answers is not None and name in step.answers:
            return decode(step.answers[name])
        if name in step.lapsed:
            raise SignalTimeout(f"nobody answered {name!r} in time")
        asked, large = self._kept(encode(payload, f"interrupt {name!r}"), name)
        raise Suspended(name, asked, due, large)

    # --- calls

    def call(self, fn: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call `fn` once for all attempts of the step: an awaitable in an async node, else its result."""
        name = getattr(fn, "__name__", None) or type(fn).__name__
        number = self._called[name] = self._called.get(name, 0) + 1
        attempt = self._attempt
        step = step_id(f"{attempt.step.step}/{name}", number)
        call = _Call(step, name, number, self._executor.clock.now())
        known = None if attempt.step.results is None else attempt.step.results.get(step)
        do = partial(fn, *args, **kwargs)
        return self._call(call, known, do) if attempt.work.is_async else self._call_here(call, known, do)

    async def _call(self, call: _Call, known: msgspec.Raw | None, do: Callable[[], Any]) -> Any:
        if known is not None:
            return self._read(known)
        value = await call_anywhere(self._executor.threads, do)
        kept, result = self._keep(call, value)
        await asyncio.wrap_future(kept)
        return self._read(result)

    def _call_here(self, call: _Call, known: msgspec.Raw | None, do: Callable[[], Any]) -> Any:
        if known is not None:
            return self._read(known)
        value = do()
        if inspect.isawaitable(value):
            value = asyncio.run_coroutine_threadsafe(_awaited(value), self._executor.loop).result()
        kept, result = self._keep(call, value)
        kept.result()
        return self._read(result)

    def _keep(self, call: _Call, value: Any) -> tuple[concurrent.futures.Future[None], msgspec.Raw]:
        """Have a finished call recorded; returns what tells that it is durable, and its result as it is kept."""
        result, large = self._kept(encode(value, f"step.call of {call.name!r}"), call.name)
        kept: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._pending.add(kept)
        kept.add_done_callback(self._pending.discard)
        scheduled = facts.StepScheduled(
            step=call.step, name=call.name, iteration=call.number, parent=self._attempt.step.step
        )
        ended = facts.StepCompleted(step=call.step, attempt=1, started=call.started, data=result)
        self._attempt.record((scheduled, ended), large, kept)
        return kept, result

    def drop(self) -> None:
        """Let nobody wait for what will not be recorded: the attempt is over."""
        for kept in tuple(self._pending):
            kept.cancel()

    # --- values

    def _kept(self, value: msgspec.Raw, name: str) -> tuple[msgspec.Raw, dict[str, bytes]]:
        """Return a value as the journal holds it, large ones apart; refuses one that contains a secret."""
        self._attempt.refuse_secrets({name: value})
        small, large = split_large({name: value})
        return small[name], large

    def _read(self, raw: msgspec.Raw) -> Any:
        return State.view({"": raw}, blobs=self._attempt.blobs)[""]


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
