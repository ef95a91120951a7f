"""`demo`: a run, its process killed before your eyes, the run resumed by another process, and the proof."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Final, NamedTuple

from holdfast.cli.demo_workflow import FANNED_OUT, FRAMES, NAME, RUN_ID, Traces
from holdfast.cli.failures import DONE, FAILED, UsageError
from holdfast.cli.following import follow, watch
from holdfast.cli.formats import duration, plural, stage_label
from holdfast.cli.marks import MARKS, TIMES
from holdfast.cli.output import Cell, Output
from holdfast.cli.screens import QuietScreen, Screen, screen_for
from holdfast.cli.view import RunView
from holdfast.engine import Engine
from holdfast.errors import HoldfastError, RunNotFound
from holdfast.model.audit import Stage
from holdfast.model.ids import step_id
from holdfast.model.run import StepStatus
from holdfast.run import Run

KILL_AFTER: Final = 6
"""So many stages are completed before the process is killed: the split and the first frames."""

MOMENT: Final = 0.04
"""Share of the demo's seconds from then to the kill, for the next frames to be well under way."""

LOOK: Final = 0.12
"""Share of the demo's seconds to look at what is left."""

SHORT: Final = 0.02
FINISHED: Final = "finished"
UNDER_WAY: Final = "under way"
START_WITHIN: Final = 30.0
LEAST: Final = 2.0
MOST: Final = 600.0


class Left(NamedTuple):
    """What was there at the moment of the kill."""

    pid: int
    stages: dict[str, Stage]
    traces: dict[str, int]

    def word(self, step: str) -> str:
        """Return how a stage stood: finished, under way, to be tried again; empty when it had not begun."""
        stage = self.stages.get(step)
        if stage is None or step not in self.traces:
            return ""
        if stage.status is StepStatus.COMPLETED:
            return FINISHED
        ended = sum(attempt.status is StepStatus.FAILED for attempt in stage.attempts)
        return UNDER_WAY if self.traces[step] > ended else "to retry"

    def those(self, word: str) -> list[str]:
        """Return the stages that stood so."""
        return [step for step in self.stages if self.word(step) == word]


def demo(args: Namespace, out: Output) -> int:
    """Play the demo."""
    if not LEAST <= args.seconds <= MOST:
        raise UsageError(f"--seconds {args.seconds:g}", fix=f"Give {LEAST:g} to {MOST:g}.")
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-", ignore_cleanup_errors=True) as folder:
        return asyncio.run(Demo(out, Path(folder), args.seconds).play())


class Demo:
    """The demo in a folder that is thrown away."""

    def __init__(self, out: Output, folder: Path, seconds: float) -> None:
        """Name the database and the file of side effects."""
        self._out = out
        self._seconds = seconds
        self._url = f"sqlite:///{(folder / 'demo.db').as_posix()}"
        self._log = folder / "log.txt"
        self._traces = Traces(folder / "traces.txt", seconds)
        self._process: subprocess.Popen[bytes] | None = None

    async def play(self) -> int:
        """Play it to the end and return the exit code."""
        begun = time.monotonic()
        async with Engine(self._url, workers=False, observers=()) as engine:
            try:
                run, left = await self._killed(engine)
                await self._resumed(engine, run)
                result = await run.result(timeout=self._seconds)
            finally:
                self._kill()
            stages = {step_id(stage.name, stage.iteration): stage for stage in await run.stages()}
        return self._prove(left, stages, result, time.monotonic() - begun)

    # --- acts

    async def _killed(self, engine: Engine) -> tuple[Run, Left]:
        """Have a process run the film and kill it in the middle; returns what was left."""
        pid = self._spawn()
        self._title(1, f"process {pid} renders a film: {FRAMES} frames, four at once")
        run = await self._appeared(engine)
        with self._screen(run) as screen:
            watching = asyncio.ensure_future(watch(engine, run, screen))
            while screen.view.completed < KILL_AFTER and not watching.done():
                await asyncio.wait((watching,), timeout=SHORT)
            await asyncio.sleep(self._seconds * MOMENT)
            self._kill()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        self._say(
            ("  SIGKILL ", "bold white on red"),
            (f"  process {pid} is gone, in the middle of its work", "bold red"),
        )
        await run.refresh()
        stages = {step_id(stage.name, stage.iteration): stage for stage in await run.stages()}
        left = Left(pid, stages, self._traces.counts())
        self._say(
            f"            in the database: run {run.id} is {run.status.value}, "
            f"{plural(len(left.those(FINISHED)), 'step')} completed, {len(left.those(UNDER_WAY))} under way"
        )
        await asyncio.sleep(self._seconds * LOOK)
        return run, left

    async def _resumed(self, engine: Engine, run: Run) -> None:
        """Have another process open the same database: the run goes on by itself."""
        pid = self._spawn()
        self._title(2, f"process {pid} opens the same database, and the run goes on by itself")
        with self._screen(run) as screen:
            await follow(engine, run, screen, run.position)

    def _prove(self, left: Left, stages: dict[str, Stage], result: object, took: float) -> int:
        """Show the stages with how often each ran, and return the exit code."""
        counts = self._traces.counts()
        finished = left.those(FINISHED)
        again = [step for step in finished if counts[step] != left.traces[step]]
        if self._out.json:
            shown = [stage.to_dict() | {"ran": counts[step]} for step, stage in stages.items()]
            self._out.document(
                {
                    "status": "completed",
                    "result": result,
                    "killed": left.pid,
                    "stages": shown,
                    "ran_again": again,
                }
            )
            return FAILED if again else DONE
        self._title(3, "its stages, with how often each really ran, counted in a file of side effects")
        headings = ("stage", "when killed", "now", "ran", "took", "by process")
        self._out.table(
            headings, [_row(step, each, left, counts) for step, each in stages.items()], right=("ran", "took")
        )
        self._out.say()
        word = "none of them ran again" if not again else f"RAN AGAIN: {', '.join(again)}"
        self._out.say(
            ("✓ completed", "bold green" if not again else "bold red"),
            f" in {took:.1f}s. {plural(len(finished), 'step')} finished before the kill: {word}.",
        )
        self._out.say(
            "  What was under way at the kill ran once more, for its result had not been committed."
        )
        self._out.say()
        self._out.say(
            "next: ",
            ("holdfast run MODULE:WORKFLOW", "cyan"),
            "  runs your own; Ctrl-C it, then ",
            ("holdfast resume", "cyan"),
        )
        return FAILED if again else DONE

    # --- the process

    def _spawn(self) -> int:
        command = [sys.executable, "-m", "holdfast.cli.demo_workflow"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, self._url, str(self._traces.path), str(self._seconds)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self._process.pid

    def _kill(self) -> None:
        """Send SIGKILL, which no process can see coming."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def _appeared(self, engine: Engine) -> Run:
        """Return the run as soon as the process has started it."""
        deadline = time.monotonic() + START_WITHIN
        while True:
            try:
                return await engine.get(RUN_ID)
            except RunNotFound:
                if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                    said = self._log.read_text(encoding="utf-8", errors="replace")
                    raise HoldfastError(f"the demo's process did not start: {said.strip()[-2000:]}") from None
            await asyncio.sleep(SHORT)

    # --- words

    def _screen(self, run: Run) -> Screen:
        view = RunView(run.id, NAME)
        return QuietScreen(view) if self._out.json else screen_for(self._out, view)

    def _title(self, number: int, text: str) -> None:
        self._say(*(["\n"] if number > 1 else []), (f"{number}  ", "bold cyan"), (text, "bold"))

    def _say(self, *parts: str | tuple[str, str]) -> None:
        if not self._out.json:
            self._out.indented(0, *parts)


def _row(step: str, stage: Stage, left: Left, counts: dict[str, int]) -> list[Cell]:
    word = left.word(step)
    return [
        stage_label(stage.name, stage.iteration, numbered=stage.name == FANNED_OUT),
        (word, "green" if word == FINISHED else "yellow"),
        (f"{MARKS[stage.status.value][0]} {stage.status.value}", MARKS[stage.status.value][1]),
        (f"{counts[step]}{TIMES}", "" if counts[step] == 1 else "yellow"),
        duration(stage.duration),
        (stage.worker.split("-")[-2], "bright_black"),
    ]
