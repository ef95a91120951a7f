"""Several workers as processes of their own: started, started again when they die, and ended together.

Each child is `holdfast worker` with its news as JSON on a pipe, and another pipe as its standard input: what comes
through there has it drain, its end tells that the parent is gone. So no signal has to be passed on, and no child
outlives its parent, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from holdfast.cli.failures import DONE, INTERRUPTED, NOT_FOUND, WRONG_USE, Interrupted
from holdfast.cli.interrupts import Interrupts
from holdfast.cli.news import News, Tell, news
from holdfast.cli.service import DRAIN

FIRST_WAIT: Final = 0.5
LAST_WAIT: Final = 30.0
STABLE: Final = 60.0
"""Seconds after which a process that dies is started again as fast as the first time."""

HOPELESS: Final = (WRONG_USE, NOT_FOUND)
"""Exit codes that starting again does not mend."""


class Child:
    """One place among the processes, whoever fills it."""

    def __init__(self, number: int, command: Sequence[str], tell: Tell) -> None:
        """Prepare; nothing is started yet."""
        self.ready: Final = asyncio.Event()
        """Set when the process serves, or when it never will."""
        self._number = number
        self._command = command
        self._tell = tell
        self._process: asyncio.subprocess.Process | None = None
        self._pid = 0
        self._asked = asyncio.Event()

    async def live(self) -> int:
        """Keep a process running until it is told to drain; return its exit code, also when no start can help."""
        wait, loop = FIRST_WAIT, asyncio.get_running_loop()
        while not self._asked.is_set():
            begun = loop.time()
            code = await self._run()
            if self._asked.is_set() or code in HOPELESS:
                self.ready.set()
                return code
            wait = FIRST_WAIT if loop.time() - begun > STABLE else wait
            self._report(code, wait)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), wait)
            wait = min(wait * 2, LAST_WAIT)
        return DONE

    async def _run(self) -> int:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=pipe,
            stdout=pipe,
            limit=1 << 24,
            start_new_session=True,  # Ctrl-C reaches the parent alone
        )
        self._process, self._pid = process, process.pid
        assert process.stdout is not None  # noqa: S101 - a pipe
        try:
            if self._asked.is_set():
                self.drain()
            async for line in process.stdout:
                self._pass_on(line)
            return await process.wait()
        finally:
            self._process = None
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _pass_on(self, line: bytes) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            piece: News = msgspec.json.decode(line, type=dict)
            self._tell({**piece, "process": self._number})
            self.ready.set()

    def _report(self, code: int, wait: float) -> None:
        how = signal.Signals(-code).name if code < 0 else f"code {code}"
        self._tell(news("process.ended", process=self._number, pid=self._pid, how=how, wait=wait))

    def drain(self) -> None:
        """Have the process drain, and start no other."""
        self._asked.set()
        process = self._process
        if process is not None and process.stdin is not None and process.returncode is None:
            process.stdin.write(DRAIN)


class Supervisor:
    """Keeps `count` children until it is asked to end."""

    def __init__(self, words: Sequence[str], count: int, tell: Tell) -> None:
        """`words` is the command line of one child."""
        command = [sys.executable, "-m", "holdfast", *words]
        self._children = [Child(number, command, tell) for number in range(1, count + 1)]
        self._living: list[asyncio.Task[int]] = []

    async def supervise(self) -> int:
        """Return the exit code when all children have ended: that of the first that failed for good, else 0."""
        with Interrupts(lambda: None) as interrupts:
            try:
                return await interrupts.race(self._all())
            except Interrupted:
                for child in self._children:
                    child.drain()
                codes = await asyncio.gather(*self._living)
                return DONE if all(code in (DONE, -signal.SIGTERM) for code in codes) else INTERRUPTED

    async def _all(self) -> int:
        """Start one child, and the others when it has shown that it can serve."""
        first, *others = self._children
        self._begin(first)
        await first.ready.wait()
        if not self._living[0].done():
            for child in others:
                self._begin(child)
        done, _ = await asyncio.wait(self._living, return_when=asyncio.FIRST_COMPLETED)
        for child in self._children:
            child.drain()
        await asyncio.gather(*self._living)
        return next(iter(done)).result()

    def _begin(self, child: Child) -> None:
        self._living.append(asyncio.create_task(child.live()))
