"""The watch over a worker: renews its lease and notices a blocked event loop, from a thread that no loop can stall."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from holdfast.errors import StoreError

logger: Final = logging.getLogger("holdfast")

BLOCKED_SECONDS: Final = 1.0


class Watched(Protocol):
    """What the watch needs of a worker."""

    def renew(self) -> bool:
        """Renew the lease, from any thread; False when it was taken."""

    def lost_lease(self) -> None:
        """Drop everything. Called on the loop."""

    def on_loop(self, call: Callable[[], None]) -> None:
        """Call on the loop, from any thread."""

    def doing(self) -> str:
        """Return the name of the task that runs on the loop now; empty when it is none."""


class Watch:
    """The thread that renews the lease and notices when the loop does not turn."""

    def __init__(self, worker: Watched, renew_seconds: float) -> None:
        """Prepare the thread, which renews the lease each `renew_seconds`."""
        self._renew_seconds = renew_seconds
        self._worker = worker
        self._stop = threading.Event()
        self._turned = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holdfast-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        renewed = time.monotonic()
        told = False
        while not self._stop.wait(min(BLOCKED_SECONDS, self._renew_seconds)):
            if time.monotonic() - renewed >= self._renew_seconds:
                renewed = time.monotonic()
                self._renew()
            self._turned.clear()
            self._worker.on_loop(self._turned.set)
            blocked = not self._turned.wait(BLOCKED_SECONDS)
            if blocked and not told and not self._stop.is_set():
                logger.warning(
                    "%s has held the event loop for over a second: every run of this process waits for it; %s",
                    *_blame(self._worker.doing()),
                )
            told = blocked

    def _renew(self) -> None:
        try:
            kept = self._worker.renew()
        except StoreError as error:
            logger.error("the worker's lease could not be renewed: %s", error)  # noqa: TRY400
            return
        if not kept:
            self._worker.on_loop(self._worker.lost_lease)


def _blame(task: str) -> tuple[str, str]:
    """Return what holds the loop, and what to do. The names of our tasks tell: those of steps have a number."""
    if "#" in task:
        return f"step {task}", "make its function a plain `def`, which runs in a thread of its own"
    if task.startswith("run "):
        return (
            f"code that decides for {task}",
            "move what is slow in a predicate, router or factory into a node",
        )
    what = f"the task {task!r}, which is no step," if task else "a callback of the loop"
    return what, "give what blocks there to asyncio.to_thread, or await it"
