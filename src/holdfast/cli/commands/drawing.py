"""`graph`: a workflow's picture in any format, with a run's path over it; `gantt`: a run over time."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from holdfast.cli.access import client, find_run
from holdfast.cli.arguments import params_of
from holdfast.cli.failures import DONE, UsageError
from holdfast.cli.loading import App
from holdfast.cli.marks import MARKS
from holdfast.cli.output import Output
from holdfast.core.picture.drawing import drawn
from holdfast.core.picture.gantt import gantt as bars
from holdfast.core.picture.shape import Picture, Tone
from holdfast.core.picture.terminal import WIDEST, rows
from holdfast.core.picture.trace import traced
from holdfast.core.program import Workflow
from holdfast.errors import DefinitionError
from holdfast.services import Runtime


def graph(args: Namespace, out: Output) -> int:
    """Print the graph that a workflow's runs have with these params, or the path of a run over its graph."""
    params = params_of(args.param, args.params)
    with out.clean():
        app = App(args.workflow)
        workflow = app.workflow()
        if not hasattr(workflow, "picture"):
            raise UsageError(f"{workflow.name} is no graph", fix="Graphs, DAGs and machines have a picture.")
    if args.run is not None:
        if params:
            raise UsageError("a run has its params", fix="Leave --param and --params out with --run.")
        return asyncio.run(_path(args, out, app, workflow))
    built = _built(out, app, workflow, params)
    if out.json:
        out.document(built.to_dict())
    else:
        _show(built.picture(), args.format, out)
    return DONE


def gantt(args: Namespace, out: Output) -> int:
    """Print when each node or task of a run ran; with its DAG also the critical path, and what waited for a place."""
    with out.clean():
        app = None if args.app is None else App(args.app)
    return asyncio.run(_gantt(args, out, app))


async def _gantt(args: Namespace, out: Output, app: App | None) -> int:
    async with client(args.url, None if app is None else app.registry) as engine:
        run = await find_run(engine, args.run, out)
        stages = await run.stages()
    workflow: Any = None if app is None else app.registry.find(run.workflow)
    found = workflow.timing(stages) if hasattr(workflow, "timing") else None
    if out.json:
        timing = None if found is None else {**asdict(found), "saved": found.saved}
        out.document({"stages": [stage.to_dict() for stage in stages], "timing": timing})
        return DONE
    for row in bars(stages, datetime.now(UTC), args.width):
        out.say(*((text, _style(tone)) for text, tone in row))
    if found is not None:
        out.say(str(found))
    return DONE


async def _path(args: Namespace, out: Output, app: App, workflow: Workflow) -> int:
    async with client(args.url, app.registry) as engine:
        run = await find_run(engine, args.run, out)
        if run.workflow != workflow.name:
            raise UsageError(
                f"run {run.id} is of {run.workflow}, not of {workflow.name}", fix="Name the run's workflow."
            )
        built = _built(out, app, workflow, run.params)
        trace = traced(await run.stages(), await run.decisions())
        shown = await engine.picture(run.id)
    if out.json:
        taken = [{"from": source, "to": target, "count": n} for (source, target), n in trace.taken.items()]
        out.document({**built.to_dict(), "visits": trace.visits, "taken": taken})
    else:
        _show(shown, args.format, out)
    return DONE


def _built(out: Output, app: App, workflow: Any, params: dict[str, Any]) -> Any:
    """Return what has a picture and a structure: the graph of a run with these params, or the DAG."""
    if not hasattr(workflow, "graph"):
        return workflow
    with out.clean():
        try:
            return workflow.graph(app.runtime or Runtime(), workflow.check(params))[0]
        except DefinitionError:
            raise
        except Exception as error:
            raise UsageError(
                f"the factory of {workflow.name} cannot build its graph: {type(error).__name__}: {error}",
                fix="Give the params it needs: --param NAME=VALUE.",
            ) from error


def _show(picture: Picture, format: str, out: Output) -> None:
    if format != "ascii":
        out.say(drawn(picture, format).rstrip("\n"))
        return
    for row in rows(picture, min(WIDEST, out.console.width)):
        out.say(*((text, _style(tone)) for text, tone in row))


def _style(tone: Tone) -> str:
    return MARKS["scheduled" if tone == "idle" else tone][1] if tone else ""
