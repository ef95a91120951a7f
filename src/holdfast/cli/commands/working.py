"""`worker`: claims runs and drives them in the foreground, in one process or several."""

from __future__ import annotations

import asyncio
import os
import sys
from argparse import Namespace
from typing import Any, Final

from holdfast.cli.arguments import seconds_of
from holdfast.cli.failures import UsageError
from holdfast.cli.loading import App
from holdfast.cli.news import Teller, as_json
from holdfast.cli.output import Output
from holdfast.cli.service import Service, queues_of
from holdfast.cli.supervisor import Supervisor
from holdfast.engine import Engine
from holdfast.store.open import open_store

GRACE: Final = 30.0
CHILD: Final = "HOLDFAST_WORKER_CHILD"
"""Set in the environment of a child process of `--processes`."""


def worker(args: Namespace, out: Output) -> int:
    """Serve until a signal asks for the end; 0 after a drain."""
    for option in ("concurrency", "processes"):
        count = getattr(args, option)
        if count is not None and count < 1:
            raise UsageError(f"--{option} {count}", fix="Give a whole number of at least 1.")
    queues = queues_of(args.queue)
    if not all(name and name.strip() == name and name.isprintable() for name in queues):
        raise UsageError(
            f"--queue {','.join(args.queue)!r} names no queue", fix="Write --queue gpu, once for each queue."
        )
    grace = GRACE if args.grace is None else seconds_of(args.grace, "--grace") or 0.0
    if args.processes > 1:
        os.environ[CHILD] = "1"
        tell = as_json(out) if out.json else Teller(out, args.processes)
        return asyncio.run(Supervisor(_child_words(args), args.processes, tell).supervise())
    return asyncio.run(_serve(args, out, queues, grace))


def _child_words(args: Namespace) -> list[str]:
    words = ["worker", "--app", args.app, *(["--json"] if args.json else [])]
    for queue in args.queue:
        words += ["--queue", queue]
    given = {"--concurrency": args.concurrency, "--grace": args.grace, "--url": args.url}
    for option, value in given.items():
        words += [] if value is None else [option, str(value)]
    return words


async def _serve(args: Namespace, out: Output, queues: list[str], grace: float) -> int:
    child = os.environ.pop(CHILD, "") == "1"
    if child:
        sys.stdout = sys.stderr  # the parent reads news where `out` writes; what a user's code prints is none
    with out.clean():
        app = App(args.app)
        app.served()
    engine = _engine(args, app, queues)
    tell = as_json(out) if out.json or child else Teller(out)
    return await Service(out, engine, tell, grace=grace).serve(child=child)


def _engine(args: Namespace, app: App, queues: list[str]) -> Engine:
    url = app.url(args.url)
    if url.endswith(":memory:"):
        raise UsageError(
            f"{url} is in the memory of one process: nobody could give this worker a run",
            fix="Give --url sqlite:///PATH or postgresql://….",
        )
    changes: dict[str, Any] = {"workers": True}
    if queues:
        changes["queues"] = queues
    if args.concurrency is not None:
        changes["concurrency"] = args.concurrency
    if app.engine is None:
        changes["observers"] = ("logging",)
    return app.make_engine(args.url, open_store(url), **changes)
