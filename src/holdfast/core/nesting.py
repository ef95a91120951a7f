"""Which workflow a child run is of: a registered one, or a graph that was given to a node of one, its part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from holdfast.core.program import Workflow
from holdfast.errors import NondeterminismError
from holdfast.model import facts
from holdfast.model.checks import LABEL, setting
from holdfast.model.values import decode

_WORKFLOW: Final = ("open", "check", "schema", "name")


def is_workflow(made: Any) -> bool:
    """Tell whether it is a workflow, and not a class of them."""
    return not isinstance(made, type) and all(hasattr(made, attribute) for attribute in _WORKFLOW)


def workflow_in(given: Any) -> Any:
    """Return what of a workflow a step was given: a registered name, a builder, a workflow; None for a function."""
    if isinstance(given, str):
        return setting("a step that is a registered workflow", "name", given, LABEL)
    if not isinstance(given, type) and hasattr(given, "as_workflow"):
        return given
    decorated = getattr(given, "workflow", None)  # a function under @workflow_factory
    return next((made for made in (given, decorated) if is_workflow(made)), None)


def runnable(given: Any, name: str) -> Any:
    """Return what the step `name` runs: the workflow that a builder makes of itself, else what `workflow_in` found."""
    make = getattr(given, "as_workflow", None)
    return given if make is None else make(name)


def definition_of(workflow: Workflow, started: facts.RunStarted, services: Any) -> Workflow:
    """Return the definition of a run that `workflow` is the registered one of.

    Raises NondeterminismError when today's code has no such part, and what a factory raises.
    """
    for name, origin in zip(started.part, started.origins, strict=True):
        workflow = part_of(workflow, name, origin, services)
    return workflow


def part_of(workflow: Workflow, node: str, origin: msgspec.Raw, services: Any) -> Workflow:
    """Return the workflow of a node in the run that was started with the params `origin`."""
    made = getattr(workflow, "part", None)
    part: Workflow | None = None if made is None else made(node, services, params_in(origin))
    if part is None:
        raise NondeterminismError(f"{workflow.name!r} has no node {node!r} with a workflow of its own")
    return part


def params_in(raw: msgspec.Raw) -> dict[str, Any]:
    """Return encoded params as a dict."""
    value = decode(raw)
    return value if isinstance(value, dict) else {}


def labelled(workflow: str, part: Sequence[str]) -> str:
    """Return how people call a part: `classify/review`."""
    return "/".join((workflow, *part))
