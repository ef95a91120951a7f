"""Calls of tasks in a `@dag` function: what stands in for values that are there only when a run comes to them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from holdfast.errors import DefinitionError
from holdfast.patterns.dag.binding import Binding, Source


class Param(NamedTuple):
    """A param of the run, as a `@dag` function gets it."""

    name: str


class Item(NamedTuple):
    """The item of a map; `spread` gives its parts as arguments of their own."""

    spread: bool = False


@dataclass(frozen=True)
class _Told:
    """A source, where the values of a call are told."""

    kind: str
    name: str


class Call:
    """A function with its arguments, some of which stand for results, params or the item."""

    def __init__(
        self, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], name_of: Any
    ) -> None:
        """Bind the arguments as a call would; `name_of` gives the name of a task, None for any other value."""
        self.fn: Final = fn
        self._name_of = name_of
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)
        bound = self._bound(args, kwargs)
        self._args: Final = tuple(bound.args)
        self._kwargs: Final = {**bound.kwargs}
        self._sources: dict[Source, None] = {}
        self._collect((self._args, self._kwargs))
        self._step = self._wants("step", bound)
        self._params = self._wants("params", bound)
        extra = [Source("step")] * self._step + [Source("params")] * self._params
        self.binding: Final = Binding((*self._sources, *extra))

    def _bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        if any(isinstance(each, Item) and each.spread for each in args):
            signature = inspect.signature(lambda *args, **kwargs: None)  # noqa: ARG005 - any arguments
        else:
            signature = inspect.signature(self.fn)
            own = [name for name in ("step", "params") if name in signature.parameters and name not in kwargs]
            places = [parameter for parameter in signature.parameters.values() if parameter.name not in own]
            signature = signature.replace(parameters=places) if len(args) <= len(places) else signature
        try:
            return signature.bind(*args, **kwargs)
        except TypeError as error:
            raise DefinitionError(
                f"{self.__name__}{inspect.signature(self.fn)} cannot be called so: {error}",
                fix="Give it the results, params and values that it takes.",
            ) from error

    def _wants(self, name: str, bound: inspect.BoundArguments) -> bool:
        return name in inspect.signature(self.fn).parameters and name not in bound.arguments

    def _collect(self, value: Any) -> None:
        source = self._source(value)
        if source is not None:
            self._sources[source] = None
        elif isinstance(value, list | tuple | set):
            for each in value:
                self._collect(each)
        elif isinstance(value, dict):
            for each in value.values():
                self._collect(each)

    def _source(self, value: Any) -> Source | None:
        if isinstance(value, Param):
            return Source("param", value.name)
        if isinstance(value, Item):
            return Source("item")
        name = self._name_of(value)
        return None if name is None else Source("result", name)

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The tasks whose results it gets."""
        return tuple(source.name for source in self._sources if source.kind == "result")

    def __call__(self, *values: Any) -> Any:
        """Call the function with values in the order of the binding."""
        found = dict(zip(self.binding.args, values, strict=True))
        args, kwargs = self.arguments(found)
        if self._step:
            kwargs["step"] = found[Source("step")]
        return self.fn(*args, **kwargs)

    def arguments(self, found: Mapping[Source, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return what the function is called with when the sources give this, but for the step's context."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {name: self._put(value, found) for name, value in self._kwargs.items()}
        for value in self._args:
            given = self._put(value, found)
            if not (isinstance(value, Item) and value.spread):
                args.append(given)
            elif isinstance(given, dict):
                kwargs |= given
            else:
                args += given
        if self._params:
            kwargs["params"] = found[Source("params")]
        return args, kwargs

    def told(self) -> tuple[Any, ...]:
        """Return what makes the call what it is: the function, and its arguments, sources by their names."""
        named = {source: _Told(*source) for source in (*self._sources, Source("item"))}
        args = [self._put(each, named) for each in self._args]
        spread = [isinstance(each, Item) and each.spread for each in self._args]
        kwargs = {name: self._put(value, named) for name, value in self._kwargs.items()}
        return self.fn, args, spread, kwargs

    def _put(self, value: Any, found: Mapping[Source, Any]) -> Any:
        source = self._source(value)
        if source is not None:
            return found[source]
        if isinstance(value, list):  # also a group
            return [self._put(each, found) for each in value]
        if isinstance(value, tuple | set):
            return type(value)(self._put(each, found) for each in value)
        if isinstance(value, dict):
            return {key: self._put(each, found) for key, each in value.items()}
        return value
