"""W9: a resume lived as long as the request that asked for it, and the run's token was gone.

A resume is delivered to the run and returns; who asked may go. Secrets are given again, or a provider is asked.
"""

from __future__ import annotations

import asyncio

from holdfast import Engine, RunStatus, State, StepContext
from tests.graphs import Gate, sequence, until


async def test_who_asked_for_the_resume_may_go(engine: Engine) -> None:
    gate = Gate()

    async def node(state: State, step: StepContext) -> dict[str, object]:
        if step.attempt == 1:
            raise ConnectionError
        await gate.passed()
        return {"n": step.attempt, "token": state.get_secret("token") == "t0ken"}

    run = await engine.start(sequence("w09", node=node))
    await run.wait()

    async def request() -> None:
        await engine.resume(run.id)
        await engine.result(run.id)

    asking = asyncio.create_task(request())
    await gate.until_reached()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    gate.open()
    assert await engine.result(run.id) == {"n": 2, "token": False}


async def test_even_when_the_resume_itself_is_cut_off(engine: Engine) -> None:
    calls: list[int] = []

    def node(state: State, step: StepContext) -> None:
        calls.append(step.attempt)
        if step.attempt == 1:
            raise ConnectionError

    run = await engine.start(sequence("w09", node=node))
    await run.wait()
    asking = asyncio.create_task(engine.resume(run.id))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    # Wholly or not at all; asking again is harmless.
    await engine.resume(run.id) if (await run.refresh()).status is not RunStatus.COMPLETED else None
    await until(lambda: _is_completed(engine, run.id))
    assert calls == [1, 2]


async def _is_completed(engine: Engine, run: str) -> bool:
    return (await engine.get(run)).status is RunStatus.COMPLETED


async def test_the_token_is_given_again_with_the_resume(engine: Engine) -> None:
    def node(state: State, step: StepContext) -> dict[str, object]:
        if step.attempt == 1:
            raise ConnectionError
        return {"same": state.get_secret("token") == "another t0ken"}

    run = await engine.start(sequence("w09", node=node), secrets={"token": "t0ken"})
    await run.wait()
    await run.resume(secrets={"token": "another t0ken"})
    assert await run.result() == {"same": True}
