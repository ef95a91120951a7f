"""The world: real engines on one store and virtual time, where a seed decides what goes wrong.

    async with World(seed=7, faults=Faults(crash=0.05)) as world:
        run = await world.execute("classify", {"document": "memo.pdf"})
        assert run.status == "completed"

Engines, driver, store and workflows are the real ones; only time, chance, threads and the way to the store are not.
The same seed gives the same history. When the world ends it judges the history by the laws of DESIGN section 9 and
raises with the seed when one was broken. Steps should wait with `asyncio.sleep`: real input and output take no virtual
time and do not repeat.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import wraps
from types import TracebackType
from typing import Any, Final, Self, cast

from holdfast import registry as registries
from holdfast.core.nesting import definition_of
from holdfast.core.work import Blobs
from holdfast.engine import Engine
from holdfast.errors import InvalidStatus, StoreUnavailable
from holdfast.model import facts
from holdfast.model.ids import RunId
from holdfast.model.run import ENDED, RunRow, RunStatus
from holdfast.model.values import decode
from holdfast.run import Run
from holdfast.runtime.opening import opened
from holdfast.services import Runtime
from holdfast.store.open import open_store
from holdfast.store.port import Store
from holdfast.store.rows import RunQuery
from holdfast.testing.chronicle import Chronicle
from holdfast.testing.clock import VirtualClock
from holdfast.testing.faults import NO_FAULTS, Faults, FaultyStore, Plan
from holdfast.testing.laws import broken_laws
from holdfast.testing.loop import Process, ProcessDied, VirtualTime, current_process
from holdfast.testing.machine import Locks, SimulatedHost
from holdfast.testing.writes import Writes

DAY: Final = 86_400.0
"""Virtual seconds after which a run that has not ended is held to be stuck."""


class SimulatedEngine(Engine):
    """An engine in a process of its own. Each call runs in there, and raises ProcessDied when that is killed."""

    process: Process
    way: FaultyStore
    """Its way to the store; `way.cut = True` takes it away."""
    ready = False
    """True once it is open: before, nobody has it to work with, though it may have begun to drive runs."""

    @property
    def name(self) -> str:
        """The name of the process and of its worker."""
        return self.process.name

    @property
    def alive(self) -> bool:
        """Tell whether it is open, and was neither killed nor closed."""
        return self.ready and not self.process.dead and self._parts is not None


def _inside(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def call(self: SimulatedEngine, *arguments: Any, **options: Any) -> Any:
        return await self.process.run(method(self, *arguments, **options))

    return call


def _inside_each(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def iterate(self: SimulatedEngine, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        items = method(self, *arguments, **options)
        while True:
            try:
                item = await self.process.run(anext(items))
            except StopAsyncIteration:
                return
            yield item

    return iterate


_ITERATING: Final = ("events",)  # plain functions, which check their arguments at the call

for _name, _method in inspect.getmembers(Engine, inspect.isfunction):
    if not _name.startswith("_"):
        if inspect.iscoroutinefunction(_method):
            setattr(SimulatedEngine, _name, _inside(_method))
        elif _name in _ITERATING:
            setattr(SimulatedEngine, _name, _inside_each(_method))


class World:
    """See the module. `faults` says how often something goes wrong by itself; `crash` and `freeze` do it on purpose."""

    def __init__(self, seed: int = 0, *, faults: Faults = NO_FAULTS, quiet: bool = True) -> None:
        """Prepare. `quiet` keeps the engines' log out of the tests' output: crashes make a lot of it."""
        self.seed: Final = seed
        self.clock: Final = VirtualClock(seed)
        self.random: Final = self.clock.random
        self.plan: Final = Plan(faults, self.random)
        self._faults: Final = faults
        self.chronicle: Final = Chronicle()
        self.engines: Final[list[SimulatedEngine]] = []
        self.store: Store = open_store("sqlite:///:memory:", self.clock.now)
        self._time: Final = VirtualTime(self.clock)
        self._locks: Locks = {}
        self._writes: Final = Writes()
        self._settings: tuple[registries.Registry, Runtime] = (registries.default, Runtime())
        self._log: Final = _Log(self.chronicle.violations, quiet=quiet)

    # --- life

    async def __aenter__(self) -> Self:
        """Open the store and stop real time."""
        await self.store.open()
        self._time.install()
        self._log.install()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the engines, judge what happened, and let real time go on. Raises AssertionError naming the seed."""
        try:
            if error is None:
                await self.close_engines()
                await self.check()
        except AssertionError as failure:
            failure.add_note(f"in the world of seed {self.seed}")
            raise
        finally:
            await self._end()
        if error is not None:
            error.add_note(f"in the world of seed {self.seed}")

    async def _end(self) -> None:
        self.plan.faults = NO_FAULTS
        for engine in self.engines:
            engine.process.kill()
        for engine in self.engines:
            await engine.process.bury()
            await engine.way.arrive()
        await self.store.close()
        self._time.uninstall()
        self._log.uninstall()

    async def close_engines(self) -> None:
        """Close the engines that live, without faults."""
        self.calm()
        for engine in self.engines:
            if engine.alive:
                await engine.close()

    # --- engines

    async def engine(
        self,
        *,
        machine: str = "",
        skew: float = 0.0,
        registry: registries.Registry | None = None,
        runtime: Runtime | None = None,
        observers: Sequence[Any] = (),
        **options: Any,
    ) -> SimulatedEngine:
        """Return an open engine in a new process, with what `Engine` takes. Raises ProcessDied when it dies at once.

        Processes of one `machine` see each other die at once; by default each has its own, and its lease must run
        out. It sees the store's time `skew` seconds off. Registry and runtime are by default those of the last engine.
        """
        self._settings = (registry or self._settings[0], runtime or self._settings[1])
        process = Process(f"engine-{len(self.engines) + 1}")
        way = FaultyStore(self.store, process, self.plan, self.chronicle, self._writes, skew)
        engine = SimulatedEngine(
            "sqlite:///:memory:",
            store=cast("Store", way),
            clock=self.clock,
            host=SimulatedHost(process, machine or process.name, self._locks, self.random),
            registry=self._settings[0],
            runtime=self._settings[1],
            observers=observers,
            **options,
        )
        engine.process, engine.way = process, way
        self.engines.append(engine)
        while True:
            try:
                await engine.open()
            except StoreUnavailable:
                await asyncio.sleep(1)
            else:
                engine.ready = True
                return engine

    def living(self) -> list[SimulatedEngine]:
        """Return the engines that are open and not killed."""
        return [engine for engine in self.engines if engine.alive]

    def crash(self, engine: SimulatedEngine) -> None:
        """Kill an engine's process: nothing of it runs any more, as after SIGKILL."""
        engine.process.kill()

    def freeze(self, engine: SimulatedEngine, seconds: float) -> None:
        """Stop an engine's process for a while; it then goes on as if nothing had happened."""
        engine.process.freeze_for(seconds)

    # --- time and runs

    @property
    def now(self) -> float:
        """Virtual seconds since the world began."""
        return self.clock.elapsed

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)

    async def execute(self, workflow: Any, params: Mapping[str, Any] | None = None, **options: Any) -> Run:
        """Run a workflow to its end among the world's faults, and return the run; all is calm then.

        Engines that die are replaced, a parked run is resumed.
        """
        options.setdefault("id", f"world-{len(self.chronicle.books) + 1}")
        self.plan.faults = self._faults
        run: Run | None = None
        while run is None:
            try:
                run = await (await self.someone()).start(workflow, params, **options)
            except (ProcessDied, StoreUnavailable):
                await asyncio.sleep(1)
        await self.ended(run.id)
        self.calm()
        await asyncio.sleep(1)  # what was to go wrong around calls that are under way still does
        return await (await self.someone()).get(run.id)

    def calm(self) -> None:
        """Let nothing go wrong by itself any more: frozen engines go on, and all reach the store."""
        self.plan.faults = NO_FAULTS
        for engine in self.engines:
            engine.process.thaw()
            engine.way.cut = False

    async def ended(self, run: RunId, patience: float = DAY) -> Run:
        """Wait until a run has ended and return it. Raises AssertionError when it is stuck."""
        until = self.now + patience
        while (row := await self._row(run)) is None or row.status not in ENDED:
            if self.now > until:
                raise AssertionError(f"run {run} is stuck: {row}")
            engine = await self.someone()
            if row is not None and row.status is RunStatus.PAUSED:
                await self._try(engine.resume(run))
            await asyncio.sleep(1)
        return Run(await self.someone(), row)

    async def someone(self) -> SimulatedEngine:
        """Return an engine that lives, a new one if need be."""
        while not self.living():
            try:
                await self.engine()
            except ProcessDied:
                continue
        return self.living()[0]

    async def _try(self, call: Any) -> None:
        try:
            await call
        except (ProcessDied, StoreUnavailable):
            await asyncio.sleep(1)
        except InvalidStatus:
            pass  # it completed meanwhile

    async def _row(self, run: RunId) -> RunRow | None:
        return await self.store.run(run)

    # --- judging

    async def check(self) -> None:
        """Raise AssertionError with all that broke a law so far."""
        violations = [*self.chronicle.violations]
        for row in await self.store.runs(RunQuery(limit=1000)):
            violations += [f"run {row.id}: {text}" for text in self._judge(row)]
        if violations:
            listed = "\n  ".join(violations[:20])
            raise AssertionError(f"seed {self.seed} broke {len(violations)} laws:\n  {listed}")

    def _judge(self, row: RunRow) -> list[str]:
        book = self.chronicle.books.get(row.id)
        if book is None or book.position != row.position:
            return [f"its row is at position {row.position}, its commits at {book and book.position}"]
        registry, runtime = self._settings
        workflow = registry.find(row.workflow)
        started = book.written[0].facts[0]
        if workflow is not None and isinstance(started, facts.RunStarted):
            workflow = definition_of(workflow, started, runtime)
        params = decode(row.params)

        def opens() -> Any:
            assert workflow is not None  # noqa: S101 - asked below
            blobs = Blobs()
            for written in book.written:
                blobs.update(written.commit.blobs)
            return opened(workflow, runtime, params if isinstance(params, dict) else {}, blobs)

        return broken_laws(self.chronicle.commits_of(row.id), opens if workflow else None, self.random)


class _Log(logging.Handler):
    """Notes internal errors that engines only log, and, when quiet, keeps the rest from the tests' output."""

    def __init__(self, violations: list[str], *, quiet: bool) -> None:
        super().__init__(logging.ERROR)
        self._violations = violations
        self._quiet = quiet
        self._logger = logging.getLogger("holdfast")
        self._before = (self._logger.level, self._logger.propagate)

    def install(self) -> None:
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.addHandler(self)
        if self._quiet:
            self._logger.setLevel(logging.ERROR)
            self._logger.propagate = False
        asyncio.get_running_loop().set_exception_handler(self._unhandled)

    def uninstall(self) -> None:
        self._logger.removeHandler(self)
        level, self._logger.propagate = self._before
        self._logger.setLevel(level)
        asyncio.get_running_loop().set_exception_handler(None)

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and "internal error" in str(record.msg):
            self._violations.append(f"logged: {record.getMessage()}: {record.exc_info[1]!r}")

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._violations.append(f"unhandled: {context['message']}: {context.get('exception')!r}")


def inside() -> str:
    """Return the name of the engine whose code runs now, empty in the test's own code. For logs of side effects."""
    process = current_process()
    return "" if process is None else process.name
