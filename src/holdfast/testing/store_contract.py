"""What every store must do. Subclass `StoreContract`, give it a `store`, and pytest tries each promise of the port.

The `store` fixture yields an open and empty store whose clock is the `clock` fixture. `query` gives SQL access for the
tests of the views; a store without SQL leaves it as it is. Needs pytest and pytest-asyncio.
"""

from __future__ import annotations

import pytest

from holdfast.store.port import Store
from holdfast.testing.store_cache import CacheContract
from holdfast.testing.store_cases import SetClock
from holdfast.testing.store_children import ChildContract
from holdfast.testing.store_chunks import ChunkContract
from holdfast.testing.store_commits import CommitContract, JournalContract
from holdfast.testing.store_jobs import ArrivalContract, JobContract
from holdfast.testing.store_letters import LetterContract
from holdfast.testing.store_limits import LimitContract
from holdfast.testing.store_reads import DeletionContract, LifeContract, ListContract, ViewContract


@pytest.mark.asyncio
class StoreContract(
    CommitContract,
    JournalContract,
    ChunkContract,
    LimitContract,
    CacheContract,
    ChildContract,
    LetterContract,
    ArrivalContract,
    JobContract,
    ListContract,
    DeletionContract,
    LifeContract,
    ViewContract,
):
    """The promises of `holdfast.store.port.Store`, each a test."""

    @pytest.fixture
    def clock(self) -> SetClock:
        """The store's clock; it stands still until a test moves it."""
        return SetClock()

    @pytest.fixture
    def store(self, clock: SetClock) -> Store:
        """An open and empty store on `clock`: to be given by the subclass, as an async fixture."""
        raise NotImplementedError(f"give a store that runs on {clock}")
