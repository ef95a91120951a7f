"""User values at rest: JSON that gives back the same types.

str, int of 64 bits, finite float, bool, None, list and dict with text keys stand as they are. Every other type is an
object with one key that begins with `$`; a dict that could be taken for one is written as `{"$dict": [[key, value]]}`.
What would come back as another type, or not at all, is refused where it is given: `decode(encode(x))` equals `x` and
has its types, or `encode` raises PayloadRejected and names the place. Nothing is pickled or imported by name:
decoding makes built-in types and the classes given to `register_type`, no others.

No subclass of a built-in type is taken for its base, OrderedDict and StrEnum included: it has what the base would lose.
"""

from __future__ import annotations

import binascii
import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, overload
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from holdfast.errors import DefinitionError, PayloadRejected

T = TypeVar("T")
Tagger = Callable[[Any, int], object]
Step = Callable[[int], str]
Raw = msgspec.Raw
"""An encoded value. It may be a view on a longer buffer; `bytes(raw)` copies it out."""

_DEEPEST: Final = 200
_TOO_DEEP: Final = (f"is nested more than {_DEEPEST} levels deep", "Store it flat, linked by ids.")
_LOWEST, _HIGHEST = -(2**63), 2**64 - 1
_DECIMAL_BITS: Final = 10_000  # longer integers are written in base 16, which Python does not limit
_ATOMS: Final = frozenset({str, bool, type(None)})
_to_json: Final = msgspec.json.Encoder().encode
_from_json: Final = msgspec.json.Decoder().decode
_from_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode
_from_pairs: Final = msgspec.json.Decoder(list[tuple[str, msgspec.Raw]]).decode


class _Unstorable(Exception):
    """A value that cannot be kept. Each container it passes on its way up adds its step of the path."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix
        self.trail: list[tuple[str, object]] = []

    def rejection(self, where: str) -> PayloadRejected:
        """Return the error for people: the place, the problem, the fix."""
        path = [step for step, _ in reversed(self.trail)]
        containers = [id(container) for _, container in reversed(self.trail)]
        again = next((i for i, container in enumerate(containers) if container in containers[:i]), None)
        if again is not None:
            start = place(where, *path[: containers.index(containers[again])])
            del path[again:]
            self.problem = f"leads back to {start} and has no end"
            self.fix = "Keep an id in place of the way back."
        field = place("" if " " in where else where, *path)
        return PayloadRejected(f"{place(where, *path)} {self.problem}", field=field, fix=self.fix)


def place(where: str, *steps: str) -> str:
    """Return where a value stands, as people write it: `pages[3].scale`, `node 'detect': pages[3].scale`."""
    path = "".join(steps)
    return (f"{where}: {path.lstrip('.')}" if path and " " in where else where + path).lstrip(
        "."
    ) or "the value"


def encode(value: object, where: str = "") -> Raw:
    """Return `value` as JSON. Raises PayloadRejected naming `where` (a place or a phrase) and what cannot be kept."""
    try:
        return Raw(_encoded(value))
    except _Unstorable as error:
        raise error.rejection(where) from None


def encode_map(values: Mapping[str, object], where: str = "") -> dict[str, Raw]:
    """Return `values` encoded one by one. Raises PayloadRejected naming `where`, the key and the path below it."""
    encoded = {}
    for key, value in values.items():
        try:
            plain = type(key) is str and key.isascii()  # the usual case, and every step passes here
            encoded[key if plain else _checked_key(key)] = Raw(_encoded(value))
        except _Unstorable as unstorable:
            unstorable.trail.append((key_step(key), values))
            raise unstorable.rejection(where) from None
    return encoded


def pack(values: Mapping[str, Raw]) -> Raw:
    """Return one object of already encoded values; `decode` and `unpack` of it give back the keys as they are."""
    if "$" in "".join(values) and any(key.startswith("$") for key in values):
        return Raw(_to_json({"$dict": list(values.items())}))
    return Raw(_to_json(dict(values)))


def unpack(raw: Raw | bytes) -> dict[str, Raw]:
    """Return the encoded values of a packed object (`null`: none), as views on its buffer. Decodes none of them."""
    values = _from_object(raw) or {}
    if len(values) == 1 and "$dict" in values:
        return dict(_from_pairs(values["$dict"]))
    return values


def _encoded(value: object) -> bytes:
    """Return the JSON of a value: in one sweep when it is plain, else by way of a tagged copy."""
    try:
        if type(value) in _ATOMS or _is_plain(value, 0):
            raw = _to_json(value)
            # Keys that begin with `$` would be read as tags. One byte is found much faster than the pair.
            if b"$" not in raw or b'"$' not in raw:
                return raw
    except UnicodeEncodeError:
        pass  # the slow way names the place
    try:
        return _to_json(_tagged(value, 0))
    except RecursionError:
        raise _Unstorable(*_TOO_DEEP) from None


def _is_plain(value: Any, depth: int) -> bool:
    """Return whether msgspec writes `value` as JSON that reads back the same; keys may still begin with `$`."""
    kind = type(value)
    if kind is dict:
        if depth >= _DEEPEST:
            return False
        for key, item in value.items():
            if type(key) is not str or (type(item) is not str and not _is_plain(item, depth + 1)):
                return False
        return True
    if kind is list:
        return depth < _DEEPEST and _is_plain_list(value, depth)
    if kind is int:
        return bool(_LOWEST <= value <= _HIGHEST)
    if kind is float:
        return isfinite(value)
    return kind in _ATOMS


def _is_plain_list(items: list[Any], depth: int) -> bool:
    # Long lists of one scalar type are common (vectors, ids): these lines judge them at C speed.
    kinds = set(map(type, items))
    if kinds <= _ATOMS:
        return True
    if kinds == {float}:
        return all(map(isfinite, items))
    if kinds == {int}:
        return bool(min(items) >= _LOWEST and max(items) <= _HIGHEST)
    return all(_is_plain(item, depth + 1) for item in items)


def _tagged(value: Any, depth: int) -> object:
    """Return a copy of `value` in which msgspec finds only what it writes faithfully."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _checked_text(value)
    if kind is dict:
        return _tagged_dict(value, depth)
    if kind is list:
        return _tagged_all(value, depth + 1, value)
    tagger = _TAGGERS.get(kind)
    if tagger is None:
        raise _Unstorable(f"is of type {_type_name(kind)}, which cannot be stored", _fix(value, kind))
    return tagger(value, depth)


def _tagged_all(items: Iterable[Any], depth: int, owner: object, step: Step = "[{}]".format) -> list[Any]:
    """Return the tagged items; `step` names one of them by its index when it cannot be kept."""
    # Counted in levels of JSON, so that whatever is written can also be read, however deep the reader stands.
    if depth > _DEEPEST:
        raise _Unstorable(*_TOO_DEEP)
    copy: list[Any] = []
    try:
        for item in items:
            copy.append(_tagged(item, depth))  # noqa: PERF401 - its length says which item failed
    except _Unstorable as unstorable:
        unstorable.trail.append((step(len(copy)), owner))
        raise
    return copy


def _tagged_fields(fields: Mapping[str, Any], depth: int, owner: object) -> dict[str, object]:
    names = list(map(_checked_key, fields))
    items = _tagged_all(fields.values(), depth, owner, lambda index: key_step(names[index]))
    return dict(zip(names, items, strict=True))


def _tagged_dict(values: dict[Any, Any], depth: int) -> object:
    if all(type(key) is str and not key.startswith("$") for key in values):
        return _tagged_fields(values, depth + 1, values)
    keys = list(values)
    names = _tagged_all(keys, depth + 3, values, "{{key {}}}".format)
    items = _tagged_all(values.values(), depth + 3, values, lambda index: key_step(keys[index]))
    return {"$dict": list(zip(names, items, strict=True))}


def key_step(key: object) -> str:
    """Return the step of a path that `key` is."""
    if isinstance(key, str):
        return f".{key}" if key.isidentifier() else f"[{key!a}]"
    return f"{{{_type_name(type(key))}}}"


def _checked_key(key: object) -> str:
    if type(key) is not str:
        raise _Unstorable("is no text, which a key must be here", "Use str(key).")
    return key if key.isascii() else _checked_text(key, "has a key with")


def _checked_text(text: str, which: str = "has") -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        problem = f"{which} a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}"
        raise _Unstorable(problem, "Decode it with errors='replace', or store bytes.") from None
    return text


def _type_name(cls: type) -> str:
    module = cls.__module__
    if module in ("__main__", "__mp_main__"):  # named as others will import it
        main = sys.modules[module]
        module = main.__spec__.name if main.__spec__ else Path(getattr(main, "__file__", None) or module).stem
    return cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}"


def _fix(value: object, cls: type) -> str:
    if adapter_of(cls):
        return f"Call register_type({cls.__qualname__}) once, where the class is defined."
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return "Store value.tolist()."  # arrays and scalars of numpy, which are no subclasses or worse
    if isinstance(value, bytearray | memoryview):
        return "Store bytes(value)."
    for base in (datetime, date, str, int, float, dict, list, tuple, bytes, set):
        if isinstance(value, base):
            return f"Store a plain {base.__name__} of it; a subclass would not come back as what it is."
    if isinstance(value, Iterable) and not isinstance(value, type) and not hasattr(value, "fileno"):
        return "Store list(value), or another plain value made of it."
    if callable(value) or hasattr(value, "close") or hasattr(value, "acquire"):
        return "Keep it in Runtime, or await it, and store only data."
    return "Store its data as a dict, or as a dataclass on which you call register_type."


def _tag_int(value: int, _: int) -> object:
    if _LOWEST <= value <= _HIGHEST:
        return value
    return {"$int": str(value) if value.bit_length() <= _DECIMAL_BITS else hex(value)}


def _tag_moment(value: datetime | time, _: int) -> object:
    """With a zone, the clock on the wall there is kept, so that it stays right when the zone's rules change."""
    zone = value.tzinfo
    tag = "$datetime" if isinstance(value, datetime) else "$time"
    if isinstance(zone, ZoneInfo) and zone.key:
        return {tag: [value.replace(tzinfo=None).isoformat(), zone.key, value.fold]}
    if zone is not None and zone.utcoffset(None) is None:
        problem = f"has a time zone of type {_type_name(type(zone))}, which cannot be stored"
        raise _Unstorable(problem, "Use a zone made by ZoneInfo('Europe/Berlin'), or UTC.")
    return {tag: [value.isoformat(), None, 1] if value.fold else value.isoformat()}


def _tag_set(value: set[Any] | frozenset[Any], depth: int) -> object:
    # Sorted, so that equal sets are equal bytes whatever the order of their hashes.
    return {f"${type(value).__name__}": sorted(_tagged_all(value, depth + 2, value), key=_to_json)}


_TAGGERS: Final[dict[type, Tagger]] = {
    bool: lambda value, _: value,
    type(None): lambda value, _: value,
    int: _tag_int,
    float: lambda value, _: value if isfinite(value) else {"$float": repr(value)},
    datetime: _tag_moment,
    time: _tag_moment,
    date: lambda value, _: {"$date": value.isoformat()},
    timedelta: lambda value, _: {"$timedelta": _tag_int(value // timedelta(microseconds=1), 0)},
    UUID: lambda value, _: {"$uuid": str(value)},
    Decimal: lambda value, _: {"$decimal": str(value)},
    bytes: lambda value, _: {"$bytes": binascii.b2a_base64(value, newline=False).decode()},
    tuple: lambda value, depth: {"$tuple": _tagged_all(value, depth + 2, value)},
    set: _tag_set,
    frozenset: _tag_set,
    type(Path()): lambda value, _: {"$path": _checked_text(value.as_posix())},
}


def decode(raw: Raw | bytes) -> Any:
    """Return the value: a new one each time, with the types it was encoded from.

    Raises DefinitionError for a tag, a registered name or fields that this process cannot make anything of.
    """
    data = bytes(raw)
    value = _from_json(data)
    return _revived(value) if b"$" in data and b'"$' in data else value


def _revived(value: Any) -> Any:
    """Return the value of a freshly read JSON tree; plain containers are filled in place."""
    if type(value) is dict:
        if len(value) == 1:
            [(tag, content)] = value.items()
            if tag.startswith("$"):
                return _untagged(tag, content)
        for key, item in value.items():
            if type(item) is dict or type(item) is list:
                value[key] = _revived(item)
    elif type(value) is list:
        for index, item in enumerate(value):
            if type(item) is dict or type(item) is list:
                value[index] = _revived(item)
    return value


def _untagged(tag: str, content: Any) -> object:
    reader = _READERS.get(tag)
    if reader is None:
        raise DefinitionError(
            f"a stored value carries the tag {tag!r}, which this version cannot read",
            fix="Upgrade Holdfast to the version that wrote it.",
        )
    try:
        return reader(content)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        name = f"{tag} {content[0]}" if tag in ("$type", "$enum") else tag
        raise DefinitionError(
            f"a stored {name} cannot be read: {reason(error)}",
            fix="Let the class accept what older runs have stored, for instance by a default for a new field.",
        ) from error


def _read_moment(cls: Any) -> Callable[[Any], object]:
    def read(content: Any) -> object:
        if isinstance(content, str):
            return cls.fromisoformat(content)
        text, zone, fold = content
        value = cls.fromisoformat(text)
        return value.replace(tzinfo=ZoneInfo(zone) if zone else value.tzinfo, fold=fold)

    return read


def _read_registered(content: Any) -> object:
    name, parts = content
    if name not in _BY_NAME:
        raise DefinitionError(
            f"a stored value is of the type {name!r}, which is not registered in this process",
            fix=f"Import the module that registers it; if the class was moved, register_type(cls, {name!r}).",
        )
    return _BY_NAME[name][1].build(parts)


_READERS: Final[dict[str, Callable[[Any], object]]] = {
    "$int": lambda text: int(text, 0),
    "$float": float,
    "$datetime": _read_moment(datetime),
    "$date": date.fromisoformat,
    "$time": _read_moment(time),
    "$timedelta": lambda microseconds: timedelta(microseconds=_revived(microseconds)),
    "$uuid": UUID,
    "$decimal": Decimal,
    "$bytes": binascii.a2b_base64,
    "$tuple": lambda items: tuple(_revived(items)),
    "$set": lambda items: set(_revived(items)),
    "$frozenset": lambda items: frozenset(_revived(items)),
    "$dict": lambda pairs: {_revived(key): _revived(item) for key, item in pairs},
    "$path": Path,
    "$enum": _read_registered,
    "$type": _read_registered,
}


class _Adapter(NamedTuple):
    """How instances of a class are taken apart into what is written, and built again from that."""

    split: Tagger
    build: Callable[[Any], object]
    tag: str = "$type"


_BY_NAME: Final[dict[str, tuple[type, _Adapter]]] = {}


@overload
def register_type(cls: type[T], name: str | None = None) -> type[T]: ...
@overload
def register_type(cls: None = None, name: str | None = None) -> Callable[[type[T]], type[T]]: ...
def register_type(cls: type[T] | None = None, name: str | None = None) -> Any:
    """Let instances of `cls` be stored and return `cls`; also a decorator, with or without `name`.

    For dataclasses, Structs, enums, named tuples and Pydantic models. `name`, by default `module.Class`, is written.
    A class may have several: the last one is written, all are read, so a class can be renamed or moved. Raises
    DefinitionError for another kind of class, or a name that another class has.
    """
    if cls is None:
        return lambda decorated: register_type(decorated, name)
    if name is None and cls in _TAGGERS:
        return cls
    adapter, name = adapter_of(cls), name or _type_name(cls)
    if adapter is None:
        raise DefinitionError(
            f"{_type_name(cls)} cannot be registered",
            fix="Register a dataclass, a msgspec Struct, an enum, a named tuple or a Pydantic model.",
        )
    holder, _ = _BY_NAME.setdefault(name, (cls, adapter))
    if _type_name(holder) != _type_name(cls):  # else it is loaded again: a notebook's cell, a reload
        raise DefinitionError(
            f"the name {name!r} of {_type_name(cls)} is taken by {_type_name(holder)}",
            fix=f"Give it another name: register_type({cls.__name__}, '…').",
        )
    _BY_NAME[name] = (cls, adapter)
    _TAGGERS[cls] = lambda value, depth: {adapter.tag: [name, adapter.split(value, depth + 3)]}
    return cls


def adapter_of(cls: type[Any]) -> _Adapter | None:
    """Return how instances of `cls` are taken apart, or None when they cannot be."""
    if issubclass(cls, Enum):
        return _Adapter(lambda it, depth: _tagged(it.value, depth), lambda it: cls(_revived(it)), "$enum")
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _field_adapter(cls, cls._fields, object.__setattr__)
    if issubclass(cls, str | int | float | bytes | tuple | list | dict | set | frozenset | BaseException):
        return None
    if issubclass(cls, msgspec.Struct):
        return _field_adapter(cls, cls.__struct_fields__, msgspec.structs.force_setattr)
    if hasattr(cls, "model_dump") and hasattr(cls, "model_validate"):
        return _model_adapter(cls)
    if dataclasses.is_dataclass(cls):
        return _field_adapter(cls, tuple(field.name for field in dataclasses.fields(cls)), object.__setattr__)
    return None


def _revived_fields(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: _revived(item) for name, item in parts.items()}


def _field_adapter(cls: Any, names: tuple[str, ...], put: Callable[[Any, str, Any], None]) -> _Adapter:
    parameters = inspect.signature(cls).parameters
    # An InitVar is not stored; a class that needs one is made without __init__.
    callable_again = all(p.name in names or p.default is not p.empty for p in parameters.values())

    def build(parts: dict[str, Any]) -> object:
        fields = _revived_fields(parts)
        given = {name: fields[name] for name in names if name in parameters and name in fields}
        value = cls(**given) if callable_again else cls.__new__(cls)
        # What __post_init__ works out must not win over what was stored. A field that the class lost is left out.
        for name in names:
            if name in fields and getattr(value, name, put) is not fields[name]:
                put(value, name, fields[name])
        return value

    def split(value: Any, depth: int) -> object:
        return _tagged_fields({name: getattr(value, name) for name in names}, depth, value)

    return _Adapter(split, build)


def _model_adapter(cls: Any) -> _Adapter:
    validate = model_validator(cls)

    def split(value: Any, depth: int) -> object:
        # Not by model_dump where it can be helped: that forgets the types of nested models.
        names = getattr(cls, "model_fields", None)
        fields = value.model_dump() if names is None else {name: getattr(value, name) for name in names}
        fields |= getattr(value, "model_extra", None) or {}
        try:
            validate(fields)  # now, where it can be mended, and not when the run is read again
        except ValueError as error:
            problem = f"would not pass its own validation again ({reason(error)})"
            raise _Unstorable(problem, "Set its fields to what the model accepts.") from None
        return _tagged_fields(fields, depth, value)

    return _Adapter(split, lambda parts: validate(_revived_fields(parts)))


def model_validator(cls: Any, **options: Any) -> Callable[[Mapping[str, Any]], object]:
    """Return a function that makes a Pydantic model of its fields, given by their names and not their aliases."""
    if getattr(cls, "__pydantic_root_model__", False):
        return lambda fields: cls.model_validate(fields["root"], **options)
    if "by_name" in inspect.signature(cls.model_validate).parameters:
        return lambda fields: cls.model_validate(fields, by_name=True, by_alias=False, **options)
    # Before Pydantic 2.11 a field with an alias is known by that alone.
    names = {name: info.validation_alias or name for name, info in getattr(cls, "model_fields", {}).items()}
    return lambda fields: cls.model_validate({names.get(k, k): v for k, v in fields.items()}, **options)


def reason(error: Exception) -> str:
    """Return what a validation found wrong, without the value itself, which Pydantic's own text quotes."""
    details = getattr(error, "errors", lambda: ())()
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in details) or str(error)
