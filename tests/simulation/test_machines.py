"""Machines whose processes die at each commit in turn: every event is answered once, every action counts once.

The machine has all that a machine can have: actions in order, one that fails, a hierarchy with a history, two regions,
clocks, an invoked workflow, and assignments. The laws of the world judge every journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest

from holdfast import InvalidTransition, RunStatus, StateMachine
from holdfast.core.context import step_context
from holdfast.errors import ActionFailed, StoreUnavailable
from holdfast.machines import ALWAYS, action, assign, raise_event
from holdfast.registry import Registry, as_workflow
from holdfast.testing.faults import Faults, Mishap
from holdfast.testing.loop import ProcessDied
from holdfast.testing.world import World
from tests.graphs import sequence

EVENTS: Final = (
    ("pay", "a"),
    ("ship", "b"),  # nobody listens
    ("hold", "c"),
    ("go on", "d"),
    ("check", "e"),
    ("pack", "f"),
    ("label", "g"),
    ("break", "h"),
    ("ship", "i"),
)
FAULTS: Final = Faults(crash=0.01, freeze=0.004, refuse=0.01, lose=0.02, late=0.01, twice=0.01, delay=0.05)


class Shop:
    """Machines of one kind, and what their actions did, by idempotency key."""

    def __init__(self) -> None:
        self.done: dict[str, set[str]] = {}

    def does(self, name: str, **changes: Any) -> Any:
        async def act(context: dict[str, Any]) -> dict[str, Any]:
            key = step_context().idempotency_key
            self.done.setdefault(name, set()).add(key)
            await asyncio.sleep(0.2)
            if name == "break":
                raise ConnectionError("broken")
            return {"log": [*context["log"], name], **changes}

        return action(act, name)

    def registry(self) -> Registry:
        registry = Registry()
        registry.add(as_workflow(sequence("deliver", drive=lambda _: {"parcel": "there"})))
        registry.add(as_workflow(self.machine()))
        return registry

    def machine(self) -> StateMachine:
        machine = StateMachine("shop", initial="new", context={"log": [], "n": 0})
        machine.add_state("open", initial="packing")
        machine.add_state("packing", parent="open", parallel=True, entry=self.does("enter packing"))
        for region, event in (("box", "pack"), ("paper", "label")):
            machine.add_state(f"{region} open", parent=region)
            machine.add_state(region, parent="packing", initial=f"{region} open")
            machine.add_state(f"{region} done", parent=region, final=True)
            machine.add_transition(f"{region} open", f"{region} done", event, action=self.does(event))
        machine.add_state("last", parent="open", history="deep", initial="packing")
        machine.add_state("ready", parent="open")
        machine.add_transition(
            "new", "open", "pay", action=[self.does("charge"), assign(lambda c: {"n": c["n"] + 1})]
        )
        machine.add_transition("open", "held", "hold", action=self.does("stop"))
        machine.add_transition("held", "last", "go on").add_transition("held", "new", after=600)
        machine.add_transition("open", None, "check", action=[raise_event("checked"), self.does("check")])
        machine.add_transition("open", None, "checked", action=assign({"checked": True}))
        machine.add_transition("packing", "ready", "done.state.packing")
        machine.add_transition("ready", "ready", "break", action=self.does("break"))
        machine.add_transition("ready", "sent", "ship")
        machine.add_transition(
            "sent", "waiting", invoke="deliver", action=assign(lambda _, e: {"got": e.data["parcel"]})
        )
        machine.add_transition("waiting", "closing", after=30)
        machine.add_state("closing", exit=self.does("file"))
        machine.add_state("closed", final=True)
        return machine.add_transition("closing", "closed", ALWAYS)


class Play:
    """One run of the shop's machine, driven by events from engines that may die."""

    def __init__(self, world: World, shop: Shop) -> None:
        self.world = world
        self.shop = shop
        self.answers: list[str] = []

    async def insist(self, call: Callable[[Any], Any]) -> Any:
        """Call until it is answered, by an engine that lives."""
        while True:
            try:
                engine = await self.world.someone()
                async with asyncio.timeout(300):
                    return await call(engine)
            except (ProcessDied, StoreUnavailable, TimeoutError):
                await self.unpark()
                await self.world.sleep(1)

    async def unpark(self) -> None:
        """Take the run up again when it is parked for killing its workers."""
        try:
            engine = await self.world.someone()
            if (await engine.get("order")).status is RunStatus.PAUSED:
                await engine.resume("order")
        except (ProcessDied, StoreUnavailable, LookupError):
            return

    async def play(self) -> dict[str, Any]:
        await self.insist(lambda engine: engine.start("shop", id="order"))
        for event, key in EVENTS:
            await self.say(event, key)
        run = await self.world.ended("order")
        self.world.calm()
        result: dict[str, Any] = await self.insist(lambda engine: engine.result(run.id))
        return result

    async def say(self, event: str, key: str) -> None:
        try:
            outcome = await self.insist(lambda engine: engine.send("order", event, key=key))
        except (InvalidTransition, ActionFailed) as refusal:
            self.answers.append(type(refusal).__name__)
        else:
            self.answers.append(str(outcome.state))


EXPECTED_ANSWERS: Final = [
    "('box open', 'paper open')",
    "InvalidTransition",
    "held",
    "('box open', 'paper open')",
    "('box open', 'paper open')",
    "('box done', 'paper open')",
    "ready",
    "ActionFailed",
    "sent",
]
EXPECTED: Final = {
    "state": "closed",
    "context": {
        "log": ["charge", "enter packing", "stop", "enter packing", "check", "pack", "label", "file"],
        "n": 1,
        "checked": True,
        "got": "there",
    },
}


async def play(
    seed: int, faults: Faults | None = None, mishap: tuple[int, Mishap, bool] | None = None
) -> int:
    """Play once; returns how many commits that took."""
    shop = Shop()
    async with World(seed) as world:
        if mishap is not None:
            number, what, after = mishap
            world.plan.at_commit(number, what, after=after)
        for _ in range(2):
            await world.engine(registry=shop.registry())
        if faults is not None:
            world.plan.faults = faults
        one = Play(world, shop)
        assert await one.play() == EXPECTED
        assert one.answers == EXPECTED_ANSWERS
        # Whatever was tried twice: each time the action was due it had one key.
        counts = {name: len(keys) for name, keys in shop.done.items()}
        assert counts.pop("enter packing") == 2
        assert set(counts.values()) == {1}
    return world.plan.commits


async def test_nothing_goes_wrong() -> None:
    assert await play(0) > 20


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mishap", ["crash", "freeze", "lose", "late", "twice"])
def test_something_goes_wrong_at_each_commit(mishap: Mishap, after: bool) -> None:
    with asyncio.Runner() as runner:
        total = runner.run(play(1))
        for number in range(1, total + 1):
            runner.run(play(1, mishap=(number, mishap, after)))


@pytest.mark.parametrize("seed", range(10))
async def test_things_go_wrong_by_chance(seed: int) -> None:
    await play(seed, faults=FAULTS)
