"""`graph`: a workflow's picture as text for Mermaid or Graphviz."""

from __future__ import annotations

from argparse import Namespace

from holdfast.cli.arguments import params_of
from holdfast.cli.failures import DONE, UsageError
from holdfast.cli.loading import App
from holdfast.cli.output import Output
from holdfast.errors import DefinitionError
from holdfast.patterns.graph.factory import GraphWorkflow
from holdfast.services import Runtime


def graph(args: Namespace, out: Output) -> int:
    """Print the graph that a workflow's runs have with these params."""
    params = params_of(args.param, args.params)
    with out.clean():
        app = App(args.workflow)
        workflow = app.workflow()
        if not isinstance(workflow, GraphWorkflow):
            raise UsageError(f"{workflow.name} is no graph", fix="Only state graphs have a picture.")
        try:
            built, _ = workflow.graph(app.runtime or Runtime(), workflow.check(params))
        except DefinitionError:
            raise
        except Exception as error:
            raise UsageError(
                f"the factory of {workflow.name} cannot build its graph: {type(error).__name__}: {error}",
                fix="Give the params it needs: --param NAME=VALUE.",
            ) from error
    if out.json:
        out.document(built.to_dict())
    else:
        out.say(built.to_dot() if args.format == "dot" else built.to_mermaid().rstrip("\n"))
    return DONE
