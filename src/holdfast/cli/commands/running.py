"""`run` and `resume`: start or go on with a run, here or by whoever works on the store."""

from __future__ import annotations

import asyncio
import contextlib
from argparse import Namespace
from collections.abc import Awaitable, Callable
from typing import Any

from holdfast.cli import hints
from holdfast.cli.access import client, find_run, living_workers, require_database, serves
from holdfast.cli.arguments import params_of, seconds_of, secrets_of
from holdfast.cli.drive import Drive
from holdfast.cli.failures import DONE, UsageError
from holdfast.cli.formats import plural
from holdfast.cli.loading import App
from holdfast.cli.output import Output
from holdfast.core.program import Workflow
from holdfast.engine import Engine
from holdfast.errors import DefinitionError, RunNotFound
from holdfast.model.ids import RunId, check_new_run_id
from holdfast.model.run import RESUMABLE, RunStatus
from holdfast.patterns.graph.factory import GraphWorkflow
from holdfast.run import Run
from holdfast.services import Runtime


def run(args: Namespace, out: Output) -> int:
    """Start a run and drive it to its end; with `--detach` leave it to a worker."""
    params = params_of(args.param, args.params)
    if args.id is not None:
        check_new_run_id(args.id)
    options: dict[str, Any] = {
        "id": args.id,
        "profile": args.profile,
        "secrets": secrets_of(args.secret),
        "queue": args.queue,
        "priority": args.priority,
        "tags": args.tag,
        "timeout": seconds_of(args.timeout, "--timeout"),
    }
    grace = seconds_of(args.grace, "--grace")
    if args.detach and options["secrets"]:
        raise UsageError(
            "--secret and --detach exclude each other: a secret is never stored, so this process must drive the run",
            fix="Leave --detach out, or give the workers' engine a `secrets` provider.",
        )
    with out.clean():
        app = App(args.workflow)
        workflow = app.workflow()
        check_definition(workflow, app.runtime, params)

    async def begin(engine: Engine, only: set[RunId]) -> tuple[Run, int | None]:
        before = None if args.id is None else await _position(engine, args.id)
        if before is not None:
            only.add(args.id)
        return await engine.start(workflow, params, **options), before

    if args.detach:
        return asyncio.run(_detach(args, out, app, lambda engine: engine.start(workflow, params, **options)))
    return asyncio.run(Drive(out, app, args.url, begin, grace).to_the_end())


def check_definition(workflow: Workflow, runtime: Runtime | None, params: dict[str, Any]) -> None:
    """Raise what is wrong with params or graph before there is a run. What else a factory raises fails the run."""
    checked = workflow.check(params)
    if isinstance(workflow, GraphWorkflow):
        try:
            workflow.graph(runtime or Runtime(), checked)
        except DefinitionError:
            raise
        except Exception:  # noqa: BLE001 - the engine meets it again, and keeps it as the run's failure
            return


async def _position(engine: Engine, run_id: str) -> int | None:
    """Return where the history of a run ends, None if there is no such run."""
    with contextlib.suppress(RunNotFound):
        return (await engine.get(run_id)).position
    return None


async def _detach(args: Namespace, out: Output, app: App, start: Callable[[Engine], Awaitable[Run]]) -> int:
    async with Engine(app.url(args.url), registry=app.registry, workers=False, observers=()) as engine:
        started = await start(engine)
        if out.json:
            out.document(started.to_dict())
            return DONE
        out.say("run ", (started.id, "bold"), f"  {started.status.value}")
        await _tell_who_drives(engine, out, started, args.url, app.spec_for(started.workflow))
    return DONE


async def _tell_who_drives(engine: Engine, out: Output, run: Run, url: str | None, app: str) -> None:
    alive = [worker for worker in await living_workers(engine) if serves(worker, run)]
    if alive:
        out.say(
            f"{plural(len(alive), 'worker')} that can drive it: {', '.join(worker.id for worker in alive)}"
        )
        out.say("watch it: ", (hints.command(url, "events", run.id, "--follow"), "cyan"))
        return
    out.say(f"it goes on as soon as a process that knows {run.workflow} opens this database")
    out.say("drive it here: ", (hints.resume(url, run.id, app), "cyan"))


def resume(args: Namespace, out: Output) -> int:
    """Go on with a run: driven here with `--app`, else marked for a worker to take."""
    secrets, grace = secrets_of(args.secret), seconds_of(args.grace, "--grace")
    if args.app is None or args.detach:
        return asyncio.run(_mark(args, out, secrets))
    with out.clean():
        app = App(args.app)
    require_database(app.url(args.url))

    async def begin(engine: Engine, only: set[RunId]) -> tuple[Run, int | None]:
        found = await find_run(engine, args.run, out)
        only.add(found.id)
        app.knows(found.workflow)
        await _require_secrets(engine, app, found, secrets)
        return await engine.resume(found.id, secrets=secrets or None), found.position

    return asyncio.run(Drive(out, app, args.url, begin, grace).to_the_end())


async def _require_secrets(engine: Engine, app: App, run: Run, given: dict[str, str]) -> None:
    """Refuse to drive a run whose secrets nobody gives: it would wait for ever."""
    if run.status is RunStatus.COMPLETED or app.engine is not None:  # the app's engine may have a provider
        return
    row = await engine.store.run(run.id)
    missing = [name for name in ([] if row is None else row.secrets) if name not in given]
    if missing:
        raise UsageError(
            f"run {run.id} needs the secret {', '.join(missing)}, which is never stored",
            fix=f"Add {' '.join(f'--secret {name}=@FILE' for name in missing)}.",
        )


async def _mark(args: Namespace, out: Output, secrets: dict[str, str]) -> int:
    async with client(args.url) as engine:
        found = await find_run(engine, args.run, out)
        before = found.status
        resumed = await engine.resume(found.id, secrets=secrets or None)
        if out.json:
            out.document(resumed.to_dict())
            return DONE
        if before not in RESUMABLE:
            out.say(f"run {found.id} is {before.value} already; nothing changed")
        else:
            out.say(f"run {found.id} was {before.value} and is to go on; a worker must take it")
        await _tell_who_drives(engine, out, resumed, args.url, args.app or "MODULE")
    return DONE
