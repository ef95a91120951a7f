"""Where what lives in memory finds a lock for its threads: a seam, so that what decides need not know threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

Lock = AbstractContextManager[Any]

_makers: Final[list[Callable[[], Lock]]] = []


def install(make: Callable[[], Lock]) -> None:
    """Have `make` give the locks from now on: such that one thread may take it again."""
    _makers[:] = [make]


def new_lock() -> Lock:
    """Return a lock for what several threads may use."""
    return _makers[0]() if _makers else nullcontext()
