"""Daemon threads for steps that are plain functions.

A thread that is idle is used again. One whose step was abandoned goes on until the step ends by itself; it never
keeps the process alive. `concurrent.futures` would wait for such threads at exit, so this is its own small pool.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[], None]


class Threads:
    """Starts a thread per job that runs at once; how many run is for the caller to bound."""

    def __init__(self, name: str) -> None:
        """Begin without threads."""
        self._name = name
        self._idle: list[SimpleQueue[Job | None]] = []
        self._lock = threading.Lock()
        self._count = 0

    def run(self, job: Job) -> None:
        """Run `job` in a thread, with a copy of the caller's context variables. `job` must not raise."""
        context = contextvars.copy_context()
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = SimpleQueue()
            self._count += 1
            name = f"{self._name}-{self._count}"
            threading.Thread(target=self._serve, args=(inbox,), name=name, daemon=True).start()
        inbox.put(lambda: context.run(job))

    def _serve(self, inbox: SimpleQueue[Job | None]) -> None:
        while (job := inbox.get()) is not None:
            job()
            del job  # an idle thread must not keep a step's values alive
            with self._lock:
                self._idle.append(inbox)

    def close(self) -> None:
        """End the idle threads."""
        with self._lock:
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)
