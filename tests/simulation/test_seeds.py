"""Thousands of random worlds: whatever goes wrong in them, every run comes to what an independent model says.

A seed draws graphs, engines, mishaps and interventions, and the order in which steps end. It is judged by the laws
that must hold of every journal. `HOLDFAST_SEED=n` plays that one; `HOLDFAST_TEST_LONG=1` plays a hundred times as many.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.scenario import play

BATCH = 100
SEEDS = 200_000 if os.environ.get("HOLDFAST_TEST_LONG") else 2_000
CHOSEN = os.environ.get("HOLDFAST_SEED")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", [int(CHOSEN)] if CHOSEN else range(0, SEEDS, BATCH))
async def test_every_run_comes_to_what_the_model_says(first: int) -> None:
    for seed in range(first, first + (1 if CHOSEN else BATCH)):
        await play(seed)


async def test_a_seed_gives_the_same_world_again() -> None:
    once, again = await play(7), await play(7)
    assert once.chronicle.commits == again.chronicle.commits
    assert [len(book.written) for book in once.chronicle.books.values()] == [
        len(book.written) for book in again.chronicle.books.values()
    ]
