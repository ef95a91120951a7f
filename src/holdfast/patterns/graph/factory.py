"""Workflow factories: functions that build a graph and its first state anew for each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol, Unpack

from holdfast.core.checkpoints import Checkpointing
from holdfast.core.embedding import embedded
from holdfast.core.jobs import JobDefaults, job_of
from holdfast.core.nesting import runnable
from holdfast.core.observers import ObserverLike
from holdfast.core.work import Blobs
from holdfast.errors import DefinitionError
from holdfast.model.checks import WORDS, instance_of, setting
from holdfast.model.schema import Params, read_params
from holdfast.model.state import State
from holdfast.patterns.graph.builder import StateGraph, checkpointing_in
from holdfast.patterns.graph.configs import DEFAULT, GraphConfig
from holdfast.patterns.graph.program import GraphProgram

if TYPE_CHECKING:
    from holdfast.core.picture.shape import Picture

_KINDS: Final = {
    "description": WORDS,
    "config": instance_of(GraphConfig, expected="a GraphConfig").or_none(),
}


class WorkflowFactory(Protocol):
    """Adds nodes and edges to the graph it is given, and returns the first state."""

    def __call__(self, graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State | Mapping[str, Any]:
        """Build the graph of one run."""


class GraphWorkflow:
    """A named workflow whose runs are state graphs."""

    def __init__(
        self,
        name: str,
        factory: Callable[..., Any],
        description: str = "",
        *,
        schema: Any = None,
        config: GraphConfig | None = None,
        params: Any = None,
        shape: str = "",
        checkpointing: Checkpointing | None = None,
        observer: ObserverLike | None = None,
        **defaults: Unpack[JobDefaults],
    ) -> None:
        """Keep the factory and what every run's graph begins with.

        `shape` is the hash of a graph that is given, `checkpointing` and `observer` what that graph says.
        """
        if not callable(factory):
            raise DefinitionError(
                f"workflow {name!r}: {factory!r} is not callable", fix="Give a workflow factory."
            )
        for field, value in {"description": description, "config": config}.items():
            setting(f"workflow {name!r}", field, value, _KINDS[field])
        self.name: Final = name
        self.shape: Final = shape
        self.factory: Final = factory
        self.description: Final = description or (factory.__doc__ or "").strip().partition("\n")[0]
        self.job: Final = job_of(f"workflow {name!r}", defaults)
        self.version: Final = self.job.version
        self.queue: Final = self.job.queue
        self.priority: Final = self.job.priority
        self.timeout: Final = self.job.timeout
        self.checkpointing: Final = checkpointing or checkpointing_in(DEFAULT.merge(config or DEFAULT))
        self.observer: Final = config.given("observer") if observer is None and config else observer
        self._schema = schema
        self._config = config
        self._given_params = params
        self._params: Params | None = None if params is None else read_params(params)
        self._sound: set[str] = set()
        self._fixed: StateGraph | None = None

    def renamed(self, name: str, description: str = "") -> GraphWorkflow:
        """Return the same workflow under another name."""
        return GraphWorkflow(
            name,
            self.factory,
            description or self.description,
            schema=self._schema,
            config=self._config,
            params=self._given_params,
            shape=self.shape,
            checkpointing=self.checkpointing,
            observer=self.observer,
            **self.job.given,
        )

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params as the factory gets them; raises PayloadRejected naming the field."""
        return dict(params) if self._params is None else self._params.bind(params)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the params."""
        return {"type": "object"} if self._params is None else self._params.json_schema()

    def graph(self, services: Any, params: dict[str, Any]) -> tuple[StateGraph, Any]:
        """Return the graph of a run and its first state; raises what the factory raises, or DefinitionError."""
        if self._fixed is not None:
            return self._fixed, params
        graph = StateGraph(self.name, schema=self._schema, config=self._config, version=self.version)
        first = self.factory(graph, services, params)
        if hasattr(first, "__await__"):
            first.close()
            raise DefinitionError(
                f"the factory of {self.name!r} is async",
                fix="Make it a plain function; await in a node instead.",
            )
        if graph.hash not in self._sound:
            graph.validate()
            self._sound.add(graph.hash)
        if self.shape:  # a graph was given: it is the same for every run
            self._fixed = graph
        return graph, first

    def forget(self) -> None:
        """Take note that the graph that was given has changed: later runs have it as it is then."""
        self._fixed = None

    def part(self, node: str, services: Any, params: dict[str, Any]) -> Any:
        """Return the workflow of a node that was given one of its own; None when there is no such node."""
        found = self.graph(services, params)[0].nodes.get(node)
        if found is None or found.workflow is None or isinstance(found.workflow, str):
            return None
        return runnable(found.workflow, node)

    def picture(self, services: Any, params: dict[str, Any]) -> Picture:
        """Return what a picture of a run's graph shows; raises what `graph` raises."""
        return self.graph(services, params)[0].picture()

    def open(self, services: Any, params: dict[str, Any], blobs: Blobs) -> GraphProgram:
        """Return the program of one run; what the factory raises becomes the failure of the step START."""
        try:
            graph, first = self.graph(services, params)
        except BaseException as error:  # noqa: BLE001 - user code: whatever it raises fails the run, not the caller
            return GraphProgram(StateGraph(self.name), _raiser(error), blobs, problem=error)
        return GraphProgram(graph, lambda: first, blobs)


def _raiser(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def from_graph(graph: StateGraph, name: str | None = None, description: str = "") -> GraphWorkflow:
    """Return a workflow that runs this one graph; its params are the first state. Raises what `validate` raises."""
    label = name or graph.name
    if not label:
        raise DefinitionError("the graph has no name", fix='Name it: StateGraph("classify").')
    graph.validate()

    def build(given: StateGraph, _: Any, params: dict[str, Any]) -> dict[str, Any]:
        given.nodes.update(graph.nodes)
        given.edges.update(graph.edges)
        given.routers.update(graph.routers)
        given.joins.extend(graph.joins)
        given.schema = graph.schema
        return params

    return GraphWorkflow(
        label,
        build,
        description or graph.description,
        config=graph.config,
        shape=graph.hash,
        checkpointing=graph.checkpointing,
        observer=graph.observer,
        **graph.defaults,
    )


_unnamed: Final = count(1)


def embedded_run(graph: StateGraph, state: Mapping[str, Any]) -> Any:
    """Run a graph on the engine in memory; each graph is a workflow of its own there."""
    workflow = graph.__dict__.get("_embedded")
    if workflow is None:
        workflow = from_graph(graph, f"{graph.name or 'graph'}-{next(_unnamed)}")
        graph.__dict__["_embedded"] = workflow
    secrets = state.known_secrets() if isinstance(state, State) else {}
    return embedded().execute(workflow, dict(state), secrets)
