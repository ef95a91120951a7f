"""Random sagas on random engines: what they do to a world outside, which must be whole again however they end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from holdfast import RetryPolicy, Saga
from holdfast.errors import InvalidStatus, RunNotFound, StoreUnavailable
from holdfast.model import facts
from holdfast.model.ids import COMPENSATION, is_compensation, split_step
from holdfast.model.run import RunRow, RunStatus
from holdfast.registry import Registry
from holdfast.testing.faults import Faults
from holdfast.testing.loop import ProcessDied
from holdfast.testing.world import World
from tests.simulation.effects import Effects

RUN = "saga"
PATIENCE = 3600.0
"""Virtual seconds that any saga needs at most."""

REPAIRED = 900.0
"""Virtual seconds after which nothing fails any more: else a pivot might be tried for ever."""

SETTLED = 120.0
"""Virtual seconds after which whatever was to go wrong has gone wrong."""

SLOW = 4
"""After so many attempts a step takes no time any more: somebody mended what made it slow."""

GONE = (ProcessDied, StoreUnavailable)


@dataclass
class StepPlan:
    """What a step does: how often it fails, for how long it works, and how often its compensation fails."""

    name: str
    kind: str
    seconds: float
    failures: int
    attempts: int
    timeout: float | None
    items: int | None
    parallel: str | None
    compensated: bool
    undo_failures: int
    undo_attempts: int


@dataclass
class Outside:
    """A service that is asked to do things and to take them back, each under a key, as often as anybody asks.

    What was taken back before it was done is never done: that is how a service tells a late request.
    """

    done: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)

    def do(self, key: str) -> None:
        self.asked[key] += 1
        if key not in self.undone:
            self.done.add(key)

    def undo(self, key: str) -> None:
        self.asked[f"undo {key}"] += 1
        self.done.discard(key)
        self.undone.add(key)


def draw_steps(random: Random) -> list[StepPlan]:
    """A random saga; with some luck one that has a point of no return."""
    total = random.randint(1, 5)
    pivot = random.randrange(total) if random.random() < 0.3 else total
    steps: list[StepPlan] = []
    for number in range(total):
        kind = "compensatable" if number < pivot else "pivot" if number == pivot else "retriable"
        attempts = random.choice((1, 1, 2, 3))
        hopeless = random.random() < 0.2 and kind != "retriable"
        slow = random.random() < 0.15
        undo_attempts = random.choice((1, 3))
        steps.append(
            StepPlan(
                name=f"s{number}",
                kind=kind,
                seconds=9.0 if slow and kind != "retriable" else random.choice((0.0, 0.0, 0.5, 3.0)),
                failures=99 if hopeless else random.choice((0, 0, 0, 1)),
                attempts=attempts,
                timeout=5.0 if slow else None,
                items=random.choice((0, 1, 3)) if random.random() < 0.2 and kind != "pivot" else None,
                parallel="together" if random.random() < 0.3 and kind == "compensatable" else None,
                compensated=random.random() < 0.8,
                undo_failures=99 if random.random() < 0.1 else random.choice((0, 0, 1)),
                undo_attempts=undo_attempts,
            )
        )
    return steps


class Scene:
    """One saga, its engines and its outside."""

    def __init__(self, world: World, steps: Sequence[StepPlan], random: Random) -> None:
        self.world = world
        self.steps = steps
        self.outside = Outside()
        self.effects = Effects(world)
        self.mended = False
        self.failed: Counter[str] = Counter()
        self.stops = random.random() < 0.3
        self.saga = self._build(random.random() < 0.2)
        self.registry = Registry()
        self.registry.add(self.saga)

    def _build(self, returns: bool) -> Saga:
        recovery: Any = "savepoint" if returns else "backward"
        saga = Saga(RUN, recovery, "stop" if self.stops else "continue")
        for number, step in enumerate(self.steps):
            if returns and number == len(self.steps) // 2:
                saga.savepoint(2)
            kind: Any = step.kind
            saga.add_step(
                step.name,
                forward=self._forward(step),
                compensate=self._undo(step) if step.compensated and kind == "compensatable" else None,
                kind=kind,
                retry=RetryPolicy(attempts=step.attempts, backoff=2.0, jitter="none"),
                timeout=step.timeout,
                parallel=step.parallel,
                foreach=None if step.items is None else (lambda n=step.items: range(n)),
            )
        return saga

    def _forward(self, plan: StepPlan) -> Callable[..., Any]:
        async def forward(step: Any, idempotency_key: str) -> str:
            self.effects.begin(step.run_id, step.step_id, step.attempt)
            if self._fails(step.step_id, plan.failures):
                self.failed[step.step_id] += 1
                raise ConnectionError(step.step_id)
            self.outside.do(idempotency_key)
            if not self.mended and step.attempt <= SLOW:
                await asyncio.sleep(plan.seconds)
            return f"{step.step_id} is done"

        return forward

    def _undo(self, plan: StepPlan) -> Callable[..., Any]:
        async def compensate(step: Any, output: str | None, idempotency_key: str) -> None:
            self.effects.begin(step.run_id, step.step_id, step.attempt)
            undone = step.step_id.removeprefix(COMPENSATION)
            if output not in (None, f"{undone} is done"):
                self.effects.violations.append(f"{step.step_id} got {output!r}")
            if self._fails(step.step_id, plan.undo_failures):
                self.failed[step.step_id] += 1
                raise ConnectionError(step.step_id)
            self.outside.undo(idempotency_key.replace(COMPENSATION, ""))
            await asyncio.sleep(plan.seconds / 3)

        return compensate

    def _fails(self, step: str, times: int) -> bool:
        return self.failed[step] < times and not self.mended and self.world.now < REPAIRED

    # --- playing

    async def play(self, engines: int, faults: Faults, interventions: int, resume: bool) -> None:
        """Run the saga to its end among faults and people; then, if told so, mend all and resume it to its end."""
        random = self.world.random
        for number in range(engines):
            with contextlib.suppress(ProcessDied):
                await self.world.engine(registry=self.registry, machine=f"m{number % 2}")
        people = asyncio.create_task(self._meddle(random, interventions))
        self.world.plan.faults = faults
        await self._started()
        await self.world.ended(RUN, PATIENCE)
        people.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await people
        self.world.calm()
        await self._judge_end()
        for _ in range(3 if resume else 0):
            row = await self._row()
            if row.status is RunStatus.COMPLETED:
                break
            self.mended = True
            with contextlib.suppress(*GONE, InvalidStatus):
                await (await self.world.someone()).resume(RUN)
            await self.world.ended(RUN, PATIENCE)
            await self._judge_end()
        if resume:
            assert (await self._row()).status is RunStatus.COMPLETED
        await self.world.sleep(SETTLED)

    async def _started(self) -> None:
        while True:
            try:
                await (await self.world.someone()).start(RUN, id=RUN)
            except GONE:
                await asyncio.sleep(1)
            else:
                return

    async def _meddle(self, random: Random, times: int) -> None:
        for _ in range(times):
            await self.world.sleep(random.uniform(0, 6))
            action = random.choice(("cancel", "pause", "resume"))
            with contextlib.suppress(*GONE, RunNotFound, InvalidStatus):
                engine = await self.world.someone()
                await getattr(engine, action)(RUN)

    async def _row(self) -> RunRow:
        row = await self.world.store.run(RUN)
        assert row is not None
        return row

    # --- judging

    async def _judge_end(self) -> None:
        row = await self._row()
        journal = [fact for commit in self.world.chronicle.commits_of(RUN) for fact in commit.facts]
        found = [*self.effects.violations, *self._wrong(row, journal)]
        assert found == [], (row.status, row.error, found)

    def _wrong(self, row: RunRow, journal: Sequence[facts.Fact]) -> list[str]:
        completed = [fact.step for fact in journal if isinstance(fact, facts.StepCompleted)]
        undone = {step.removeprefix(COMPENSATION) for step in completed if is_compensation(step)}
        # A compensation that failed may have taken effect all the same, in an attempt that was lost.
        scheduled = {fact.step for fact in journal if isinstance(fact, facts.StepScheduled)}
        begun = {step.removeprefix(COMPENSATION) for step in scheduled if is_compensation(step)}
        standing = {key.partition(":")[2] for key in self.outside.done}
        kinds = {step.name: step for step in self.steps}

        def can_be_undone(step: str) -> bool:
            plan = kinds[split_step(step)[0]]
            return plan.compensated and plan.kind == "compensatable"

        wrong = [f"{step} was undone and stands" for step in undone & standing]
        wrong += [
            f"{step} ended well, was not undone, and does not stand"
            for step in set(completed) - begun - standing
            if not is_compensation(step)
        ]
        if row.status is RunStatus.COMPLETED:
            forward = {step for step in completed if not is_compensation(step)} - undone
            left_over = filter(can_be_undone, standing - forward)
            wrong += [f"{step} stands and is no part of the result" for step in left_over]
        elif row.status is RunStatus.CANCELLED or (
            row.error is not None and row.error.compensated is not None
        ):
            broken = row.error.failed_compensations if row.error is not None else ()
            left = {each.step.removeprefix(COMPENSATION) for each in broken}
            excused = bool(left) and self.stops
            wrong += [
                f"{step} stands after all was undone"
                for step in standing - left
                if can_be_undone(step) and not excused
            ]
        return wrong
