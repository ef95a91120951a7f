"""What tells whether code is still the same: a hash of functions as they are compiled, and of what they close over.

Of a function count its bytecode with its constants, its defaults and what it closes over, and from its own module the
functions and the constants (names in capitals) that it names; where it stands, and how its source is laid out, does
not. Plain data and data classes count by value, other objects by the names of their types. Nothing is called, imported
or pickled. Another Python compiles to other bytecode.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from enum import Enum
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import msgspec

from holdfast.errors import HoldfastError
from holdfast.model.values import encode

_PLAIN: Final = (str, bytes, int, float, complex, type(None))


def code_of(*things: object) -> str:
    """Return a hash that changes when the code of a function does, or a value beside it."""
    return digest(msgspec.json.encode([_told(each, ()) for each in things]))


def digest(data: bytes) -> str:
    """Return the hash of bytes as a short text."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def canonical(raw: msgspec.Raw | bytes) -> bytes:
    """Return an encoded value in the one form that equal values share, whatever the order of their keys."""
    data = bytes(raw)
    return msgspec.json.encode(msgspec.json.decode(data), order="sorted") if b"{" in data else data


def _told(value: Any, inside: tuple[int, ...]) -> Any:
    """Return what counts of a value, as JSON can say it; `inside` are the ids of what it was reached through."""
    if id(value) in inside:
        return "itself"
    within = (*inside, id(value))
    match value:
        case FunctionType():
            return _function(value, within)
        case MethodType():
            return ["method", _told(value.__func__, within), _object(value.__self__, within)]
        case partial():
            return ["partial", *(_told(part, within) for part in (value.func, value.args, value.keywords))]
        case type() | ModuleType():
            return ["named", _name(value)]
        case _:
            return _data(value, within)


def _data(value: Any, within: tuple[int, ...]) -> Any:
    try:
        return ["value", canonical(encode(value)).decode()]
    except HoldfastError:
        pass
    kind = type(value)
    if kind in (list, tuple):
        return ["list", *(_told(each, within) for each in value)]
    if kind in (set, frozenset):
        return ["set", *sorted(msgspec.json.encode(_told(each, within)).decode() for each in value)]
    if kind is dict:
        return ["dict", *([_told(key, within), _told(each, within)] for key, each in value.items())]
    return _object(value, within)


def _object(value: Any, within: tuple[int, ...]) -> Any:
    """Return the type of an object, its fields if that is a data class, and its code if it can be called.

    What a function merely closes over may hold anything, and change with each call: only of an object that is itself
    the step's function, or whose method is, do all fields count.
    """
    cls = type(value)
    fields = _fields(value)
    if fields is None and len(within) <= _OUTERMOST:
        fields = getattr(value, "__dict__", {})
    told: list[Any] = ["object", _name(cls)]
    if isinstance(call := getattr(cls, "__call__", None), FunctionType):  # noqa: B004 - its code is wanted
        told.append(_told(call, within))
    if hasattr(value, "__wrapped__"):
        told.append(_told(value.__wrapped__, within))
    elif callable(value):
        told.append(_name(value))
    return [*told, *([name, _told(each, within)] for name, each in sorted((fields or {}).items()))]


_OUTERMOST: Final = 1
"""So many objects lead to the step's function itself."""


def _fields(value: Any) -> dict[str, Any] | None:
    """Return the fields of an instance of a data class, None for any other object."""
    cls = type(value)
    if isinstance(value, Enum):
        return {"name": value.name}
    if dataclasses.is_dataclass(cls):
        names = tuple(field.name for field in dataclasses.fields(cls))
    elif isinstance(value, msgspec.Struct):
        names = cls.__struct_fields__
    else:
        names = tuple(getattr(cls, "model_fields", ()))
        if not names:
            return None
    return {name: getattr(value, name, None) for name in names}


def _name(value: Any) -> str:
    name = (
        getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or type(value).__qualname__
    )
    return f"{getattr(value, '__module__', '')}.{name}"


def _function(fn: FunctionType, within: tuple[int, ...]) -> Any:
    cells = [_cell(cell, within) for cell in fn.__closure__ or ()]
    named = [[name, _told(each, within)] for name, each in sorted(_own_globals(fn).items())]
    given = [_told(fn.__defaults__, within), _told(fn.__kwdefaults__, within)]
    return ["function", _code(fn.__code__), given, cells, named]


def _cell(cell: Any, within: tuple[int, ...]) -> Any:
    try:
        return _told(cell.cell_contents, within)
    except ValueError:  # it is not filled yet
        return "empty"


def _own_globals(fn: FunctionType) -> dict[str, Any]:
    """Return the functions and constants of its own module that a function names."""
    found = {}
    for name in _names(fn.__code__):
        value = fn.__globals__.get(name)
        is_constant = name.isupper() and isinstance(value, (*_PLAIN, tuple, frozenset))
        is_own = isinstance(value, FunctionType) and value.__module__ == fn.__module__
        if name in fn.__globals__ and (is_constant or is_own):
            found[name] = value
    return found


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)


def _code(code: CodeType) -> Any:
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return [
        code.co_code.hex(),
        code.co_exceptiontable.hex(),
        code.co_flags,
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_names,
        parameters,
        code.co_freevars,
        [_constant(each) for each in code.co_consts],
    ]


def _constant(value: Any) -> Any:
    match value:
        case CodeType():
            return _code(value)
        case tuple():
            return ["tuple", *map(_constant, value)]
        case frozenset():  # the order of its hashes is another one in each process
            return ["set", *sorted(msgspec.json.encode(_constant(each)).decode() for each in value)]
        case _:
            return [type(value).__name__, repr(value).encode("utf-8", "backslashreplace").decode()]
