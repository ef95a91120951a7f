"""Ctrl-C and SIGTERM while a run is driven here: the first asks to stop, the second ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar

from holdfast.cli.failures import INTERRUPTED, Interrupted

T = TypeVar("T")

_SIGNALS: Final = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGBREAK")
    if (number := getattr(signal, name, None)) is not None
)


class Interrupts:
    """Listens for signals while it is entered, on the running loop.

    The handlers are Python's and not the loop's: a node that holds the loop must not keep a second Ctrl-C away.
    """

    def __init__(self, farewell: Callable[[], None]) -> None:
        """`farewell` tells the last words before the process is ended at once."""
        self._farewell = farewell
        self._asked = asyncio.Event()
        self._stopping = False
        self._before: dict[int, Any] = {}
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        """Listen."""
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back to who had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopping:
            self.end()
        self.ask()

    def ask(self) -> None:
        """Ask to stop, from any thread; asking again changes nothing."""
        self._stopping = True
        self._loop.call_soon_threadsafe(self._asked.set)

    def end(self) -> NoReturn:
        """End the process at once."""
        self._farewell()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)

    async def race(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; raise Interrupted as soon as somebody asks to stop, with the work cancelled."""
        task = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait((task, asked), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Interrupted
        finally:
            for each in (task, asked):
                each.cancel()
            await asyncio.gather(task, asked, return_exceptions=True)
