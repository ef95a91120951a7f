"""What callers ask for one after the other: the last word counts, and what cannot be stored is refused at once."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

import pytest

from holdfast import Engine, PayloadRejected, RunStatus, State
from tests.conftest import OpenEngine
from tests.graphs import Gate, nothing, sequence, until


async def test_a_resume_takes_a_pause_back_that_nobody_has_seen(engine: Engine) -> None:
    run = await engine.start(sequence("last", node=nothing), delay=0.2)
    await run.pause()
    await run.resume()
    assert (await run.wait(timeout=10)).status is RunStatus.COMPLETED


async def test_a_resume_takes_a_pause_back_that_a_worker_takes_meanwhile(
    url: str, open_engine: OpenEngine
) -> None:
    """The pause waits in the inbox when the client begins to look, and is recorded before it has looked at all."""
    gate = Gate()

    async def wait(state: State) -> None:
        await gate.passed()

    worker, client = await open_engine(url), await open_engine(url, workers=False)
    run = await worker.start(sequence("last", node=wait))
    await gate.until_reached()
    looked = asyncio.Event()
    worker_store, client_store = cast("Any", worker.store), cast("Any", client.store)
    take, row, inbox = worker_store.inbox, client_store.run, client_store.inbox

    async def take_later(id_: str) -> Any:
        await looked.wait()
        return await take(id_)

    async def look(read: Any, id_: str) -> Any:
        found = await read(id_)
        looked.set()
        await until(lambda: has_status(worker, id_, RunStatus.PAUSED))
        return found

    worker_store.inbox = take_later
    await client.pause(run.id)
    client_store.run, client_store.inbox = partial(look, row), partial(look, inbox)
    await client.resume(run.id)
    gate.open()
    assert (await run.wait(timeout=10)).status is RunStatus.COMPLETED


async def has_status(engine: Engine, run: str, status: RunStatus) -> bool:
    return (await engine.get(run)).status is status


@pytest.mark.parametrize(("name", "key"), [(5, None), ("", None), ("x\ud800", None), ("x", 7), ("x", "")])
async def test_a_signal_that_cannot_be_stored_is_refused(engine: Engine, name: Any, key: Any) -> None:
    run = await engine.start(sequence("last", node=nothing), delay=0.2)
    with pytest.raises(PayloadRejected):
        await run.signal(name, 1, key=key)
    assert (await run.wait(timeout=10)).status is RunStatus.COMPLETED


async def test_a_reason_is_a_text(engine: Engine) -> None:
    run = await engine.start(sequence("last", node=nothing), delay=0.2)
    reason: Any = 5
    with pytest.raises(PayloadRejected):
        await engine.cancel(run.id, reason)
    assert (await run.wait(timeout=10)).status is RunStatus.COMPLETED
