"""Starts attempts of steps: async ones as tasks, plain ones in threads of their own, both bounded in number."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial

from holdfast.runtime.attempt import Attempt
from holdfast.runtime.clock import Clock
from holdfast.runtime.guards.attempts import begin
from holdfast.runtime.guards.gates import Gates
from holdfast.runtime.streaming import Streams
from holdfast.runtime.threads import Threads


class Executor:
    """Starts attempts, at most `async_limit` tasks and `thread_limit` threads at once; the others wait in order."""

    def __init__(
        self,
        clock: Clock,
        thread_limit: int,
        async_limit: int,
        streams: Streams,
        threads: Threads | None = None,
        gates: Gates | None = None,
    ) -> None:
        """Begin empty, on the running loop."""
        self.loop = asyncio.get_running_loop()
        # What `loop.create_task` comes to, at half its cost, unless the user gave the loop a factory.
        plain = self.loop.get_task_factory() is None
        self.task = partial(asyncio.Task, loop=self.loop) if plain else self.loop.create_task
        self.clock = clock
        self.streams = streams
        self.gates = gates
        self.threads = threads or Threads("holdfast-step")
        self._entering: set[asyncio.Task[None]] = set()
        self._limits = {True: async_limit, False: thread_limit}
        self._counts = {True: 0, False: 0}
        self._queues: dict[bool, deque[Attempt]] = {True: deque(), False: deque()}

    def enter(self, attempt: Attempt) -> None:
        """Start the attempt, or queue it."""
        kind = attempt.work.is_async
        if self._counts[kind] < self._limits[kind]:
            self._counts[kind] += 1
            self._begin(attempt)
        else:
            self._queues[kind].append(attempt)

    def leave(self, attempt: Attempt) -> None:
        """Give the attempt's place to the next in the queue."""
        if not attempt.placed:
            return
        kind = attempt.work.is_async
        queue = self._queues[kind]
        self._counts[kind] -= 1
        while queue:
            following = queue.popleft()
            if not following.ended:
                self._counts[kind] += 1
                self._begin(following)
                return

    def _begin(self, attempt: Attempt) -> None:
        attempt.placed = True
        if attempt.work.policy is None or self.gates is None:
            attempt.start()
        else:
            begin(attempt, self.gates, self._entering)

    def close(self) -> None:
        """End idle threads."""
        self.threads.close()
