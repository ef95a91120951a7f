"""One seed: random runs on random engines, among random mishaps and interventions, until all is well; then the verdict.

First chaos, for a minute or so: engines die, freeze, close and are replaced, the store fails, people pause, resume,
cancel and signal. Then everything is mended, every run is resumed until it ends, and it must have come to what the
model says.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from holdfast.core.events import kind_of, type_of
from holdfast.core.observers import Observer
from holdfast.errors import InvalidStatus, RunFailed, RunNotFound, StoreUnavailable
from holdfast.model import facts
from holdfast.model.event import RunEvent
from holdfast.model.run import RunRow, RunStatus
from holdfast.registry import Registry, as_workflow
from holdfast.store.rows import RunQuery
from holdfast.testing.families import family_laws, last_fork
from holdfast.testing.faults import NO_FAULTS, Faults
from holdfast.testing.loop import ProcessDied
from holdfast.testing.world import SimulatedEngine, World
from tests.simulation.effects import Effects
from tests.simulation.forks import Cut, Forks
from tests.simulation.model import Completed, Failed, expected
from tests.simulation.plans import FIRST, Plan, build, draw_plan

PATIENCE = 3600.0
"""Virtual seconds that a healthy world may need to end all runs."""

GONE = (ProcessDied, StoreUnavailable)
Wrap = Callable[[Any], Any]


class Recorder(Observer):
    """Keeps which events it saw."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = {}

    async def on_event(self, event: RunEvent) -> None:
        self.seen.setdefault(event.run_id, []).append(event.position)


@dataclass
class Shape:
    """What kind of seed this is."""

    faults: Faults = NO_FAULTS
    engines: int = 1
    machines: int = 1
    runs: int = 1
    size: int = 8
    concurrency: int = 100
    skew: float = 0.0
    chaos: float = 0.0
    interventions: int = 0
    timeout: bool = False
    seconds: float = 60.0


def draw_shape(random: Random) -> Shape:
    """A random kind of seed; each sort of trouble is absent from many, so that the others show alone."""

    def maybe(share: float, most: float) -> float:
        return random.uniform(0, most) if random.random() < share else 0.0

    if random.random() < 0.1:
        return Shape(runs=random.randint(1, 3), concurrency=random.choice((1, 100)))
    return Shape(
        faults=Faults(
            crash=maybe(0.4, 0.1),
            freeze=maybe(0.3, 0.1),
            refuse=maybe(0.3, 0.2),
            lose=maybe(0.3, 0.2),
            late=maybe(0.3, 0.1),
            twice=maybe(0.3, 0.2),
            delay=maybe(0.3, 0.5),
            freeze_seconds=random.choice((5.0, 45.0, 90.0)),
            delay_seconds=random.choice((0.01, 0.5, 5.0)),
        ),
        engines=random.randint(1, 3),
        machines=random.randint(1, 2),
        runs=random.choice((1, 1, 2, 3)),
        concurrency=random.choice((1, 2, 100)),
        skew=random.choice((0.0, 0.0, 0.3)),
        chaos=maybe(0.5, 0.3),
        interventions=random.choice((0, 0, 2, 5)),
        timeout=random.random() < 0.1,
        seconds=random.choice((10.0, 30.0, 60.0)),
    )


@dataclass
class Started:
    """A run of the scenario."""

    id: str
    plan: Plan
    name: str
    acknowledged: bool = False
    touched: bool = False
    signals: set[str] = field(default_factory=set)
    cut: Cut | None = None
    """Where it was forked from another run."""


class Scenario:
    """Drives a world by its seed."""

    def __init__(self, world: World, shape: Shape, *, plans: int | None = None) -> None:
        self.world = world
        self.shape = shape
        self.random = world.random
        self.effects = Effects(world)
        self.registry = Registry()
        self.runs: list[Started] = []
        self.recorders: dict[str, Recorder] = {}
        self.closed: set[str] = set()
        self.followed: dict[str, list[int]] = {}
        self.violations: list[str] = []
        self.results: dict[str, Any] = {}
        self.strict = True
        self.peace = self.over = False
        self.forks = Forks(self)
        drawing = self.random if plans is None else Random(plans)
        for number in range(shape.runs):
            plan = self._plan(drawing)
            name = f"graph-{number}"
            self.registry.add(as_workflow(build(plan, name, self.effects)))
            # Whether a child takes longer than its node allows is nothing that the model knows.
            hurried = any(node.inner is not None and node.timeout for node in plan.all_nodes())
            self.runs.append(Started(f"run-{number}", plan, name, touched=hurried))

    def _plan(self, random: Random) -> Plan:
        while True:
            plan = draw_plan(random, self.shape.size)
            outcome = expected(plan)
            if isinstance(outcome, Failed) or outcome.steps <= 40:
                return plan

    # --- the play

    async def play(self) -> None:
        """Chaos, then peace until every run has ended."""
        await self._staff()
        tasks = [asyncio.create_task(self._start(run)) for run in self.runs]
        people = [asyncio.create_task(self._intervene()) for _ in range(self.shape.interventions)]
        people.append(asyncio.create_task(self.forks.make()))
        if self.random.random() < 0.3:
            tasks.append(asyncio.create_task(self._follow(self.runs[0])))
        if any(node.asks for run in self.runs for node in run.plan.all_nodes()):
            tasks.append(asyncio.create_task(self._answer()))
        if self.shape.chaos or self.shape.faults is not NO_FAULTS:
            tasks.append(asyncio.create_task(self._trouble()))
        else:
            await self._calm()
        if self.shape.chaos or self.shape.faults is not NO_FAULTS or self.shape.interventions:
            await asyncio.sleep(self.random.uniform(0.2, 1.0) * self.shape.seconds)
        self._make_peace()
        await asyncio.gather(*people)
        await self._heal()
        await asyncio.gather(*tasks)

    async def _staff(self) -> None:
        """Have as many engines as the shape wants."""
        while len(self.world.living()) < self.shape.engines:
            recorder = Recorder()
            name = f"engine-{len(self.world.engines) + 1}"
            self.recorders[name] = recorder
            with contextlib.suppress(*GONE):
                await self.world.engine(
                    machine=f"machine-{self.random.randint(1, self.shape.machines)}",
                    skew=self.random.uniform(-1, 1) * self.shape.skew,
                    registry=self.registry,
                    observers=[recorder],
                    concurrency=self.shape.concurrency,
                )

    async def _someone(self) -> SimulatedEngine:
        while not (able := [e for e in self.world.living() if not e.process.frozen and not e.way.cut]):
            if self.peace or not self.world.living():
                await self._staff()
            await asyncio.sleep(1)
        return self.random.choice(able)

    async def _start(self, run: Started) -> None:
        random = self.random
        await asyncio.sleep(random.choice((0.0, random.uniform(0, 10))))
        options: dict[str, Any] = {"delay": random.choice((None, None, None, 0.5, 5.0))}
        if self.shape.timeout:
            options["timeout"], run.touched = random.uniform(1, 20), True
        while not run.acknowledged:
            engine = await self._someone()
            try:
                await engine.start(run.name, FIRST, id=run.id, **options)
            except GONE:
                await asyncio.sleep(random.uniform(0, 3))
            else:
                run.acknowledged = True

    async def _trouble(self) -> None:
        """Have the store fail at times, and engines die, freeze and be replaced."""
        self.world.plan.faults = self.shape.faults
        until = self.world.now + self.shape.seconds
        while self.world.now < until:
            await asyncio.sleep(self.random.uniform(0.1, 3))
            if self.peace:
                return
            if self.random.random() < self.shape.chaos:
                await self._mishap()
            if self.random.random() < 0.5:
                await self._staff()

    async def _mishap(self) -> None:
        engines = self.world.living()
        if not engines:
            return
        engine, number = self.random.choice(engines), self.random.random()
        if number < 0.4:
            self.world.crash(engine)
        elif number < 0.7:
            self.world.freeze(engine, self.random.uniform(1, 90))
        elif number < 0.85:
            engine.way.cut = not engine.way.cut
        elif not engine.process.frozen and not engine.way.cut:
            with contextlib.suppress(*GONE):
                await self._close(engine, self.random.choice((0.0, 1.0, 30.0)))

    async def _close(self, engine: SimulatedEngine, grace: float) -> None:
        await engine.close(grace)
        faults = self.shape.faults
        if not (faults.delay or faults.freeze or faults.late or faults.refuse):
            self.closed.add(
                engine.name
            )  # else its last commit may have been answered too late for its observers

    async def _intervene(self) -> None:
        """Do one thing that people do to a run."""
        random = self.random
        await asyncio.sleep(random.uniform(0, 20))
        if self.peace:
            return
        run = random.choice(self.runs)
        run.touched = True
        target = random.choice([run.id, *(row.id for row in await self._children(run))])
        key = f"signal-{random.randint(1, 3)}"
        verb = random.choice(("pause", "pause", "cancel", "resume", "signal", "signal"))
        for _ in range(random.choice((1, 1, 2))):
            engine = await self._someone()
            actions: dict[str, Any] = {
                "pause": lambda e=engine: e.pause(target),
                "cancel": lambda e=engine: e.cancel(target),
                "resume": lambda e=engine: e.resume(target),
                "signal": lambda e=engine: e.signal(target, "news", 1, key=key),
            }
            with contextlib.suppress(*GONE, RunNotFound, InvalidStatus):
                await actions[verb]()
                if verb == "signal":
                    run.signals.add(key)
            await asyncio.sleep(random.uniform(0, 5))

    async def _answer(self) -> None:
        """Answer whatever the runs ask, sooner or later, some questions twice."""
        while not self.over:
            await asyncio.sleep(self.random.uniform(0.1, 5))
            for run in self.runs:
                for row in await self._family(run):
                    for wait in row.waiting_on:
                        if wait.startswith("signal "):
                            with contextlib.suppress(*GONE, RunNotFound, InvalidStatus):
                                await self._tell(run, row.id, wait.removeprefix("signal "))

    async def _tell(self, run: Started, asking: str, question: str) -> None:
        weight = next(node.weight for node in run.plan.all_nodes() if node.question == question)
        await (await self._someone()).signal(asking, question, weight)

    async def _family(self, run: Started) -> list[RunRow]:
        """The run and all its descendants."""
        rows = await self.world.store.runs(RunQuery(limit=1000, ascending=True))
        return [row for row in rows if row.id == run.id or row.id.startswith(f"{run.id}/")]

    async def _children(self, run: Started) -> list[RunRow]:
        return [row for row in await self._family(run) if row.parent]

    async def _follow(self, run: Started) -> None:
        """Follow a run's events wherever they can be had, and keep their positions."""
        seen = self.followed.setdefault(run.id, [])
        while True:
            engine = await self._someone()
            try:
                async for event in engine.events(run.id, after=seen[-1] if seen else 0):
                    seen.append(event.position)
            except (*GONE, RunNotFound):
                await asyncio.sleep(1)
                continue
            row = await self.world.store.run(run.id)
            if self.over and row is not None and (not seen or seen[-1] == row.position):
                return
            await asyncio.sleep(1)

    # --- peace

    async def _calm(self) -> None:
        """Without any trouble a run ends as the model says, broken nodes and all, before anything is mended."""
        for run in self.runs:
            if run.touched or self.shape.interventions:
                continue
            while not run.acknowledged:
                await asyncio.sleep(1)
            row = await self._at_end(run)
            outcome = expected(run.plan, mended=False)
            if not self.strict:
                continue
            if isinstance(outcome, Completed):
                fits = row.status is RunStatus.COMPLETED
            else:
                error = row.error or facts.ErrorInfo("", "")
                fits = row.status is RunStatus.FAILED and error.code == outcome.code
                fits = fits and outcome.node in ("", error.name)
            if not fits:
                self.violations.append(
                    f"run {run.id} is {row.status} ({row.error}), the model says {outcome!r:.500}"
                )

    async def _at_end(self, run: Started) -> RunRow:
        """The run's row when it has ended, whatever became of the engine that was asked."""
        while True:
            with contextlib.suppress(*GONE):
                return (await (await self._someone()).wait(run.id, timeout=PATIENCE))._row
            await self._staff()

    def _make_peace(self) -> None:
        self.world.calm()
        self.effects.mended = self.peace = True

    async def _heal(self) -> None:
        """Have every run end; resume it as often as that takes."""
        world = self.world
        until = world.now + PATIENCE
        for run in self.runs:
            outcome = expected(run.plan, cut=run.cut)
            while not await self._ended(run, outcome):
                await self._staff()  # a crash that was meant for a certain commit may come only now
                if world.now > until:
                    self.violations.append(f"run {run.id} is stuck: {await self._stuck(run)}")
                    break
                await asyncio.sleep(2)
        self.over = True

    async def _ended(self, run: Started, outcome: Completed | Failed) -> bool:
        """Tell whether the run came to its end; resume it when it is paused, cancelled, or failed for no reason."""
        for engine in self.world.engines:
            engine.process.thaw()  # a freeze that was under way
        row = await self.world.store.run(run.id)
        if row is None:
            return False
        if row.status is RunStatus.COMPLETED:
            return True
        code = None if row.error is None else row.error.code
        if row.status is RunStatus.FAILED and isinstance(outcome, Failed) and code == outcome.code:
            return True
        parked = [child for child in await self._children(run) if child.status is RunStatus.PAUSED]
        for each in (row, *parked):
            if each.status in (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.PAUSED):
                engine = await self._someone()
                with contextlib.suppress(*GONE, InvalidStatus):
                    await engine.resume(each.id)
        return False

    async def _stuck(self, run: Started) -> str:
        database = self.world.store._writer.connection  # type: ignore[attr-defined]
        row = await self._family(run)
        jobs = database.execute("SELECT * FROM jobs").fetchall()
        inbox = database.execute("SELECT * FROM inbox").fetchall()
        workers = database.execute("SELECT id, leased_until, stopped_at FROM workers").fetchall()
        living = [engine.name for engine in self.world.living()]
        return f"{row}\n    job {jobs}\n    inbox {inbox}\n    workers {workers}\n    living {living}"

    # --- the verdict

    async def verdict(self) -> list[str]:
        """Close the engines and return all that is wrong."""
        if self.violations:
            return self.violations
        found = self.effects.violations
        for run in self.runs:
            found += [f"run {run.id}: {text}" for text in await self._outcome(run)]
        self.closed |= {engine.name for engine in self.world.living()}
        await self.world.close_engines()
        found += self._observed()
        found += await self._left_over()
        return found

    async def _outcome(self, run: Started) -> list[str]:
        outcome, engine = expected(run.plan, cut=run.cut), (await self._someone())
        try:
            result: Any = await engine.result(run.id, timeout=60)
        except RunFailed as error:
            result = Failed(error.error.code, error.error.name)
            outcome = Failed(outcome.code, result.node) if isinstance(outcome, Failed) else outcome
        self.results[run.id] = result
        wanted = outcome.state if isinstance(outcome, Completed) else outcome
        found = [] if result == wanted else [f"came to {result!r:.800}\n    the model says {wanted!r:.800}"]
        journal = self._journal(run.id)
        family = await self._family(run)
        found += [text for each in family for text in self._never_ended(each.id)]
        found += family_laws(family, self._journal)
        keys = [fact.key for fact in journal if isinstance(fact, facts.SignalReceived)]
        if len(keys) != len(set(keys)):
            found.append(f"a signal was taken twice: {keys}")
        shown = [position for position, fact in enumerate(journal, 1) if type_of(fact) is not None]
        if run.id in self.followed and self.followed[run.id] != shown:
            found.append(f"a follower saw {self.followed[run.id]} of {shown}")
        return found

    def _journal(self, run: str) -> list[facts.Fact]:
        return [fact for commit in self.world.chronicle.commits_of(run) for fact in commit.facts]

    def _never_ended(self, run: str) -> list[str]:
        """Steps of code that are recorded as completed and never were."""
        journal = self._journal(run)
        nested = {f.step for f in journal if isinstance(f, facts.StepScheduled) and f.kind == "run"}
        return [
            f"{run}: {fact.step} attempt {fact.attempt} is recorded as completed and never was"
            for fact in journal[last_fork(journal) :]
            if isinstance(fact, facts.StepCompleted)
            and kind_of(fact.step) != "inner"
            and fact.step not in nested
            and (run, fact.step, fact.attempt) not in self.effects.finished
        ]

    def _observed(self) -> list[str]:
        found = []
        for name, recorder in self.recorders.items():
            made: dict[str, list[int]] = {}
            for run, position, fact, unknown in self.world.chronicle.positions(name):
                if type_of(fact) is not None and (not unknown or position in recorder.seen.get(run, ())):
                    made.setdefault(run, []).append(position)
            for run in sorted(made.keys() | recorder.seen.keys()):
                committed, seen = made.get(run, []), recorder.seen.get(run, [])
                if committed[: len(seen)] != seen:
                    found.append(
                        f"the observer of {name} saw {seen} of run {run}, committed were {committed}"
                    )
                elif name in self.closed and committed != seen:
                    found.append(f"the observer of {name} missed {committed[len(seen) :]} of run {run}")
        return found

    async def _left_over(self) -> list[str]:
        """Nothing of an ended run is left to do."""
        database = self.world.store._writer.connection  # type: ignore[attr-defined]
        found = []
        for table in ("jobs", "inbox"):
            rows = database.execute(
                f"SELECT t.* FROM {table} AS t JOIN workflow_runs AS r ON r.id = t.run"  # noqa: S608 - two names of ours
                " WHERE r.status = 'completed'"
            ).fetchall()
            if rows:
                found.append(f"left in {table}: {rows}")
        return found


async def play(
    seed: int, shape: Shape | None = None, *, plans: int | None = None, store: Wrap | None = None
) -> Scenario:
    """Play one seed and raise AssertionError, which says how to replay it, when a law was broken.

    `plans` is the seed of the graphs alone; `store` may put something before the store, to see what is noticed.
    """
    world = World(seed)
    if store is not None:
        world.store = store(world.store)
    try:
        async with world:
            scenario = Scenario(world, shape or draw_shape(world.random), plans=plans)
            await scenario.play()
            found = await scenario.verdict()
            assert not found, "\n  ".join(found[:10])
    except BaseException as error:
        error.add_note(f"replay it: HOLDFAST_SEED={seed} pytest tests/simulation/test_seeds.py")
        raise
    return scenario
