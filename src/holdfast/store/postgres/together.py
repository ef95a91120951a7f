"""Asking together: what many tasks want to know in one turn of the loop is asked in one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST: Final = 25
"""Keys in one question. More would save little, and a long answer holds the loop."""


class Together(Generic[K, V]):
    """Answers questions about one key each, by asking for all keys of one turn of the loop. Belongs to that loop."""

    def __init__(self, ask: Callable[[Sequence[K]], Awaitable[Sequence[V]]]) -> None:
        """`ask` returns the answers to all these keys, in order."""
        self._ask = ask
        self._waiting: list[tuple[K, asyncio.Future[V]]] = []
        self._asking: set[asyncio.Task[None]] = set()

    def __call__(self, key: K) -> asyncio.Future[V]:
        """Return the future answer. Raises what `ask` raises."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._send)
        future: asyncio.Future[V] = loop.create_future()
        self._waiting.append((key, future))
        return future

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for begin in range(0, len(waiting), MOST):
            task = asyncio.get_running_loop().create_task(self._answer(waiting[begin : begin + MOST]))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _answer(self, waiting: Sequence[tuple[K, asyncio.Future[V]]]) -> None:
        open_ = [(key, future) for key, future in waiting if not future.done()]
        try:
            answers = await self._ask([key for key, _ in open_]) if open_ else ()
        except Exception as error:  # noqa: BLE001 - it goes to those who asked
            for _, future in open_:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(open_, answers, strict=True):
            if not future.done():  # else the caller was cancelled
                future.set_result(answer)
