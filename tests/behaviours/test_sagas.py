"""Where sagas of others go wrong: the behaviours B-S1 to B-S10 of the reference, one test each or more."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from holdfast import (
    Engine,
    InvalidTransition,
    RetryPolicy,
    RunStatus,
    Saga,
    StateMachine,
    step_context,
)
from holdfast.machines import Outcome
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, Gate, until

ONCE = RetryPolicy(attempts=1)


class Log:
    """What was done and undone, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.keys: Counter[str] = Counter()

    def add(self, saga: Saga, name: str, **options: Any) -> None:
        async def forward() -> str:
            self.done.append(name)
            return f"{name} result"

        async def compensate(idempotency_key: str) -> None:
            self.done.append(f"undo {name}")
            self.keys[idempotency_key] += 1

        saga.add_step(name, **{"forward": forward, "compensate": compensate, **options})

    @property
    def undone(self) -> list[str]:
        return [each.removeprefix("undo ") for each in self.done if each.startswith("undo ")]


def fail() -> None:
    raise ValueError("boom")


async def ended(engine: Engine, saga: Saga, params: dict[str, Any] | None = None) -> Any:
    return await (await engine.start(saga, params)).wait(PATIENCE)


async def test_bs1_steps_of_the_same_millisecond_are_undone_in_reverse_of_the_log(engine: Engine) -> None:
    log, saga = Log(), Saga("quick")
    names = [f"s{n}" for n in range(12)]
    for name in names:
        log.add(saga, name)
    await ended(engine, saga.add_step("fail", forward=fail))
    assert log.undone == names[::-1]


async def test_bs1_parallel_branches_are_undone_as_a_group(engine: Engine) -> None:
    log, gate, saga = Log(), Gate(), Saga("groups")
    log.add(saga, "first")
    for name in ("left", "right"):
        log.add(saga, name, parallel="middle")

    async def waits() -> None:
        await gate.passed()
        log.done.append("slow")

    log.add(saga, "slow", forward=waits, parallel="middle")
    saga.add_step("broken", forward=fail, parallel="middle")
    run = await engine.start(saga)
    await gate.until_reached()
    await until(lambda: {"left", "right"} <= set(log.done))
    assert log.undone == [], "the sibling that still runs is waited for"
    gate.open()
    await run.wait(PATIENCE)
    assert set(log.undone[:3]) == {"left", "right", "slow"}, "and undone with them"
    assert log.undone[3:] == ["first"]


async def test_bs2_a_crash_after_the_effect_uses_the_same_key_again(
    url: str, open_engine: OpenEngine
) -> None:
    log, hanging = Log(), True
    saga = Saga("crash")

    async def compensate(idempotency_key: str) -> None:
        log.keys[idempotency_key] += 1
        log.done.append("undo one")
        if hanging:
            await asyncio.Event().wait()

    log.add(saga, "zero")
    log.add(saga, "one", compensate=compensate)
    saga.add_step("two", forward=fail)
    first = await open_engine(url)
    run = await first.start(saga)
    await until(lambda: "undo one" in log.done)
    await first.close(grace=0)
    hanging = False
    second = await open_engine(url)
    await second.wait(run.id, PATIENCE)
    assert log.keys == {f"{run.id}:compensate:one#1": 2, f"{run.id}:compensate:zero#1": 1}


async def test_bs2_two_engines_and_a_resume_turn_once(url: str, open_engine: OpenEngine) -> None:
    log, gate, saga = Log(), Gate(), Saga("turns")
    log.add(saga, "one", compensate=gate.passed)
    saga.add_step("two", forward=fail)
    first, second = await open_engine(url), await open_engine(url)
    run = await first.start(saga)
    await gate.until_reached()
    await asyncio.gather(*(engine.resume(run.id) for engine in (first, second)))
    gate.open()
    await run.wait(PATIENCE)
    assert [each.to_node for each in await run.decisions()] == ["compensate:one"]
    assert [stage.attempt for stage in await run.stages() if stage.name == "compensate:one"] == [1]


async def test_bs3_a_step_that_timed_out_here_and_took_effect_there_is_undone(engine: Engine) -> None:
    log, saga, remote = Log(), Saga("remote"), list[str]()

    async def charge(idempotency_key: str) -> None:
        remote.append(idempotency_key)
        await asyncio.Event().wait()

    log.add(saga, "charge", forward=charge, timeout=0.05)
    run = await ended(engine, saga)
    assert len(remote) == 1
    assert log.undone == ["charge"]
    assert run.error.code == "step_timed_out"
    assert run.error.compensated == ("charge",)


async def test_bs3_a_late_success_is_recorded_and_undone(engine: Engine) -> None:
    log, gate, saga = Log(), Gate(), Saga("late")

    def stubborn() -> str:
        gate.wait()  # a thread, which nobody can stop
        return "too late"

    log.add(saga, "charge", forward=stubborn)
    run = await engine.start(saga)
    await gate.until_reached()
    await run.cancel()
    gate.open()
    await run.wait(PATIENCE)
    stages = {stage.name: stage for stage in await run.stages()}
    assert stages["charge"].output == "too late"
    assert log.undone == ["charge"]
    assert run.status is RunStatus.CANCELLED


async def test_bs4_a_step_that_failed_by_itself_is_not_undone(engine: Engine) -> None:
    log, saga = Log(), Saga("failed")
    log.add(saga, "one")
    log.add(saga, "two", forward=fail)
    await ended(engine, saga)
    assert log.undone == ["one"]


async def test_bs4_unless_an_earlier_attempt_may_have_taken_effect(engine: Engine) -> None:
    log, saga = Log(), Saga("doubt")

    async def charge(step: Any) -> None:
        if step.attempt == 1:
            await asyncio.Event().wait()
        raise ValueError("declined")

    log.add(
        saga,
        "charge",
        forward=charge,
        timeout=0.05,
        retry=RetryPolicy(attempts=2, backoff=0.01, jitter="none"),
    )
    await ended(engine, saga)
    assert log.undone == ["charge"]


@pytest.mark.parametrize("policy", ["continue", "stop"])
async def test_bs5_a_compensation_that_fails_is_never_swallowed(engine: Engine, policy: Any) -> None:
    log, saga, mended = Log(), Saga("stuck", on_compensation_failure=policy), list[bool]()

    def stuck() -> None:
        if not mended:
            raise ConnectionError("stuck")
        log.done.append("undo two")

    log.add(saga, "one")
    log.add(saga, "two", compensate=stuck, retry=ONCE)
    log.add(saga, "three")
    saga.add_step("four", forward=fail)
    run = await ended(engine, saga)
    assert (run.status, run.error.code) == (RunStatus.FAILED, "compensation_failed")
    assert "two" not in run.error.compensated
    assert [each.name for each in run.error.failed_compensations] == ["compensate:two"]
    assert log.undone == (["three", "one"] if policy == "continue" else ["three"])
    assert [letter.id for letter in await engine.dead_letters(code="compensation_failed")] == [run.id]

    mended.append(True)
    run = await (await engine.redrive(run.id)).wait(PATIENCE)
    assert run.error is not None
    assert log.undone == (["three", "one", "two"] if policy == "continue" else ["three", "two", "one"])
    assert (run.error.code, run.error.failed_compensations) == ("step_failed", ())


async def test_bs6_behind_the_pivot_there_is_only_forward(engine: Engine) -> None:
    log, tried, saga = Log(), list[int](), Saga("pivot")
    log.add(saga, "reserve")
    saga.add_step("pay", forward=lambda: "paid", kind="pivot")

    def ship(step: Any) -> str:
        tried.append(step.attempt)
        if step.attempt < 6:
            raise ConnectionError("no carrier")
        return "shipped"

    soon = RetryPolicy(attempts=2, backoff=0.01, factor=1, jitter="none")
    saga.add_step("ship", forward=ship, kind="retriable", retry=soon)
    result = await engine.execute(saga)
    assert result["ship"] == "shipped"
    assert tried == [1, 2, 3, 4, 5, 6], "more often than the policy says"
    assert log.undone == []


async def test_bs6_nor_does_a_cancel_lead_back_from_there(engine: Engine) -> None:
    log, gate, saga = Log(), Gate(), Saga("pivot")
    log.add(saga, "reserve")
    saga.add_step("pay", forward=lambda: "paid", kind="pivot")
    saga.add_step("ship", forward=gate.passed, kind="retriable")
    run = await engine.start(saga)
    await gate.until_reached()
    await run.cancel()
    gate.open()
    await run.wait(PATIENCE)
    assert run.status is RunStatus.COMPLETED
    assert log.undone == []


async def test_bs7_neither_cancel_nor_timeout_nor_pause_stops_compensations(engine: Engine) -> None:
    log, gate, saga = Log(), Gate(), Saga("sheltered")
    log.add(saga, "one")

    async def slow() -> None:
        await gate.passed()
        log.done.append("undo two")

    log.add(saga, "two", compensate=slow)
    saga.add_step("three", forward=fail)
    run = await engine.start(saga, timeout=0.3)
    await gate.until_reached()
    await run.pause()
    await run.cancel()
    await until(lambda: _has_timed_out(engine, run.id))
    gate.open()
    await run.wait(PATIENCE)
    assert log.undone == ["two", "one"]
    assert run.error is not None
    assert (run.error.message, run.error.compensated) == ("boom", ("two", "one"))


async def _has_timed_out(engine: Engine, run: str) -> bool:
    return any(fact["fact"] == "CancelRequested" for fact in await engine.journal(run))


async def test_bs7_a_restart_goes_on_at_the_next_step_that_is_not_undone(
    url: str, open_engine: OpenEngine
) -> None:
    log, hanging, saga = Log(), True, Saga("restart")

    async def slow() -> None:
        log.done.append("undo two")
        if hanging:
            await asyncio.Event().wait()

    log.add(saga, "one")
    log.add(saga, "two", compensate=slow)
    log.add(saga, "three")
    saga.add_step("four", forward=fail)
    first = await open_engine(url)
    run = await first.start(saga)
    await until(lambda: "undo two" in log.done)
    await first.close(grace=0)
    hanging = False
    second = await open_engine(url)
    await second.wait(run.id, PATIENCE)
    assert log.undone == ["three", "two", "two", "one"]


async def test_bs8_a_child_saga_is_not_undone_twice(engine: Engine) -> None:
    log, inner, outer = Log(), Saga("inner"), Saga("outer")
    log.add(inner, "seat")
    inner.add_step("pay", forward=fail)
    log.add(outer, "hotel")
    log.add(outer, "flight", forward=inner)
    await ended(engine, outer)
    assert log.undone == ["seat", "hotel"]


async def test_bs8_each_completed_item_is_undone_once(engine: Engine) -> None:
    undone: list[Any] = []
    saga = Saga("items")

    def handle(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item * 10

    def undo(item: int, output: int) -> None:
        undone.append((item, output))

    saga.add_step("each", forward=handle, compensate=undo, foreach="items")
    await ended(engine, saga, {"items": [1, 2, 3, 4]})
    assert sorted(undone) == [(1, 10), (2, 20), (4, 40)]


def choreographed(log: Log) -> StateMachine:
    """A saga without an orchestrator: a machine for each order, which reacts to what others say of it."""

    async def refund(context: dict[str, Any]) -> None:
        log.done.append("undo payment")
        log.keys[step_context().idempotency_key] += 1

    machine = StateMachine("order", initial="new", unhandled="defer")
    machine.add_state("sent", final=True).add_state("refunded", entry=refund, final=True)
    machine.add_transition("new", "placed", "placed").add_transition("placed", "paid", "paid")
    return machine.add_transition("paid", "sent", "packed").add_transition("paid", "refunded", "sold out")


async def react(engine: Engine, machine: StateMachine, message: str, key: str | None = None) -> Outcome:
    """Take a message about the order, the first or not: who hears of it first begins it."""
    run = await engine.start(machine, id="order-7")
    return await run.send(message, id=key)


async def test_bs9_two_first_messages_begin_one_saga(engine: Engine) -> None:
    machine = choreographed(Log())
    outcomes = await asyncio.gather(*(react(engine, machine, "placed", key="message-1") for _ in range(20)))
    assert {outcome.state for outcome in outcomes} == {"placed"}
    assert await engine.count() == 1
    journal = await engine.journal("order-7")
    assert [fact["name"] for fact in journal if fact["fact"] == "SignalReceived"] == ["placed"]


async def test_bs9_a_message_that_comes_too_early_waits_for_those_before_it(engine: Engine) -> None:
    log = Log()
    machine = choreographed(log)
    for early in ("sold out", "paid"):
        assert (await react(engine, machine, early)).deferred
    await react(engine, machine, "placed")
    assert await engine.result("order-7") == {"state": "refunded", "context": {}}
    assert log.done == ["undo payment"]


async def test_bs9_a_late_message_begins_no_second_saga(engine: Engine) -> None:
    log = Log()
    machine = choreographed(log)
    for message in ("placed", "paid", "sold out"):
        await react(engine, machine, message, key=message)
    await engine.wait("order-7", PATIENCE)
    with pytest.raises(InvalidTransition, match="Invalid transition: refunded -> paid"):
        await react(engine, machine, "paid", key="a second time")
    assert (await react(engine, machine, "paid", key="paid")).state == "paid", "one that it knows is answered"
    assert await engine.count() == 1
    assert list(log.keys.values()) == [1]


async def test_bs10_a_compensation_sees_what_was_recorded(engine: Engine) -> None:
    world, seen, saga = {"price": 100}, list[Any](), Saga("recorded")

    def see(params: Any, results: Any, output: Any, reason: str) -> None:
        seen.append((params, results, output, reason, world["price"]))

    saga.add_step("quote", forward=lambda: world["price"])
    saga.add_step("order", forward=lambda results: [results["quote"]], compensate=see)
    saga.add_step("raise", forward=lambda: world.update(price=999))
    await ended(engine, saga.add_step("fail", forward=fail), {"n": 1})
    assert seen == [({"n": 1}, {"quote": 100}, [100], "step 'fail' failed: boom", 999)]
