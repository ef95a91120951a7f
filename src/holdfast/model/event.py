"""The event of a run: what readers of a journal get, in Python, over HTTP and in observers.

Not to be confused with the events that users publish on the bus. `core.events` makes one of at most every fact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NoReturn, cast, final

import msgspec

from holdfast.model.ids import RunId

Payload = tuple[str, Callable[[], object]]
"""The user's value in an event: under which key, and what decodes it when somebody asks."""


@final
class RunEvent:
    """Event of a run: something that is so since `position` in its journal.

    A chunk has the position of the fact that it came after: who goes on after it gets every later fact, and the
    chunks since that fact again.
    `data` holds plain fields and, for some types, one value of the user (params, output, result), which is decoded
    on first access. `envelope` are the plain fields alone and never decodes anything.
    """

    __slots__ = ("_data", "_payload", "at", "envelope", "position", "run_id", "type")

    run_id: RunId
    position: int
    type: str
    at: datetime
    envelope: dict[str, Any]
    _payload: Payload | None
    _data: dict[str, Any] | None

    def __init__(
        self,
        run_id: RunId,
        position: int,
        type: str,
        at: datetime,
        data: Mapping[str, Any] | None = None,
        *,
        payload: Payload | None = None,
    ) -> None:
        """Keep the fields; `payload` is decoded into `data` when it is asked for."""
        put = object.__setattr__
        put(self, "run_id", run_id)
        put(self, "position", position)
        put(self, "type", type)
        put(self, "at", at)
        put(self, "envelope", {} if data is None else dict(data))
        put(self, "_payload", payload)
        put(self, "_data", None)

    @property
    def data(self) -> dict[str, Any]:
        """What the type's row in the table of event types lists, with the user's value decoded."""
        if self._data is None:
            late = {} if self._payload is None else {self._payload[0]: self._payload[1]()}
            object.__setattr__(self, "_data", self.envelope | late)
        return self._data  # type: ignore[return-value]  # set above

    def to_dict(self) -> dict[str, Any]:
        """Return the event as values that JSON knows: instants as ISO 8601 in UTC, the user's types as plain ones."""
        return cast("dict[str, Any]", plain(self._fields()))

    def to_json(self) -> bytes:
        """Return the event as a JSON object on one line; the same values as `to_dict`."""
        return to_json(self._fields())

    def _fields(self) -> dict[str, Any]:
        names = ("run_id", "position", "type", "at", "data")
        return {name: getattr(self, name) for name in names}

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse: an event has happened."""
        raise AttributeError(f"an event cannot be changed: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        """Refuse: an event has happened."""
        raise AttributeError(f"an event cannot be changed: {name}")

    def __eq__(self, other: object) -> bool:
        """Compare all fields."""
        if not isinstance(other, RunEvent):
            return NotImplemented
        mine = (self.run_id, self.position, self.type, self.at)
        return mine == (other.run_id, other.position, other.type, other.at) and self.data == other.data

    def __hash__(self) -> int:
        """Hash by the place in the journal, which has at most one event."""
        return hash((self.run_id, self.position))

    def __reduce__(self) -> tuple[object, ...]:
        """Copy and pickle with the value decoded."""
        return RunEvent, (self.run_id, self.position, self.type, self.at, self.data)

    def __repr__(self) -> str:
        """Show the place and the plain fields; the user's value may be large."""
        return f"RunEvent({self.run_id!r}, {self.position}, {self.type!r}, {self.envelope!r})"


def to_json(value: object) -> bytes:
    """Return `value` as JSON for people and browsers: plain, so it does not give the same types back. Never fails."""
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError):
        return _encoder.encode(_with_text_keys(value))


def plain(value: object) -> Any:
    """Return `value` made of what JSON knows, as a reader of `to_json` would get it."""
    return msgspec.json.decode(to_json(value))


_READABLE_BITS: Final = 10_000
"""Of an integer; Python writes no longer ones in base 10."""


def _known(value: Any) -> object:
    dump = getattr(value, "model_dump", None)  # Pydantic's; what nothing is known of becomes its text
    return dump() if callable(dump) else str(value)


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_text(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_with_text_keys(item) for item in value]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) and value.bit_length() > _READABLE_BITS:
        return hex(value)
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=_known)
    except (TypeError, ValueError):
        return _text(value)  # a user's class with such keys inside


def _text(value: object) -> str:
    return str(value).encode(errors="replace").decode()  # a lone surrogate has no place in JSON


_encoder: Final = msgspec.json.Encoder(enc_hook=_known)
