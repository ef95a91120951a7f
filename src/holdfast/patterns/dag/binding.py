"""Which argument of a task's function gets what: a result, a param of the run, the item of a map, or the step.

A parameter named after a task that it depends on gets its result; one named after a param of the run gets that.
`params` gets all params of the run, `step` the step's context, `errors` (without a default) why those of the tasks
before failed that did, by name. What is left without a default is filled by position:
the item of a map first, then the results in the order of `depends_on`. One with a default is never filled so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

Kind = Literal["result", "results", "param", "params", "item", "step", "errors"]

_EMPTY: Final = inspect.Parameter.empty
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_OWN_NAMES: Final[dict[str, Kind]] = {"params": "params", "step": "step", "_results": "results"}


class Source(NamedTuple):
    """Where an argument comes from: the task or param of that name."""

    kind: Kind
    name: str = ""


ERRORS: Final = Source("errors")


class Binding(NamedTuple):
    """The arguments of a call; `missing` are the parameters that get nothing."""

    args: tuple[Source, ...] = ()
    kwargs: tuple[tuple[str, Source], ...] = ()
    missing: tuple[str, ...] = ()


class Shape(NamedTuple):
    """A function's parameters as far as binding looks at them."""

    parameters: tuple[inspect.Parameter, ...]
    takes_rest: bool
    takes_any: bool
    text: str


_UNKNOWN: Final = Shape((), takes_rest=True, takes_any=False, text="(…)")


def shape_of(fn: Callable[..., Any]) -> Shape:
    """Return the parameters of a function; of one that does not tell any number by position."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # a builtin
        return _UNKNOWN
    parameters = signature.parameters.values()
    kinds = {parameter.kind for parameter in parameters}
    return Shape(
        tuple(p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)),
        takes_rest=inspect.Parameter.VAR_POSITIONAL in kinds,
        takes_any=inspect.Parameter.VAR_KEYWORD in kinds,
        text=str(signature),
    )


def bind(
    shape: Shape, depends_on: Sequence[str], mapped_over: str | None, params: Collection[str]
) -> Binding:
    """Return where each argument comes from. `mapped_over` is what a map goes over; None for a task that is no map."""
    found = _by_name(shape.parameters, depends_on, params)
    by_name = {source.name for source in found.values() if source.kind == "result"}
    pool = [Source("result", name) for name in depends_on if name not in by_name and name != mapped_over]
    missing: list[str] = []
    if mapped_over is not None:
        taker = _item_taker(shape, found, mapped_over)
        if taker:
            found[taker] = _ITEM
        elif shape.takes_rest:
            pool.insert(0, _ITEM)
        else:
            missing.append("(one for the item)")
    for parameter in shape.parameters:
        if parameter.name not in found and parameter.default is _EMPTY:
            if pool and pool[0] is not _ITEM:
                found[parameter.name] = pool.pop(0)
            else:
                missing.append(parameter.name)
    return _arranged(shape, found, pool, depends_on, params, tuple(missing))


def named(shape: Shape, binding: Binding, value: Callable[[Source], Any]) -> dict[str, Any]:
    """Return a call's arguments for people to read, by the names of parameters; the step's context is left out.

    What has no parameter of its own is named after where it comes from.
    """
    names = [parameter.name for parameter in shape.parameters if parameter.kind in _POSITIONAL]
    names += [source.name or source.kind for source in binding.args[len(names) :]]
    given = (*zip(names, binding.args, strict=False), *binding.kwargs)
    return {name: value(source) for name, source in given if source.kind != "step"}


def _by_name(
    parameters: Iterable[inspect.Parameter], depends_on: Collection[str], params: Collection[str]
) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for parameter in parameters:
        name = parameter.name
        if parameter.kind is parameter.POSITIONAL_ONLY:
            continue
        if name in depends_on:
            found[name] = Source("result", name)
        elif name in params:
            found[name] = Source("param", name)
        elif name in _OWN_NAMES:
            found[name] = Source(_OWN_NAMES[name])
        elif name == "errors" and parameter.default is _EMPTY:  # others have an `errors="strict"`
            found[name] = ERRORS
    return found


def _item_taker(shape: Shape, found: dict[str, Source], mapped_over: str) -> str:
    """Return the parameter that gets the item: the first free one, else the one named after what the map goes over."""
    free = [p for p in shape.parameters if p.name not in found]
    required = [p.name for p in free if p.default is _EMPTY]
    if required:
        return required[0]
    if shape.takes_rest:
        return ""
    if free:
        return free[0].name
    return next((name for name, source in found.items() if source.name == mapped_over), "")


def _arranged(
    shape: Shape,
    found: dict[str, Source],
    rest: list[Source],
    depends_on: Sequence[str],
    params: Collection[str],
    missing: tuple[str, ...],
) -> Binding:
    """Return the arguments as a call takes them: by position as far as none is left out, then by name."""
    args: list[Source] = []
    kwargs: list[tuple[str, Source]] = []
    for parameter in shape.parameters:
        source = found.get(parameter.name)
        if source is None:
            continue
        if parameter.kind in _POSITIONAL and len(args) == _place(shape, parameter):
            args.append(source)
        else:
            kwargs.append((parameter.name, source))
    if shape.takes_rest and not kwargs:
        args += rest
    elif shape.takes_any:
        taken = {name for name, _ in kwargs} | {source.name for source in args}
        every = {
            **{name: Source("param", name) for name in params},
            **{n: Source("result", n) for n in depends_on},
        }
        kwargs += [(name, source) for name, source in every.items() if name not in taken]
    return Binding(tuple(args), tuple(kwargs), missing)


def _place(shape: Shape, parameter: inspect.Parameter) -> int:
    return shape.parameters.index(parameter)


_ITEM: Final = Source("item")
