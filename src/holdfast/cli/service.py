"""A worker in this process: an engine that serves until somebody asks it to end, and then drains."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from holdfast.cli.failures import DONE, INTERRUPTED, Interrupted
from holdfast.cli.interrupts import Interrupts
from holdfast.cli.news import NewsHandler, Tell, news
from holdfast.cli.output import Output
from holdfast.engine import Engine

DRAIN: Final = b"!"
"""What a parent writes to a child's standard input to have it drain; its end means that the parent is gone."""

_DEATH_SIGNAL: Final = 1
"""`PR_SET_PDEATHSIG` of prctl(2)."""


class Service:
    """One worker, from its opening to the end of its drain."""

    def __init__(self, out: Output, engine: Engine, tell: Tell, *, grace: float) -> None:
        """Prepare; nothing is opened yet."""
        self._out = out
        self._engine = engine
        self._tell = tell
        self._grace = grace

    async def serve(self, *, child: bool) -> int:
        """Serve until a signal, or as a child the parent, asks for the end; return the exit code."""
        with Interrupts(lambda: None) as interrupts, self._out.clean():
            if child:
                _obey_parent(interrupts)
            self._log()
            try:
                return await interrupts.race(self._serving())
            except Interrupted:
                await self._drain()
                return DONE
            finally:
                await self._engine.close(grace=self._grace)

    async def _serving(self) -> int:
        engine = await self._engine.open()
        (mine,) = [each for each in await engine.workers() if each.id == engine.worker_id]
        self._tell(
            news(
                "worker.started",
                worker=mine.id,
                pid=mine.pid,
                store=engine.store.url,
                workflows=list(mine.workflows),
                queues=list(mine.queues),
                concurrency=engine.concurrency,
            )
        )
        await asyncio.Event().wait()
        return INTERRUPTED

    async def _drain(self) -> None:
        mine = self._engine.worker_id
        held = [each.runs for each in await self._engine.workers() if each.id == mine] if mine else []
        self._tell(news("worker.draining", runs=sum(held), grace=self._grace))
        await self._engine.close(grace=self._grace)
        self._tell(news("worker.stopped", worker=mine))

    def _log(self) -> None:
        """Tell what is logged, unless the user's module set logging up to its own liking."""
        ours = logging.getLogger("holdfast")
        if self._out.json or not (logging.getLogger().handlers or ours.handlers):
            ours.addHandler(NewsHandler(self._tell))
            ours.setLevel(logging.INFO)


def _obey_parent(interrupts: Interrupts) -> None:
    """Drain when the parent says so, and do not outlive it."""
    if sys.platform == "linux":  # also a process that is stopped or never lets a thread run
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    threading.Thread(target=_listen, args=(interrupts,), name="holdfast-parent", daemon=True).start()


def _listen(interrupts: Interrupts) -> None:
    while os.read(0, 1):  # not `sys.stdin`, whose lock would be held when the process ends
        interrupts.ask()
    os._exit(INTERRUPTED)


def queues_of(given: Sequence[str]) -> list[str]:
    """Return the queues that `--queue` names, also several with commas."""
    return [name for words in given for name in words.split(",")]
