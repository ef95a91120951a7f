"""What machines are known to get wrong, B-F1 to B-F10 of the patterns' classic bugs: each on every kind of store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from holdfast import Engine, InvalidTransition, RunFailed, RunStatus, StateMachine
from holdfast.machines import ALWAYS, ActionFailed, raise_event
from holdfast.registry import Registry, as_workflow
from holdfast.run import Run
from tests.conftest import OpenEngine
from tests.graphs import Gate, until
from tests.machines import assessment


async def state(run: Run) -> Any:
    return (await run.state())["state"]


async def taken(run: Run) -> list[str]:
    return [f"{d.from_node} -> {d.to_node}" for d in await run.decisions() if d.result]


async def waiting(run: Run) -> None:
    async def waits() -> bool:
        return (await run.refresh()).status is RunStatus.WAITING

    await until(waits)


async def test_bf1_what_an_action_raises_or_sends_is_taken_after_the_transition(engine: Engine) -> None:
    log: list[str] = []

    async def enter_b() -> None:
        log.append("enter b")
        await engine.signal("bf1", "later")  # from outside, in the midst of the transition

    machine = StateMachine("bf1", initial="a")
    machine.add_state("b", entry=[enter_b, raise_event("sooner"), lambda: log.append("entered b")])
    machine.add_state("c", entry=lambda: log.append("enter c")).add_state(
        "d", entry=lambda: log.append("enter d")
    )
    machine.add_transition("a", "b", "go", action=lambda: log.append("go"))
    machine.add_transition("b", "c", "sooner").add_transition("c", "d", "later")
    run = await engine.start(machine, id="bf1")
    await run.send("go")

    async def arrived() -> bool:
        return bool(await state(run) == "d")

    await until(arrived)
    assert log == ["go", "enter b", "entered b", "enter c", "enter d"]


async def test_bf2_a_hundred_events_at_once_are_one_transition(engine: Engine) -> None:
    run = await engine.start(assessment())
    outcomes = await asyncio.gather(*(run.send("SUBMIT") for _ in range(100)), return_exceptions=True)
    assert sum(isinstance(each, InvalidTransition) for each in outcomes) == 99
    assert await taken(run) == ["START -> DRAFT", "DRAFT -> PENDING_APPROVAL"]


async def test_bf2_also_when_the_transition_has_an_action_that_goes_on(engine: Engine) -> None:
    gate, begun = Gate(), []

    async def act() -> None:
        begun.append(1)
        await gate.passed()

    machine = StateMachine("bf2", initial="a").add_transition("a", "b", "go", action=act)
    run = await engine.start(machine)
    sends = [asyncio.create_task(run.send("go")) for _ in range(20)]
    await gate.until_reached()
    gate.open()
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert sum(isinstance(each, InvalidTransition) for each in outcomes) == 19
    assert begun == [1]


async def test_bf3_a_guard_that_writes_or_raises_does_not_hold_and_has_no_effect(engine: Engine) -> None:
    def writes(context: Any) -> bool:
        context["n"] = 2
        return True

    def writes_within(context: Mapping[str, Any]) -> bool:
        context["items"].append(1)
        return False

    machine = StateMachine("bf3", initial="a", context={"n": 1, "items": []})
    machine.add_transition("a", "b", "write", guard=writes)
    machine.add_transition("a", "b", "write within", guard=writes_within)
    machine.add_transition("a", "b", "divide", guard=lambda context: 1 / (context["n"] - 1) > 0)
    run = await engine.start(machine)
    for event in ("write", "write within", "divide"):
        assert (await run.send(event)).changed is False
    assert await run.state() == {"state": "a", "context": {"n": 1, "items": []}}
    reasons = {d.name: d.reason for d in await run.decisions()}
    assert "TypeError" in reasons["write"]
    assert "ZeroDivisionError" in reasons["divide"]


async def test_bf3_who_listens_hears_that_a_guard_raised(engine: Engine) -> None:
    machine = StateMachine("bf3", initial="a")
    machine.add_transition("a", "b", "go", guard=lambda: 1 // 0 > 0).add_transition(
        "a", "odd", "error.execution"
    )
    run = await engine.start(machine)
    assert (await run.send("go")).state == "odd"


async def test_bf4_a_clock_of_an_earlier_stay_never_fires(engine: Engine) -> None:
    machine = StateMachine("bf4", initial="a")
    machine.add_state("late", final=True).add_transition("a", "late", after=1)
    machine.add_transition("a", "b", "leave").add_transition("b", "a", "return")
    run = await engine.start(machine)
    await run.send("leave")
    await run.send("return")
    assert (await run.result())["state"] == "late"
    facts = await run.journal()
    fired = [fact["step"] for fact in facts if fact["fact"] == "StepCompleted"]
    assert fired == ["timer:after.1s.a#2"]


async def test_bf4_a_clock_rings_once_for_whoever_comes_next(url: str, open_engine: OpenEngine) -> None:
    def machine() -> StateMachine:
        made = StateMachine("bf4", initial="a").add_state("late", final=True)
        return made.add_transition("a", "late", after=0.5)

    first = await open_engine(url)
    run = await first.start(machine(), id="bf4")
    await waiting(run)
    await first.close(grace=0)
    registry = Registry()
    registry.add(as_workflow(machine()))
    second = await open_engine(url, registry=registry)
    assert (await second.result("bf4"))["state"] == "late"
    assert [d.to_node for d in await second.decisions("bf4")] == ["a", "late"]


async def test_bf5_an_entry_action_that_fails_half_way_changes_nothing(engine: Engine) -> None:
    def half(context: dict[str, Any]) -> dict[str, Any]:
        context["n"] = 2
        return {"half": True}

    def fails() -> None:
        raise ConnectionError("no answer")

    machine = StateMachine("bf5", initial="a", context={"n": 1})
    machine.add_state("b", entry=[half, raise_event("lost"), fails])
    machine.add_transition("a", "b", "go").add_transition("*", "wrong", "lost").add_transition(
        "b", "c", after=60
    )
    run = await engine.start(machine)
    with pytest.raises(ActionFailed, match="no answer"):
        await run.send("go")
    await waiting(run)
    assert await run.state() == {"state": "a", "context": {"n": 1}}
    assert await engine.store.inbox(run.id) == [], "no clock was wound up"
    assert run.waiting_on == ("event go", "event lost")


async def test_bf6_a_circle_without_events_fails_by_name_and_the_worker_lives_on(engine: Engine) -> None:
    machine = StateMachine("bf6", initial="a").add_transition("a", "b", "go")
    machine.add_transition("b", "c", ALWAYS).add_transition("c", "b", ALWAYS)
    run = await engine.start(machine)
    await run.signal("go")
    with pytest.raises(RunFailed, match="does not come to rest") as failure:
        await run.result()
    assert failure.value.error.code == "endless_transitions"
    assert await state(run) == "a"
    assert (await (await engine.start(assessment())).send("SUBMIT")).changed


async def test_bf7_from_any_state_comes_last_and_never_from_an_end(engine: Engine) -> None:
    machine = StateMachine("bf7", initial="a")
    machine.add_transition("*", "out", "x").add_transition("a", "b", "x")
    machine.add_transition("b", "foo seen", "foo").add_state("end", final=True).add_transition(
        "out", "end", "x"
    )
    run = await engine.start(machine)
    assert (await run.send("x")).state == "b", "the specific source wins"
    with pytest.raises(InvalidTransition):
        await run.send("foobar")
    assert (await run.send("foo.bar")).state == "foo seen"
    assert (await run.send("x")).state == "out"
    assert (await run.send("x")).state == "end"
    with pytest.raises(InvalidTransition, match="Invalid transition: end -> x"):
        await run.send("x")


async def test_bf8_a_state_that_is_gone_parks_the_run_until_it_is_there_again(
    url: str, open_engine: OpenEngine
) -> None:
    first = await open_engine(url)
    run = await first.start(assessment(), id="bf8")
    await run.send("SUBMIT")
    await waiting(run)
    await first.close(grace=0)
    registry = Registry()
    registry.add(StateMachine("assessment", initial="NEW").add_transition("NEW", "OLD", "AGE"))
    second = await open_engine(url, registry=registry)
    await second.signal("bf8", "APPROVE")

    async def parked() -> bool:
        return (await second.get("bf8")).status is RunStatus.PAUSED

    await until(parked)
    error = (await second.get("bf8")).error
    assert error is not None
    assert "is in state 'PENDING_APPROVAL'" in error.message
    await second.close(grace=0)
    registry.add(as_workflow(assessment()), replace=True)
    third = await open_engine(url, registry=registry)
    again = await third.resume("bf8")

    async def approved() -> bool:
        return bool(await state(again) == "ACTIVE")

    await until(approved)


async def test_bf8_a_machine_that_gained_a_state_goes_on(url: str, open_engine: OpenEngine) -> None:
    first = await open_engine(url)
    await first.start(assessment(), id="bf8")
    await first.close()
    changed = assessment().add_state("WITHDRAWN", final=True).add_transition("DRAFT", "WITHDRAWN", "WITHDRAW")
    registry = Registry()
    registry.add(changed)
    second = await open_engine(url, registry=registry)
    assert (await second.send("bf8", "WITHDRAW")).state == "WITHDRAWN"
    definitions = [d for d in await second.decisions("bf8") if d.name == "definition"]
    assert len(definitions) == 1


async def test_bf9_regions_are_done_once_when_all_are(engine: Engine) -> None:
    machine = StateMachine("bf9", initial="both")
    machine.add_state("both", parallel=True).add_state("done", final=True)
    for name in ("left", "right"):
        machine.add_state(name, parent="both").add_state(f"{name} on", parent=name)
        machine.add_state(f"{name} off", parent=name, final=True)
        machine.add_transition(f"{name} on", f"{name} off", name)
    machine.add_transition("both", "done", "done.state.both")
    run = await engine.start(machine)
    assert (await run.send("left")).state == ("left off", "right on")
    assert (await run.send("right")).state == "done"
    assert (await taken(run)).count("both -> done") == 1


async def test_bf9_of_two_regions_that_leave_the_same_state_the_first_does(engine: Engine) -> None:
    machine = StateMachine("bf9", initial="both")
    machine.add_state("both", parallel=True)
    for name in ("left", "right"):
        machine.add_state(name, parent="both").add_state(f"{name} on", parent=name)
        machine.add_transition(f"{name} on", f"out of {name}", "leave")
    run = await engine.start(machine)
    assert (await run.send("leave")).state == "out of left"


async def test_bf10_reloaded_for_each_event_the_trace_is_the_same(engine: Engine) -> None:
    machine = StateMachine.from_dict(
        {
            "context": {"n": 0},
            "states": {
                "off": {"on": {"power": "on.last"}},
                "on": {
                    "initial": "idle",
                    "on": {"power": "off"},
                    "states": {
                        "idle": {"on": {"play": "playing"}},
                        "playing": {
                            "initial": "slow",
                            "states": {
                                "slow": {"on": {"faster": "fast"}},
                                "fast": {"on": {"slower": "slow"}},
                            },
                        },
                        "last": {"type": "history", "history": "deep", "target": "idle"},
                    },
                },
            },
        },
        name="bf10",
    )
    events = ["power", "play", "faster", "power", "power", "slower", "power", "power"]
    run = await engine.start(machine)
    saved: dict[str, Any] = machine.save()
    for event in events:
        outcome = await run.send(event)
        await waiting(run)  # it is laid down, and loaded again for the next event
        machine.load(json.loads(json.dumps(saved))).trigger(event)
        saved = machine.save()
        assert outcome.state == machine.state
    straight = StateMachine.from_dict(machine.to_dict())
    for event in events:
        straight.trigger(event)
    assert straight.state == machine.state
