"""A store that lies: it does what it was asked to, and says that it could not be reached.

The calls to be lied about are drawn from a seed, or named. Nothing else of the store is changed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from holdfast.errors import StoreUnavailable
from holdfast.store.port import Store

WRITES: Final = (
    "commit",
    "deliver",
    "claim",
    "claim_run",
    "release",
    "enlist",
    "reclaim",
    "dismiss",
    "move_due",
    "renew",
)
READS: Final = (
    "load",
    "inbox",
    "woken",
    "held",
    "ready",
    "workers",
    "next_due",
    "run",
    "runs",
    "journal",
    "tail",
    "blobs",
    "wait",
)
VERBS: Final = (*WRITES, *READS)

Draw = Callable[[str, int], bool]
"""Whether to lie about the n-th call of a verb, counted from 1."""


def at_random(seed: int, share: float) -> Draw:
    """Lie about that share of all calls, with another row of numbers for each verb."""
    chances = {verb: random.Random(f"{seed} {verb}") for verb in VERBS}
    return lambda verb, _: chances[verb].random() < share


def make_lie(store: Store, lies: Draw) -> Counter[str]:
    """Have the store lie; returns how often it has lied, by verb."""
    calls: Counter[str] = Counter()
    told: Counter[str] = Counter()

    def is_lie(verb: str) -> bool:
        calls[verb] += 1
        lie = lies(verb, calls[verb])
        told[verb] += lie
        return lie

    async def call(verb: str, original: Callable[..., Awaitable[Any]], *given: Any, **named: Any) -> Any:
        lie = is_lie(verb)
        answer = await original(*given, **named)
        if lie:
            raise _unreachable(verb)
        return answer

    def renew(original: Callable[..., bool], *given: Any) -> bool:
        lie = is_lie("renew")
        kept = original(*given)
        if lie:
            raise _unreachable("renew")
        return kept

    for verb in VERBS:
        original = getattr(store, verb)
        setattr(store, verb, partial(renew, original) if verb == "renew" else partial(call, verb, original))
    return told


def _unreachable(verb: str) -> StoreUnavailable:
    return StoreUnavailable(f"the answer to {verb} was lost", fix="Wait.")
