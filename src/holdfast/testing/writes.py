"""What the processes of a simulation wrote, for those who wait for it and for the witness."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

Place = list[Callable[[], None]]
"""A call's place among all: empty until it is answered, then with what is to be told of it."""


class Writes:
    """What all processes wrote: how often, so that the others notice, and in which order the store did it.

    That order is the order of the calls. Their answers may come in another one: a call that begins a transaction of
    its own is answered at once, while the callers of the group before it still wait for their turn.
    """

    def __init__(self) -> None:
        """Begin with nothing written."""
        self._counts: dict[str, int] = {}
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._untold: deque[Place] = deque()

    def place(self) -> Place:
        """Take the place of the call that is made now."""
        place: Place = []
        self._untold.append(place)
        return place

    def tell(self, place: Place, tell: Callable[[], None]) -> None:
        """Tell of a call as soon as all before it are told."""
        place.append(tell)
        while self._untold and self._untold[0]:
            self._untold.popleft()[0]()

    def wrote(self, process: str) -> None:
        """Count a write and wake who waits for those of others."""
        self._counts[process] = self._counts.get(process, 0) + 1
        waiting, self._waiting = self._waiting, []
        for waiter, future in waiting:
            if waiter == process:
                self._waiting.append((waiter, future))
            elif not future.done():
                future.set_result(None)

    def of_others(self, process: str) -> int:
        """Return how often others wrote."""
        return sum(self._counts.values()) - self._counts.get(process, 0)

    def next(self, process: str) -> asyncio.Future[None]:
        """Return a future of another's next write."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((process, future))
        return future
