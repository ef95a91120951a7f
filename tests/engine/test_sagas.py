"""Sagas under an engine, on each kind of store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypedDict

import pytest

from holdfast import (
    Engine,
    InvalidStatus,
    PayloadRejected,
    RetryPolicy,
    RunFailed,
    RunStatus,
    RunTimedOut,
    Saga,
    WorkflowNotFound,
)
from holdfast.errors import DefinitionError
from holdfast.registry import Registry
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, Gate, nothing, sequence, until

NOW = RetryPolicy(attempts=1)
SOON = RetryPolicy(attempts=3, backoff=0.01, jitter="none")


class Declined(Exception):
    """A user's own exception."""


class Order(TypedDict):
    """What a typed saga is given."""

    many: int


class Shop:
    """Actions that tell what was done, in order."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def act(self, name: str, value: Any = None) -> Any:
        async def forward() -> Any:
            self.done.append(name)
            return value

        return forward

    def undo(self, name: str) -> Any:
        async def compensate(output: Any, reason: str) -> None:
            self.done.append((f"undo {name}", output, reason))

        return compensate

    def add(self, saga: Saga, name: str, value: Any = None, **options: Any) -> None:
        saga.add_step(name, forward=self.act(name, value), compensate=self.undo(name), **options)


def declines() -> None:
    raise Declined("the card is declined")


def checkout(shop: Shop) -> Saga:
    saga = Saga("checkout")
    shop.add(saga, "reserve", {"items": 2})
    shop.add(saga, "charge", "payment-7")
    return saga.add_step("ship", forward=declines)


async def test_the_results_of_the_steps_are_the_result(engine: Engine) -> None:
    saga = Saga("sum")
    saga.add_step("one", forward=lambda params: params["n"] + 1)
    saga.add_step("two", forward=lambda params, results: [params, results])
    assert await engine.execute(saga, {"n": 1}) == {"one": 2, "two": [{"n": 1}, {"one": 2}]}


async def test_a_failure_is_undone_in_reverse_and_told_with_its_cause(engine: Engine) -> None:
    shop = Shop()
    run = await engine.start(checkout(shop))
    with pytest.raises(RunFailed) as caught:
        await run.result()
    why = "step 'ship' failed: the card is declined"
    undone = [("undo charge", "payment-7", why), ("undo reserve", {"items": 2}, why)]
    assert shop.done == ["reserve", "charge", *undone]
    assert isinstance(caught.value.__cause__, Declined)
    assert caught.value.stage == "ship"
    await run.refresh()
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error.compensated == ("charge", "reserve")
    assert run.error.failed_compensations == ()
    names = ["reserve", "charge", "ship", "compensate:charge", "compensate:reserve"]
    assert [stage.name for stage in await run.stages()] == names


async def test_each_step_and_each_compensation_is_one_commit(engine: Engine) -> None:
    run = await engine.start(checkout(Shop()))
    await run.wait(PATIENCE)
    rows = await engine.store.journal(run.id)
    assert len(rows) == 1 + 5


async def test_a_compensation_that_fails_is_tried_again(engine: Engine) -> None:
    tried: list[int] = []

    def compensate(step: Any) -> None:
        tried.append(step.attempt)
        if step.attempt < 3:
            raise ConnectionError("not now")

    saga = Saga("patient")
    saga.add_step("one", forward=lambda: 1, compensate=compensate, retry=SOON)
    saga.add_step("two", forward=declines)
    run = await (await engine.start(saga)).wait(PATIENCE)
    assert tried == [1, 2, 3]
    assert run.error is not None
    assert run.error.compensated == ("one",)


async def test_a_compensation_that_fails_for_good_is_a_dead_letter(engine: Engine) -> None:
    shop, mended = Shop(), False

    def stuck() -> None:
        if not mended:
            raise ConnectionError("the warehouse is down")
        shop.done.append("undo reserve")

    saga = Saga("stuck")
    shop.add(saga, "charge")
    saga.add_step("reserve", forward=shop.act("reserve"), compensate=stuck, retry=NOW)
    saga.add_step("ship", forward=declines)
    run = await (await engine.start(saga)).wait(PATIENCE)
    assert run.error is not None
    assert (run.status, run.error.code) == (RunStatus.FAILED, "compensation_failed")
    assert run.error.compensated == ("charge",), "the others go on"
    assert [each.message for each in run.error.failed_compensations] == ["the warehouse is down"]
    (letter,) = await engine.dead_letters(code="compensation_failed")
    assert letter.id == run.id

    mended = True
    run = await (await engine.redrive(run.id)).wait(PATIENCE)
    assert shop.done[-1] == "undo reserve"
    assert len(shop.done) == 4, "nothing else is done again"
    assert run.error is not None
    assert (run.error.code, run.error.compensated) == ("step_failed", ("charge", "reserve"))


async def test_a_cancel_undoes_what_is_done(engine: Engine) -> None:
    shop, gate = Shop(), Gate()

    async def hang() -> None:
        await gate.passed()

    saga = Saga("cancelled")
    shop.add(saga, "reserve")
    saga.add_step("charge", forward=hang, compensate=shop.undo("charge"))
    run = await engine.start(saga)
    await gate.until_reached()
    await run.cancel("changed my mind")
    await run.wait(PATIENCE)
    assert run.status is RunStatus.CANCELLED
    undone = [("undo charge", None, "changed my mind"), ("undo reserve", None, "changed my mind")]
    assert shop.done == ["reserve", *undone]


async def test_a_saga_that_takes_too_long_is_undone(engine: Engine) -> None:
    shop = Shop()

    async def hang() -> None:
        await asyncio.Event().wait()

    saga = Saga("slow", timeout=0.2)
    shop.add(saga, "reserve")
    saga.add_step("charge", forward=hang)
    run = await engine.start(saga)
    with pytest.raises(RunTimedOut):
        await run.result()
    assert [each[0] for each in shop.done[1:]] == ["undo reserve"]
    await run.refresh()
    assert run.error is not None
    assert run.error.compensated == ("reserve",)


async def test_what_is_no_saga_is_refused_before_anything_is_stored(engine: Engine) -> None:
    with pytest.raises(DefinitionError, match="has no steps"):
        await engine.start(Saga("empty"))
    with pytest.raises(WorkflowNotFound, match="no name"):
        await engine.start(Saga().add_step(forward=declines))
    with pytest.raises(PayloadRejected, match="many"):
        await engine.start(Saga("typed", params=Order).add_step(forward=declines), {"many": "two"})
    assert (await engine.runs()).total == 0


async def test_a_saga_goes_on_in_another_engine(url: str, open_engine: OpenEngine) -> None:
    first = await open_engine(url)
    shop = Shop()
    hanging = True

    async def hang() -> None:
        shop.done.append("hang")
        if hanging:
            await asyncio.Event().wait()

    saga = Saga("moved")
    shop.add(saga, "reserve", 1)
    saga.add_step("charge", forward=hang, compensate=shop.undo("charge"))
    saga.add_step("ship", forward=declines)
    run = await first.start(saga)
    await until(lambda: "hang" in shop.done)
    await first.close(grace=0)
    hanging = False
    second = await open_engine(url)
    ended = await second.wait(run.id, PATIENCE)
    assert ended.error is not None
    assert ended.error.compensated == ("charge", "reserve")
    assert shop.done[:3] == ["reserve", "hang", "hang"]


# --- sagas, and other workflows, as steps


def travel(shop: Shop, *, fails: str = "") -> Saga:
    """A saga within a saga."""
    inner = Saga("flight")
    shop.add(inner, "seat", "12A")
    inner.add_step("pay", forward=declines if fails == "inner" else shop.act("pay", 300))
    outer = Saga("travel")
    shop.add(outer, "hotel", "room 7")
    outer.add_step("flight", forward=inner, compensate=shop.undo("flight"))
    return outer.add_step("car", forward=declines if fails == "outer" else shop.act("car"))


async def test_a_saga_may_be_a_step(engine: Engine) -> None:
    result = await engine.execute(travel(Shop()))
    assert result == {"hotel": "room 7", "flight": {"seat": "12A", "pay": 300}, "car": None}


async def test_a_child_saga_that_has_undone_itself_is_not_undone_again(engine: Engine) -> None:
    shop = Shop()
    run = await (await engine.start(travel(shop, fails="inner"))).wait(PATIENCE)
    assert [each if isinstance(each, str) else each[0] for each in shop.done] == [
        *("hotel", "seat"),
        *("undo seat", "undo hotel"),
    ]
    assert run.error is not None
    assert (run.error.name, run.error.compensated) == ("flight", ("hotel",))
    (child,) = await run.children()
    assert child.error is not None
    assert child.error.compensated == ("seat",)


async def test_a_child_saga_that_completed_is_undone_by_its_compensation(engine: Engine) -> None:
    shop = Shop()
    await (await engine.start(travel(shop, fails="outer"))).wait(PATIENCE)
    undone = [each[:2] for each in shop.done if not isinstance(each, str)]
    assert undone == [("undo flight", {"seat": "12A", "pay": 300}), ("undo hotel", "room 7")]


async def test_what_a_child_saga_could_not_undo_is_told(engine: Engine) -> None:
    shop = Shop()
    inner = Saga("inner").add_step("seat", forward=shop.act("seat"), compensate=declines, retry=NOW)
    inner.add_step("pay", forward=declines)
    outer = Saga("outer")
    shop.add(outer, "hotel")
    outer.add_step("flight", forward=inner, compensate=shop.undo("flight"))
    run = await (await engine.start(outer)).wait(PATIENCE)
    assert run.error is not None
    assert (run.error.code, run.error.compensated) == ("compensation_failed", ("hotel",))
    assert [each.name for each in run.error.failed_compensations] == ["compensate:seat"]


async def test_a_graph_that_failed_half_way_is_undone(engine: Engine) -> None:
    shop = Shop()

    def broken(state: Any) -> None:
        raise Declined("half way")

    outer = Saga("outer")
    outer.add_step("graph", forward=sequence("g", one=nothing, two=broken), compensate=shop.undo("graph"))
    run = await (await engine.start(outer, {"n": 1})).wait(PATIENCE)
    assert run.error is not None
    assert run.error.compensated == ("graph",)


async def test_a_compensation_may_be_a_workflow(engine: Engine) -> None:
    told: list[Any] = []
    back = Saga("back", params=Undoing).add_step("tell", forward=lambda params: told.append({**params}))
    outer = Saga("outer").add_step("one", forward=lambda: 7, compensate=back)
    outer.add_step("two", forward=declines)
    run = await (await engine.start(outer)).wait(PATIENCE)
    assert told == [{"output": 7, "reason": "step 'two' failed: the card is declined"}]
    assert run.error is not None
    assert run.error.compensated == ("one",)


class Undoing(TypedDict):
    """What a compensation that is a workflow asks for."""

    output: int
    reason: str


async def test_a_cancelled_saga_cancels_its_child_which_undoes_itself(engine: Engine) -> None:
    shop, gate = Shop(), Gate()
    inner = Saga("inner")
    shop.add(inner, "seat")
    inner.add_step("hang", forward=gate.passed)
    outer = Saga("outer")
    shop.add(outer, "hotel")
    outer.add_step("flight", forward=inner, compensate=shop.undo("flight"))
    run = await engine.start(outer)
    await gate.until_reached()
    await run.cancel()
    await run.wait(PATIENCE)
    assert run.status is RunStatus.CANCELLED
    assert [each[0] for each in shop.done[2:]] == ["undo seat", "undo hotel"]


# --- what a person does about compensations that failed


def stuck(shop: Shop, trouble: Callable[[], bool] = lambda: True) -> Saga:
    """A saga two of whose compensations fail as long as there is trouble."""

    def undo(name: str) -> Any:
        def compensate() -> None:
            if trouble():
                raise ConnectionError(f"{name} cannot be undone")
            shop.done.append((f"undo {name}", None))

        return compensate

    saga = Saga("stuck")
    shop.add(saga, "charge")
    for name in ("reserve", "pack"):
        saga.add_step(name, forward=shop.act(name), compensate=undo(name), retry=NOW)
    return saga.add_step("ship", forward=declines)


async def test_a_person_may_say_that_a_step_is_undone_or_shall_stay(engine: Engine) -> None:
    shop = Shop()
    run = await (await engine.start(stuck(shop))).wait(PATIENCE)
    assert run.error is not None
    assert [each.name for each in run.error.failed_compensations] == ["compensate:pack", "compensate:reserve"]
    run = await (await engine.redrive(run.id, done=["reserve"], skip=["pack"])).wait(PATIENCE)
    assert run.error is not None
    assert (run.error.code, run.error.compensated) == ("step_failed", ("charge", "reserve"))
    assert run.error.message == "the card is declined; left as they are: pack"
    stages = {stage.name: stage for stage in await run.stages()}
    assert stages["compensate:reserve"].status == "completed"
    assert stages["compensate:pack"].status == "skipped"
    assert [each[0] for each in shop.done[3:]] == ["undo charge"], "neither was tried again"


async def test_what_a_person_says_nothing_of_is_tried_again(engine: Engine) -> None:
    shop, trouble = Shop(), [True]
    run = await (await engine.start(stuck(shop, lambda: bool(trouble)))).wait(PATIENCE)
    trouble.clear()
    run = await (await engine.redrive(run.id, done=["pack"])).wait(PATIENCE)
    assert run.error is not None
    assert run.error.compensated == ("charge", "pack", "reserve")
    assert shop.done[-1] == ("undo reserve", None)


async def test_a_step_whose_compensation_has_not_failed_cannot_be_settled(engine: Engine) -> None:
    run = await (await engine.start(stuck(Shop()))).wait(PATIENCE)
    position = run.position
    for wrong in ({"done": ["charge"]}, {"skip": ["nothing"]}, {"done": ["pack"], "skip": ["pack"]}):
        with pytest.raises(PayloadRejected, match="no compensation of step") as caught:
            await engine.redrive(run.id, **wrong)
        assert caught.value.fix == "Those of these steps have: pack#1, reserve#1."
    assert (await engine.get(run.id)).position == position
    completed = await engine.start(Saga("fine").add_step(forward=lambda: 1))
    await completed.wait(PATIENCE)
    with pytest.raises(InvalidStatus):
        await engine.redrive(completed.id, done=["reserve"])


async def test_a_process_that_does_not_know_the_saga_shows_its_dead_letter(
    url: str, open_engine: OpenEngine
) -> None:
    first = await open_engine(url)
    run = await (await first.start(stuck(Shop()))).wait(PATIENCE)
    client = await open_engine(url, registry=Registry(), workers=False)
    letter = await client.dead_letter(run.id)
    assert letter.code == "compensation_failed"
    assert [each.step for each in letter.history][-2:] == ["compensate:pack", "compensate:reserve"]


def stuck_within(shop: Shop, trouble: Callable[[], bool]) -> Saga:
    """A saga whose child cannot undo its step `seat` as long as there is trouble."""

    def release() -> None:
        if trouble():
            raise ConnectionError("nobody answers")
        shop.done.append(("undo seat", None))

    inner = Saga("inner")
    shop.add(inner, "meal")
    inner.add_step("seat", forward=shop.act("seat"), compensate=release, retry=NOW)
    inner.add_step("pay", forward=declines)
    outer = Saga("outer")
    shop.add(outer, "hotel")
    return outer.add_step("flight", forward=inner, compensate=shop.undo("flight"))


def told(shop: Shop) -> list[str]:
    return [each if isinstance(each, str) else each[0] for each in shop.done]


async def test_a_redrive_has_a_child_saga_try_again_what_it_could_not_undo(engine: Engine) -> None:
    shop, trouble = Shop(), [True]
    run = await (await engine.start(stuck_within(shop, lambda: bool(trouble)))).wait(PATIENCE)
    (child,) = await run.children()
    assert run.error is not None
    assert [(each.name, each.run) for each in run.error.failed_compensations] == [
        ("compensate:seat", child.id)
    ]
    assert f"holdfast dead-letters redrive {child.id} --done seat" in run.error.fix
    run = await (await engine.redrive(run.id)).wait(PATIENCE)  # nobody answers yet
    assert run.error is not None
    assert run.error.code == "compensation_failed"
    trouble.clear()
    run = await (await engine.redrive(run.id)).wait(PATIENCE)
    assert run.error is not None
    assert (run.error.code, run.error.compensated) == ("step_failed", ("hotel",))
    assert run.error.failed_compensations == ()
    assert told(shop) == ["hotel", "meal", "seat", "undo meal", "undo hotel", "undo seat"], "each once"


async def test_what_a_person_says_of_a_child_saga_counts_for_its_parent(engine: Engine) -> None:
    shop = Shop()
    run = await (await engine.start(stuck_within(shop, lambda: True))).wait(PATIENCE)
    (child,) = await run.children()
    with pytest.raises(PayloadRejected, match="no compensation of step 'seat'") as caught:
        await engine.redrive(run.id, done=["seat"])
    assert caught.value.fix == f"It has in run {child.id}: redrive that one so, then this one."
    child = await (await engine.redrive(child.id, done=["seat"])).wait(PATIENCE)
    assert child.error is not None
    assert child.error.compensated == ("meal", "seat")
    run = await (await engine.redrive(run.id)).wait(PATIENCE)
    assert run.error is not None
    assert (run.error.code, run.error.compensated) == ("step_failed", ("hotel",))
    assert told(shop) == ["hotel", "meal", "seat", "undo meal", "undo hotel"], "nothing was done again"


async def test_a_fork_of_a_saga_whose_child_is_stuck_leaves_the_child_to_the_first_run(
    engine: Engine,
) -> None:
    shop = Shop()
    run = await (await engine.start(stuck_within(shop, lambda: True))).wait(PATIENCE)
    fork = await (await engine.fork(run.id, at=run.position - 1)).wait(PATIENCE)
    assert fork.error is not None
    assert await fork.children() == []
    assert told(shop).count("seat") == 1


# --- a saga that is changed while its runs are on their way; forks; the state between


async def test_a_run_that_does_not_fit_the_saga_any_more_is_parked_until_the_code_is_back(
    url: str, open_engine: OpenEngine
) -> None:
    shop, gate = Shop(), Gate()

    def made(*names: str) -> Registry:
        saga = Saga("changed")
        for name in names:
            shop.add(saga, name)
        saga.add_step("last", forward=declines if gate.reached.is_set() else gate.passed)
        registry = Registry()
        registry.add(saga)
        return registry

    first = await open_engine(url, registry=made("one", "two"))
    run = await first.start("changed")
    await gate.until_reached()
    await first.close(grace=0)

    second = await open_engine(url, registry=made("one", "new", "two"))
    await until(lambda: _is_paused(second, run.id))
    parked = await second.get(run.id)
    assert parked.error is not None
    assert parked.error.message == "the journal has step 'two' where the saga has 'new'"
    await second.close(grace=0)

    third = await open_engine(url, registry=made("one", "two"))
    await third.resume(run.id)
    ended = await third.wait(run.id, PATIENCE)
    assert ended.error is not None
    assert ended.error.compensated == ("two", "one"), "nothing is lost"
    assert shop.done[:2] == ["one", "two"], "and nothing done twice"


async def _is_paused(engine: Engine, run: str) -> bool:
    return (await engine.get(run)).status is RunStatus.PAUSED


async def test_a_saga_is_forked_with_another_result(engine: Engine) -> None:
    saga = Saga("forked")
    saga.add_step("one", forward=lambda: 1)
    saga.add_step("two", forward=lambda results: results["one"] * 10)
    saga.add_step("three", forward=lambda results: results["two"] + results["one"])
    run = await engine.start(saga)
    assert await run.result() == {"one": 1, "two": 10, "three": 11}
    journal = await run.journal()
    at = next(
        fact["position"]
        for fact in journal
        if fact.get("step") == "one#1" and fact["fact"] == "StepCompleted"
    )
    assert await run.state(at) == {"one": 1}
    other = await engine.fork(run.id, at, {"one": 5})
    assert await other.result() == {"one": 5, "two": 50, "three": 55}


async def test_large_results_are_kept_apart_and_come_back_whole(engine: Engine) -> None:
    text = "x" * 200_000
    seen: list[int] = []
    saga = Saga("large")
    saga.add_step("one", forward=lambda: text, compensate=lambda output: seen.append(len(output)))
    saga.add_step("each", forward=lambda item: item + text, foreach=lambda: ["a", "b"])
    saga.add_step("two", forward=lambda results: [len(results["one"]), *map(len, results["each"])])
    result = await engine.execute(saga)
    assert result["two"] == [200_000, 200_001, 200_001]
    assert result["each"][1] == f"b{text}"
    await (await engine.start(saga.renamed("larger").add_step("fail", forward=declines))).wait(PATIENCE)
    assert seen == [200_000]


async def test_a_secret_in_a_result_is_refused_and_what_was_done_is_undone(engine: Engine) -> None:
    shop, saga = Shop(), Saga("secretive")
    shop.add(saga, "one")
    saga.add_step("two", forward=lambda step: f"the token is {step.secrets['token']}")
    run = await (await engine.start(saga, secrets={"token": "t0p-s3cret"})).wait(PATIENCE)
    assert run.error is not None
    assert run.error.code == "payload_rejected"
    assert run.error.compensated == ("one",)
    assert "t0p" not in str(await run.journal())
