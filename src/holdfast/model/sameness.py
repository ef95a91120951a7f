"""Whether two encoded values are the same: of equal value and type, whatever the order of their keys."""

from __future__ import annotations

from typing import Any, Final

import msgspec

_to_json: Final = msgspec.json.Encoder(order="deterministic").encode


def is_same(one: msgspec.Raw, other: msgspec.Raw) -> bool:
    """Return whether both decode to the same value. 1, 1.0 and True are three values; NaN is the same as NaN."""
    return one == other or _ordered(one) == _ordered(other)


def _ordered(raw: msgspec.Raw) -> bytes:
    return _to_json(_with_sorted_pairs(msgspec.json.decode(raw)))


def _with_sorted_pairs(value: Any) -> Any:
    """Return a JSON value with the pairs of tagged dicts, which have keys that JSON has not, in one order."""
    if isinstance(value, list):
        return [_with_sorted_pairs(each) for each in value]
    if not isinstance(value, dict):
        return value
    ordered = {key: _with_sorted_pairs(each) for key, each in value.items()}
    pairs = ordered.get("$dict")
    return {"$dict": sorted(pairs, key=_to_json)} if isinstance(pairs, list) and len(value) == 1 else ordered
