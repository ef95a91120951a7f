"""`cache`: results of steps that later steps take instead of running: listed, and cleared."""

from __future__ import annotations

import asyncio
from argparse import Namespace

from holdfast.cli.access import client
from holdfast.cli.failures import DONE, UsageError
from holdfast.cli.formats import ago, plural, stamp, utc_now
from holdfast.cli.output import Cell, Output
from holdfast.remembering import CachedResult


def cache(args: Namespace, out: Output) -> int:
    """List results, or forget some."""
    everything = args.workflow is None and args.step is None and args.scope is None
    if args.action == "clear" and everything != args.all:
        raise UsageError(
            "clear needs to know what to forget",
            fix="Give --workflow, --step or --scope, or --all for everything.",
        )
    return asyncio.run(_cache(args, out))


async def _cache(args: Namespace, out: Output) -> int:
    chosen = {"workflow": args.workflow, "step": args.step, "scope": args.scope}
    async with client(args.url) as engine:
        if args.action == "clear":
            count = await engine.clear_cache(**chosen)
            if out.json:
                out.document({"cleared": count})
            else:
                out.say(f"{plural(count, 'result')} forgotten.")
        else:
            _list(await engine.cached(**chosen, limit=args.limit), out)
    return DONE


def _list(found: list[CachedResult], out: Output) -> None:
    if out.json:
        out.document([each.to_dict() for each in found])
        return
    if not found:
        out.say("The cache has no such results.")
        return
    now = utc_now()
    rows: list[list[Cell]] = [
        [
            each.step,
            each.workflow,
            each.scope,
            (ago(each.at, now), "bright_black"),
            _until(each),
            f"{each.size:,}",
            (each.run_id, "bright_black"),
        ]
        for each in found
    ]
    out.table(("step", "workflow", "scope", "made", "until", "bytes", "by run"), rows, right=("bytes",))


def _until(each: CachedResult) -> Cell:
    if each.expires_at is None:
        return ("cleared", "bright_black")
    return stamp(each.expires_at) if each.expires_at > utc_now() else ("expired", "yellow")
