"""PostgreSQL's binary formats, as far as the store uses them: arrays on the way in, columns on the way out.

A group of commits goes over as some ten arrays. Packing them here costs a tenth of what a general adapter takes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from psycopg import pq

_BOOL, _BYTEA, _INT8, _TEXT, _JSON, _XID8, _UNKNOWN, _RECORD, _VOID = (
    16,
    17,
    20,
    25,
    114,
    5069,
    705,
    2249,
    2278,
)
_JSON_ARRAY, _BYTEA_ARRAY, _TEXT_ARRAY, _INT8_ARRAY = 199, 1001, 1009, 1016

_HEAD: Final = struct.Struct(">iiiii")
_HEAD_OF_ONE: Final = struct.Struct(">iiiiii")
_ONE_LONG: Final = struct.Struct(">iiiiiiq")
_SIZE: Final = struct.Struct(">i")
_LONG: Final = struct.Struct(">q")
_FIELD: Final = struct.Struct(">Ii")
_NULL: Final = b"\xff\xff\xff\xff"


class Value(msgspec.Struct, frozen=True, gc=False):
    """One parameter of a statement: its bytes (None: NULL) and its type."""

    data: bytes | None
    type: int


def text(value: str | None) -> Value:
    """Return a text as a parameter. Raises UnicodeEncodeError for what is no text, ValueError for a NUL in it."""
    return Value(None if value is None else _encoded(value), _TEXT)


def number(value: int | None) -> Value:
    """Return an integer as a parameter."""
    return Value(None if value is None else _LONG.pack(value), _INT8)


def numbers(values: Sequence[int | None]) -> Value:
    """Return integers as one parameter, an array."""
    if not values:
        return _NO_NUMBERS
    if len(values) == 1 and values[0] is not None:  # the usual case of a run alone
        return Value(_ONE_LONG.pack(1, 0, _INT8, 1, 1, 8, values[0]), _INT8_ARRAY)
    if None in values:
        return Value(
            _array([None if value is None else _LONG.pack(value) for value in values], _INT8), _INT8_ARRAY
        )
    flat: list[Any] = []
    for value in values:
        flat += (8, value)
    count = len(values)
    return Value(_HEAD.pack(1, 0, _INT8, count, 1) + struct.pack(">" + "iq" * count, *flat), _INT8_ARRAY)


def texts(values: Sequence[str | None]) -> Value:
    """Return texts as one parameter, an array."""
    return Value(_array([None if value is None else _encoded(value) for value in values], _TEXT), _TEXT_ARRAY)


def documents(values: Sequence[bytes | None]) -> Value:
    """Return JSON as one parameter, an array; nothing at all is NULL."""
    return Value(_array([value or None for value in values], _JSON), _JSON_ARRAY)


def blob(value: bytes) -> Value:
    """Return bytes as a parameter."""
    return Value(value, _BYTEA)


def blobs(values: Sequence[bytes]) -> Value:
    """Return bytes as one parameter, an array."""
    return Value(_array(values, _BYTEA), _BYTEA_ARRAY)


def rows(result: pq.abc.PGresult) -> list[tuple[Any, ...]]:
    """Return the rows of a result: integers, texts; JSON and bytea as bytes; arrays of integers as lists; records."""
    value = result.get_value
    columns = [(column, _READERS[result.ftype(column)]) for column in range(result.nfields)]
    return [
        tuple([None if (data := value(row, column)) is None else read(data) for column, read in columns])
        for row in range(result.ntuples)
    ]


def _encoded(value: str) -> bytes:
    data = value.encode()
    if b"\0" in data:
        raise ValueError(f"PostgreSQL keeps no NUL character in a text: {value!r:.80}")
    return data


def _array(values: Sequence[bytes | None], type_: int) -> bytes:
    if not values:
        return _HEAD.pack(0, 0, type_, 0, 0)[:12]
    if len(values) == 1:
        (value,) = values
        return _ONE_NULL[type_] if value is None else _HEAD_OF_ONE.pack(1, 0, type_, 1, 1, len(value)) + value
    size, parts = _SIZE.pack, [_HEAD.pack(1, 1, type_, len(values), 1)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += (size(len(value)), value)
    return b"".join(parts)


_ONE_NULL: Final = {type_: _HEAD.pack(1, 1, type_, 1, 1) + _NULL for type_ in (_TEXT, _JSON, _BYTEA, _INT8)}
_NO_NUMBERS: Final = Value(_array([], _INT8), _INT8_ARRAY)


def _read_int(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _read_ints(data: bytes) -> list[int]:
    """Return the integers of an array that holds no NULL."""
    return [_LONG.unpack_from(data, at)[0] for at in range(24, len(data), 12)]


def _read_record(data: bytes) -> tuple[Any, ...]:
    values: list[Any] = []
    (count,) = _SIZE.unpack_from(data)
    at = _SIZE.size
    for _ in range(count):
        type_, size = _FIELD.unpack_from(data, at)
        at += _FIELD.size
        if size < 0:
            values.append(None)
        else:
            values.append(_READERS[type_](data[at : at + size]))
            at += size
    return tuple(values)


_READERS: Final[Mapping[int, Callable[[bytes], Any]]] = {
    _BOOL: _read_int,
    _BYTEA: bytes,
    _INT8: _read_int,
    _TEXT: bytes.decode,
    _JSON: bytes,
    _XID8: _read_int,
    _INT8_ARRAY: _read_ints,
    _UNKNOWN: bytes.decode,
    _RECORD: _read_record,
    _VOID: bytes,
}
