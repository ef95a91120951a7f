"""What callers ask for one after the other: the last word counts, and what cannot be stored is refused at once."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import Engine, PayloadRejected, RunStatus
from tests.graphs import nothing, sequence


async def test_a_resume_takes_a_pause_back_that_nobody_has_seen(engine: Engine) -> None:
    run = await engine.start(sequence("last", node=nothing), delay=0.2)
    await run.pause()
    await run.resume()
    assert (await run.wait(timeout=10)).status is RunStatus.COMPLETED


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
