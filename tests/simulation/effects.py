"""What the nodes of a simulated world do, and what of that must never happen."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from holdfast import SignalTimeout, interrupt
from holdfast.testing.world import World, inside

if TYPE_CHECKING:
    from tests.simulation.plans import NodePlan

Attempt = tuple[str, str, int]


@dataclass
class Effects:
    """The side effects of all runs, in order, with the violations seen when they happened."""

    world: World
    mended: bool = False
    started: dict[Attempt, list[str]] = field(default_factory=dict)
    """For each attempt the engines that started it: one, whatever went wrong."""
    finished: set[Attempt] = field(default_factory=set)
    raised: Counter[tuple[str, str]] = field(default_factory=Counter)
    called: dict[tuple[str, str, int], float] = field(default_factory=dict)
    """What the calls inside of nodes returned to them."""
    violations: list[str] = field(default_factory=list)

    def begin(self, run: str, step: str, attempt: int) -> None:
        """A node's code begins to run."""
        book = self.world.chronicle.books[run]
        starts = self.started.setdefault((run, step, attempt), [])
        starts.append(inside())
        where = f"run {run}: {inside()} starts {step} attempt {attempt}"
        if (step, attempt) not in book.allowed:
            self.violations.append(f"{where} before that was committed")
        if len(starts) > 1:
            self.violations.append(f"{where}, which was started before: {starts}")
        if step in book.completed and inside() == book.holder:
            self.violations.append(f"{where} after its completion was committed")

    def returned(self, run: str, step: str, number: int, value: float) -> None:
        """A node got the result of a call; every later attempt must get the same."""
        first = self.called.setdefault((run, step, number), value)
        if first != value:
            self.violations.append(f"run {run}: call {number} of {step} returned {first}, then {value}")

    def node(self, plan: NodePlan) -> Callable[..., Any]:  # noqa: C901 - five small functions that share a plan
        """The node's function."""

        def trouble(run: str, step: str) -> float | None:
            """Raise when the plan says so; return how long a slow call takes."""
            troubles = self.raised[run, step]
            if troubles < plan.failures:
                self.raised[run, step] += 1
                raise RuntimeError(f"failure {troubles + 1} of {plan.name}")
            if troubles < plan.failures + plan.slow:
                self.raised[run, step] += 1
                return 3600.0
            if plan.broken and not self.mended:
                raise ValueError(f"{plan.name} is broken")
            return None

        def ask() -> None:
            if plan.asks:
                with contextlib.suppress(SignalTimeout):
                    if (answer := interrupt(plan.question, timeout=plan.patience)) != plan.weight:
                        self.violations.append(f"{plan.name} was told {answer}, not {plan.weight}")

        def done(state: Any, step: Any) -> Any:
            self.finished.add((step.run_id, step.step_id, step.attempt))
            changed, gone = plan.changes(state)
            result = state.merge(changed)
            for key in gone:
                result = result.delete(key)
            return result

        async def run(state: Any, step: Any) -> Any:
            self.begin(step.run_id, step.step_id, step.attempt)
            if plan.seconds:
                await asyncio.sleep(self.world.random.uniform(0, plan.seconds))
            for number in range(plan.calls):
                value = await step.call(self.world.random.random)
                self.returned(step.run_id, step.step_id, number, value)
            ask()
            long = trouble(step.run_id, step.step_id)
            if long is not None:
                await asyncio.sleep(long)
            return done(state, step)

        def run_plain(state: Any, step: Any) -> Any:
            self.begin(step.run_id, step.step_id, step.attempt)
            ask()
            trouble(step.run_id, step.step_id)
            return done(state, step)

        return run_plain if plan.plain else run
