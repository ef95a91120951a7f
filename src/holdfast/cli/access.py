"""Reaching the store from a command that reads or sends and drives nothing; and the run that a text names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from holdfast.cli.failures import DatabaseMissing, UsageError
from holdfast.cli.formats import plural
from holdfast.cli.output import Output
from holdfast.engine import Engine
from holdfast.errors import RunNotFound
from holdfast.model.ids import RunId, WorkerId, check_run_id
from holdfast.model.run import RunStatus
from holdfast.reading import MOST
from holdfast.registry import Registry
from holdfast.run import Run, WorkerInfo
from holdfast.settings import store_url
from holdfast.store.open import file_of, schema_of, shown

SHORTEST: Final = 4
"""Characters of an id that are taken as its beginning."""

SHOWN: Final = 8


@asynccontextmanager
async def client(url: str | None, registry: Registry | None = None) -> AsyncIterator[Engine]:
    """Give an engine that drives nothing; it makes no database. Raises DatabaseMissing."""
    require_database(url)
    async with Engine(url, registry=registry, workers=False, observers=()) as engine:
        yield engine


def require_database(url: str | None) -> None:
    """Raise DatabaseMissing when the database's file, or a server's schema, is not there."""
    url = store_url(url)
    file = file_of(url)
    if file is not None and not file.exists():
        raise DatabaseMissing(f"there is no database at {file}")
    if file is None and schema_of(url)[0] == 0:
        raise DatabaseMissing(f"there is no schema holdfast in the database {shown(url)}")


async def find_run(engine: Engine, text: str, out: Output) -> Run:
    """Return the run with that id, or the only one whose id begins so. Raises RunNotFound, UsageError."""
    check_run_id(text)
    try:
        return await engine.get(text)
    except RunNotFound:
        pass
    found = await _beginning_with(engine, text) if len(text) >= SHORTEST else []
    if len(found) == 1:
        out.note(f"{text} is run {found[0].id}")
        return found[0]
    if found:
        raise UsageError(
            f"{text} begins the ids of {plural(len(found), 'run')}: {_listed(found)}",
            fix="Give more of the id.",
        )
    raise RunNotFound(f"run {text!r} not found", fix="List the runs with `holdfast runs`.")


async def _beginning_with(engine: Engine, text: str) -> Sequence[Run]:
    page = await engine.runs(limit=MOST)
    return [run for run in page.items if run.id.startswith(text)]


def _listed(runs: Sequence[Run]) -> str:
    names = [f"{run.id} ({run.workflow}, {run.status.value})" for run in runs[:SHOWN]]
    return ", ".join(names) + (", …" if len(runs) > SHOWN else "")


async def living_workers(engine: Engine) -> list[WorkerInfo]:
    """Return the workers that are alive, as far as one can tell from here."""
    return [worker for worker in await engine.workers() if worker.lease == "alive"]


def serves(worker: WorkerInfo, run: Run) -> bool:
    """Tell whether a worker claims such runs. One that drives a few runs only has no queues in the list."""
    return run.workflow in worker.workflows and run.queue in worker.queues


async def left_behind(engine: Engine, runs: Sequence[Run]) -> set[RunId]:
    """Return those that count as running while who drove them is gone; the next engine with their workflow goes on."""
    running = [run for run in runs if run.status is RunStatus.RUNNING]
    if not running:
        return set()
    alive = {worker.id for worker in await living_workers(engine)}
    return {run.id for run in running if await _last_driver(engine, run) not in alive}


async def is_served(engine: Engine, run: Run) -> bool:
    """Tell whether a request for the run is seen soon: by who drove it last, or by a worker that claims such runs."""
    alive = await living_workers(engine)
    driver = await _last_driver(engine, run)
    return any(worker.id == driver or serves(worker, run) for worker in alive)


async def _last_driver(engine: Engine, run: Run) -> WorkerId:
    """Return the worker that made the run's last commit."""
    rows = await engine.store.journal(run.id, after=run.position - 1, limit=1)
    return rows[-1].worker if rows else ""
