"""Forks: a new run that begins with a copy of another one's journal up to some position, perhaps with changes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.model import facts
from holdfast.model.ids import Instant, RunId


def forked(
    prefix: Sequence[facts.Fact], source: RunId, changes: msgspec.Raw, now: Instant
) -> list[facts.Fact]:
    """Return the journal of a fork: the prefix, without the clocks of the source, then that it was forked."""
    started = prefix[0]
    if not isinstance(started, facts.RunStarted):
        raise TypeError("a journal begins with RunStarted")
    timeless = msgspec.structs.replace(started, deadline=0, not_before=0)
    return [
        timeless,
        *prefix[1:],
        facts.RunForked(at=now, source=source, at_position=len(prefix), data=changes),
    ]
