"""W3: types were lost by the checkpoint: ints became floats, objects generic JSON, and predicates flipped after a load.

A value has the same type live, after a reload, and in a new process.
"""

from __future__ import annotations

import dataclasses
import enum
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from holdfast import END, Engine, State, StateGraph, StepContext, register_type
from holdfast.registry import Registry, as_workflow
from tests.elsewhere import elsewhere
from tests.graphs import sequence


@register_type(name="w03-page")
@dataclasses.dataclass(frozen=True)
class Page:
    number: int
    marks: tuple[str, ...] = ()
    at: datetime | None = None


@register_type(name="w03-level")
class Level(enum.StrEnum):
    LOW = "low"
    HIGH = "high"


VALUES: dict[str, Any] = {
    "n": 5,
    "x": 5.0,
    "large": 2**60,
    "page": Page(1, ("SECRET",), datetime(2026, 11, 21, tzinfo=UTC)),
    "pages": [Page(1), Page(2)],
    "level": Level.HIGH,
    "pair": (1, (2.0, "x")),
    "set": {1, 2},
    "day": date(2026, 11, 21),
    "wait": timedelta(seconds=1.5),
    "cents": Decimal("1.10"),
    "id": UUID(int=7),
    "bytes": b"\x00\xff",
    "none": None,
    "nan-free": float("inf"),
    "text": 'with "quotes", ü and \u2028',
}


def shown(state: State) -> dict[str, str]:
    return {key: f"{type(state[key]).__name__} {state[key]!r}" for key in VALUES if key != "set"}


def graph() -> StateGraph:
    def check(state: State, step: StepContext) -> dict[str, Any]:
        assert {key: state[key] for key in VALUES} == VALUES
        if step.attempt == 1:
            raise ConnectionError("after the load it must be the same")
        return {"reloaded": shown(state)}

    made = sequence(
        "w03",
        make=lambda _: VALUES,
        live=lambda s: {"live": shown(s)},
        check=check,
        lost=lambda _: {"flipped": 1},
    )
    made.edges.pop("check")
    made.add_edge(
        "check", END, when=lambda s: s["n"] == 5 and type(s["n"]) is int and s["page"] == VALUES["page"]
    )
    return made.add_edge("check", "lost")


async def fail(url: str) -> None:
    async with Engine(url, observers=(), registry=Registry()) as engine:
        await (await engine.start(graph(), id="w03")).wait()


async def test_values_have_the_same_types_after_a_load_in_another_process(url: str) -> None:
    await elsewhere(fail, url)
    registry = Registry()
    registry.add(as_workflow(graph()))
    async with Engine(url, observers=(), registry=registry) as engine:
        await engine.resume("w03")
        result = await engine.result("w03", timeout=10)
    assert result["live"] == result["reloaded"]
    assert "flipped" not in result
    assert {key: result[key] for key in VALUES} == VALUES
    assert [type(result[key]) for key in VALUES] == [type(value) for value in VALUES.values()]
