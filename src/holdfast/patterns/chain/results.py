"""What processing items gives: results in the order of the input, whoever ended first, and which errors end it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from holdfast.errors import DefinitionError, ParallelError, TaskError

S = TypeVar("S")
R = TypeVar("R")

Items = Iterable[Any] | str | Callable[[Mapping[str, Any]], Iterable[Any]]
"""The items of a node: themselves, the key of the state that has them, or a function of the state."""


@dataclass(frozen=True, slots=True)
class ChainResult(Generic[S]):
    """The state after the last step, those between with the first one when they were asked for, and how many steps."""

    final: S
    intermediate: tuple[S, ...] = ()
    steps: int = 0


@dataclass(frozen=True, slots=True)
class ParallelResult(Generic[R]):
    """The results of the items that succeeded and the errors of those that failed, both in the order of the input."""

    results: list[R] = field(default_factory=list)
    errors: list[TaskError] = field(default_factory=list)


class Gathering(Generic[R]):
    """Outcomes of items as they arrive, in any order."""

    def __init__(self, items: Sequence[Any], *, fail_fast: bool) -> None:
        """Begin without outcomes."""
        self._items = items
        self._fail_fast = fail_fast
        self._results: dict[int, R] = {}
        self._errors: dict[int, TaskError] = {}

    @property
    def succeeded(self) -> int:
        """How many items succeeded."""
        return len(self._results)

    @property
    def stopped(self) -> bool:
        """Tell whether nothing new may begin."""
        return self._fail_fast and bool(self._errors)

    def keep(self, index: int, result: R) -> None:
        """Take the result of an item."""
        self._results[index] = result

    def fail(self, index: int, error: BaseException) -> None:
        """Take the failure of an item."""
        self._errors[index] = TaskError(index, self._items[index], error)

    def result(self) -> ParallelResult[R]:
        """Return what has arrived, in the order of the input."""
        return ParallelResult(
            [result for _, result in sorted(self._results.items(), key=_index)],
            [error for _, error in sorted(self._errors.items(), key=_index)],
        )

    def finished(self) -> ParallelResult[R]:
        """Return the result; raises ParallelError when an item failed and `fail_fast`, or when none succeeded."""
        result = self.result()
        if self._errors and (self._fail_fast or not self._results):
            raise ParallelError(result)
        return result


def _index(entry: tuple[int, Any]) -> int:
    return entry[0]


def worker_count(items: int, processors: int, max_workers: int = 0, worker_cap: int = 16) -> int:
    """Return how many workers process so many items: exactly `max_workers` when it is above 0."""
    return max_workers if max_workers > 0 else max(1, min(processors * 2, worker_cap, items))


def pool_size(items: int, processors: int) -> int:
    """Return how many workers a pool has."""
    return max(min(processors, items), 1)


def handler_of(
    route: object, routes: Mapping[str, Callable[..., Any]], default: Callable[..., Any] | None
) -> tuple[str, Callable[..., Any]]:
    """Return the name of the route that is taken, "default" if it is none of `routes`, and its handler.

    Raises DefinitionError when there is neither.
    """
    try:
        return str(route), routes[route]  # type: ignore[index]  # whatever the user's predicate returned
    except (KeyError, TypeError):
        if default is not None:
            return "default", default
    raise DefinitionError(
        f"route {route!r:.80} not found and no default handler",
        fix=f"The routes are {', '.join(map(str, routes)) or 'none'}; add it, or give a default.",
    )


def fixed_items(items: Items) -> Items:
    """Return the items of a node so that each of its runs can iterate over them.

    Raises DefinitionError when they are given and there is nothing to iterate over.
    """
    return items if callable(items) or isinstance(items, str) else items_of(items, {})


def items_of(items: Items, state: Mapping[str, Any]) -> list[Any]:
    """Return a node's items; raises DefinitionError when there are none to iterate over."""
    if callable(items):
        found: Any = items(state)
    elif isinstance(items, str):
        found = state.get(items)
    else:
        found = items
    if isinstance(found, str | bytes | Mapping) or not isinstance(found, Iterable):
        what = f"the state's {items!r}" if isinstance(items, str) else "what the items are"
        raise DefinitionError(
            f"{what} is of type {type(found).__name__}",
            fix="Give a list, the key of one, or a function of (state).",
        )
    return list(found)
