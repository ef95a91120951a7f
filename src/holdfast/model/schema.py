"""Schemas: what the keys of a state, or the parameters of a workflow, are called and of which type they may be.

Read from a TypedDict, a dataclass, a msgspec Struct, a Pydantic model or, for parameters, a function's signature. The
two are judged differently. A state's values are checked as they are, since they are stored as they are. Parameters
come from people and over HTTP, so they are converted to their types: text to a datetime, a dict to a dataclass.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import inspect
import operator
import os
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, time
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec

from holdfast.errors import DefinitionError, PayloadRejected
from holdfast.model.values import adapter_of, model_validator, reason, register_type

Reducer = Callable[[Any, Any], Any]

_MISSING: Final = dataclasses.MISSING
_PLAIN_COMPLAINT: Final = re.compile(r"Expected `[^`]*`, got `[^`]*`")
_MOMENTS: Final = {datetime: "date-time", time: "time"}
_MARKS: Final = {"Required": True, "NotRequired": False, "ReadOnly": None}


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """One name of a schema, with the function that gives its default; `make` is None when there is none."""

    name: str
    type: Any
    required: bool
    make: Callable[[], Any] | None = None


class Schema:
    """The keys of a state: `fields` with their types, `reducers` that fold several writes, and the `required` ones."""

    __slots__ = ("_checks", "_validate", "fields", "is_open", "name", "reducers", "required")

    def __init__(self, schema: Any) -> None:
        fields = _fields_of(schema)
        self.name: str = schema.__name__
        self.fields: dict[str, Any] = {field.name: field.type for field in fields}
        self.required = frozenset(field.name for field in fields if field.required)
        self.reducers: dict[str, Reducer] = {}
        for name, hint in self.fields.items():
            reducer = _reducer(hint, f"{self.name}.{name}")
            if reducer is not None:
                self.reducers[name] = reducer
        self.is_open = _is_open(schema)
        self._validate = model_validator(schema, strict=True) if _is_model(schema) else None
        self._checks = {name: _Type(hint) for name, hint in self.fields.items() if self._is_judged(name)}

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise PayloadRejected when a key is unknown or its value not of its type, naming key and types.

        Keys may be missing. A key with a reducer of the user's own is not judged: that may take another form than
        it gives.
        """
        if not self.is_open:
            _refuse_unknown(values, self.fields, f"the schema {self.name}", "key")
        if self._validate is not None:
            judged = {name: value for name, value in values.items() if name in self._checks or self.is_open}
            _validated(self._validate, judged)
            return
        for name, value in values.items():
            if name in self._checks:
                self._checks[name].check(name, value)

    def _is_judged(self, name: str) -> bool:
        reducer = self.reducers.get(name)
        return reducer is None or inspect.isbuiltin(reducer)


class Params:
    """The parameters of a workflow: `fields` with their types and the `required` ones."""

    __slots__ = ("_fields", "_is_open", "_make", "_types", "_validate", "fields", "name", "required")

    def __init__(self, source: Any, leave_out: Collection[str] = ()) -> None:
        self._make: Callable[..., Any] | None = None
        if isinstance(source, type):
            fields = _fields_of(source)
            self._is_open = _is_open(source)
            if not _is_typed_dict(source):
                self._make = source
        else:
            fields = _parameters(source)
            kinds = {parameter.kind for parameter in inspect.signature(source).parameters.values()}
            self._is_open = inspect.Parameter.VAR_KEYWORD in kinds
        self._validate = model_validator(source) if _is_model(source) else None
        self._fields = [field for field in fields if field.name not in leave_out]
        self._types = {field.name: _Type(field.type) for field in self._fields}
        self.name: str = getattr(source, "__name__", type(source).__name__)
        self.fields: dict[str, Any] = {field.name: field.type for field in self._fields}
        self.required = frozenset(field.name for field in self._fields if field.required)

    def bind(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters as they are stored and passed: converted to their types.

        A type's defaults are filled in, so that a run keeps those it began with. A function's are not, since it has
        them itself. Raises PayloadRejected naming what is unknown, missing or of another type.
        """
        if not isinstance(given, Mapping):
            raise PayloadRejected(f"the params are of type {type(given).__name__}", fix="Give a dict.")
        if not self._is_open:
            _refuse_unknown(given, self.fields, self.name, "parameter")
        if self._validate is not None:
            model: Any = _validated(self._validate, given, missing=True)
            return {name: getattr(model, name) for name in self.fields} | (model.model_extra or {})
        bound = {}
        for field in self._fields:
            if field.name in given:
                bound[field.name] = self._types[field.name].convert(field.name, given[field.name])
            elif field.required:
                raise _missing(field.name)
            elif field.make is not None:
                bound[field.name] = field.make()
        bound |= {name: value for name, value in given.items() if name not in self.fields}
        self.instance(bound)
        return bound

    def instance(self, bound: Mapping[str, Any]) -> Any:
        """Return bound parameters as the type they were read from; a dict for a TypedDict or a function."""
        if self._validate is not None:
            return _validated(self._validate, bound, missing=True)
        if self._make is None:
            return dict(bound)
        try:
            return self._make(**bound)
        except (TypeError, ValueError) as error:
            raise PayloadRejected(f"{self.name} refuses the params: {error}", fix="Correct them.") from error

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the params: an object whose properties are as exact as their types allow."""
        properties, parts = _json_schemas(self._fields)
        schema: dict[str, Any] = {"title": self.name, "type": "object", "properties": properties}
        schema["required"] = [field.name for field in self._fields if field.required]
        schema["additionalProperties"] = self._is_open
        return schema | ({"$defs": parts} if parts else {})


def read_schema(schema: Any) -> Schema:
    """Return the schema of a state, and register the classes its annotations name, so that they can be stored.

    Raises DefinitionError when `schema` is no class with typed fields, or an annotation cannot be resolved.
    """
    read = Schema(schema)
    _register(read.fields.values(), set())
    return read


def read_params(source: Any, leave_out: Collection[str] = ()) -> Params:
    """Return the parameters of a type, or of a function without those it gets from elsewhere (`leave_out`).

    Registers the classes that the annotations name, a function's return type included.
    """
    read = Params(source, leave_out)
    returned = {} if isinstance(source, type) else _hints_of_function(source)
    _register([*read.fields.values(), returned.get("return")], set())
    return read


# Reading classes and functions


def _is_typed_dict(source: Any) -> bool:
    return isinstance(source, type) and issubclass(source, dict) and hasattr(source, "__required_keys__")


def _is_model(source: Any) -> bool:
    return isinstance(source, type) and hasattr(source, "model_fields") and hasattr(source, "model_validate")


def _is_open(source: Any) -> bool:
    return _is_model(source) and source.model_config.get("extra") == "allow"


def _fields_of(source: Any) -> list[_Field]:
    if _is_model(source):
        return [_model_field(name, info) for name, info in source.model_fields.items()]
    if _is_typed_dict(source):
        return [_typed_dict_field(source, name, hint) for name, hint in _hints(source).items()]
    if isinstance(source, type) and issubclass(source, msgspec.Struct):
        _hints(source)  # names what cannot be resolved
        return [
            _Field(field.name, field.type, field.required, _default(field))
            for field in msgspec.structs.fields(source)
        ]
    if isinstance(source, type) and dataclasses.is_dataclass(source):
        hints = _hints(source)
        fields = [(field, _default(field)) for field in dataclasses.fields(source) if field.init]
        return [_Field(field.name, hints[field.name], make is None, make) for field, make in fields]
    raise DefinitionError(
        f"{source!r} is no schema", fix="Give a TypedDict, a dataclass, a msgspec Struct or a Pydantic model."
    )


def _hints(source: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(source, include_extras=True)
    except NameError as error:
        raise DefinitionError(
            f"the annotations of {source.__name__} name {error.name!r}, which cannot be found",
            fix="Import it at the top of the module, outside of `if TYPE_CHECKING`.",
        ) from error


def _model_field(name: str, info: Any) -> _Field:
    hint = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    if info.is_required():
        return _Field(name, hint, required=True)
    return _Field(name, hint, required=False, make=lambda: info.get_default(call_default_factory=True))


def _typed_dict_field(source: Any, name: str, hint: Any) -> _Field:
    required = name in source.__required_keys__
    while (mark := str(get_origin(hint)).rpartition(".")[2]) in _MARKS:
        # Read here, since the class itself does not see marks in postponed annotations.
        required = required if _MARKS[mark] is None else bool(_MARKS[mark])
        hint = get_args(hint)[0]
    return _Field(name, hint, required)


def _default(field: Any) -> Callable[[], Any] | None:
    """Return what makes the default of a field of a dataclass or Struct, or None when it has none."""
    if field.default is not _MISSING and field.default is not msgspec.NODEFAULT:
        return lambda: field.default
    factory: Any = field.default_factory
    return None if factory is _MISSING or factory is msgspec.NODEFAULT else factory


def _parameters(function: Any) -> list[_Field]:
    hints = _hints_of_function(function)
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = [one for one in inspect.signature(function).parameters.values() if one.kind not in variable]
    return [_Field(one.name, hints.get(one.name, Any), one.default is one.empty) for one in parameters]


def _hints_of_function(function: Any) -> dict[str, Any]:
    """Return what can be resolved: a type that only the type checker knows must not stop a function from running."""
    function = inspect.unwrap(getattr(function, "func", function))
    if not inspect.isroutine(function):
        function = type(function).__call__
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations are any code at all
        names = getattr(function, "__annotations__", {})
    found: dict[str, Any] = {}
    for name, annotation in names.items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(Exception):
            found |= typing.get_type_hints(alone, function.__globals__, include_extras=True)
    return found


def _reducer(hint: Any, place: str) -> Reducer | None:
    """Return the function among the annotations of a field."""
    found = [mark for mark in getattr(hint, "__metadata__", ()) if _is_reducer(mark)]
    if len(found) > 1:
        raise DefinitionError(f"{place} has {len(found)} reducers", fix="Keep one; it may call the others.")
    return found[0] if found else None


def _is_reducer(mark: Any) -> bool:
    if isinstance(mark, type) or not callable(mark):
        return False
    try:
        inspect.signature(mark).bind(None, None)
    except TypeError:
        if inspect.isroutine(mark):
            raise DefinitionError(
                f"{mark!r} cannot be a reducer", fix="A reducer takes the value so far and the one written."
            ) from None
        return False
    except ValueError:  # a built-in that does not tell its parameters
        return True
    return True


def _register(hints: Iterable[Any], seen: set[Any]) -> None:
    """Register the classes in annotations, and those in the annotations of their fields."""
    for hint in hints:
        if get_origin(hint) is typing.Literal:
            _register(map(type, get_args(hint)), seen)
            continue
        arguments = get_args(hint)
        _register(arguments[:1] if hasattr(hint, "__metadata__") else arguments, seen)
        cls = get_origin(hint) or hint
        if not isinstance(cls, type) or cls in seen:
            continue
        seen.add(cls)
        known = adapter_of(cls) is not None
        if known:
            register_type(cls)
        if _is_typed_dict(cls) or known:
            _register(_hints_of_class(cls), seen)


def _hints_of_class(cls: Any) -> list[Any]:
    try:
        return list(typing.get_type_hints(cls, include_extras=True).values())
    except Exception:  # noqa: BLE001 - annotations are any code at all; what is unknown is refused when it is stored
        return []


# Judging values


class _Type:
    """One annotation, by which values are checked and converted."""

    __slots__ = ("_hint", "_holder")

    def __init__(self, hint: Any) -> None:
        self._hint = _bare(hint)
        # Held by a Struct, the type is taken apart once, and complaints name the place in the value.
        self._holder: Any = msgspec.defstruct("Holder", [("value", self._hint)])

    def check(self, name: str, value: Any) -> None:
        """Raise PayloadRejected unless `value` is of the type as it stands."""
        if not _is_same(self.convert(name, value), value):
            raise self._mismatch(name, value)

    def convert(self, name: str, value: Any) -> Any:
        """Return `value` converted to the type, or raise PayloadRejected."""
        if self._hint is Any:
            return value
        try:
            return msgspec.convert({"value": value}, self._holder, dec_hook=_convert_other).value
        except msgspec.ValidationError as error:
            what, _, path = str(error).partition(" - at `$.value")
            if not path.strip("`") and _PLAIN_COMPLAINT.fullmatch(what):
                raise self._mismatch(name, value) from None  # in Python's words and not in JSON's
            what = what.replace("`", "").replace("Expected", "expected", 1)
            raise _mismatch(name + path.rstrip("`"), what) from None
        except TypeError:
            # Some types msgspec does not know, such as a union of two dataclasses.
            if not _is_one(value, self._hint):
                raise self._mismatch(name, value) from None
            return value

    def _mismatch(self, name: str, value: Any) -> PayloadRejected:
        return _mismatch(name, f"expected {_shown(self._hint)}, got {type(value).__name__}")


def _convert_other(cls: Any, value: Any) -> Any:
    """Return `value` as a class that msgspec does not know; raises ValueError or TypeError when it cannot be."""
    if isinstance(cls, type) and isinstance(value, cls):
        return value
    if _is_model(cls) and isinstance(value, Mapping):
        try:
            return cls.model_validate(value)
        except ValueError as error:
            raise ValueError(reason(error)) from None
    if isinstance(value, str) and hasattr(cls, "__fspath__"):
        return cls(value)
    raise ValueError(f"Expected {_shown(cls)}, got {type(value).__name__}")


def _is_same(converted: Any, value: Any) -> bool:
    """Return whether a conversion changed nothing, but for an int where a float is asked for."""
    if converted is value:
        return True
    if type(converted) is not type(value):
        return type(converted) is float and type(value) is int
    if isinstance(value, dict):
        return list(converted) == list(value) and _is_same(list(converted.values()), list(value.values()))
    if isinstance(value, list | tuple):
        if len(converted) != len(value):
            return False
        return all(map(operator.is_, converted, value)) or all(map(_is_same, converted, value))
    return bool(converted == value)


def _is_one(value: Any, hint: Any) -> bool:
    """Return whether `value` may be of the type, as far as its own class tells."""
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is_one(value, part) for part in get_args(hint))
    if origin is Annotated:
        return _is_one(value, get_args(hint)[0])
    if hint is None:
        return value is None
    cls = origin or hint
    if _is_typed_dict(cls):
        return isinstance(value, dict)
    return not isinstance(cls, type) or isinstance(value, cls)


def _bare(hint: Any) -> Any:
    """Return the annotation without what is no constraint to msgspec."""
    if not hasattr(hint, "__metadata__"):
        return hint
    constraints = tuple(mark for mark in hint.__metadata__ if isinstance(mark, msgspec.Meta))
    return Annotated[(hint.__origin__, *constraints)] if constraints else hint.__origin__


def _shown(hint: Any) -> str:
    hint = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    return (
        hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
    )


def _validated(
    validate: Callable[[Any], object], values: Mapping[str, Any], *, missing: bool = False
) -> object:
    """Return the Pydantic model of `values`, or None when all that is wrong is that some are missing."""
    try:
        return validate(values)
    except ValueError as error:
        for one in error.errors() if hasattr(error, "errors") else ():
            name, *path = one["loc"] or ("",)
            # An older Pydantic tells an alias here; but what is not missing was given, whatever its name.
            if name in values or (name and one["type"] != "missing"):
                place = str(name) + "".join(
                    f"[{step}]" if isinstance(step, int) else f".{step}" for step in path
                )
                raise _mismatch(place, f"{one['msg']}, got {type(one['input']).__name__}") from None
            if missing:
                raise (
                    _missing(name) if one["type"] == "missing" else _mismatch("params", one["msg"])
                ) from None
        return None


def _mismatch(place: str, what: str) -> PayloadRejected:
    return PayloadRejected(f"{place}: {what}", field=place, fix="Give a value of the type that is expected.")


def _missing(name: str) -> PayloadRejected:
    return PayloadRejected(
        f"the parameter {name!r} is missing", field=name, fix=f"Give a value for {name!r}."
    )


def _refuse_unknown(given: Mapping[str, Any], known: Collection[str], owner: str, noun: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            fix = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known) or 'none'}."
            raise PayloadRejected(f"{owner} has no {noun} {name!r}; {fix}", field=str(name), fix=fix)


# JSON schemas


def _json_schemas(fields: Iterable[_Field]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a JSON schema for each field and the definitions they refer to; `{}` for what has none."""
    shown: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    for field in fields:
        try:
            (schema,), found = msgspec.json.schema_components(
                [_bare(field.type)], schema_hook=_json_schema_of_other, ref_template="#/$defs/{name}"
            )
        except TypeError:
            schema, found = {}, {}
        default = {} if field.make is None or "$ref" in schema else _json_default(field.make)
        shown[field.name] = _with_format(field.type, schema) | default
        parts |= found
    return shown, parts


def _with_format(hint: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of a type with the format of a moment, which msgspec tells only of one with a zone."""
    parts = get_args(hint) or (hint,)
    form = next((_MOMENTS[part] for part in parts if part in (datetime, time)), None)
    if form is None or str in parts:
        return schema
    if "anyOf" in schema:
        return schema | {"anyOf": [_with_format(hint, arm) for arm in schema["anyOf"]]}
    return schema | {"format": form} if schema == {"type": "string"} else schema


def _json_schema_of_other(cls: Any) -> dict[str, Any]:
    if _is_model(cls):
        schema: dict[str, Any] = cls.model_json_schema()
        return {"type": "object"} if "$defs" in schema else schema
    return {"type": "string", "format": "path"} if hasattr(cls, "__fspath__") else {}


def _json_default(make: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"default": msgspec.to_builtins(make(), str_keys=True, enc_hook=os.fspath)}
    except (TypeError, ValueError):
        return {}
