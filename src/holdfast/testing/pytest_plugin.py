"""Fixtures for pytest, for who asks for them: `pytest_plugins = ["holdfast.testing.pytest_plugin"]` in conftest.py.

There is no entry point: that would load Holdfast in every session of everybody who has it installed, and it needs
pytest-asyncio.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from holdfast.testing.world import World

try:
    from pytest_asyncio import fixture
except ImportError:  # another plugin runs async tests and knows plain fixtures
    fixture = pytest.fixture  # type: ignore[assignment]


@fixture
async def holdfast_world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A world on virtual time, of the seed in `$HOLDFAST_SEED`, else of one that the test's name gives.

    It judges what happened when the test is over.
    """
    given = os.environ.get("HOLDFAST_SEED")
    seed = int(given) if given else sum(request.node.name.encode())
    async with World(seed) as world:
        yield world
