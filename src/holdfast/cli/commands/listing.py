"""`runs`, `workflows` and `workers`: what there is."""

from __future__ import annotations

import asyncio
import shlex
from argparse import Namespace
from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.cli.access import client, left_behind
from holdfast.cli.arguments import time_of
from holdfast.cli.failures import DONE, DatabaseMissing
from holdfast.cli.formats import SHORT_ID, ago, between, cut, duration, utc_now
from holdfast.cli.loading import App
from holdfast.cli.marks import MARKS
from holdfast.cli.output import Cell, Output
from holdfast.engine import Engine
from holdfast.model.run import ENDED, RunStatus
from holdfast.run import Page, Run, WorkerInfo, WorkflowInfo

STANDING: Final = ENDED | {RunStatus.PAUSED}

LEFT_BEHIND: Final = "left behind: holdfast resume RUN --app MODULE"


def runs(args: Namespace, out: Output) -> int:
    """List runs, a page at a time."""
    return asyncio.run(_runs(args, out))


async def _runs(args: Namespace, out: Output) -> int:
    filters = {
        "workflow": args.workflow,
        "status": [word for given in args.status for word in given.split(",") if word],
        "tags": args.tag,
        "since": time_of(args.since, "--since"),
        "until": time_of(args.until, "--until"),
    }
    async with client(args.url) as engine:
        page = await engine.runs(
            **filters, order="oldest" if args.oldest_first else "newest", limit=args.limit, after=args.after
        )
        if out.json:
            out.document(
                {"items": [run.to_dict() for run in page.items], "next": page.next, "total": page.total}
            )
        elif page.items:
            _show_page(args, out, page, await left_behind(engine, page.items))
        elif any(filters.values()):
            out.say("No run matches. All runs: ", ("holdfast runs", "cyan"))
        elif args.after:
            out.say("No more runs.")
        else:
            out.say(
                "No runs yet. Start one: ",
                ("holdfast run MODULE:WORKFLOW", "cyan"),
                ", or see ",
                ("holdfast demo", "cyan"),
            )
    return DONE


def _show_page(args: Namespace, out: Output, page: Page, left: set[str]) -> None:
    now = utc_now()
    full = args.full_ids or not out.lively
    headings = ("run", "workflow", "status", "started", "took", "")
    out.table(
        headings, (_row(run, now, full=full, left=run.id in left) for run in page.items), right=("took",)
    )
    if page.next is not None:
        options = [word for word in args.words if word not in ("--after", args.after)]
        command = shlex.join(["holdfast", *options, "--after", page.next])
        out.say((f"{len(page)} of {page.total:,} runs; the next: ", "bright_black"), (command, "cyan"))
    elif page.total > len(page):
        out.say((f"the last {len(page)} of {page.total:,} runs", "bright_black"))


def _row(run: Run, now: datetime, *, full: bool, left: bool) -> list[Cell]:
    mark, color = MARKS[run.status.value]
    took = duration(took_so_far(run, now, left=left))
    return [
        run.id if full or len(run.id) <= SHORT_ID + 4 else (run.id[:SHORT_ID], ""),
        run.workflow,
        (f"{mark} {run.status.value}", color),
        (ago(run.created_at, now), "bright_black"),
        took,
        (LEFT_BEHIND, "yellow") if left else _remark(run),
    ]


def took_so_far(run: Run, now: datetime, *, left: bool) -> float | None:
    """Return the seconds from a run's begin to its end; to now while it goes on, else to its last commit."""
    stands = left or run.status in STANDING
    return between(run.started_at, run.completed_at, run.updated_at if stands else now)


def _remark(run: Run) -> Cell:
    """Return the one thing worth knowing of a run that is not simply done."""
    if run.error is not None:
        where = f"{run.error.name}: " if run.error.name else ""
        return (f"{where}{run.error.type}: {cut(run.error.message, 120)}", MARKS[run.status.value][1])
    if run.waiting_on:
        return (f"waits for {', '.join(run.waiting_on)}", "bright_black")
    if run.progress is not None and run.status not in ENDED:
        return (
            f"{run.progress.step.partition('#')[0]} {run.progress.percent:.0f}% {run.progress.message}",
            "bright_black",
        )
    return (", ".join(run.tags), "bright_black")


def workflows(args: Namespace, out: Output) -> int:
    """List the workflows of the app, and those that workers of the store know."""
    return asyncio.run(_workflows(args, out))


async def _workflows(args: Namespace, out: Output) -> int:
    with out.clean():
        app = None if args.app is None else App(args.app)
    found = await _known(args.url, app)
    if out.json:
        out.document([msgspec.structs.asdict(each) for each in found])
        return DONE
    if not found:
        out.say(
            "No workflow is known. Name the module that registers some: ",
            ("holdfast workflows --app MODULE", "cyan"),
        )
        return DONE
    headings = ("workflow", "version", "params", "known to", "description")
    out.table(headings, [_workflow_row(each) for each in found])
    return DONE


async def _known(url: str | None, app: App | None) -> list[WorkflowInfo]:
    registry = None if app is None else app.registry
    try:
        async with client(url, registry) as engine:
            return await engine.workflows()
    except DatabaseMissing:
        if app is None:
            raise
    async with Engine("sqlite:///:memory:", registry=registry, workers=False, observers=()) as engine:
        return await engine.workflows()


def _workflow_row(info: WorkflowInfo) -> list[Cell]:
    known = "this app" if info.here else "workers"
    return [
        (info.name, "bold"),
        info.version,
        _params(info.schema),
        (known, "bright_black"),
        cut(info.description, 100),
    ]


def _params(schema: dict[str, Any]) -> str:
    """Return the params as people write them, optional ones in brackets."""
    required = schema.get("required", ())
    return (
        " ".join(name if name in required else f"[{name}]" for name in schema.get("properties", {})) or "any"
    )


def workers(args: Namespace, out: Output) -> int:
    """List the workers of the store."""
    return asyncio.run(_workers(args, out))


async def _workers(args: Namespace, out: Output) -> int:
    async with client(args.url) as engine:
        found = await engine.workers(stopped=args.all)
    if out.json:
        out.document([msgspec.structs.asdict(each) for each in found])
    elif found:
        now = utc_now()
        headings = ("worker", "pid", "lease", "since", "runs", "queues", "workflows")
        out.table(headings, [_worker_row(each, now) for each in found], right=("pid", "runs"))
    else:
        out.say("No worker is there. Start one: ", ("holdfast worker --app MODULE", "cyan"))
    return DONE


_LEASES: Final = {"alive": ("●", "green"), "expired": ("✗", "red"), "stopped": ("○", "bright_black")}


def _worker_row(worker: WorkerInfo, now: datetime) -> list[Cell]:
    mark, color = _LEASES[worker.lease]
    return [
        (worker.id, "bold"),
        str(worker.pid),
        (f"{mark} {worker.lease}", color),
        (ago(worker.stopped_at or worker.started_at, now), "bright_black"),
        str(worker.runs),
        ", ".join(worker.queues) or ("one run alone", "bright_black"),
        (", ".join(worker.workflows), "bright_black"),
    ]
