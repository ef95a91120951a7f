"""The demo: classify documents with live progress, then kill a process in the middle of one and go on.

``python -m examples.classify_docs.demo [PDF ...]``; without arguments it takes the samples.
"""

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from holdfast import Engine, Run
from holdfast.errors import RunFailed, RunNotFound

from .make_samples import EXPECTED, SAMPLES
from .pages import DocumentError, page_count
from .readlog import ReadLog
from .show import Board, Outcome, failure_of, labels, outcome_of, outcomes_table, pages_text, readings_table
from .worker import services
from .workflow import NAME

_BIG: Final = SAMPLES / "lighthouse-logbook.pdf"
_WORTH_KILLING: Final = 4
"""Pages; a shorter document is over before anyone could kill it."""
_AT_ONCE: Final = 2
"""Documents: the last pages of one and the first of the next keep all processors busy."""
_RUN_ID: Final = "killed-in-the-middle"
_START_WITHIN: Final = 60.0


@dataclass(frozen=True, slots=True)
class Killed:
    """What was left behind by the process that was killed."""

    pid: int
    pages: int
    finished: set[int]
    """Pages whose reading was committed."""


async def main(documents: Sequence[Path], *, kill: bool, console: Console) -> int:
    """Runs the demo and returns the exit code: 0 when all went as it should."""
    logging.getLogger("holdfast").addHandler(_Spoken(console))
    with tempfile.TemporaryDirectory(prefix="classify-docs-") as folder:
        outcomes = await classify_all(documents, Path(folder), console)
        good = _judged(outcomes, console)
        if kill:
            document = _longest(documents)
            killed = await kill_in_the_middle(document, Path(folder), console)
            good = await resume(document, killed, Path(folder), console) and good
    return 0 if good else 1


class _Spoken(logging.Handler):
    """Prints what the engine has to say, as that a worker died, among the demo's own lines."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(f"  engine: {record.getMessage()}", style="dim", highlight=False)


async def classify_all(documents: Sequence[Path], folder: Path, console: Console) -> list[Outcome]:
    """Classifies all documents at once, shows how far each is, and returns their rows."""
    console.rule(f"1. Classify {len(documents)} documents")
    board, turns = Board(console), asyncio.Semaphore(_AT_ONCE)

    async def in_turn(document: Path) -> Outcome:
        async with turns:
            return await _classify_one(engine, document, names[document], board)

    async with Engine(_store(folder), runtime=services(), observers=()) as engine:
        names = labels(documents)
        with board.live(names.values()):
            outcomes = await asyncio.gather(*map(in_turn, documents))
    console.print()
    console.print(outcomes_table(outcomes))
    return outcomes


async def kill_in_the_middle(document: Path, folder: Path, console: Console) -> Killed:
    """Starts a process that classifies the document, kills it when half of the pages are read, says what is left."""
    console.rule(f"2. Kill a process in the middle of {document.name}")
    pages = page_count(document)
    reads = folder / "reads.jsonl"
    worker = [sys.executable, "-m", "examples.classify_docs.worker", str(document.resolve())]
    options = ["--store", _store(folder), "--run-id", _RUN_ID, "--reads", str(reads)]
    async with Engine(_store(folder), workers=False) as client:
        process = subprocess.Popen([*worker, *options])  # noqa: ASYNC220 - starts at once, is never waited for
        console.print(f"  process {process.pid} reads {pages} pages")
        try:
            await _half_read(client, process, Board(console), document.stem, pages)
        finally:
            process.kill()
            process.wait()
        run = await client.get(_RUN_ID)
        finished = await _finished_pages(run)
        console.print(f"  SIGKILL: process {process.pid} is gone (exit code {process.returncode})")
        console.print(
            f"  in the store: run {run.id} is {run.status}, {len(finished)} of {pages} pages are finished"
        )
    return Killed(process.pid, pages, finished)


async def resume(document: Path, killed: Killed, folder: Path, console: Console) -> bool:
    """Opens an engine on the same store, which takes the run up by itself; returns whether no page was read in vain."""
    console.rule("3. Open the store again: the run goes on by itself")
    reads = folder / "reads.jsonl"
    before = len(ReadLog(reads).reads())
    board = Board(console)
    async with Engine(_store(folder), runtime=services(reads), observers=()) as engine:
        run = await engine.get(_RUN_ID)
        with board.live([document.stem]):
            board.pages_known(document.stem, killed.pages)
            board.pages_kept(document.stem, len(killed.finished))
            result = await _followed(run, board, document.stem, known=killed.finished)
        await run.refresh()
        console.print()
        console.print(outcomes_table([outcome_of(document.stem, result, _seconds(run))]))
    log = ReadLog(reads)
    console.print()
    console.print(readings_table(log.reads(), killed.pages, killed.finished, killed.pid))
    again = {read.page for read in log.reads()[before:] if not read.enhanced}
    return _proved(killed, again, log, console)


def _proved(killed: Killed, again: set[int], log: ReadLog, console: Console) -> bool:
    in_vain = again & killed.finished
    twice = {page for page, times in log.times_read().items() if times > 1}
    console.print("  x finished, ~ being read when the process was killed", style="dim")
    console.print()
    console.print(
        f"  finished before the kill: {len(killed.finished)} pages; of these read again: {len(in_vain)}"
    )
    console.print(f"  read twice, because they were in hand at the kill: {pages_text(twice) or 'none'}")
    if in_vain:
        console.print(f"  pages {pages_text(in_vain)} were read in vain", style="bold red")
    return not in_vain


async def _classify_one(engine: Engine, document: Path, name: str, board: Board) -> Outcome:
    run = await engine.start(NAME, {"document": str(document.resolve())})
    try:
        result = await _followed(run, board, name)
    except RunFailed as error:
        await run.refresh()
        board.done(name, "FAILED")
        return failure_of(name, str(error), _seconds(run))
    await run.refresh()
    return outcome_of(name, result, _seconds(run))


async def _followed(run: Run, board: Board, name: str, known: Collection[int] = ()) -> dict[str, Any]:
    """Shows a run's events as they come, except for known pages, and returns its result."""
    async for event in run.events(types=["stage.completed"]):
        stage, output = event.data["name"], event.data["output"]
        if stage == "init":
            board.pages_known(name, output["page_count"])
        elif stage == "detect" and output["detections"][0]["page_number"] not in known:
            board.page_read(name)
        elif stage == "enhance":
            board.note(name, f"page {output['detections'][0]['page_number']} enhanced and read again")
    result: dict[str, Any] = await run.result()
    board.done(name, result["confidence"]["recommendation"])
    return result


async def _half_read(
    client: Engine, process: subprocess.Popen[bytes], board: Board, name: str, pages: int
) -> None:
    """Returns when half of the pages are read by another process, seen through the store."""
    run = await _appeared(client, process)
    with board.live([name]):
        board.pages_known(name, pages)
        count = 0
        async for event in run.events(types=["stage.completed"]):
            if event.data["name"] == "detect":
                board.page_read(name)
                count += 1
            if count >= pages // 2:
                return


async def _appeared(client: Engine, process: subprocess.Popen[bytes]) -> Run:
    """Returns the run as soon as the other process has started it."""
    async with asyncio.timeout(_START_WITHIN):
        while True:
            try:
                return await client.get(_RUN_ID)
            except RunNotFound:
                if process.poll() is not None:
                    raise
                await asyncio.sleep(0.05)


async def _finished_pages(run: Run) -> set[int]:
    stages = await run.stages()
    done = [stage for stage in stages if stage.name == "detect" and stage.status == "completed"]
    return {page["page_number"] for stage in done for page in stage.output["detections"]}


def _judged(outcomes: Sequence[Outcome], console: Console) -> bool:
    """Compares the samples with what is expected of them; returns whether all are right."""
    expected = json.loads((SAMPLES / EXPECTED).read_text(encoding="utf-8"))
    for outcome in outcomes:
        if outcome.recommendation == "FAILED":
            console.print(
                f"  {outcome.document}: {outcome.reason}", style="red", highlight=False, soft_wrap=True
            )
    known = [outcome for outcome in outcomes if outcome.document in expected]
    right = [
        outcome
        for outcome in known
        if "//".join((outcome.marking, *outcome.caveats))
        == (expected[outcome.document]["classification"] or "UNMARKED")
    ]
    if known:
        console.print(f"\n  as expected: {len(right)} of {len(known)} samples", highlight=False)
    return len(right) == len(known) and all(outcome.recommendation != "FAILED" for outcome in outcomes)


def _longest(documents: Sequence[Path]) -> Path:
    """Returns the document with the most pages, or the sample with many when none has enough."""
    lengths = {document: _pages_of(document) for document in documents}
    longest = max(lengths, key=lambda document: lengths[document])
    return longest if lengths[longest] >= _WORTH_KILLING else _BIG


def _pages_of(document: Path) -> int:
    try:
        return page_count(document)
    except DocumentError:
        return 0


def _seconds(run: Run) -> float:
    if run.started_at is None or run.completed_at is None:
        return 0.0
    return (run.completed_at - run.started_at).total_seconds()


def _store(folder: Path) -> str:
    return f"sqlite:///{folder / 'demo.db'}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Classify the security marking of PDF documents.")
    parser.add_argument(
        "documents", nargs="*", type=Path, metavar="PDF", help="any PDFs; without, the samples"
    )
    parser.add_argument("--no-kill", dest="kill", action="store_false", help="only classify")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    chosen = given.documents or sorted(SAMPLES.glob("*.pdf"), key=lambda path: path.stat().st_size)
    sys.exit(asyncio.run(main(chosen, kill=given.kill, console=Console())))
