"""`breakers`: circuit breakers of the store: listed, forced open, disabled, let go on by themselves."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from typing import Final

from holdfast.cli.access import client
from holdfast.cli.failures import DONE, UsageError
from holdfast.cli.formats import ago, utc_now
from holdfast.cli.output import Cell, Output
from holdfast.core.breaker import BreakerInfo, Forced

_STATES: Final[dict[str, Forced]] = {"open": "forced_open", "disable": "disabled", "close": "closed"}
_COLOURS: Final = {"closed": "green", "half_open": "yellow", "open": "red", "forced_open": "red"}


def breakers(args: Namespace, out: Output) -> int:
    """List breakers, or say how some stand."""
    if args.action == "list" and args.name:
        raise UsageError("list takes no name", fix="Write: holdfast breakers")
    if args.action != "list" and not args.name:
        raise UsageError(f"{args.action} needs a name", fix=f"Write: holdfast breakers {args.action} NAME")
    return asyncio.run(_breakers(args, out))


async def _breakers(args: Namespace, out: Output) -> int:
    async with client(args.url) as engine:
        if args.action == "list":
            found = await engine.breakers()
        else:
            found = [await engine.force_breaker(name, _STATES[args.action]) for name in args.name]
    _list(found, out)
    return DONE


def _list(found: list[BreakerInfo], out: Output) -> None:
    if out.json:
        out.document([breaker.to_dict() for breaker in found])
    elif found:
        now = utc_now()
        rows: list[list[Cell]] = [
            [
                each.name,
                (each.state.replace("_", "-"), _COLOURS.get(each.state, "magenta")),
                (ago(each.since, now) if each.since else "", "bright_black"),
                str(each.failures),
                str(each.opened),
                f"{each.retry_at:%H:%M:%S} UTC" if each.retry_at else "",
            ]
            for each in found
        ]
        out.table(("breaker", "state", "since", "failures", "opened", "lets one through"), rows)
    else:
        out.say("No circuit breaker has counted a failure.")
