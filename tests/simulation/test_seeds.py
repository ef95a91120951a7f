"""Thousands of seeds: random graphs on random engines among random mishaps. `HOLDFAST_SEED=7` plays that one alone."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.simulation.scenario import play

LONG = "HOLDFAST_TEST_LONG" in os.environ
ONE = os.environ.get("HOLDFAST_SEED")
CHUNK = 1000 if LONG else 100
SEEDS = 200_000 if LONG else 2_000
FIRST = [int(ONE)] if ONE else list(range(0, SEEDS, CHUNK))


def name(first: int) -> str:
    return str(first) if ONE else f"{first}-{first + CHUNK - 1}"


@pytest.mark.timeout(3600 if LONG else 300)
@pytest.mark.parametrize("first", FIRST, ids=name)
def test_seeds(first: int) -> None:
    with asyncio.Runner() as runner:
        for seed in range(first, first + (1 if ONE else CHUNK)):
            runner.run(play(seed))
