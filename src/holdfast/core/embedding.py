"""Where builders find an engine for `execute` without one: a seam, so that patterns need not know engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from holdfast.core.program import Workflow
from holdfast.errors import HoldfastError
from holdfast.model.ids import RunId


class Embedded(Protocol):
    """Runs workflows in memory, synchronously."""

    def execute(self, workflow: Workflow, params: Mapping[str, Any], secrets: Mapping[str, str]) -> Any:
        """Run to the end and return the result; raises RunFailed, whose `run_id` can be resumed."""

    def resume(self, run: RunId) -> Any:
        """Go on with a failed run to its end and return the result."""


_finders: Final[list[Callable[[], Embedded]]] = []


def install(find: Callable[[], Embedded]) -> None:
    """Have `find` give the engine when it is first needed."""
    _finders[:] = [find]


def embedded() -> Embedded:
    """Return the engine in memory."""
    if not _finders:
        raise HoldfastError("no engine is installed", fix="Import holdfast.")
    return _finders[0]()
