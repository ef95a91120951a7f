"""What became of an event that was sent to a run, read from its journal without its program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from holdfast.model import facts


class Said(msgspec.Struct):
    """What a decision says to who sent the event that it answers; the rest of its data is the pattern's own."""

    state: tuple[str, ...] = ()
    changed: bool = False
    deferred: bool = False
    refused: str = ""
    error: facts.ErrorInfo | None = None


_SAID: Final = msgspec.json.Decoder(Said)


def answer_in(recorded: Iterable[facts.Fact], key: str) -> Said | None:
    """Return the answer to the signal with this key, None when it is not among these facts."""
    for fact in recorded:
        if isinstance(fact, facts.DecisionMade) and fact.key == key:
            return _SAID.decode(fact.data)
    return None
