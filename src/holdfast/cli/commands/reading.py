"""`show`, `result`, `stages`, `decisions`, `events`, `journal`: everything there is to know of one run."""

from __future__ import annotations

import asyncio
import fnmatch
from argparse import Namespace
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from holdfast.cli import hints
from holdfast.cli.access import client, find_run, left_behind
from holdfast.cli.arguments import seconds_of
from holdfast.cli.children import as_data, families, show_children
from holdfast.cli.commands.listing import took_so_far
from holdfast.cli.failures import DONE, UsageError
from holdfast.cli.following import recorded
from holdfast.cli.formats import (
    clock,
    duration,
    one_line,
    place_of,
    pretty,
    stage_label,
    stamp,
    utc_now,
)
from holdfast.cli.lines import tell
from holdfast.cli.loading import App
from holdfast.cli.marks import MARKS, NOT_TAKEN, TAKEN, TIMES
from holdfast.cli.output import Cell, Output
from holdfast.cli.tree import draw
from holdfast.cli.view import RunView
from holdfast.core.events import CHUNK_TYPES, EVENT_TYPES
from holdfast.engine import Engine
from holdfast.errors import InvalidStatus, RunError
from holdfast.model.audit import Decision, Stage
from holdfast.model.event import RunEvent
from holdfast.model.run import ENDED, RunStatus
from holdfast.run import Run


@asynccontextmanager
async def reading(args: Namespace, out: Output, app: App | None = None) -> AsyncIterator[tuple[Engine, Run]]:
    """Give a client and the run that was named."""
    async with client(args.url, None if app is None else app.registry) as engine:
        yield engine, await find_run(engine, args.run, out)


# --- show


def show(args: Namespace, out: Output) -> int:
    """Show everything of a run on one page."""
    return asyncio.run(_show(args, out))


async def _show(args: Namespace, out: Output) -> int:
    async with reading(args, out) as (engine, run):
        result = await engine.result(run.id) if run.status is RunStatus.COMPLETED else None
        view = await _view(engine, run)
        if out.json:
            stages = [stage.to_dict() for stage in await run.stages()]
            decisions = [decision.to_dict() for decision in await run.decisions()]
            fork = None if view.forked is None else {"run": view.forked[0], "at": view.forked[1]}
            told = {**run.to_dict(), "forked_from": fork, "result": result}
            children = as_data(await families(engine, run))
            out.document({**told, "stages": stages, "decisions": decisions, "children": children})
            return DONE
        left = run.id in await left_behind(engine, [run])
        _fields(out, list(_facts(run, view, hints.resume(args.url, run.id) if left else "")))
        out.say()
        out.show(
            draw(view, run.updated_at if left or run.status is RunStatus.PAUSED else utc_now(), held=not left)
        )
        show_children(out, await families(engine, run), utc_now())
        if run.status is RunStatus.COMPLETED:
            out.say()
            out.say(("result", "bold"))
            out.text(pretty(result))
        elif run.error is not None:
            _show_error(out, run, args.url)
    return DONE


async def _view(engine: Engine, run: Run) -> RunView:
    """Return the run as its events tell it; it took no time before somebody took it up."""
    view = RunView(run.id, run.workflow)
    async for event in recorded(engine, run):
        view.absorb(event)
    view.settle(run.status, run.waiting_on)
    view.begun = run.started_at or view.begun
    return view


def _facts(run: Run, view: RunView, resume: str) -> Iterator[tuple[str, Cell]]:
    """Yield what is known of a run beside its stages, nothing that is empty; `resume` is set for one left behind."""
    mark, color = MARKS[run.status.value]
    took = duration(took_so_far(run, utc_now(), left=bool(resume)))
    yield "run", (run.id, "bold")
    yield "workflow", f"{run.workflow} {run.version}".rstrip()
    yield from _origin(run, view)
    yield "status", (f"{mark} {run.status.value}", color)
    if resume:
        yield "", (f"left behind: {resume}", "yellow")
    if run.waiting_on:
        yield "waits for", ", ".join(run.waiting_on)
    if run.progress is not None and run.status not in ENDED:
        yield "progress", f"{run.progress.percent:.0f}%  {run.progress.message}  ({run.progress.step})"
    yield "params", one_line(run.params, 2000)
    if run.tags:
        yield "tags", ", ".join(run.tags)
    if run.queue != "default" or run.priority:
        yield "queue", f"{run.queue}, priority {run.priority}"
    yield "created", stamp(run.created_at)
    if run.started_at is not None:
        yield "started", stamp(run.started_at)
    if run.completed_at is not None:
        yield "ended", stamp(run.completed_at)
    if took:
        yield "took", took


def _origin(run: Run, view: RunView) -> Iterator[tuple[str, Cell]]:
    """Yield which run this one comes from, if it comes from one."""
    if view.forked is not None:
        yield "forked", f"from {view.forked[0]} at position {view.forked[1]}"
    if run.parent is not None:
        yield "parent", run.parent


def _fields(out: Output, fields: list[tuple[str, Cell]]) -> None:
    for name, value in fields:
        out.say((f"{name:<10}", "bright_black"), *(value if isinstance(value, list) else [value]))


def _show_error(out: Output, run: Run, url: str | None) -> None:
    error = run.error
    assert error is not None  # noqa: S101 - the caller looked
    where = f" at {stage_label(error.name, 1)}, attempt {error.attempt}" if error.name else ""
    out.say()
    out.say(("error", "bold red"), f"{where}: {error.type or error.code}: {error.message}")
    if place := place_of(error.traceback):
        out.say((f"  {place}", "bright_black"))
    if out.traceback and error.traceback:
        out.say((error.traceback, "bright_black"))
    out.say(
        ("fix", "bold green"),
        ": mend the cause, then go on: ",
        (hints.resume(url, run.id), "cyan"),
    )


# --- result


def result(args: Namespace, out: Output) -> int:
    """Print the result of a run; raises what the run raised."""
    return asyncio.run(_result(args, out))


async def _result(args: Namespace, out: Output) -> int:
    timeout = seconds_of(args.timeout, "--timeout")
    async with reading(args, out) as (engine, run):
        if run.status not in ENDED and not args.wait and timeout is None:
            raise InvalidStatus(
                f"run {run.id} is {run.status.value}; it has no result yet", fix="Wait for it with --wait."
            )
        try:
            value = await engine.result(run.id, timeout)
        except RunError as error:
            error.fix = f"Mend the cause, then go on from there: {hints.resume(args.url, run.id)}"
            raise
        except TimeoutError:
            raise InvalidStatus(
                f"run {run.id} has not ended within {timeout:g} s", fix="Wait longer; the run goes on."
            ) from None
        if out.json:
            out.document(value)
        else:
            out.text(pretty(value))
    return DONE


# --- stages and decisions


def stages(args: Namespace, out: Output) -> int:
    """List the stages of a run."""
    return asyncio.run(_stages(args, out))


async def _stages(args: Namespace, out: Output) -> int:
    with out.clean():
        app = None if args.app is None else App(args.app)
    async with reading(args, out, app) as (_, run):
        if args.inputs and app is not None:
            app.knows(run.workflow)
        found = await run.stages(inputs=args.inputs)
        if out.json:
            out.document([stage.to_dict() for stage in found])
        elif not found:
            out.say(f"Run {run.id} has no stages yet: it is {run.status.value}.")
        else:
            show_stages(out, found, inputs=args.inputs)
    return DONE


def show_stages(out: Output, found: list[Stage], *, inputs: bool = False) -> None:
    """Write the table of stages."""
    headings = [
        "stage",
        "status",
        "attempt",
        "took",
        "began",
        "worker",
        *(["input"] if inputs else []),
        *(["cache"] if any(map(_cache_of, found)) else []),
        "output",
    ]
    names = Counter(stage.name for stage in found)
    rows = (
        _stage_row(stage, inputs=inputs, numbered=names[stage.name] > 1, told="cache" in headings)
        for stage in found
    )
    out.table(headings, rows, right=("attempt", "took"))


def _cache_of(stage: Stage) -> str:
    """Return what the cache said of a stage: whose result it is, or why it ran, and why its result is not kept."""
    if stage.cached:
        return f"of run {stage.cached}"
    return "; ".join(filter(None, (stage.missed, stage.unkept and f"not kept: {stage.unkept}")))


def _stage_row(stage: Stage, *, inputs: bool, numbered: bool, told: bool) -> list[Cell]:
    mark, color = MARKS[stage.status.value]
    row: list[Cell] = [
        stage_label(stage.name, stage.iteration, numbered=numbered),
        (f"{mark} {stage.status.value}", color),
        str(stage.attempt),
        duration(stage.duration),
        ("" if stage.started_at is None else clock(stage.started_at), "bright_black"),
        (process_of(stage.worker), "bright_black"),
    ]
    if inputs:
        row.append(one_line(stage.input, 60))
    if told:
        row.append((_cache_of(stage), "bright_black"))
    failed = stage.error is not None and f"{stage.error.type}: {stage.error.message}".partition("\n")[0]
    row.append((failed, color) if failed else one_line(stage.output, 400))
    return row


def process_of(worker: str) -> str:
    """Return host and process number of a worker's id."""
    return worker.rpartition("-")[0] or worker


def decisions(args: Namespace, out: Output) -> int:
    """List every edge that was tried."""
    return asyncio.run(_decisions(args, out))


async def _decisions(args: Namespace, out: Output) -> int:
    async with reading(args, out) as (_, run):
        found = await run.decisions()
        if out.json:
            out.document([decision.to_dict() for decision in found])
        elif not found:
            out.say(f"Run {run.id} has no decisions yet: it is {run.status.value}.")
        else:
            out.table(("at", "from", "", "to", "name", "reason"), [_decision_row(each) for each in found])
    return DONE


def _decision_row(decision: Decision) -> list[Cell]:
    color = "" if decision.result else "bright_black"
    times = f" {TIMES}{decision.count:,}" if decision.count > 1 else ""
    return [
        (clock(decision.at), "bright_black"),
        (decision.from_node, color),
        TAKEN if decision.result else NOT_TAKEN,
        (f"{decision.to_node or 'nowhere'}{times}", color),
        (decision.name, color),
        (decision.reason, "bright_black"),
    ]


# --- events and journal


def events(args: Namespace, out: Output) -> int:
    """Print the events of a run, with `--follow` until its end."""
    return asyncio.run(_events(args, out))


async def _events(args: Namespace, out: Output) -> int:
    types = _types(args.type)
    write: Callable[[RunEvent], None] = _raw_writer(out) if out.json else _line_writer(out)
    async with reading(args, out) as (engine, run):
        count = 0
        source = (
            engine.events(run.id, args.after, types)
            if args.follow
            else recorded(engine, run, args.after, types)
        )
        async for event in source:
            write(event)
            count += 1
        if not count and not out.json:
            out.note(f"no such events after position {args.after}; run {run.id} is at {run.position}")
    return DONE


def _raw_writer(out: Output) -> Callable[[RunEvent], None]:
    return lambda event: out.raw(event.to_json())


def _line_writer(out: Output) -> Callable[[RunEvent], None]:
    def write(event: RunEvent) -> None:
        told = tell(event)
        out.say(
            (f"{event.position:>6}  {clock(event.at)}  {event.type:<16}", "bright_black"),
            told.sign,
            " ",
            *told.text,
        )

    return write


def _types(given: list[str]) -> list[str] | None:
    """Return the event types that patterns such as `stage.*` mean; None for all."""
    if not given:
        return None
    found = []
    for pattern in (word for words in given for word in words.split(",")):
        matching = fnmatch.filter((*EVENT_TYPES, *CHUNK_TYPES), pattern)
        if not matching:
            raise UsageError(
                f"unknown event type {pattern!r}", fix=f"Use of these: {', '.join(EVENT_TYPES)}; or stage.*"
            )
        found += matching
    return found


def journal(args: Namespace, out: Output) -> int:
    """Print the facts of a run, a line of JSON each."""
    return asyncio.run(_journal(args, out))


async def _journal(args: Namespace, out: Output) -> int:
    async with reading(args, out) as (_, run):
        facts = await run.journal()
        if out.json:
            out.document(facts)
            return DONE
        for fact in facts:
            shown = {name: value for name, value in fact.items() if name not in ("position", "at", "fact")}
            out.say(
                (f"{fact['position']:>6}  ", "bright_black"),
                (f"{fact['fact']:<20}", "cyan"),
                one_line(shown, 4000),
            )
    return DONE
