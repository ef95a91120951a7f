"""The work of the 1 MB case, shared by its engines.

What a step writes is the difference of a long and a short run, so that the initial state drops out.
"""

from __future__ import annotations

import random
import string
from collections.abc import Awaitable, Callable
from typing import NamedTuple

BLOCKS = 1000
BLOCK_BYTES = 1000
SHORT_RUN_STEPS = 5
LONG_RUN_STEPS = 45

_random = random.Random(7)


class Written(NamedTuple):
    row_bytes: int
    log_bytes: int


def key_of(index: int) -> str:
    return f"block-{index % BLOCKS:04}"


def fresh_block() -> str:
    return "".join(_random.choices(string.ascii_letters, k=BLOCK_BYTES))


def blocks() -> dict[str, str]:
    return {key_of(index): fresh_block() for index in range(BLOCKS)}


async def compare(run: Callable[[int], Awaitable[Written]]) -> dict[str, float]:
    """Run `run(steps)` short and long; the bytes per step between the two."""
    short, long = await run(SHORT_RUN_STEPS), await run(LONG_RUN_STEPS)
    steps = LONG_RUN_STEPS - SHORT_RUN_STEPS
    return {
        "row_bytes_per_step": (long.row_bytes - short.row_bytes) / steps,
        "log_bytes_per_step": (long.log_bytes - short.log_bytes) / steps,
        "short_run_row_bytes": short.row_bytes,
    }
