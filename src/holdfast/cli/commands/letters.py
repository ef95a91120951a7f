"""`dead-letters`: runs that failed for good or killed their workers: listed, shown, redriven, put away."""

from __future__ import annotations

import asyncio
from argparse import Namespace

from holdfast.burying import Letters
from holdfast.cli import hints
from holdfast.cli.access import client
from holdfast.cli.failures import DONE, UsageError
from holdfast.cli.formats import ago, cut, utc_now
from holdfast.cli.output import Cell, Output
from holdfast.core.letters import DeadLetter
from holdfast.engine import Engine


def letters(args: Namespace, out: Output) -> int:
    """List dead letters, or do something about some."""
    if args.all and (args.run or args.action != "redrive"):
        raise UsageError(
            "--all is for redrive, without runs", fix="Write: holdfast dead-letters redrive --all"
        )
    if args.action == "stop" and args.run:
        raise UsageError("stop takes no run", fix="Write: holdfast dead-letters stop")
    if args.action not in ("list", "stop") and not (args.run or args.all):
        raise UsageError(f"{args.action} needs a run", fix=f"Write: holdfast dead-letters {args.action} RUN")
    if (args.done or args.skip) and (args.action != "redrive" or args.all):
        raise UsageError(
            "--done and --skip are for redriving one run",
            fix="Write: holdfast dead-letters redrive RUN --done STEP",
        )
    if args.action == "list" and args.run:
        raise UsageError("list takes no run", fix=f"Write: holdfast dead-letters show {args.run[0]}")
    return asyncio.run(_letters(args, out))


async def _letters(args: Namespace, out: Output) -> int:
    async with client(args.url) as engine:
        match args.action:
            case "show":
                for run in args.run:
                    _show(await engine.dead_letter(run), args.url, out)
            case "redrive":
                await _redrive(engine, args, out)
            case "stop":
                await engine.stop_redriving()
                _did(out, {"stopped": "redrive"}, "whoever redrives many has stopped")
            case "discard":
                for run in args.run:
                    after = await engine.discard(run)
                    _did(out, {"discarded": after.id}, f"the dead letter of run {after.id} is put away")
            case _:
                _list(await engine.dead_letters(args.workflow, args.code, args.limit, args.after), args, out)
    return DONE


async def _redrive(engine: Engine, args: Namespace, out: Output) -> None:
    if not args.all:
        for id_ in args.run:
            run = await engine.redrive(id_, done=args.done, skip=args.skip)
            _did(out, {"redriven": run.id}, f"run {run.id} goes on when a worker takes it")
        return
    count = 0
    async for run in engine.redrive_many(args.workflow, args.code, rate=args.rate):
        count += 1
        _did(out, {"redriven": run.id}, f"run {run.id} goes on when a worker takes it")
    if not out.json:
        out.say(f"{count} redriven")


def _did(out: Output, document: dict[str, str], text: str) -> None:
    if out.json:
        out.document(document)
    else:
        out.say(text)


def _list(found: Letters, args: Namespace, out: Output) -> None:
    if out.json:
        items = [letter.to_dict() for letter in found]
        out.document({"items": items, "next": found.next, "total": found.total})
    elif found:
        now = utc_now()
        rows: list[list[Cell]] = [
            [
                letter.id,
                letter.workflow,
                letter.stage,
                (letter.code, "red"),
                (ago(letter.dead_at, now), "bright_black"),
                cut(letter.message, 120),
            ]
            for letter in found
        ]
        out.table(("run", "workflow", "stage", "code", "dead", "message"), rows)
        if found.next is not None:
            out.say(f"{found.total} in all; the next page: ", (_following(found.next, args), "cyan"))
        out.say("see one: ", (hints.command(args.url, "dead-letters", "show", found[0].id), "cyan"))
    else:
        out.say("No dead letters.")


def _following(cursor: str, args: Namespace) -> str:
    chosen = [("--workflow", args.workflow), ("--code", args.code), ("--limit", str(args.limit))]
    words = [word for name, value in chosen if value for word in (name, value)]
    return hints.command(args.url, "dead-letters", *words, "--after", cursor)


def _show(letter: DeadLetter, url: str | None, out: Output) -> None:
    if out.json:
        out.document(letter.to_dict())
        return
    out.say(f"run {letter.id} of {letter.workflow} is {letter.status.value}: {letter.code}")
    out.say(f"{letter.stage or 'the run'}, attempt {letter.attempt}: {cut(letter.message, 500)}")
    out.say(f"redriven {letter.redrives} times before; dead since {letter.dead_at:%Y-%m-%d %H:%M:%S} UTC")
    if letter.code == "compensation_failed":
        redrive = hints.command(url, "dead-letters", "redrive", letter.id)
        out.say("mend the cause, then try what failed again: ", (redrive, "cyan"))
        out.say(
            "or say what became of a step: ",
            (f"{redrive} --done STEP", "cyan"),
            " (undone by hand), --skip STEP",
        )
    rows: list[list[Cell]] = [
        [f"{each.at:%H:%M:%S}", each.step, str(each.attempt), (each.code, "red"), cut(each.message, 120)]
        for each in letter.history
    ]
    out.table(("at", "step", "attempt", "code", "message"), rows)
