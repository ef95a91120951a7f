"""The state of a graph: a user's data, kept as encoded values per key.

A State never changes: `set`, `merge` and `delete` return another one that shares the encoded values of the first. A
value is encoded when it is set and decoded when it is first read, so it is at once what a reload would give, nodes
cannot disturb each other through values nested in it, and a key that nobody touches costs nothing. Secrets stand
beside the data, in memory alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from holdfast.errors import PayloadRejected, StoreError
from holdfast.model.checks import argument, instance_of
from holdfast.model.secrets import Secrets
from holdfast.model.values import Raw, decode, encode, encode_map, pack, unpack

LARGE: Final = 65_536
"""Bytes of JSON above which a value is kept apart from the facts."""
_REFERENCE: Final = b'{"$ref":"%b"}'
_REFERENCE_SIZE: Final = len(_REFERENCE % bytes(32))
_SHOWN: Final = 60
_READ_TO_SHOW: Final = 4_096
_MAPPING: Final = instance_of(Mapping, expected="a dict, a State or another mapping").or_none()
_NO_SECRETS: Final = Secrets()
_NO_BLOBS: Final[Mapping[str, bytes]] = {}

Read = tuple[str, Raw, Any]


class State(Mapping[str, Any]):
    """The data of a graph at one moment: a mapping that does not change, with secrets beside it."""

    __slots__ = (
        "__weakref__",
        "_base",
        "_blobs",
        "_changes",
        "_checkpoint_node",
        "_origin",
        "_run_id",
        "_secrets",
        "_timestamp",
        "_values",
        "_watched",
    )

    _base: Mapping[str, Raw]  # shared by all that derive from one another; never changed or copied
    _blobs: Mapping[str, bytes]
    _changes: dict[str, Raw | None]  # what differs from the base; None: the key was deleted
    _origin: object  # the same one in all that derive from one another
    _values: dict[str, Any]
    _watched: list[Read] | None

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        run_id: str = "",
        checkpoint_node: str = "",
        timestamp: datetime | None = None,
    ) -> None:
        """Take a copy of `data`. Raises PayloadRejected naming the key whose value cannot be stored."""
        argument("data", data, _MAPPING)
        self._base = {}
        self._blobs = _NO_BLOBS
        self._changes = dict(data.detached() if isinstance(data, State) else encode_map(data or {}))
        self._origin = self._values = {}
        self._run_id = run_id
        self._checkpoint_node = checkpoint_node
        self._timestamp = timestamp
        self._secrets = _NO_SECRETS
        self._watched = None

    @classmethod
    def view(
        cls,
        base: Mapping[str, Raw],
        *,
        blobs: Mapping[str, bytes] = _NO_BLOBS,
        secrets: Mapping[str, str] | None = None,
        run_id: str = "",
        checkpoint_node: str = "",
        timestamp: datetime | None = None,
        watch: bool = False,
    ) -> State:
        """Return a State of encoded values: O(1), nothing is copied. References are looked up in `blobs` when read.

        With `watch`, `mutated` of this State also sees what is read from those that are derived from it.
        """
        state = object.__new__(cls)
        state._base = base
        state._blobs = blobs
        state._changes = {}
        state._origin = state._values = {}
        state._run_id = run_id
        state._checkpoint_node = checkpoint_node
        state._timestamp = timestamp
        state._secrets = (
            secrets if isinstance(secrets, Secrets) else Secrets(secrets) if secrets else _NO_SECRETS
        )
        state._watched = [] if watch else None
        return state

    @property
    def run_id(self) -> str:
        """The run this state belongs to; empty outside of one."""
        return self._run_id

    @property
    def checkpoint_node(self) -> str:
        """The node after which this state was a checkpoint; empty before the first."""
        return self._checkpoint_node

    @property
    def timestamp(self) -> datetime | None:
        """When this state came to be; None outside of a run."""
        return self._timestamp

    # Reading

    def __getitem__(self, key: str) -> Any:
        try:
            return self._values[key]
        except KeyError:
            raw = self._raw(key)
        value = decode(self._resolved(raw))
        if self._watched is not None:
            self._watched.append((key, raw, value))
        return self._values.setdefault(key, value)

    def __contains__(self, key: object) -> bool:
        if key in self._changes:
            return self._changes[key] is not None
        return key in self._base

    def __iter__(self) -> Iterator[str]:
        for key in self._base:
            if self._changes.get(key, self) is not None:
                yield key
        for key in self._changes:
            if key not in self._base:
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return (
            f"State({{{', '.join(f'{self._secrets.scrub(repr(key))}: {self._shown(key)}' for key in self)}}})"
        )

    __hash__ = None  # type: ignore[assignment] # it holds values that are not hashable

    def get_secret(self, name: str, default: str | None = None) -> str | None:
        """Return the secret, or `default` when the run was not given one of that name."""
        return self._secrets.get(name, default)

    # Deriving

    def set(self, key: str, value: object) -> State:
        """Return a State with `value` at `key`. Raises PayloadRejected naming the key when it cannot be stored."""
        return self._derived({**self._changes, **encode_map({key: value})})

    def merge(self, other: Mapping[str, Any] | None = None, /, **changes: object) -> State:
        """Return a State with the data of `other`, then `changes`, over this one's; all else is this one's."""
        merged = dict(self._changes)
        if isinstance(other, State):
            mine, theirs = self.encoded(), other.detached()
            # What both got from the same base is no change: its key is not recorded as written.
            merged |= {key: theirs[key] for key, raw in other.encoded().items() if mine.get(key) is not raw}
        elif argument("other", other, _MAPPING) is not None:
            merged |= encode_map(other or {})
        return self._derived(merged | encode_map(changes))

    def delete(self, key: str) -> State:
        """Return a State without `key`, which need not be there."""
        changes = {name: raw for name, raw in self._changes.items() if name != key}
        if key in self._base:
            changes[key] = None
        return self._derived(changes)

    def set_secret(self, name: str, value: str) -> State:
        """Return a State that knows the secret; it is never stored, printed or streamed."""
        return self._derived(self._changes, Secrets({**self._secrets, name: value}))

    def delete_secret(self, name: str) -> State:
        """Return a State that does not know the secret."""
        kept = {known: value for known, value in self._secrets.items() if known != name}
        return self._derived(self._changes, Secrets(kept))

    # For the engine

    def derived_from(self, other: State) -> bool:
        """Return whether this is `other` or was made from it, so that `changes` and `deleted` tell the difference."""
        return self._origin is other._origin

    def changes(self) -> dict[str, Raw]:
        """Return what was set since the beginning: the view of the engine, or the empty state of a new `State(…)`."""
        return {key: raw for key, raw in self._changes.items() if raw is not None}

    def deleted(self) -> tuple[str, ...]:
        """Return the keys of the beginning that are there no more."""
        return tuple(key for key, raw in self._changes.items() if raw is None)

    def encoded(self) -> dict[str, Raw]:
        """Return all data. What the engine gave as references are references still."""
        return {key: self._raw(key) for key in self}

    def detached(self) -> dict[str, Raw]:
        """Return all data with the large values in place of the references to them."""
        return {key: self._resolved(self._raw(key)) for key in self}

    def known_secrets(self) -> Secrets:
        """Return the secrets."""
        return self._secrets

    def mutated(self, besides: Collection[str] = ()) -> str | None:
        """Return the first key whose value was changed in place after it was read, or None.

        Such a change is lost. `besides` are keys that need no look, for instance because they were set to the changed
        value. Encodes all that was read: for development and tests.
        """
        for key, raw, value in self._reads():
            if key not in besides and not self._is_unchanged(raw, value):
                return key
        return None

    def _reads(self) -> list[Read]:
        if self._watched is not None:
            return self._watched
        return [(key, self._raw(key), value) for key, value in self._values.items()]

    def _is_unchanged(self, raw: Raw, value: object) -> bool:
        stored = self._resolved(raw)
        try:
            now = encode(value)
        except PayloadRejected:
            return False
        # Stored by another version or client, equal values may be other bytes.
        return bytes(now) == bytes(stored) or now == encode(decode(stored))

    # Inside

    def _raw(self, key: str) -> Raw:
        if key not in self._changes:
            return self._base[key]
        raw = self._changes[key]
        if raw is None:
            raise KeyError(key)
        return raw

    def _resolved(self, raw: Raw) -> Raw:
        digest = reference(raw)
        if digest is None:
            return raw
        if digest not in self._blobs:
            raise StoreError(f"the stored value {digest} is missing", fix="Restore the store from a backup.")
        return Raw(self._blobs[digest])

    def _shown(self, key: str) -> str:
        # Cut far behind what is shown first, so that no half of a secret is left to stand.
        text = self._secrets.scrub(
            bytes(memoryview(self._raw(key))[:_READ_TO_SHOW]).decode("utf-8", "replace")
        )
        return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"

    def _derived(
        self, changes: dict[str, Raw | None] | dict[str, Raw], secrets: Secrets | None = None
    ) -> State:
        state = object.__new__(type(self))
        state._base = self._base
        state._blobs = self._blobs
        state._changes = dict(changes)
        state._origin = self._origin
        state._run_id = self._run_id
        state._checkpoint_node = self._checkpoint_node
        state._timestamp = self._timestamp
        state._secrets = self._secrets if secrets is None else secrets
        state._values = {}
        state._watched = self._watched
        return state

    def __copy__(self) -> State:
        return self

    def __deepcopy__(self, _: object) -> State:
        return self._derived(self._changes)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._secrets:
            raise TypeError(
                "a State with secrets is not pickled: give the other process dict(state) and what it needs"
            )
        return _unpickled, (
            bytes(pack(self.detached())),
            self._run_id,
            self._checkpoint_node,
            self._timestamp,
        )


def _unpickled(data: bytes, run_id: str, checkpoint_node: str, timestamp: datetime | None) -> State:
    base = unpack(data)
    return State.view(base, run_id=run_id, checkpoint_node=checkpoint_node, timestamp=timestamp)


def reference(raw: Raw) -> str | None:
    """Return the hash when `raw` is a reference to a large value kept apart, else None."""
    if len(raw) != _REFERENCE_SIZE:
        return None
    data = bytes(raw)
    return data[9:-2].decode() if data.startswith(b'{"$ref":"') else None


def split_large(values: dict[str, Raw], limit: int = LARGE) -> tuple[dict[str, Raw], dict[str, bytes]]:
    """Return `values` with those of more than `limit` bytes as references, and the large ones by their hash.

    Equal values have equal hashes, so they are kept once. No value of a user looks like a reference: a dict with such
    a key is encoded in another form.
    """
    if max(map(len, values.values()), default=0) <= limit:
        return values, {}
    small, large = {}, {}
    for key, raw in values.items():
        if len(raw) <= limit:
            small[key] = raw
            continue
        data = bytes(raw)
        digest = hashlib.sha256(data).hexdigest()[:32]
        large[digest] = data
        small[key] = Raw(_REFERENCE % digest.encode())
    return small, large
