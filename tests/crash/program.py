"""The process that dies: an engine that starts the runs it is told to and waits until all have ended.

    python -m tests.crash.program URL [--runs JSON] [--slots N] [--stay] [--grace SECONDS] [--lease SECONDS]
        [--kill WHEN VERB N] [--lies SEED SHARE]

Prints `open` when the engine is, `started` when the runs are committed, `done` at the end. With `--stay` it lives
until it is told to end. With `--kill` the process kills itself before or after its n-th call of a verb of the store:
the seam is the store that it hands to the engine. With `--lies` that store does a share of all calls and says that it
could not. On SIGTERM the process closes the engine and ends with code 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from typing import Any

from holdfast import Engine
from holdfast.model.ids import microseconds
from holdfast.runtime.host import Host
from holdfast.store.open import open_store
from holdfast.store.port import Store
from holdfast.store.rows import RunQuery
from tests.crash.lies import at_random, make_lie
from tests.crash.workflows import registered

WRITES = ("commit", "deliver", "claim", "claim_run", "release", "enlist", "reclaim", "move_due")


def kill_at(store: Store, when: str, verb: str, n: int) -> None:
    """Make the store kill its process before or after the n-th call of `verb` (`any`: of any that writes)."""
    left = n

    def watched(original: Any) -> Any:
        async def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            dies = left == 0
            if dies and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = await original(*arguments, **named)
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call

    for name in WRITES if verb == "any" else (verb,):
        setattr(store, name, watched(getattr(store, name)))


async def drive(options: argparse.Namespace) -> None:
    store = open_store(options.url)
    if options.kill:
        when, verb, n = options.kill
        kill_at(store, when, verb, int(n))
    if options.lies:
        seed, share = options.lies
        make_lie(store, at_random(int(seed), float(share)))
    host = Host()
    if options.lease:
        host.lease = microseconds(options.lease)
    engine = Engine(
        options.url,
        store=store,
        registry=registered(),
        observers=(),
        concurrency=options.slots,
        host=host,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await engine.open()
    try:
        print("open", flush=True)
        for run, (workflow, params) in json.loads(options.runs).items():
            await engine.start(workflow, params, id=run)
        print("started", flush=True)
        ending = asyncio.create_task(stop.wait() if options.stay else all_ended(engine))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (ending, stopping):
            task.cancel()
        await asyncio.gather(ending, stopping, return_exceptions=True)
    finally:
        await engine.close(options.grace)
    print("closed" if stop.is_set() else "done", flush=True)


async def all_ended(engine: Engine) -> bool:
    for row in await engine.store.runs(RunQuery(limit=1000)):
        await engine.wait(row.id)
    return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--runs", default="{}")
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--grace", type=float, default=30)
    parser.add_argument("--lease", type=float)
    parser.add_argument("--lies", nargs=2, metavar=("SEED", "SHARE"))
    parser.add_argument("--kill", nargs=3, metavar=("WHEN", "VERB", "N"))
    asyncio.run(drive(parser.parse_args()))


if __name__ == "__main__":
    main()
