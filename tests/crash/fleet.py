"""Several worker processes, as somebody keeps them: one that has ended is replaced at the next look."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from tests.crash.processes import Child, child

LEASE = 1.5
"""Seconds. Long enough that a worker on a busy machine keeps it, most of the time."""

SLOTS = 8


class Fleet:
    """So many workers on one store, by their number. Their stores lie, each by a seed of its own."""

    def __init__(self, url: str, size: int, chance: random.Random, stack: AsyncExitStack) -> None:
        self.lies = 0.0
        """The share of calls that workers hired from now on are lied to about."""
        self._url = url
        self._size = size
        self._chance = chance
        self._stack = stack
        self._workers: list[Child] = []
        self._opened: set[Child] = set()

    async def opened(self, number: int) -> Child:
        """Return a worker when it is open, or has ended."""
        worker = self._workers[number]
        if worker not in self._opened:
            self._opened.add(worker)
            with suppress(AssertionError):
                await worker.until("open")
        return worker

    async def tend(self) -> None:
        """Hire workers for those that are missing or have ended."""
        self._workers += [await self._hire() for _ in range(self._size - len(self._workers))]
        for number, worker in enumerate(self._workers):
            if not worker.alive:
                self._workers[number] = await self._hire()

    async def _hire(self) -> Child:
        lies = (self._chance.randrange(1 << 30), self.lies)
        options = ("--stay", "--slots", SLOTS, "--lease", LEASE, "--lies", *lies)
        return await self._stack.enter_async_context(child(self._url, None, *options))

    async def dismiss(self) -> list[int]:
        """Ask all to end, and return the codes that those who were alive ended with."""
        living = {number: worker for number, worker in enumerate(self._workers) if worker.alive}
        for worker in living.values():
            worker.thaw()
        for number in living:
            # Before a worker is open, nothing hears the signal, and Python dies of it.
            (await self.opened(number)).terminate()
        return [await worker.ended() for worker in living.values()]


@asynccontextmanager
async def fleet(url: str, size: int, chance: random.Random) -> AsyncIterator[Fleet]:
    """A fleet without workers yet; who is left in the end is killed."""
    async with AsyncExitStack() as stack:
        yield Fleet(url, size, chance, stack)
