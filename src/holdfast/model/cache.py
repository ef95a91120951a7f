"""A result as the cache keeps it: whose it is, what it was made of, and the result itself, whole."""

from __future__ import annotations

import msgspec

from holdfast.model.facts import NOTHING
from holdfast.model.ids import Instant, RunId


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The row of one result. Nothing in it changes; a later result under the same key takes its place.

    `key` is a hash of `family`, a hash of the scope and the step, and of `parts`, the JSON of the hashes of what the
    result was made of by name. `workflow` and `step` are for people. `run` made the result at `at`; with an `owner` it
    goes when that run does. It is of use until `expires`, 0 for ever. `body` is a `Kept` as JSON.
    """

    key: str
    family: str
    scope: str
    workflow: str
    step: str
    run: RunId
    at: Instant
    owner: RunId = ""
    expires: Instant = 0
    parts: bytes = b"{}"
    body: bytes = b""


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step gave: the encoded value, removed keys, and its large values by hash, so that the run may go."""

    data: msgspec.Raw = NOTHING
    gone: tuple[str, ...] = ()
    large: dict[str, msgspec.Raw] = {}
