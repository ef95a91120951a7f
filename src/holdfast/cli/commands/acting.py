"""`cancel`, `pause`, `signal`, `delete`: sent through the store to whoever drives the run."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Awaitable, Callable

from holdfast.cli import hints
from holdfast.cli.access import client, find_run, is_served
from holdfast.cli.arguments import value_of
from holdfast.cli.failures import DONE
from holdfast.cli.output import Output
from holdfast.engine import Engine
from holdfast.model.ids import RunId
from holdfast.model.run import ENDED, RunStatus
from holdfast.run import Run


def cancel(args: Namespace, out: Output) -> int:
    """Ask a run to end."""
    return asyncio.run(_request(args, out, Engine.cancel))


def pause(args: Namespace, out: Output) -> int:
    """Let nothing new start in a run."""
    return asyncio.run(_request(args, out, Engine.pause))


async def _request(args: Namespace, out: Output, ask: Callable[[Engine, RunId, str], Awaitable[Run]]) -> int:
    async with client(args.url) as engine:
        run = await find_run(engine, args.run, out)
        await _tell(engine, args, out, (run, await ask(engine, run.id, args.reason)))
    return DONE


async def _tell(engine: Engine, args: Namespace, out: Output, runs: tuple[Run, Run]) -> None:
    """Tell what became of a request that whoever drives the run carries out; `runs` is it before and after."""
    verb, (before, after) = args.command, runs
    if out.json:
        out.document(after.to_dict())
    elif before.status in ENDED or (verb == "pause" and before.status is RunStatus.PAUSED):
        out.say(f"run {before.id} is {before.status.value} already; nothing changed")
    elif await is_served(engine, before):
        out.say(
            f"{verb} is sent to run {before.id}; see it: ",
            (hints.command(args.url, "show", before.id), "cyan"),
        )
    else:
        out.say(
            f"{verb} is stored for run {before.id}; it acts when a worker takes the run, and none is there now"
        )
        out.say("take it here: ", (hints.resume(args.url, before.id), "cyan"))


def signal(args: Namespace, out: Output) -> int:
    """Send a named value to a run."""
    return asyncio.run(_signal(args, out))


async def _signal(args: Namespace, out: Output) -> int:
    value = None if args.value is None else value_of(args.value, "the value")
    async with client(args.url) as engine:
        run = await find_run(engine, args.run, out)
        await engine.signal(run.id, args.name, value, args.key)
        if out.json:
            out.document((await engine.get(run.id)).to_dict())
        else:
            out.say(f"signal {args.name} is stored for run {run.id}")
    return DONE


def delete(args: Namespace, out: Output) -> int:
    """Delete an ended run with all that is its own."""
    return asyncio.run(_delete(args, out))


async def _delete(args: Namespace, out: Output) -> int:
    async with client(args.url) as engine:
        run = await engine.get(args.run)
        await engine.delete(run.id)
        if out.json:
            out.document({"deleted": run.id})
        else:
            out.say(f"run {run.id} of {run.workflow} is deleted")
    return DONE
