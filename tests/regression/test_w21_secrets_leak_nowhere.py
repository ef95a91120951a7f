"""W21: secrets were kept apart only where they were set as such; params, states, prompts and error texts showed them.

A known secret is refused in every value that would be stored, naming the key, and scrubbed from every text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from holdfast import Engine, PayloadRejected, RunFailed, State, StepContext
from tests.conftest import OpenEngine
from tests.graphs import sequence
from tests.stored import contents

SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "leak",
    [
        lambda s, _: {"prompt": f"Use the token {s.get_secret('token')} to read the page"},
        lambda s, _: {"headers": {"Authorization": [f"Bearer {s.get_secret('token')}"]}},
        lambda s, _: State({"raw": s.get_secret("token").encode()}),
        lambda _, step: {step.secrets["token"]: 1},
    ],
    ids=["text", "nested", "bytes", "key"],
)
async def test_no_value_with_a_secret_is_stored(
    url: str, open_engine: OpenEngine, leak: Callable[..., Any]
) -> None:
    engine = await open_engine(url)
    run = await engine.start(sequence("w21", node=leak), secrets={"token": SECRET})
    with pytest.raises(RunFailed) as caught:
        await run.result()
    assert caught.value.error.code == "payload_rejected"
    assert SECRET not in str(caught.value) + repr(caught.value.error)
    await engine.close()
    assert [name for name, content in contents(url).items() if SECRET.encode() in content] == []


async def test_not_even_the_name_of_an_exception_tells_a_secret(url: str, open_engine: OpenEngine) -> None:
    def node(state: State, step: StepContext) -> None:
        raise type(step.secrets["token"], (Exception,), {})

    engine = await open_engine(url)
    run = await engine.start(sequence("w21", node=node), secrets={"token": SECRET})
    with pytest.raises(RunFailed) as caught:
        await run.result()
    assert caught.value.error.type.endswith("[secret token]")
    await engine.close()
    assert [name for name, content in contents(url).items() if SECRET.encode() in content] == []


async def test_a_secret_among_the_params_is_refused_naming_the_key(engine: Engine) -> None:
    with pytest.raises(PayloadRejected, match="prompt") as caught:
        await engine.start(
            sequence("w21", node=lambda _: {}), {"prompt": f"use {SECRET}"}, secrets={"token": SECRET}
        )
    assert SECRET not in str(caught.value)


async def test_error_texts_progress_and_logs_are_scrubbed(
    url: str, open_engine: OpenEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def node(state: State, step: StepContext) -> None:
        token = state.get_secret("token")
        step.progress(10, f"logging in with {token}")
        try:
            raise ConnectionError(f"401 for {token}")  # noqa: TRY301 - as users do
        except ConnectionError as error:
            raise RuntimeError("the service refused") from error

    with caplog.at_level(logging.DEBUG):
        engine = await open_engine(url, observers=("logging",))
        run = await engine.start(sequence("w21", node=node), secrets={"token": SECRET})
        await run.wait()
        await engine.close()
    assert run.error is not None
    assert "401 for [secret token]" in run.error.traceback
    assert SECRET not in caplog.text + repr(run.to_dict())
    assert [name for name, content in contents(url).items() if SECRET.encode() in content] == []
