"""`doctor`: looks at everything a run needs, and says of each thing whether it is well, and what to do if not."""

from __future__ import annotations

import asyncio
import platform
import shutil
import sqlite3
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from typing import Final

import msgspec

import holdfast
from holdfast.cli import hints
from holdfast.cli.access import client, require_database
from holdfast.cli.failures import DONE, FAILED, STORE, DatabaseMissing
from holdfast.cli.formats import ago, duration, plural, size, stamp, utc_now
from holdfast.cli.output import Output
from holdfast.engine import Engine
from holdfast.errors import HoldfastError, StoreError
from holdfast.model.ids import moment
from holdfast.model.run import ENDED, RunStatus
from holdfast.run import WorkerInfo
from holdfast.settings import store_url
from holdfast.store.open import file_of, is_in_memory, schema_of, shown

OLDEST_PYTHON: Final = (3, 11)
OLDEST_SQLITE: Final = (3, 35)
LITTLE_ROOM: Final = 512 << 20
SKEW: Final = timedelta(seconds=5)
RUNS: Final = 1000
"""Runs that are looked at for who serves them."""

LISTED: Final = 5
"""Workers that get a line of their own, and workflows that each is said to know."""

INDENT: Final = 13

STYLES: Final = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


class Finding(msgspec.Struct, frozen=True):
    """What was looked at, how it stands (ok, warn, fail), what was seen, and what to do."""

    check: str
    status: str
    text: str
    fix: str = ""


def doctor(args: Namespace, out: Output) -> int:
    """Look for what is wrong; exit 4 when the store fails, 1 when something else does."""
    return asyncio.run(_doctor(args, out))


async def _doctor(args: Namespace, out: Output) -> int:
    url = store_url(args.url)
    found = []
    async for finding in _findings(url, args.url):
        found.append(finding)
        if not out.json:
            _show(out, finding)
    if out.json:
        out.document([msgspec.structs.asdict(finding) for finding in found])
    failed = [finding.check for finding in found if finding.status == "fail"]
    if not out.json:
        warned = sum(finding.status == "warn" for finding in found)
        out.say()
        out.say(_summary(len(failed), warned))
    return DONE if not failed else STORE if set(failed) & {"store", "integrity"} else FAILED


def _summary(failed: int, warned: int) -> str:
    if failed:
        return f"{plural(failed, 'thing')} must be mended."
    return f"{plural(warned, 'thing')} to look at." if warned else "All is well."


def _show(out: Output, finding: Finding) -> None:
    mark, color = STYLES[finding.status]
    out.say((f"{mark} ", color), (f"{finding.check:<11}", "bold"), finding.text)
    if finding.fix:
        out.indented(INDENT, ("fix: ", "bold green"), finding.fix)


async def _findings(url: str, given: str | None) -> AsyncIterator[Finding]:
    for finding in _of_machine():
        yield finding
    try:
        require_database(url)
        yield _schema(url)
        async with client(url) as engine:
            await engine.store.release("doctor", [])  # writes nothing, but must be let to
            where = "" if file_of(url) is None else ", on a local file system"
            yield Finding("store", "ok", f"{shown(url)} is reachable and writable{where}")
            async for finding in _of_store(engine, url, given):
                yield finding
    except DatabaseMissing as error:
        yield Finding("store", "warn", error.message, "The first run makes it; `holdfast demo` shows one.")
    except HoldfastError as error:
        yield Finding("store", "fail", error.message, error.fix)


# --- the machine


def _of_machine() -> Iterator[Finding]:
    version = platform.python_version()
    text = (
        f"{platform.python_implementation()} {version}, Holdfast {holdfast.__version__}, {platform.system()}"
    )
    if sys.version_info < OLDEST_PYTHON:
        yield Finding("python", "fail", text, "Use Python 3.11 or later.")
    else:
        yield Finding("python", "ok", text)
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        yield Finding(
            "sqlite", "fail", f"SQLite {sqlite3.sqlite_version} is older than 3.35", "Use a newer Python."
        )
    else:
        yield Finding("sqlite", "ok", f"SQLite {sqlite3.sqlite_version}")


# --- the store


def _schema(url: str) -> Finding:
    schema, newest = schema_of(url)
    if schema < newest:
        return Finding(
            "schema", "warn", f"schema {schema}, today's is {newest}", "Run `holdfast db upgrade`."
        )
    return Finding("schema", "ok", f"schema {schema}")


async def _of_store(engine: Engine, url: str, given: str | None) -> AsyncIterator[Finding]:
    yield await _integrity(engine)
    if file_of(url) is not None or is_in_memory(url):  # a server's disk is not ours to see
        yield _room(url)
    yield await _clock(engine)
    workers = await engine.workers()
    alive = [worker for worker in workers if worker.lease == "alive"]
    dead = [worker for worker in workers if worker.lease == "expired"]
    for finding in _of_workers(alive, dead):
        yield finding
    async for finding in _of_runs(engine, alive, given):
        yield finding


async def _integrity(engine: Engine) -> Finding:
    try:
        faults = list(await engine.store.check())
    except StoreError as error:
        faults = [error.message]
    if faults:
        return Finding(
            "integrity", "fail", f"damaged: {'; '.join(faults[:LISTED])}", "Restore it from a backup."
        )
    return Finding("integrity", "ok", "the database is sound")


def _room(url: str) -> Finding:
    file = file_of(url)
    if file is None:
        return Finding("disk", "ok", "in memory: all is gone when the process ends")
    free = shutil.disk_usage(file.parent).free
    if free < LITTLE_ROOM:
        return Finding(
            "disk", "warn", f"only {size(free)} are free", f"Free some space on the disk of {file.parent}."
        )
    return Finding("disk", "ok", f"{size(free)} free")


async def _clock(engine: Engine) -> Finding:
    """Compare the clock with the newest run: a clock that was set back keeps timers and leases from being due."""
    page = await engine.runs(limit=1)
    now = moment(engine.store.now())
    if page.items and page.items[0].updated_at > now + SKEW:
        ahead = (page.items[0].updated_at - now).total_seconds()
        return Finding(
            "clock",
            "fail",
            f"the clock is {duration(ahead)} behind the newest run",
            "Set the clock, best by NTP.",
        )
    return Finding("clock", "ok", f"{stamp(now)} (UTC {now:%H:%M:%S})")


def _of_workers(alive: list[WorkerInfo], dead: list[WorkerInfo]) -> Iterator[Finding]:
    for worker in alive[:LISTED]:
        knows = _some(worker.workflows) or "no workflow"
        since = ago(worker.started_at, utc_now())
        yield Finding("worker", "ok", f"{worker.id} is alive, began {since}; knows {knows}")
    if len(alive) > LISTED:
        yield Finding("worker", "ok", f"{len(alive) - LISTED} more are alive")
    if dead:
        names = _some([worker.id for worker in dead])
        fix = "Their runs go on in the next engine that knows their workflows; see below for those that wait."
        yield Finding("worker", "warn", f"{plural(len(dead), 'worker')} died: {names}", fix)
    if not alive:
        yield Finding("worker", "ok", "no worker is alive; that is well as long as nothing waits for one")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")


async def _of_runs(engine: Engine, alive: list[WorkerInfo], given: str | None) -> AsyncIterator[Finding]:
    page = await engine.runs(status=[status for status in RunStatus if status not in ENDED], limit=RUNS)
    if not page.items:
        yield Finding("runs", "ok", f"{plural(await engine.count(), 'run')}, all ended")
        return
    served = {name for worker in alive for name in worker.workflows}
    active = [run for run in page.items if run.status is not RunStatus.PAUSED]
    alone = Counter(run.workflow for run in active if run.workflow not in served)
    for workflow, count in alone.items():
        example = next(run.id for run in active if run.workflow == workflow)
        yield Finding(
            "runs",
            "warn",
            f"{plural(count, 'unfinished run')} of {workflow}, which no living worker knows",
            f"Open an engine with it, or drive one here: {hints.resume(given, example)}",
        )
    parked = sum(run.status is RunStatus.PAUSED for run in page.items)
    if parked:
        fix = "See why: holdfast runs --status paused; go on: holdfast resume RUN"
        yield Finding("runs", "warn", f"{plural(parked, 'run')} paused", fix)
    going = len(active) - sum(alone.values())
    if going:
        yield Finding("runs", "ok", f"{plural(going, 'unfinished run')} served by a worker")
