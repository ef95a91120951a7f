"""Driving a run here: an engine with workers, the run on a screen, and a way to stop that loses nothing."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from holdfast.cli import hints
from holdfast.cli.access import client
from holdfast.cli.failures import DONE, FAILED, INTERRUPTED, Interrupted, OutputFailed, RunNotEnded
from holdfast.cli.following import follow, watch
from holdfast.cli.formats import between, duration, plural, pretty
from holdfast.cli.interrupts import Interrupts
from holdfast.cli.loading import App
from holdfast.cli.output import Output
from holdfast.cli.screens import screen_for
from holdfast.cli.view import RunView
from holdfast.engine import Engine
from holdfast.errors import HoldfastError, RunCancelled, RunError
from holdfast.model.ids import RunId
from holdfast.model.run import ENDED, RunStatus
from holdfast.run import Run
from holdfast.store.open import open_store

GRACE: Final = 3.0

_BEGINNINGS: Final = {
    RunStatus.COMPLETED: "has completed already",
    RunStatus.FAILED: "has failed already",
    RunStatus.CANCELLED: "was cancelled already",
}
"""What is said of a run that had ended before it was asked for."""

Begin = Callable[[Engine, set[RunId]], Awaitable[tuple[Run, int | None]]]
"""Starts or resumes the run; tells with it where its history ended before, None for a new run.

The set is of those to drive here.
"""


class Drive:
    """One run, driven in this process until it ends or somebody asks to stop."""

    def __init__(
        self, out: Output, app: App, url: str | None, begin: Begin, grace: float | None = None
    ) -> None:
        """Prepare; nothing is opened yet. `grace` are the seconds that running steps get after Ctrl-C."""
        self._out = out
        self._app = app
        self._url = url
        self._grace = GRACE if grace is None else grace
        self._begin = begin
        self._only: set[RunId] = set()
        self._engine = app.make_engine(url, open_store(app.url(url)), only=self._only)
        self._run: Run | None = None
        self._view = RunView("")

    async def to_the_end(self) -> int:
        """Drive the run and return the exit code. Raises what the run raises."""
        quiet_logging()
        with Interrupts(self._last_words) as interrupts:
            try:
                with self._out.clean():
                    return await interrupts.race(self._driven())
            except Interrupted:
                await self._close()
                return await self._interrupted()
            except (BrokenPipeError, OutputFailed) as error:
                await self._engine.close(grace=self._grace)
                await self._unheard(error)
                raise
            finally:
                await self._engine.close(grace=self._grace)

    async def _driven(self) -> int:
        engine = await self._engine.open()
        run, before = await self._begin(engine, self._only)
        self._run, self._view = run, RunView(run.id, run.workflow)
        if not self._out.json:
            self._out.say("run ", (run.id, "bold"), _beginning(run, before))
        with screen_for(self._out, self._view) as screen:
            if before is None:
                await watch(engine, run, screen)
            else:
                await follow(engine, run, screen, before)
        await run.refresh()
        if run.status is RunStatus.PAUSED:
            return self._paused(run)
        return await self._outcome(run)

    async def _outcome(self, run: Run) -> int:
        try:
            result = await run.result()
        except RunError as error:
            cancelled = isinstance(error, RunCancelled)
            what = "Go on all the same" if cancelled else "Mend the cause, then go on from there"
            error.fix = f"{what}: {self._command(run)}"
            raise
        if not self._out.json:
            if not self._out.lively:  # a tree tells it already
                took = duration(between(run.started_at, run.completed_at))
                self._out.say(("completed", "bold green"), f" in {took}" if took else "")
            self._out.say()
            self._out.text(pretty(result))
        return DONE

    def _paused(self, run: Run) -> int:
        reason = run.error.message if run.error is not None else self._view.reason
        self._leave(f"run {run.id} is paused{': ' if reason else ''}{reason}", run)
        return FAILED

    # --- stopping

    async def _close(self) -> None:
        if self._view.open:
            steps = plural(self._view.open, "unfinished step")
            self._out.note(
                f"stopping: {steps}, up to {self._grace:g}s for those that run; Ctrl-C again ends at once"
            )
        await self._engine.close(grace=self._grace)

    async def _interrupted(self) -> int:
        """Tell how to go on; the run may have ended within the grace."""
        if self._run is None:
            self._leave("interrupted before the run began", None)
        elif await self._ended():
            look = hints.command(self._url, "show", self._run.id)
            self._leave(f"interrupted, but the run had ended; see it: {look}", None)
        else:
            self._farewell()
        return INTERRUPTED

    async def _unheard(self, error: BrokenPipeError | OutputFailed) -> None:
        """Tell on stderr how to go on: nobody reads stdout any more."""
        if self._run is None or await self._ended():
            return
        gone = self._in_memory
        if isinstance(error, OutputFailed):
            error.fix += "" if gone else f" The run goes on with: {self._command(self._run)}"
            return
        with contextlib.suppress(OSError):
            what = "the reader of the output is gone"
            if gone:
                self._out.warn(f"{what}; the run was in memory and is gone, too")
            else:
                self._out.failure(RunNotEnded(f"{what}; nothing is lost", fix=self._command(self._run)))

    @property
    def _in_memory(self) -> bool:
        return self._engine.url.endswith(":memory:")

    async def _ended(self) -> bool:
        assert self._run is not None  # noqa: S101 - asked only when there is one
        if self._in_memory:
            return False
        with contextlib.suppress(HoldfastError):
            async with client(self._engine.url) as engine:
                return (await engine.get(self._run.id)).status in ENDED
        return False

    def _farewell(self) -> None:
        if self._run is not None and self._in_memory:
            self._leave("interrupted; the run was in memory and is gone", None)
        elif self._run is not None:
            self._leave("interrupted; nothing is lost", self._run)

    def _last_words(self) -> None:
        """Tell how to go on from within a signal handler, whatever is on the screen."""
        self._out.leave_screen()
        self._farewell()

    def _command(self, run: Run) -> str:
        return hints.resume(self._url, run.id, self._app.spec_for(run.workflow))

    def _leave(self, message: str, run: Run | None) -> None:
        """Write the last line: how to go on with a run that has not ended."""
        command = "" if run is None else self._command(run)
        if self._out.json:
            self._out.failure(RunNotEnded(message, fix=command))
        else:
            self._out.say((f"{message}, go on with: {command}" if command else message, "yellow"))


def _beginning(run: Run, before: int | None) -> str:
    """Return how a run with a history begins; one that is further than before went on, even if it has ended since."""
    if before is None:
        return ""
    words = _BEGINNINGS.get(run.status) if run.position == before else None
    return f"  {words or 'goes on'}"


def quiet_logging() -> None:
    """Have warnings of the engine in one line each, unless the user's module set logging up."""
    ours = logging.getLogger("holdfast")
    if not (logging.getLogger().handlers or ours.handlers):
        ours.addHandler(_Lines(logging.WARNING))


class _Lines(logging.Handler):
    """Writes to what stderr is at the moment: a screen takes it over while it draws."""

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.levelname.lower()}: {self.format(record)}"
        sys.stderr.write(f"{text}\n")
