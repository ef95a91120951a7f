"""Building a saga: what is taken, what is refused, what actions get, and what it looks like."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from holdfast import DefinitionError, RetryPolicy, Saga, SagaOrchestrator


def act() -> None: ...


def other() -> None: ...


async def asynchronous(params: Any) -> None: ...


def unknown(data: Any) -> None: ...


def positional(params: Any, /) -> None: ...


def wants_output(output: Any) -> None: ...


def step(**options: Any) -> Callable[[], Saga]:
    return lambda: Saga("shop").add_step("one", **{"forward": act, **options})


def then(first: dict[str, Any], second: dict[str, Any]) -> Callable[[], Saga]:
    def build() -> Saga:
        saga = Saga("shop").add_step("one", **{"forward": act, **first})
        return saga.add_step("two", **{"forward": act, **second})

    return build


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: Saga(7), "Saga: name=7"),  # type: ignore[arg-type]
        (lambda: Saga("shop", "sideways"), "recovery='sideways'"),  # type: ignore[arg-type]
        (lambda: Saga("shop", on_compensation_failure="shrug"), "on_compensation_failure='shrug'"),  # type: ignore[arg-type]
        (lambda: Saga("shop", colour="red"), "colour is no option"),  # type: ignore[call-arg]
        (lambda: Saga("shop", steps=[act]), "has no place for"),
        (step(forward=7), "step 'one': 7 is not callable"),
        (step(compensate=7), "the compensation of step 'one': 7 is not callable"),
        (step(forward=unknown), "nobody gives unknown its parameter 'data'"),
        (step(forward=positional), "nobody gives positional its parameter 'params'"),
        (step(forward=wants_output), "nobody gives wants_output its parameter 'output'"),
        (step(kind="sideways"), "kind='sideways'"),
        (step(retry=3), "retry=3"),
        (step(timeout=0), "timeout=0"),
        (step(foreach=7), "foreach"),
        (step(kind="pivot", compensate=act), "cannot have a compensation"),
        (step(kind="pivot", foreach="lines"), "runs beside a pivot"),
        (then({"kind": "pivot"}, {"kind": "pivot"}), "two pivots, 'one' and 'two'"),
        (then({"kind": "pivot"}, {"compensate": act}), "step 'two' is compensatable, but comes after 'one'"),
        (then({"kind": "retriable"}, {"kind": "pivot"}), "step 'two' is pivot, but comes after 'one'"),
        (then({"parallel": "x"}, {"parallel": "x", "kind": "pivot"}), "'two' runs beside a pivot"),
        (lambda: Saga("shop").add_step("a", forward=act).add_step("a", forward=act), "'a' is there already"),
        (lambda: Saga("shop").add_step("compensate:a", forward=act), "does not begin with"),
        (lambda: Saga("shop").add_step("a#b", forward=act), "has no #"),
        (lambda: Saga("shop").savepoint(1), "attempts=1"),
        (lambda: Saga("shop").savepoint().add_step(forward=act).validate(), "'backward' does not use"),
        (lambda: Saga("shop", "savepoint").add_step(forward=act).validate(), "has none"),
        (lambda: Saga("shop").validate(), "has no steps"),
        (step(forward=Saga("inner").add_step(forward=act)), "not after it has completed"),
    ],
)
def test_what_is_no_saga_is_refused(build: Callable[[], object], problem: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        build()
    assert problem in caught.value.message
    assert caught.value.fix


def test_a_refused_step_is_not_added() -> None:
    saga = Saga("shop").add_step("one", forward=act, kind="pivot")
    with pytest.raises(DefinitionError):
        saga.add_step("two", forward=act, compensate=act)
    assert [one.name for one in saga.steps] == ["one"]


def test_steps_are_named_after_their_functions_or_their_place() -> None:
    saga = Saga().add_step(forward=act).add_step(forward=lambda: 1).add_step("named", forward=act)
    assert [one.name for one in saga.steps] == ["act", "step-2", "named"]


def test_the_hash_changes_with_the_structure_alone() -> None:
    def made(**options: Any) -> str:
        return Saga("shop").add_step("one", **{"forward": act, **options}).definition.hash

    same = made()
    assert made(forward=other) == same
    assert made(retry=RetryPolicy()) == same
    assert len({same, made(compensate=act), made(kind="pivot"), made(foreach="x")}) == 4


def test_what_a_saga_looks_like() -> None:
    saga = Saga("shop").add_step("charge", forward=act, compensate=act).add_step("ship", forward=act)
    drawn = saga.to_mermaid()
    assert 'n0 -.->|"undo"| n2' in drawn
    assert "undo charge" in saga.to_ascii()
    assert '"charge" -> "compensate:charge"' in saga.to_dot()
    assert "undo charge" in saga.to_svg()
    assert [each["compensated"] for each in saga.to_dict()["steps"]] == [True, False]


# --- in memory


class Booking:
    """A step as an object."""

    def __init__(self, name: str, done: list[str], *, fails: bool = False) -> None:
        self.name = name
        self._done = done
        self._fails = fails

    async def forward(self) -> str:
        self._done.append(self.name)
        if self._fails:
            raise ValueError("declined")
        return f"{self.name} booked"

    def compensate(self) -> None:
        self._done.append(f"undo {self.name}")


def test_a_saga_of_objects() -> None:
    done: list[str] = []
    saga = Saga(steps=[Booking("hotel", done), Booking("car", done, fails=True)])
    with pytest.raises(ValueError, match="declined") as caught:
        saga.execute()
    assert done == ["hotel", "car", "undo hotel"]
    assert caught.value.failed_compensations == []  # type: ignore[attr-defined]


def test_the_original_error_tells_which_compensations_failed() -> None:
    def stuck() -> None:
        raise ConnectionError("stuck")

    def fail() -> None:
        raise ValueError("declined")

    once = RetryPolicy(attempts=1)
    saga = Saga().add_step("one", forward=act, compensate=stuck, retry=once).add_step(forward=fail)
    with pytest.raises(ValueError, match="declined") as caught:
        saga.execute()
    (failed,) = caught.value.failed_compensations  # type: ignore[attr-defined]
    assert (failed.name, failed.message) == ("compensate:one", "stuck")


def test_a_saga_may_be_executed_again() -> None:
    saga = Saga().add_step("sum", forward=lambda params: sum(params["numbers"]))
    assert [saga.execute({"numbers": [1, n]}) for n in (1, 2)] == [{"sum": 2}, {"sum": 3}]


async def test_an_orchestrator_runs_on_the_loop_of_its_caller() -> None:
    done: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def look() -> None:
        loops.append(asyncio.get_running_loop())

    orchestrator = SagaOrchestrator("trip").add_step("look", look)
    assert await orchestrator.execute() == {"look": None}
    assert loops == [asyncio.get_running_loop()]
    with pytest.raises(ValueError, match="declined") as caught:
        await orchestrator.execute([Booking("hotel", done), Booking("car", done, fails=True)])
    assert done == ["hotel", "car", "undo hotel"]
    assert caught.value.failed_compensations == []  # type: ignore[attr-defined]


def test_the_saga_of_the_contract() -> None:
    done: list[str] = []

    async def charge_payment() -> None:
        done.append("charge")

    def refund_payment() -> None:
        done.append("refund")

    def reserve_inventory() -> None:
        done.append("reserve")
        raise LookupError("sold out")

    def release_inventory() -> None:
        done.append("release")

    saga = Saga("checkout")
    saga.add_step(forward=lambda: charge_payment(), compensate=lambda: refund_payment())  # noqa: PLW0108
    saga.add_step(forward=lambda: reserve_inventory(), compensate=lambda: release_inventory())  # noqa: PLW0108
    with pytest.raises(LookupError, match="sold out"):
        saga.execute()
    assert done == ["charge", "reserve", "refund"]
