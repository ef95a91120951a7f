"""What happens to workers and their store: a schedule drawn from a seed, and how each mishap is brought about."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import psycopg

from tests.crash.fleet import LEASE, Fleet
from tests.servers.cluster import Cluster
from tests.servers.proxy import Proxy

Kind = Literal["kill", "freeze", "dismiss", "terminate", "cut", "block", "restart", "crash"]

OF_WORKERS: Sequence[Kind] = ("kill", "freeze", "dismiss")
OF_SERVERS: Sequence[Kind] = ("terminate", "cut", "block", "restart", "crash")


@dataclass(frozen=True)
class Mishap:
    """One mishap: how many seconds after the one before, to which worker, and for how long."""

    after: float
    kind: Kind
    worker: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.after:.2f} s later: {self.kind} (worker {self.worker}, {self.seconds:.2f} s)"


def schedule(
    chance: random.Random, kinds: Sequence[Kind], workers: int, rounds: int, pause: float
) -> list[Mishap]:
    """Every kind of mishap `rounds` times, in random order."""
    drawn = [kind for _ in range(rounds) for kind in chance.sample(kinds, len(kinds))]
    return [
        Mishap(chance.uniform(0, pause), kind, chance.randrange(workers), chance.uniform(0.1, LEASE * 1.5))
        for kind in drawn
    ]


class Server:
    """The PostgreSQL server of a storm, and the way to it."""

    def __init__(self, cluster: Cluster, way: Proxy) -> None:
        self.cluster = cluster
        self.way = way

    async def befall(self, mishap: Mishap) -> None:
        match mishap.kind:
            case "terminate":
                await asyncio.to_thread(terminate, self.cluster.url)
            case "cut":
                self.way.cut()
            case "block":
                self.way.block()
                await asyncio.sleep(mishap.seconds)
                self.way.flow()
            case "restart" | "crash":
                mode = "fast" if mishap.kind == "restart" else "immediate"
                await asyncio.to_thread(self.cluster.stop, mode)
                await asyncio.to_thread(self.cluster.start)
            case _:
                raise AssertionError(mishap)


def terminate(url: str) -> None:
    """End all sessions of others, in the middle of whatever they do."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )


async def befall(fleet: Fleet, mishap: Mishap) -> None:
    """Bring a mishap over a worker."""
    worker = await fleet.opened(mishap.worker)
    match mishap.kind:
        case "kill":
            worker.kill()
        case "dismiss":
            worker.terminate()
        case "freeze":
            worker.freeze()
            # Past its lease, or not: that is what is tried.
            await asyncio.sleep(mishap.seconds)
            worker.thaw()
        case _:
            pass


async def storm(fleet: Fleet, mishaps: Sequence[Mishap], server: Server | None) -> None:
    """Bring all mishaps about, one after the other, and have workers replaced that ended."""
    begun = time.monotonic()
    for mishap in mishaps:
        # The moments are what is tried; nothing is waited for.
        await asyncio.sleep(mishap.after)
        print(f"{time.monotonic() - begun:7.2f} {mishap}")
        if mishap.kind in OF_SERVERS:
            assert server is not None
            await server.befall(mishap)
        else:
            await befall(fleet, mishap)
        await fleet.tend()
