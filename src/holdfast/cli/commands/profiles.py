"""`profiles`: the named settings of a workflow's stages, seen, kept and forgotten."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from holdfast.cli.access import client
from holdfast.cli.arguments import object_of
from holdfast.cli.failures import DONE, UsageError
from holdfast.cli.formats import cut
from holdfast.cli.loading import App
from holdfast.cli.output import Cell, Output
from holdfast.engine import Engine
from holdfast.model.profile import Profile, StageProfile

_FIELDS: Final = ("agent", "prompt", "options")


def profiles(args: Namespace, out: Output) -> int:
    """List a workflow's profiles, keep one, or forget one."""
    if (args.save is None) != (args.stages is None):
        raise UsageError("--save and --stages go together", fix="Write --save NAME --stages @file.json.")
    given = None if args.save is None else _profile(args.save, args.stages)
    with out.clean():
        app = None if args.app is None else App(args.app)
    return asyncio.run(_profiles(args, out, app, given))


async def _profiles(args: Namespace, out: Output, app: App | None, given: Profile | None) -> int:
    async with client(args.url, None if app is None else app.registry) as engine:
        if given is not None:
            await engine.save_profile(args.workflow, given)
        if args.delete is not None:
            await engine.delete_profile(args.workflow, args.delete)
        await _show(engine, args.workflow, out)
    return DONE


async def _show(engine: Engine, workflow: str, out: Output) -> None:
    found = await engine.profiles(workflow)
    if out.json:
        out.document([asdict(profile) for profile in found.values()])
    elif found:
        rows = [row for profile in found.values() for row in _rows(profile)]
        out.table(("profile", "stage", *_FIELDS), rows)
    else:
        out.say(f"No profile of {workflow}. Keep one: ", (_SAVE.format(workflow), "cyan"))


_SAVE: Final = "holdfast profiles {} --save NAME --stages @FILE"


def _rows(profile: Profile) -> list[list[Cell]]:
    """Return a row for each stage; the profile's name stands in the first."""
    names = [profile.name, *[""] * len(profile.stages)]
    stages = profile.stages.items() or [("none", StageProfile())]
    return [
        [(name, "bold"), *_cells(stage, given)] for name, (stage, given) in zip(names, stages, strict=False)
    ]


def _cells(stage: str, given: StageProfile) -> list[Cell]:
    options = json.dumps(dict(given.options), default=str, ensure_ascii=False) if given.options else ""
    return [stage, given.agent or "", cut(given.prompt or "", 60), cut(options, 80)]


def _profile(name: str, text: str) -> Profile:
    """Return the profile that `--save` and `--stages` give."""
    return Profile(
        name, {stage: _stage(stage, given) for stage, given in object_of(text, "--stages").items()}
    )


def _stage(stage: str, given: Any) -> StageProfile:
    if not isinstance(given, Mapping) or given.keys() - set(_FIELDS):
        raise UsageError(
            f"--stages: the settings of {stage!r} are no object of {', '.join(_FIELDS)}",
            fix="""Write --stages '{"detect": {"prompt": "Look.", "options": {"threshold": 0.6}}}'.""",
        )
    return StageProfile(**given)
