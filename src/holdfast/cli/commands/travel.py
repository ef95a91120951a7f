"""`interrupts`, `fork`, `rerun`, `clear`, `diff`: what runs ask, and branching off from the past of one."""

from __future__ import annotations

import asyncio
from argparse import Namespace

from holdfast.cli import hints
from holdfast.cli.access import client, find_run
from holdfast.cli.arguments import params_of
from holdfast.cli.failures import DONE, UsageError
from holdfast.cli.formats import one_line, stamp
from holdfast.cli.loading import App
from holdfast.cli.output import Cell, Output
from holdfast.model.audit import Difference, Interrupt, RunDiff
from holdfast.run import Run


def interrupts(args: Namespace, out: Output) -> int:
    """List what runs ask and nobody has answered."""
    return asyncio.run(_interrupts(args, out))


async def _interrupts(args: Namespace, out: Output) -> int:
    async with client(args.url) as engine:
        found = await engine.interrupts(args.workflow)
        if out.json:
            out.document([each.to_dict() for each in found])
        elif not found:
            out.say("No run asks anything.")
        else:
            out.table(("run", "node", "asks", "with", "since", "until"), [_asked(each) for each in found])
            first = found[0]
            answer = hints.command(args.url, "signal", first.run_id, first.name, "JSON")
            out.say("answer one: ", (answer, "cyan"))
    return DONE


def _asked(each: Interrupt) -> list[Cell]:
    return [
        each.run_id,
        f"{each.workflow}: {each.node}",
        (each.name, "bold"),
        "" if each.payload is None else one_line(each.payload, 60),
        (stamp(each.since), "bright_black"),
        "" if each.deadline is None else stamp(each.deadline),
    ]


def fork(args: Namespace, out: Output) -> int:
    """Start a run that begins as another one did."""
    changes = params_of(args.set, None)
    if changes and args.app is None:
        raise UsageError("--set needs the workflow", fix="Add --app MODULE, which registers it.")
    with out.clean():
        app = None if args.app is None else App(args.app)
    return asyncio.run(_fork(args, out, app, changes))


async def _fork(args: Namespace, out: Output, app: App | None, changes: dict[str, object]) -> int:
    async with client(args.url, None if app is None else app.registry) as engine:
        run = await find_run(engine, args.run, out)
        made = await engine.fork(run.id, args.at, changes or None)
        if out.json:
            out.document(made.to_dict())
            return DONE
        at = run.position if args.at is None else args.at
        out.say("run ", (made.id, "bold"), f" begins as {run.id} did up to position {at}")
        _tell_who_drives(args, out, made, app)
    return DONE


def _tell_who_drives(args: Namespace, out: Output, run: Run, app: App | None) -> None:
    spec = "MODULE" if app is None else app.spec_for(run.workflow)
    out.say("a worker takes it up; drive it here: ", (hints.resume(args.url, run.id, spec), "cyan"))


def rerun(args: Namespace, out: Output) -> int:
    """Start a run that keeps what another one did before a task."""
    return asyncio.run(_rerun(args, out, _known(args, out)))


async def _rerun(args: Namespace, out: Output, app: App) -> int:
    async with client(args.url, app.registry) as engine:
        run = await find_run(engine, args.run, out)
        made = await engine.rerun(run.id, args.task, item=args.item)
        if out.json:
            out.document(made.to_dict())
            return DONE
        out.say("run ", (made.id, "bold"), f" keeps what {run.id} did before {args.task}")
        _tell_who_drives(args, out, made, app)
    return DONE


def clear(args: Namespace, out: Output) -> int:
    """Go on with a run, with a task run anew."""
    return asyncio.run(_clear(args, out, _known(args, out)))


async def _clear(args: Namespace, out: Output, app: App) -> int:
    async with client(args.url, app.registry) as engine:
        run = await find_run(engine, args.run, out)
        after = await engine.clear(run.id, args.task, not args.alone, item=args.item)
        if out.json:
            out.document(after.to_dict())
            return DONE
        out.say("run ", (run.id, "bold"), f" goes on, with {args.task} run anew")
        _tell_who_drives(args, out, run, app)
    return DONE


def _known(args: Namespace, out: Output) -> App:
    """Return the app of a command that must know the run's workflow."""
    if args.app is None:
        raise UsageError(f"{args.command} needs the workflow", fix="Add --app MODULE, which registers it.")
    with out.clean():
        return App(args.app)


def diff(args: Namespace, out: Output) -> int:
    """Compare two runs."""
    with out.clean():
        app = None if args.app is None else App(args.app)
    return asyncio.run(_diff(args, out, app))


async def _diff(args: Namespace, out: Output, app: App | None) -> int:
    async with client(args.url, None if app is None else app.registry) as engine:
        left, right = await find_run(engine, args.run, out), await find_run(engine, args.other, out)
        found = await engine.diff(left.id, right.id)
        if out.json:
            out.document(found.to_dict())
        else:
            _tell(out, found)
    return DONE


def _tell(out: Output, found: RunDiff) -> None:
    out.say(f"the first {found.common} facts are the same")
    for name, path in ((found.left, found.left_path), (found.right, found.right_path)):
        out.say((name, "bold"), " went on with ", ", ".join(path) or "no node")
    if not found.states_known:
        out.say("their states are not compared: add --app MODULE, which registers the workflow")
    elif not found.state:
        out.say("their states are the same")
    else:
        out.table(("key", found.left, found.right), [_difference(each) for each in found.state])


def _difference(each: Difference) -> list[Cell]:
    left = one_line(each.left, 60) if each.in_left else ("not there", "bright_black")
    right = one_line(each.right, 60) if each.in_right else ("not there", "bright_black")
    return [(each.key, "bold"), left, right]
