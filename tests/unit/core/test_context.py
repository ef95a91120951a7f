"""The context of a step: what a node may know and tell."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from holdfast.core.context import StepContext, current, step_context
from holdfast.core.ledger import OpenStep
from holdfast.errors import RequestError
from holdfast.model.facts import NOTHING
from holdfast.model.profile import StageProfile


class Attempting:
    """An attempt that only listens."""

    def __init__(self) -> None:
        self.run = "r"
        self.step = OpenStep("detect#2", "detect", attempt=3)
        self.attempt = 3
        self.services: Any = object()
        self.secrets: Mapping[str, str] = {"token": "x"}
        self.told = False
        self.profile = StageProfile(prompt="look")
        self.heartbeat = NOTHING
        self.reports: list[tuple[float, str]] = []

    def beat(self, details: msgspec.Raw | None) -> None:
        raise NotImplementedError

    def stream(self, chunk: msgspec.Raw) -> None:
        raise NotImplementedError

    def report(self, percent: float, message: str) -> None:
        self.reports.append((percent, message))

    def ask(self, name: str, payload: Any, timeout: Any) -> Any:
        return (name, payload, timeout)

    def call(self, fn: Any, args: Any, kwargs: Any) -> Any:
        return fn(*args, **kwargs)


def test_it_tells_which_step_it_is() -> None:
    of = Attempting()
    step = StepContext(of)
    assert (step.run_id, step.step_id, step.name, step.attempt) == ("r", "detect#2", "detect", 3)
    assert step.runtime is of.services
    assert step.secrets == {"token": "x"}


def test_the_attempt_stays_the_same_when_the_step_goes_on_to_the_next() -> None:
    of = Attempting()
    step = StepContext(of)
    of.step.attempt = 4
    assert step.attempt == 3


def test_the_key_does_not_depend_on_the_attempt() -> None:
    one, other = Attempting(), Attempting()
    other.attempt = other.step.attempt = 9
    assert StepContext(one).idempotency_key == StepContext(other).idempotency_key == "r:detect#2"


def test_it_tells_when_the_step_shall_end() -> None:
    of = Attempting()
    step = StepContext(of)
    assert step.cancelled is False
    of.told = True
    assert step.cancelled is True


def test_progress_is_reported() -> None:
    of = Attempting()
    StepContext(of).progress(50)
    StepContext(of).progress(100, "done")
    assert of.reports == [(50.0, ""), (100.0, "done")]


@pytest.mark.parametrize("percent", [-1, 100.5, float("nan"), float("inf")])
def test_a_percentage_beyond_its_bounds_is_refused(percent: float) -> None:
    of = Attempting()
    with pytest.raises(RequestError, match="percent") as caught:
        StepContext(of).progress(percent)
    assert caught.value.fix
    assert of.reports == []


def test_the_logger_knows_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "holdfast.steps"):
        StepContext(Attempting()).logger.info("hello")
    (record,) = caplog.records
    assert vars(record)["run_id"] == "r"
    assert vars(record)["step"] == "detect#2"
    assert vars(record)["attempt"] == 3


async def test_each_task_and_thread_has_its_own_context() -> None:
    async def inside(name: str) -> str:
        of = Attempting()
        of.step = OpenStep(f"{name}#1", name)
        current.set(StepContext(of))
        await asyncio.sleep(0)
        return step_context().name

    assert list(await asyncio.gather(inside("a"), inside("b"))) == ["a", "b"]
    errors: list[BaseException] = []

    def outside() -> None:
        try:
            step_context()
        except RequestError as error:
            errors.append(error)

    thread = threading.Thread(target=outside)
    thread.start()
    thread.join()
    assert len(errors) == 1


def test_outside_of_a_step_there_is_none() -> None:
    with pytest.raises(RequestError, match="no step runs here") as caught:
        step_context()
    assert "step" in caught.value.fix
