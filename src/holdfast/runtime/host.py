"""Where a worker lives, and whether a worker of the same place is still alive.

A worker locks a file of its own for as long as it lives; the system frees the lock when the process dies, however it
dies. Who can see the same file under the same boot id and pid namespace knows at once that a worker is dead, without
waiting for its lease.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import socket
import sys
import tempfile
import uuid
from pathlib import Path
from typing import IO, Final, Protocol

from holdfast.model.ids import SECOND, Instant
from holdfast.runtime.threads import Threads
from holdfast.runtime.watch import Watch, Watched

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def new_worker_id() -> str:
    """Return an id that names the process for people and is unique."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def hostname() -> str:
    """Return this machine's name."""
    return socket.gethostname()


def pid() -> int:
    """Return this process's number."""
    return os.getpid()


def boot_id() -> str:
    """Return what changes when the machine boots; empty where there is no such thing."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return platform.node()


def namespace() -> str:
    """Return the pid namespace, so that containers do not judge each other's processes."""
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


class Lock(Protocol):
    """What tells others that a worker lives."""

    @property
    def path(self) -> Path:
        """Where it is."""

    def close(self) -> None:
        """Free it: the worker is gone."""


class Watching(Protocol):
    """A watch over a worker, see `watch`."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""


LEASE: Final = 30 * SECOND
RENEWALS: Final = 3
"""So often a lease is renewed before it would be over."""


class Host:
    """What an engine has of the machine it runs on; a simulation puts another one in its place."""

    lease: Instant = LEASE
    """For so long a worker is held to be alive after it was last heard of."""

    @property
    def name(self) -> str:
        """The machine's name."""
        return hostname()

    @property
    def boot(self) -> str:
        """What changes when the machine boots."""
        return boot_id()

    @property
    def namespace(self) -> str:
        """Within which processes may judge each other."""
        return namespace()

    @property
    def pid(self) -> int:
        """The process's number."""
        return pid()

    def new_worker_id(self) -> str:
        """Return a unique id that names the process for people."""
        return new_worker_id()

    def lock(self, worker: str) -> Lock:
        """Return a lock that is held until it is closed or the process dies."""
        return LifeLock(worker)

    def is_dead(self, lock: str) -> bool:
        """Tell whether the worker that held this lock is surely dead."""
        return is_dead(lock)

    def saw_die(self, boot: str, namespace: str, lock: str) -> bool:
        """Tell whether a worker of that place lived on this host, and is surely dead."""
        return (boot, namespace) == (self.boot, self.namespace) and self.is_dead(lock)

    def forget(self, lock: str) -> None:
        """Remove what a dead worker left; to be called when its jobs are free."""
        forget(lock)

    def threads(self, name: str) -> Threads:
        """Return threads for code that blocks."""
        return Threads(name)

    def watch(self, worker: Watched) -> Watching:
        """Return a watch that keeps the worker's lease."""
        return Watch(worker, self.lease / SECOND / RENEWALS)


class LifeLock:
    """A file that is locked while this process lives."""

    def __init__(self, worker: str) -> None:
        """Make and lock the file."""
        directory = Path(tempfile.gettempdir()) / f"holdfast-{_user()}"
        directory.mkdir(mode=0o700, exist_ok=True)
        self.path: Final = directory / f"{worker}.lock"
        self._file = self.path.open("wb")
        _lock(self._file)

    def close(self) -> None:
        """Free and remove the file."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._file.close()


def is_dead(lock: str) -> bool:
    """Tell whether the worker that locked this file is surely dead: the file is there and its lock is free."""
    if not lock:
        return False
    try:
        with Path(lock).open("rb+") as file:
            _lock(file)
    except OSError:  # not there, not ours to open, or locked by a living worker
        return False
    return True


def forget(lock: str) -> None:
    """Remove a dead worker's file. Only when its jobs are free: without the file nobody can tell that it is dead."""
    with contextlib.suppress(OSError):
        Path(lock).unlink()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "user"
