"""The simulated machine of an engine: life locks without files, a watch and plain steps without threads."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from holdfast.errors import StoreError
from holdfast.model.ids import SECOND
from holdfast.runtime.host import RENEWALS, Host, Lock, Watching
from holdfast.runtime.threads import Job, Threads
from holdfast.runtime.watch import Watched
from holdfast.testing.loop import Process

LATE: Final = 1.0
"""A watch that wakes so many seconds late was frozen."""

Locks = dict[str, Process]
"""The life locks of a world by path, each with the process that holds it."""


class SimulatedHost(Host):
    """The machine that one simulated process runs on. Processes of one machine notice each other's death at once."""

    def __init__(self, process: Process, machine: str, locks: Locks, random: Random) -> None:
        """Keep where the process lives."""
        self._process = process
        self._machine = machine
        self._locks = locks
        self._random = random

    @property
    def name(self) -> str:
        """The machine's name."""
        return self._machine

    @property
    def boot(self) -> str:
        """The same for all processes of the machine."""
        return f"boot of {self._machine}"

    @property
    def namespace(self) -> str:
        """The same for all processes of the machine."""
        return "pid"

    @property
    def pid(self) -> int:
        """One for all."""
        return 1

    def new_worker_id(self) -> str:
        """Return the process's name."""
        return self._process.name

    def lock(self, worker: str) -> Lock:
        """Return a lock that is free when the process is dead."""
        return _Lock(worker, self._process, self._locks)

    def is_dead(self, lock: str) -> bool:
        """Tell whether the holder was killed."""
        process = self._locks.get(lock)
        return process is not None and process.dead

    def forget(self, lock: str) -> None:
        """Remove the lock of a dead worker."""
        self._locks.pop(lock, None)

    def threads(self, name: str) -> Threads:
        """Return threads that are none."""
        return InlineThreads(name)

    def watch(self, worker: Watched) -> Watching:
        """Return a watch on virtual time."""
        return VirtualWatch(worker, self._random, self.lease / SECOND / RENEWALS)


class _Lock:
    def __init__(self, worker: str, process: Process, locks: Locks) -> None:
        self.path = Path("/simulated") / f"{worker}.lock"
        self._locks = locks
        locks[str(self.path)] = process

    def close(self) -> None:
        self._locks.pop(str(self.path), None)


class InlineThreads(Threads):
    """Runs each job on the loop, in its next turn: a plain step takes no virtual time."""

    def run(self, job: Job) -> None:
        """Run `job` with a copy of the caller's context variables."""
        asyncio.get_running_loop().call_soon(job, context=contextvars.copy_context())

    def close(self) -> None:
        """There is nothing to end."""


class VirtualWatch:
    """Renews the lease by a timer. After a freeze it takes as long to wake up as a thread may."""

    def __init__(self, worker: Watched, random: Random, renew_seconds: float) -> None:
        """Prepare."""
        self._renew_seconds = renew_seconds
        self._worker = worker
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        self._after(self._renew_seconds, self._wake)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(seconds, call)

    def _wake(self) -> None:
        timer = self._timer
        if timer is not None and self._loop.time() - timer.when() > LATE:
            self._after(self._random.uniform(0, self._renew_seconds), self._renew)
        else:
            self._renew()

    def _renew(self) -> None:
        try:
            kept = self._worker.renew()
        except StoreError:
            kept = True  # nobody knows; the next renewal tells
        if not kept:
            self._worker.lost_lease()
        self._after(self._renew_seconds, self._wake)
