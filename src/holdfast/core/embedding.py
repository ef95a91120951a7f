"""Where builders find an engine for `execute` without one: a seam, so that patterns need not know engines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
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


Here = Callable[[Workflow, Mapping[str, Any]], Awaitable[Any]]
"""Runs a workflow in memory on the loop of its caller, and gives its result."""

_finders: Final[list[Callable[[], Embedded]]] = []


_here: Final[list[Here]] = []


def install(find: Callable[[], Embedded], here: Here) -> None:
    """Have `find` give the engine when it is first needed, and `here` run what is awaited."""
    _finders[:] = [find]
    _here[:] = [here]


def run_here(workflow: Workflow, params: Mapping[str, Any]) -> Awaitable[Any]:
    """Run a workflow in memory on the running loop; gives its result, raises what a run's result raises."""
    if not _here:
        raise HoldfastError("no engine is installed", fix="Import holdfast.")
    return _here[0](workflow, params)


def embedded() -> Embedded:
    """Return the engine in memory."""
    if not _finders:
        raise HoldfastError("no engine is installed", fix="Import holdfast.")
    return _finders[0]()
