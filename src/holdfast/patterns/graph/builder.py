"""StateGraph: what a user builds. Adding refuses what is wrong at once; `validate` reports what shows only in all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property, lru_cache
from itertools import pairwise
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Unpack

import msgspec

from holdfast.core.caching import CacheOption
from holdfast.core.checkpoints import Checkpointing, CheckpointStore, check_store
from holdfast.core.embedding import embedded
from holdfast.core.jobs import JobDefaults, job_of
from holdfast.core.naming import check_step_name
from holdfast.core.nesting import workflow_in
from holdfast.core.observers import ObserverLike, check_observer
from holdfast.core.picture.drawable import Drawable
from holdfast.core.policy import PolicyOptions
from holdfast.core.program import END, START, Workflow
from holdfast.core.retries import RetryPolicy
from holdfast.errors import DefinitionError
from holdfast.model.checks import DATA, LABEL, WORDS, Kind, argument, instance_of, setting
from holdfast.model.profile import StageProfile
from holdfast.model.schema import Schema, read_schema
from holdfast.patterns.graph.configs import DEFAULT, GraphConfig
from holdfast.patterns.graph.edges import Edge, Predicate, Router, check_edge, predicate_name, router_of
from holdfast.patterns.graph.nested import nested_shape, refuse_cycle
from holdfast.patterns.graph.nodes import Node

if TYPE_CHECKING:
    from holdfast.core.picture.shape import Picture

_LABEL: Final = WORDS.or_none()
_KINDS: Final = {
    "name": Kind(lambda given: given in (None, "") or LABEL.holds(given), LABEL.expected),
    "config": instance_of(GraphConfig, expected="a GraphConfig").or_none(),
    "description": WORDS,
}
_POINTS: Final = Kind(
    lambda given: isinstance(given, list | tuple | set | frozenset) and all(map(WORDS.holds, given)),
    "the name of a node, or a list of names",
)


Step = str | Callable[..., Any] | tuple[str, Callable[..., Any]]
"""A node in a sequence: the name of one that is there, a function, or a name and a function."""


class Join(msgspec.Struct, frozen=True):
    """A target that waits until all of its sources have ended, across rounds."""

    sources: frozenset[str]
    target: str

    @property
    def key(self) -> str:
        """Name the join in a fold."""
        return f"{'+'.join(sorted(self.sources))}>{self.target}"


class StateGraph(Drawable):
    """A graph of nodes over one state.

    Nodes get the state and return what changed; edges decide what runs next. Nodes that run in the same round all see
    the same state, their changes are merged when the last has ended.
    """

    def __init__(
        self,
        name: str | None = None,
        schema: Any = None,
        config: GraphConfig | None = None,
        observer: ObserverLike | None = None,
        checkpoint_store: CheckpointStore | None = None,
        *,
        description: str = "",
        **defaults: Unpack[JobDefaults],
    ) -> None:
        """Make an empty graph; `schema` types the state and declares reducers.

        An `observer` sees the events of the graph's runs, and a `checkpoint_store` gets their checkpoints; both are
        used as they are, without the registries. The rest are defaults of its runs. Raises DefinitionError for an
        unknown name in the config, and for defaults that cannot be.
        """
        given = {"name": name, "config": config, "description": description}
        for field, value in given.items():
            setting("StateGraph", field, value, _KINDS[field])
        self.config: Final = DEFAULT.merge(config) if config is not None else DEFAULT
        self.name = name or self.config.name or ""
        if checkpoint_store is not None:
            check_store(checkpoint_store)
        self.checkpointing: Final = checkpointing_in(self.config, checkpoint_store)
        self.checkpointing.target()
        self.observer: Final = check_observer(self.config.given("observer") if observer is None else observer)
        self.defaults: Final = job_of("StateGraph", defaults).given
        self.version: Final = self.defaults.get("version", "")
        self.description = description
        self.schema: Schema | None = None if schema is None else read_schema(schema)
        self.nodes: Final[dict[str, Node]] = {}
        self.edges: Final[dict[str, list[Edge]]] = {}
        self.routers: Final[dict[str, list[Router]]] = {}
        self.joins: Final[list[Join]] = []
        self.workflow: Any = None
        """The workflow that runs this graph, once an engine was given the graph itself."""
        self._inline: Any = None

    def add_node(
        self,
        name: str,
        fn: Callable[..., Any] | StateGraph | Workflow | str,
        *,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        defer: bool = False,
        profile: StageProfile | None = None,
        cache: CacheOption = None,
        **guards: Unpack[PolicyOptions],
    ) -> StateGraph:
        """Add a node: a plain or async function of `(state)` or `(state, step)`.

        It returns a new State, a mapping of changed keys, or None. `timeout` bounds one attempt;
        one that calls neither `step.heartbeat` nor `step.progress` for `heartbeat_timeout` has failed. A node with
        `defer` waits until no other node is wanted, and runs once, however often it was reached until then.
        `profile` is what `step.profile` says where the run's profile says nothing. `policy`, or its parts `breaker`,
        `rate_limit`, `bulkhead`, `hedge`, `fallback` and `total_timeout`, guard each attempt, across all processes.
        With `cache` (a `CachePolicy`, a time to live, or True) a node does not run when its result for the same state
        is there.

        Instead of a function it may be a workflow: a graph, a registered name, or a workflow object. Each step of such
        a node is a run of its own, a child: it gets the keys of the state that it knows, and what it changed of those
        that this graph knows goes back into the state. `retry` takes a child up again where it failed.
        """
        check_step_name("node", name if type(name) is str else setting("add_node", "name", name, WORDS))
        if name in self.nodes:
            raise DefinitionError(f"node {name!r} is there already", fix="Give each node a name of its own.")
        made: Any = fn
        if isinstance(fn, StateGraph):
            refuse_cycle(self, name, fn)
        workflow = None if type(fn) is FunctionType and not fn.__dict__ else workflow_in(made)
        self._changes()
        self.nodes[name] = Node(
            *(name, made, len(self.nodes), retry, timeout, heartbeat_timeout),
            defer=defer,
            profile=profile,
            cache=cache,
            guards=guards,
            workflow=workflow,
        )
        return self

    def add_edge(
        self, src: str | Sequence[str], dst: str, when: Predicate | None = None, name: str | None = None
    ) -> StateGraph:
        """Add a way from `src` to `dst`; from a list of nodes it waits for all of them.

        Edges of one source without `when` are all taken. With `when` they are tried in the order they were added, the
        first that holds is taken; one edge without `when` is then the default.
        """
        if type(dst) is not str or name is not None:  # graphs may be built for each run
            setting("add_edge", "dst", dst, WORDS)
            setting("add_edge", "name", name, _LABEL)
        if not isinstance(src, str):
            return self._add_join(setting("add_edge", "src", src, _POINTS), dst, when)
        self._check_source(src)
        self._check_target(dst)
        if when is not None and not callable(when):
            raise DefinitionError(
                f"edge {src!r} -> {dst!r}: when={when!r} is not callable", fix="Give a predicate."
            )
        edge = Edge(dst, when, name or ("" if when is None else predicate_name(when)))
        check_edge(src, edge, self.edges.get(src, ()))
        self._changes()
        self.edges.setdefault(src, []).append(edge)
        return self

    def _add_join(self, sources: Sequence[str], dst: str, when: Predicate | None) -> StateGraph:
        if not sources or when is not None:
            raise DefinitionError(
                f"the join into {dst!r} needs a list of nodes and no `when`",
                fix='Write add_edge(["a", "b"], "join").',
            )
        for source in sources:
            self._check_source(source)
        if dst == END:
            for source in sources:
                self.set_exit_point(source)
            return self
        self._check_target(dst)
        self._changes()
        self.joins.append(Join(frozenset(sources), dst))
        return self

    def add_conditional_edge(
        self, src: str, router: Callable[[Any], Any], targets: Iterable[str] | Mapping[Any, str]
    ) -> StateGraph:
        """Add a router: a function of the state that returns a target, several, or `Send(node, state)` items.

        `targets` lists all it may return, or maps its answers to nodes.
        """
        self._check_source(setting("add_conditional_edge", "src", src, WORDS))
        made = router_of(src, router, targets)
        for target in made.targets.values():
            self._check_target(setting("add_conditional_edge", "targets", target, WORDS))
        self._changes()
        self.routers.setdefault(src, []).append(made)
        return self

    def add_sequence(self, nodes: Iterable[Step]) -> StateGraph:
        """Add an edge from each of these nodes to the next.

        A text names a node that is there; a function, or a pair of a name and a function, is added as a node first.
        Either all is added, or nothing.
        """
        sequence = [_step(each) for each in nodes]
        if len(sequence) < 2:  # noqa: PLR2004 - what an edge connects
            raise DefinitionError(
                "a sequence of fewer than two nodes", fix='Give at least two: add_sequence(["a", "b"]).'
            )
        trial = StateGraph()
        trial.nodes.update(self.nodes)
        trial.edges.update({source: list(edges) for source, edges in self.edges.items()})
        for name, fn in sequence:
            if fn is not None:
                trial.add_node(name, fn)
        for (source, _), (target, _) in pairwise(sequence):
            trial.add_edge(source, target)
        self.nodes.update(trial.nodes)
        self.edges.update(trial.edges)
        return self

    def set_entry_point(self, name: str) -> StateGraph:
        """Begin at this node; the same as an edge from START."""
        if self.edges.get(START):
            raise DefinitionError(
                f"the entry point is {self.edges[START][0].target!r} already",
                fix="Use add_edge(START, ...) for more.",
            )
        return self.add_edge(START, setting("set_entry_point", "name", name, WORDS))

    def set_exit_point(self, name: str) -> StateGraph:
        """End after this node; the same as an edge to END. Harmless when repeated."""
        setting("set_exit_point", "name", name, WORDS)
        if any(edge.target == END for edge in self.edges.get(name, ())):
            return self
        return self.add_edge(name, END)

    def _changes(self) -> None:
        for made in (self.workflow, self._inline):
            if made is not None:
                made.forget()

    def _check_source(self, name: str) -> None:
        if name != START and name not in self.nodes:
            raise self._unknown(name, "from")

    def _check_target(self, name: str) -> None:
        if name != END and name not in self.nodes:
            raise self._unknown(name, "to")

    def _unknown(self, name: object, direction: str) -> DefinitionError:
        known = ", ".join(self.nodes) or "none yet"
        return DefinitionError(
            f"edge {direction} {name!r}: no such node", fix=f"Add the node before its edges. Nodes: {known}."
        )

    def validate(self) -> None:
        """Raise one DefinitionError that lists every problem: entry, ways to END, dead ends, unreachable nodes."""
        from holdfast.patterns.graph.validate import problems  # noqa: PLC0415 - it reads this class

        found = problems(self)
        if found:
            label = f"graph {self.name!r}" if self.name else "the graph"
            listed = "; ".join(found)
            raise DefinitionError(
                f"{label} is not valid: {listed}", fix="Mend each of these before you run it."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the structure: nodes, edges with names, routers with targets, joins, reduced keys."""
        return {
            "name": self.name,
            "nodes": list(self.nodes),
            "edges": [
                {"from": src, "to": e.target, "name": e.name, "when": e.when is not None}
                for src, edges in self.edges.items()
                for e in edges
            ],
            "routers": [
                {"from": src, "name": r.name, "targets": sorted(set(r.targets.values()))}
                for src, routers in self.routers.items()
                for r in routers
            ],
            "joins": [{"from": sorted(j.sources), "to": j.target} for j in self.joins],
            "reducers": sorted(self.schema.reducers) if self.schema else [],
        }

    @cached_property
    def hash(self) -> str:
        """A text that changes with the structure. Read it when the graph is built."""
        return _hash_of(self._shape())

    def _shape(self) -> tuple[Any, ...]:
        """Return the structure as nested tuples, which are cheap to make and to compare."""
        edges = [(source, e.target, e.name, e.when is None) for source, es in self.edges.items() for e in es]
        routers = [
            (source, r.name, tuple(r.targets.values())) for source, rs in self.routers.items() for r in rs
        ]
        joins = [(j.key,) for j in self.joins]
        reducers = tuple(sorted(self.schema.reducers)) if self.schema else ()
        nodes = tuple(
            (name, *(("deferred",) if node.defer else ()), *nested_shape(node))
            if node.defer or node.workflow is not None
            else name
            for name, node in self.nodes.items()
        )
        return (self.name, nodes, tuple(edges), tuple(routers), tuple(joins), reducers)

    def as_workflow(self, name: str) -> Workflow:
        """Return the workflow that runs this graph as a part of another one, always the same; `name` if it has none."""
        from holdfast.patterns.graph.factory import from_graph  # noqa: PLC0415 - it makes graphs

        if self._inline is None:
            self._inline = from_graph(self, self.name or name)
        workflow: Workflow = self._inline
        return workflow

    def picture(self) -> Picture:
        """Return what a picture of the graph shows, for `holdfast.core.picture` to draw."""
        from holdfast.patterns.graph.drawing import picture  # noqa: PLC0415 - only for pictures

        return picture(self)

    def execute(self, state: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run the graph in memory to its end and return the final state; waits, also in a notebook.

        Raises RunFailed; its `run_id` goes to `resume`. Nothing is kept when the process ends.
        """
        from holdfast.patterns.graph.factory import embedded_run  # noqa: PLC0415 - it reads this class

        argument("state", state, DATA.or_none())
        result: dict[str, Any] = embedded_run(self, state or {})
        return result

    def resume(self, run_id: str) -> dict[str, Any]:
        """Go on with a run of `execute` that failed, from where it failed; returns the final state."""
        result: dict[str, Any] = embedded().resume(run_id)
        return result

    def __repr__(self) -> str:
        """Show name and size."""
        return f"StateGraph({self.name!r}, {len(self.nodes)} nodes)"


def _step(given: Step) -> tuple[str, Callable[..., Any] | None]:
    if isinstance(given, str):
        return given, None
    name, fn = given if isinstance(given, tuple) and len(given) == 2 else (None, given)  # noqa: PLR2004 - a pair
    if callable(fn):
        label = predicate_name(fn) if name is None else name
        if label:
            return label, fn
    raise DefinitionError(
        f"a sequence has no place for {given!r:.80}",
        fix="Give names of nodes, functions with a name, or pairs of a name and a function.",
    )


def checkpointing_in(config: GraphConfig, store: CheckpointStore | None = None) -> Checkpointing:
    """Return how a graph with these settings is checkpointed; a given store wins over a named one."""
    settings = config.checkpoint
    return Checkpointing(
        settings.store if store is None else store, settings.interval, preserve=settings.preserve
    )


@lru_cache(maxsize=1024)
def _hash_of(shape: tuple[Any, ...]) -> str:
    return hashlib.blake2b(msgspec.json.encode(shape), digest_size=12).hexdigest()
