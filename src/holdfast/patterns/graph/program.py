"""The pure program of a state graph: rounds of nodes on one state.

All nodes of a round see the same state. Their results are kept as they arrive; when the last is in, the changes are
merged in the order of the round's steps (node as declared, then item of the fan-out), which does not depend on who
ended first; then the edges of the round's nodes are decided on the merged state, and the next round is scheduled in
the same advance. Values stay encoded per key; a reduced value stays decoded until somebody reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.core.caching import CachePolicy
from holdfast.core.context import StepContext
from holdfast.core.ledger import Ledger, OpenStep
from holdfast.core.policy import Policy
from holdfast.core.program import END, START
from holdfast.core.retries import RetryPolicy
from holdfast.core.work import Blobs, Outcome, Work
from holdfast.errors import NondeterminismError, PayloadRejected
from holdfast.model import commands, facts
from holdfast.model.ids import StepId, step_id
from holdfast.model.profile import StageProfile
from holdfast.model.secrets import Secrets
from holdfast.model.state import State, split_large
from holdfast.model.values import decode, encode_map, pack, unpack
from holdfast.patterns.graph.builder import StateGraph
from holdfast.patterns.graph.edges import Chosen, EdgeFault, Send, choose
from holdfast.patterns.graph.merging import MergeFault, Values, merged, raws
from holdfast.patterns.graph.nested import NestedRun
from holdfast.patterns.graph.nodes import NodeWork, changes_of, in_development, learned_of, outcome_of


class GraphProgress:
    """What is known of a run: the merged state, the round's steps in order, and their results so far.

    `unknown` is a node of the round that the graph does not have: nobody can tell where its edges lead.
    """

    __slots__ = (
        "deferred",
        "iterations",
        "joined",
        "ledger",
        "members",
        "merged",
        "results",
        "state",
        "unknown",
        "visits",
    )

    def __init__(self) -> None:
        """Begin before the first fact."""
        self.ledger = Ledger()
        self.state: dict[str, Any] = {}
        self.members: dict[StepId, str] = {}
        self.results: dict[StepId, facts.StepCompleted] = {}
        self.merged = False
        self.unknown = ""
        self.iterations = 0
        self.visits: dict[str, int] = {}
        self.joined: dict[str, set[str]] = {}
        self.deferred: list[str] = []


class _Fold(msgspec.Struct):
    """A progress as it is stored."""

    ledger: Ledger
    state: dict[str, msgspec.Raw]
    members: dict[StepId, str]
    results: list[facts.StepCompleted]
    merged: bool
    iterations: int
    visits: dict[str, int]
    joined: dict[str, set[str]]
    deferred: list[str]


class GraphProgram:
    """One run of a graph. `initial` gives the state that the factory made, or raises what it raised."""

    checkpoints = True

    def __init__(
        self,
        graph: StateGraph,
        initial: Callable[[], Any],
        blobs: Blobs,
        problem: BaseException | None = None,
    ) -> None:
        """Keep the graph and how the run begins."""
        self.problem: Final = problem
        self.graph: Final = graph
        self.hash: Final = graph.hash if problem is None else ""
        self._initial = initial
        self._blobs = blobs
        self._watch = in_development()
        self._defers = frozenset(name for name, node in graph.nodes.items() if node.defer)
        self._nested = frozenset(name for name, node in graph.nodes.items() if node.workflow is not None)
        self._reducers: Mapping[str, Callable[[Any, Any], Any]] = (
            graph.schema.reducers if graph.schema else {}
        )

    def start(self) -> GraphProgress:
        """Return an empty progress."""
        return GraphProgress()

    # --- absorbing facts

    def evolve(self, progress: GraphProgress, fact: facts.Fact) -> GraphProgress:
        """Absorb one fact; the last result of a round merges it."""
        progress.ledger.absorb(fact)
        kind = type(fact)
        if kind is facts.StepCompleted:
            self._result(progress, fact)  # type: ignore[arg-type]  # the line above says what it is
        elif kind is facts.StepScheduled and not fact.parent:  # type: ignore[attr-defined]
            self._enter(progress, fact)  # type: ignore[arg-type]
        elif kind is facts.RunResumed:
            self._merge_if_complete(progress)
        elif kind is facts.DecisionMade and self._defers:
            self._put_off(progress, fact)  # type: ignore[arg-type]
        elif kind is facts.RunForked:
            self._fork(progress, fact)  # type: ignore[arg-type]
        return progress

    def _fork(self, progress: GraphProgress, fact: facts.RunForked) -> None:
        changes = unpack(fact.data)
        if changes:  # a reduced key is set, not reduced
            progress.state = Values({**raws(progress.state), **changes})
        self._merge_if_complete(progress)

    def _put_off(self, progress: GraphProgress, fact: facts.DecisionMade) -> None:
        for edge in fact.edges:
            if edge.result and edge.target in self._defers and edge.target not in progress.deferred:
                progress.deferred.append(edge.target)

    def _enter(self, progress: GraphProgress, fact: facts.StepScheduled) -> None:
        if progress.merged:
            progress.members, progress.results, progress.merged = {}, {}, False
            progress.unknown = ""
            progress.iterations += 1
        progress.members[fact.step] = fact.name
        if self._is_unknown(fact.name):
            progress.unknown = fact.name
        progress.visits[fact.name] = fact.iteration
        if fact.name in progress.deferred:
            progress.deferred.remove(fact.name)
        if progress.joined:
            for join in self.graph.joins:
                if join.target == fact.name:
                    progress.joined.pop(join.key, None)

    def _result(self, progress: GraphProgress, fact: facts.StepCompleted) -> None:
        if fact.step in progress.members:
            progress.results[fact.step] = fact
            self._merge_if_complete(progress)

    def _merge_if_complete(self, progress: GraphProgress) -> None:
        if progress.merged or not progress.members or len(progress.results) < len(progress.members):
            return
        try:
            self._merge(progress)
        except MergeFault as fault:
            progress.ledger.fault = fault.info

    def _merge(self, progress: GraphProgress) -> None:
        # A new dict: a thread that was abandoned may still read the old one.
        if len(progress.members) == 1 and not self._reducers and not self.graph.joins:
            (result,) = progress.results.values()
            if not result.gone:
                progress.state, progress.merged = {**progress.state, **unpack(result.data)}, True
                return
        results = {step: progress.results[step] for step in progress.members}
        progress.state, progress.merged = merged(progress.state, results, self._reducers, self._decode), True
        if self.graph.joins:
            self._join(progress)

    def _join(self, progress: GraphProgress) -> None:
        for name in progress.members.values():
            for join in self.graph.joins:
                if name in join.sources:
                    progress.joined.setdefault(join.key, set()).add(name)

    def _decode(self, raw: msgspec.Raw) -> Any:
        return State.view({"": raw}, blobs=self._blobs)[""]

    # --- deciding

    def decide(self, progress: GraphProgress) -> Sequence[commands.Command]:
        """Return what the run wants next; nothing while its round goes on."""
        ledger = progress.ledger
        if ledger.fault is not None:
            return ledger.failing(ledger.fault)
        if not progress.members:
            return (commands.ScheduleStep(step_id(START, 1), START),)
        if not progress.merged:
            error = self._failure(progress)
            return ledger.failing(error) if error is not None else ()
        if self.problem is not None:
            return ()
        if progress.unknown:
            misfit = self._misfit(progress.unknown)
            info = facts.ErrorInfo(code=misfit.code, message=str(misfit))
            return (commands.PauseRun(info.message, info),)
        try:
            return self._next(progress)
        except EdgeFault as fault:
            return ledger.failing(facts.ErrorInfo(code="edge_failed", message=str(fault), type="EdgeFault"))

    def _failure(self, progress: GraphProgress) -> facts.ErrorInfo | None:
        """Return the error of the first failed step in the round's order, which does not depend on who failed first."""
        unresolved = progress.ledger.unresolved
        if not unresolved:
            return None
        failed = (unresolved[step] for step in progress.members if step in unresolved)
        return next((step.error for step in failed if step.failed), None)

    def _next(self, progress: GraphProgress) -> Sequence[commands.Command]:
        graph = self.graph
        state = _Lazy(self._view, progress)
        wanted: list[commands.Command] = []
        targets: dict[str, None] = {}
        sends: list[Send] = []
        for source in dict.fromkeys(progress.members.values()):
            chosen = choose(source, graph.edges.get(source, ()), graph.routers.get(source, ()), state)
            if graph.joins:
                chosen = self._with_joins(progress, source, chosen)
            wanted.append(commands.RecordDecision(source, chosen.tried))
            for target in chosen.targets:
                targets[target] = None
            sends += chosen.sends
        ending = targets.pop(END, END) is None
        scheduled = self._schedule(progress, self._not_deferred(progress, targets, sends), sends)
        if scheduled:
            limit = graph.config.max_iterations
            return _exceeded(limit) if progress.iterations >= limit else wanted + scheduled
        if not ending:
            raise EdgeFault("no way on", self._stuck(progress))
        return [*wanted, commands.CompleteRun(self._packed(progress.state))]

    def _not_deferred(
        self, progress: GraphProgress, targets: dict[str, None], sends: Sequence[Send]
    ) -> Collection[str]:
        """Return the targets that may run now: deferred ones when nothing else is wanted."""
        if not self._defers:
            return targets
        others = [target for target in targets if target not in self._defers]
        if others or sends:
            return others
        return [*dict.fromkeys([*progress.deferred, *targets])]

    def _with_joins(self, progress: GraphProgress, source: str, chosen: Chosen) -> Chosen:
        tried, targets = list(chosen.tried), list(chosen.targets)
        for join in self.graph.joins:
            if source not in join.sources:
                continue
            missing = sorted(join.sources - progress.joined.get(join.key, set()))
            reason = f"waits for {', '.join(missing)}" if missing else "all have ended"
            tried.append(facts.EdgeTried(join.target, "join", result=not missing, reason=reason))
            if not missing:
                targets.append(join.target)
        return Chosen(tuple(tried), targets, chosen.sends)

    def _stuck(self, progress: GraphProgress) -> str:
        waits = [
            f"{join.target!r} waits for {', '.join(sorted(join.sources - arrived))}"
            for join in self.graph.joins
            if (arrived := progress.joined.get(join.key)) is not None
        ]
        return "; ".join(waits) or "the routers named no target; return END to end the run"

    def _schedule(
        self, progress: GraphProgress, targets: Collection[str], sends: Sequence[Send]
    ) -> list[commands.Command]:
        """Return the next round's steps in the order in which their results will be merged."""
        if len(targets) == 1 and not sends:
            (name,) = targets
            iteration = progress.visits.get(name, 0) + 1
            kind = "run" if name in self._nested else "call"
            return [commands.ScheduleStep(step_id(name, iteration), name, kind, iteration)]
        nodes = self.graph.nodes
        items: list[tuple[int, int, str, Send | None]] = [(nodes[t].order, -1, t, None) for t in targets]
        items += [(nodes[s.node].order, index, s.node, s) for index, s in enumerate(sends)]
        if len(items) > 1:
            items.sort(key=lambda item: item[:2])
        scheduled: list[commands.Command] = []
        counts: dict[str, int] = {}
        for _, _, name, send in items:
            iteration = counts[name] = counts.get(name, progress.visits.get(name, 0)) + 1
            data = facts.NOTHING if send is None else self._payload(send)
            scheduled.append(
                commands.ScheduleStep(step_id(name, iteration), name, nodes[name].kind, iteration, data=data)
            )
        return scheduled

    def _payload(self, send: Send) -> msgspec.Raw:
        given = send.state
        try:
            values = given.encoded() if isinstance(given, State) else encode_map(given, "its state")
        except PayloadRejected as error:
            raise EdgeFault(f"Send to {send.node!r}", str(error)) from error
        return self._kept(values)

    def _packed(self, values: Mapping[str, Any]) -> msgspec.Raw:
        return self._kept(raws(values))

    def _kept(self, values: dict[str, msgspec.Raw]) -> msgspec.Raw:
        inline, blobs = split_large(values)
        if blobs:
            self._blobs.add(blobs)
        return pack(inline)

    def _view(self, progress: GraphProgress) -> State:
        return State.view(progress.state, blobs=self._blobs)

    # --- running steps, showing and storing progress

    def work(self, progress: GraphProgress, step: OpenStep) -> Work:
        """Return how to run a node, or how the run begins."""
        if step.name == START:
            return StartWork(self._initial, self.graph)
        node = self.graph.nodes.get(step.name)
        if node is None or node.kind != "call" or progress.unknown:
            raise self._misfit(progress.unknown or step.name)
        payload = None if step.data == facts.NOTHING else unpack(step.data)
        return NodeWork(node, progress.state, self._blobs, payload, self.graph.schema, watch=self._watch)

    def child(self, progress: GraphProgress, step: OpenStep) -> NestedRun:
        """Return what a node that is a workflow starts."""
        node = self.graph.nodes.get(step.name)
        if node is None or node.kind != "run" or progress.unknown:
            raise self._misfit(progress.unknown or step.name)
        base = progress.state if step.data == facts.NOTHING else unpack(step.data)
        return NestedRun(node, base, self._blobs, self.graph.schema)

    def _is_unknown(self, name: str) -> bool:
        return name not in self.graph.nodes and name != START

    def _misfit(self, unknown: str) -> NondeterminismError:
        node = self.graph.nodes.get(unknown)
        if node is not None:
            now, then = ("a workflow", "a function") if node.kind == "run" else ("a function", "a workflow")
            return NondeterminismError(f"node {unknown!r} is {now}; in the journal it is {then}")
        found = ", ".join(self.graph.nodes)
        return NondeterminismError(f"the journal has a step of node {unknown!r}; the graph has only {found}")

    def changes(self, given: Mapping[str, Any]) -> msgspec.Raw:
        """Return keys to set in the state, encoded; refuses what the schema or the store does not take."""
        encoded = encode_map(given, "changes")
        if self.graph.schema is not None:
            self.graph.schema.check({key: decode(raw) for key, raw in encoded.items()})
        return self._packed(encoded)

    def state(self, progress: GraphProgress) -> dict[str, Any]:
        """Return the merged state, decoded."""
        return dict(self._view(progress))

    def encode(self, progress: GraphProgress) -> bytes:
        """Return the progress as JSON."""
        return msgspec.json.encode(
            _Fold(
                progress.ledger,
                raws(progress.state),
                progress.members,
                list(progress.results.values()),
                progress.merged,
                progress.iterations,
                progress.visits,
                progress.joined,
                progress.deferred,
            )
        )

    def decode(self, data: bytes) -> GraphProgress:
        """Return the progress of a stored fold."""
        fold = _FOLDS.decode(data)
        progress = GraphProgress()
        progress.ledger = fold.ledger
        progress.state = Values(fold.state)
        progress.members = fold.members
        progress.results = {fact.step: fact for fact in fold.results}
        progress.merged = fold.merged
        progress.unknown = next(filter(self._is_unknown, fold.members.values()), "")
        progress.iterations = fold.iterations
        progress.visits = fold.visits
        progress.joined = fold.joined
        progress.deferred = fold.deferred
        return progress


class _Lazy:
    """The state that a round's edges see, made when the first of them asks."""

    __slots__ = ("_make", "_progress", "_state")

    def __init__(self, make: Callable[[GraphProgress], State], progress: GraphProgress) -> None:
        self._make = make
        self._progress = progress
        self._state: State | None = None

    def __call__(self) -> State:
        if self._state is None:
            self._state = self._make(self._progress)
        return self._state


_FOLDS: Final = msgspec.json.Decoder(_Fold)


def _exceeded(limit: int) -> Sequence[commands.Command]:
    """Return the end of a run that would go more rounds than its graph allows."""
    message = f"max iterations ({limit}) exceeded"
    return (commands.FailRun(facts.ErrorInfo(code="max_iterations", message=message, type="MaxIterations")),)


class StartWork:
    """How a run begins: the state that the factory made is the result of the step START."""

    name = START
    retry: RetryPolicy | None = None
    timeout: float | None = None
    heartbeat_timeout: float | None = None
    cache: CachePolicy | None = None
    profile: StageProfile | None = None
    policy: Policy | None = None
    is_async = False
    inline = True

    def __init__(self, initial: Callable[[], Any], graph: StateGraph) -> None:
        """Keep the factory's outcome."""
        self._initial = initial
        self._graph = graph

    def call(self, context: StepContext) -> Any:
        """Return the initial state, or raise what the factory raised."""
        return self._initial()

    def accept(self, value: Any, context: StepContext) -> Outcome:
        """Return the initial state's keys; refuses what is no state, cannot be stored or holds a secret."""
        where = "the initial state"
        changes, _ = changes_of(value, None, where)
        if self._graph.schema is not None:
            self._graph.schema.check({key: decode(raw) for key, raw in changes.items()})
        fresh = learned_of(value, {}) if isinstance(value, State) else None
        learned = None if fresh is None else Secrets({**context.secrets, **fresh})
        return outcome_of(changes, (), learned or context.secrets, learned, where)
