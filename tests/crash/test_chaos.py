"""Several workers under load on one store while they are killed, stopped and lied to, and the server goes away.

`HOLDFAST_SEED=7` plays the mishaps of that seed alone: the same ones, in the same order, after the same pauses.
"""

from __future__ import annotations

import asyncio
import os
import random
from functools import partial
from pathlib import Path

import pytest

from holdfast import Engine
from holdfast.registry import Registry
from holdfast.store.open import open_store
from tests.crash.fleet import fleet
from tests.crash.lies import at_random, make_lie
from tests.crash.load import Load
from tests.crash.mishaps import OF_SERVERS, OF_WORKERS, Kind, Server, schedule, storm
from tests.crash.processes import engine_on
from tests.crash.verdict import check_store
from tests.graphs import LONG, until
from tests.servers.cluster import cluster
from tests.servers.proxy import proxy

WORKERS = 4 if LONG else 2
ROUNDS = 10 if LONG else 1
PAUSE = 2.0 if LONG else 0.6
LIES = 0.02
ONE = os.environ.get("HOLDFAST_SEED")
STORMS = range(8 if LONG and not ONE else 1)
PATIENCE = 300 if LONG else 60


async def is_alone(engine: Engine) -> bool:
    """Whether nobody else is held to be alive: one that was lied to at its end is, until its lease is over."""
    return sum(not worker.stopped_at for worker in await engine.store.workers()) == 1


async def survive(url: str, way: str, seed: int, log: Path, kinds: list[Kind], server: Server | None) -> None:
    """Let a storm go over workers and a client who reach the store on a way, then judge what is in it."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    mishaps = schedule(chance, kinds, WORKERS, ROUNDS, PAUSE)
    store = open_store(way)
    make_lie(store, at_random(seed, LIES))
    async with fleet(way, WORKERS, chance) as workers:
        workers.lies = LIES
        await workers.tend()
        async with engine_on(way, workers=False, store=store, registry=Registry()) as client:
            await workers.opened(0)
            load = Load(client, log, random.Random(seed + 1))
            loading = asyncio.create_task(load.go_on())
            await storm(workers, mishaps, server)
            load.stop()
            await loading
            workers.lies = 0.0
            settling = asyncio.create_task(load.settle(PATIENCE))
            while not settling.done():
                await workers.tend()
                await asyncio.wait((settling,), timeout=0.5)
            await settling
        assert set(await workers.dismiss()) == {0}
    async with engine_on(url) as last:
        await load.judge(last)
        await until(partial(is_alone, last))
    journals = await check_store(url, log)
    assert journals.keys() == load.runs.keys()
    load.check_signals(journals)


@pytest.fixture(params=STORMS)
def seed() -> int:
    """The seed that is asked for, the same one in the short form, any in the long form."""
    if ONE:
        return int(ONE)
    return random.randrange(1 << 30) if LONG else 1


async def test_workers_on_postgres_survive_a_storm(log: Path, seed: int) -> None:
    with cluster() as server:
        async with proxy(server.url) as (between, way):
            kinds = [*OF_WORKERS, *OF_SERVERS]
            await survive(server.url, way, seed, log, kinds, Server(server, between))


async def test_workers_on_one_file_survive_a_storm(file_url: str, log: Path, seed: int) -> None:
    await survive(file_url, file_url, seed, log, [*OF_WORKERS, "kill"], None)
