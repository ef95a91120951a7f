"""What guards calls: used alone around a function, or within a policy. A seam, so that what decides need not run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from holdfast.errors import HoldfastError

P = ParamSpec("P")
T = TypeVar("T")


class Guard:
    """Something that a function can be called through."""

    __slots__ = ()

    async def execute(self, fn: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        """Call `fn`, plain (in a thread) or async, through this guard; raises what it raises.

        Raises CircuitOpen, RateLimited or BulkheadFull when `fn` was not called. Within a step, and on the loop of an
        open engine, what it counts is shared through the engine's store, else it is this process's.
        """
        return await _caller().execute(self, fn, arguments, options)

    def __call__(self, fn: Callable[P, T]) -> Callable[P, T]:
        """Return the function as one that is called through this guard: async when it is, else plain."""
        wrapped: Callable[P, T] = _caller().wrap(self, fn)
        return wrapped


class Caller(Protocol):
    """Calls functions through guards."""

    async def execute(
        self, guard: Guard, fn: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        """Return what the function returns."""

    def wrap(self, guard: Guard, fn: Callable[..., Any]) -> Any:
        """Return a function that calls this one so."""


_callers: Final[list[Caller]] = []


def install(caller: Caller) -> None:
    """Have all guards call through this one."""
    _callers[:] = [caller]


def _caller() -> Caller:
    if not _callers:
        raise HoldfastError("nothing is installed to call through", fix="Import holdfast.")
    return _callers[0]
