"""The registry: workflows by name, for every thread of the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar, Unpack, cast

from holdfast.core.jobs import JobDefaults
from holdfast.core.nesting import is_workflow
from holdfast.core.program import Workflow
from holdfast.errors import DefinitionError, WorkflowNotFound
from holdfast.model.checks import LABEL, setting
from holdfast.patterns.graph.builder import StateGraph
from holdfast.patterns.graph.configs import GraphConfig
from holdfast.patterns.graph.factory import GraphWorkflow, from_graph

F = TypeVar("F", bound=Callable[..., Any])


class Registry:
    """Names and their workflows. Thread-safe; a name is given once unless replaced on purpose."""

    def __init__(self) -> None:
        """Begin empty."""
        self._workflows: dict[str, Workflow] = {}
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def add(self, workflow: Workflow, *, replace: bool = False) -> None:
        """Add a workflow under its name; refuses a name that is taken unless `replace`."""
        name: object = workflow.name
        if not isinstance(name, str) or not name.strip():
            raise DefinitionError(f"a workflow's name is empty: {name!r}", fix="Give it a name.")
        setting("a workflow", "name", name, LABEL)
        validate = getattr(workflow, "validate", None)
        if validate is not None:  # what a worker could not even list is refused here
            validate()
        with self._lock:
            if name in self._workflows and not replace and self._workflows[name] is not workflow:
                raise DefinitionError(
                    f"a workflow named {name!r} is registered already",
                    fix="Choose another name, or pass replace=True.",
                )
            # A new dict: readers on other threads keep theirs.
            self._workflows = dict(sorted({**self._workflows, name: workflow}.items()))
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def lend(self, workflow: Workflow) -> None:
        """Add a workflow that a run is started with, under its name.

        One of the same kind and shape takes the place of the one before, as the same workflow built anew. Any other
        one that has the name is refused.
        """
        known = self.find(workflow.name)
        if known is not workflow:
            self.add(workflow, replace=_is_built_anew(known, workflow))

    def remove(self, name: str) -> None:
        """Forget a workflow. Idempotent."""
        with self._lock:
            self._workflows = {known: each for known, each in self._workflows.items() if known != name}

    def find(self, name: str) -> Workflow | None:
        """Return the workflow of that name, or None."""
        return self._workflows.get(name)

    def get(self, name: str) -> Workflow:
        """Return the workflow of that name; raises WorkflowNotFound."""
        workflow = self._workflows.get(name)
        if workflow is None:
            known = ", ".join(self._workflows) or "none"
            raise WorkflowNotFound(
                f"workflow {name!r} is not registered",
                fix=f"Registered here: {known}. Import the module that registers it (command line: --app MODULE).",
            )
        return workflow

    def all(self) -> dict[str, Workflow]:
        """Return all workflows by name, in order. Do not change it."""
        return self._workflows

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each addition, on the adding thread; returns what ends that."""
        with self._lock:
            self._listeners.append(listener)

        def end() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return end


default: Final = Registry()


def _is_built_anew(known: Workflow | None, workflow: Workflow) -> bool:
    if type(known) is not type(workflow):
        return False
    shape = getattr(workflow, "shape", "")
    return bool(shape) and getattr(known, "shape", "") == shape


def as_workflow(workflow: Any, name: str | None = None, description: str = "") -> Workflow:
    """Return what a builder, a factory or a workflow is as a named workflow."""
    if isinstance(workflow, StateGraph):
        if name is None and workflow.workflow is None:
            workflow.workflow = from_graph(workflow)
        return workflow.workflow if name is None else from_graph(workflow, name, description)
    decorated = (
        getattr(workflow, "workflow", None) if name is None else None
    )  # a function under @workflow_factory
    for made in (workflow, decorated):
        if is_workflow(made):
            return cast("Workflow", _named(made, name, description))
    if name is not None:
        return GraphWorkflow(name, workflow, description)
    raise DefinitionError(
        f"{workflow!r:.80} is not a workflow",
        fix="Give a registered name, a named StateGraph, or a workflow factory.",
    )


def _named(made: Any, name: str | None, description: str) -> Any:
    """Return the workflow under this name, if one is asked for that it does not have."""
    if name is None or made.name == name or not hasattr(made, "renamed"):
        return made
    return made.renamed(name, description)


def register(name: str, workflow: Any, description: str = "", replace: bool = False) -> None:  # noqa: FBT001, FBT002 - the public contract
    """Register a workflow factory, graph or workflow under a name."""
    renamed = getattr(workflow, "renamed", None)
    if renamed is not None:
        workflow = renamed(name, description)
    default.add(as_workflow(workflow, name, description), replace=replace)


def get_workflow(name: str) -> Workflow:
    """Return the registered workflow; raises WorkflowNotFound."""
    return default.get(name)


def list_workflows() -> list[Workflow]:
    """Return all registered workflows, in the order of their names."""
    return list(default.all().values())


def workflow_factory(
    name: str,
    description: str = "",
    *,
    schema: Any = None,
    config: GraphConfig | None = None,
    params: Any = None,
    replace: bool = False,
    **defaults: Unpack[JobDefaults],
) -> Callable[[F], F]:
    """Register the decorated function as the factory of a state graph workflow; returns the function as it is.

    The factory gets (graph, runtime, params) anew for each run. `schema` types the state and declares reducers,
    `params` types the params, `config` sets the graph; the rest are defaults of the workflow's runs.
    """

    def decorate(factory: F) -> F:
        workflow = GraphWorkflow(
            name,
            factory,
            description,
            schema=schema,
            config=config,
            params=params,
            **defaults,
        )
        default.add(workflow, replace=replace)
        factory.workflow = workflow  # type: ignore[attr-defined]  # so that MODULE:function finds it
        return factory

    return decorate
