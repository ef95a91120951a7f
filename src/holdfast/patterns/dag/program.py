"""The pure program of a DAG: what may run is scheduled as far as `max_parallel` lets it; the run ends when all have.

A failure keeps from running what needs it, and nothing else. When nothing is left, the run has failed if a task that
none depends on failed, or could not run for a failure; else it is completed, for somebody has dealt with the failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from holdfast.core.ledger import Ledger, OpenStep
from holdfast.core.work import Blobs
from holdfast.errors import NondeterminismError, PayloadRejected, StoreError
from holdfast.model import commands, facts
from holdfast.model.ids import StepId, split_step, step_id
from holdfast.model.state import reference, split_large
from holdfast.model.values import decode, encode, pack
from holdfast.patterns.dag.binding import ERRORS, Source, named
from holdfast.patterns.dag.mapped import Mapped, Span
from holdfast.patterns.dag.plan import Node, Plan
from holdfast.patterns.dag.progress import MAP, DagProgress
from holdfast.patterns.dag.reopening import Changes, forked, resumed
from holdfast.patterns.dag.rules import Tally
from holdfast.patterns.dag.standing import BLOCKED, FAILED, SUCCEEDED, Status
from holdfast.patterns.dag.work import TaskRun, TaskWork

MOST_ITEMS: Final = 100_000
"""No map goes over more."""

MOST_OPEN: Final = 10_000
"""So many items of a map are begun at once; the executor runs as many of them as it can."""


class _Fold(msgspec.Struct):
    """A progress as it is stored, by task numbers; the hash of the definition guards these."""

    ledger: Ledger
    status: list[int]
    results: dict[int, msgspec.Raw]
    mapped: dict[int, Mapped]
    errors: dict[int, facts.ErrorInfo]
    runs: dict[int, int]
    unseen: dict[int, tuple[int, ...]]
    given_up: list[int]
    idle: list[int]
    abandoned: list[StepId]


class DagProgram:
    """One run of a DAG."""

    checkpoints = True
    problem: BaseException | None = None

    def __init__(self, plan: Plan, params: Mapping[str, Any], blobs: Blobs) -> None:
        """Keep the plan and what the run was given."""
        self.plan: Final = plan
        self.hash: Final = plan.hash
        self._params = params
        self._encoded: dict[str, msgspec.Raw] | None = None
        self._blobs = blobs
        self._bindings = plan.bindings(params.keys())

    def start(self) -> DagProgress:
        """Return the progress before any fact."""
        return DagProgress(self.plan)

    # --- absorbing facts

    def evolve(self, progress: DagProgress, fact: facts.Fact) -> DagProgress:
        """Absorb one fact."""
        progress.ledger.absorb(fact)
        kind = type(fact)
        if kind is facts.StepCompleted:  # the usual ones
            progress.completed(fact)  # type: ignore[arg-type]  # the line above says what it is
        elif kind is facts.StepScheduled:
            if not fact.parent:  # type: ignore[attr-defined]
                progress.scheduled(fact)  # type: ignore[arg-type]
        else:
            self._evolve_rarer(progress, fact)
        return progress

    def _evolve_rarer(self, progress: DagProgress, fact: facts.Fact) -> None:
        match fact:
            case facts.StepFailed():
                progress.failed(fact)
            case facts.StepCancelled():
                progress.cancelled(fact)
            case facts.StepCancelRequested():
                progress.giving_up.pop(fact.step, None)
            case facts.DecisionMade():
                progress.decided(fact)
            case facts.RunResumed():
                resumed(progress, fact)
            case facts.RunForked():
                forked(progress, fact)
            case _:
                pass

    # --- deciding

    def decide(self, progress: DagProgress) -> Sequence[commands.Command]:
        """Return what the run wants next: decisions first, since steps may follow from them."""
        if progress.decisions:
            return list(progress.decisions.values())
        wanted: list[commands.Command] = [commands.CancelStep(step) for step in progress.giving_up]
        if progress.ready or progress.expanding:
            wanted += self._begin(progress)
        if wanted or progress.left or progress.ledger.open:
            return wanted
        return (self._end(progress),)

    def _begin(self, progress: DagProgress) -> Iterator[commands.Command]:
        """Yield the steps that may begin: ready tasks before the items of maps."""
        most = self.plan.max_parallel
        free = MOST_ITEMS if most is None else most - progress.running
        expands = False
        for rank in reversed(progress.ready[-free:] if free > 0 else ()):
            node = self.plan.nodes[self.plan.by_rank[rank]]
            if node.task.map_over is not None:
                expands = True
                yield from self._expand(progress, node)
            else:
                free -= 1
                yield from self._schedule(progress, node)
        if expands:
            return  # its items compete with those of other maps
        for rank in reversed(progress.expanding):
            if free <= 0:
                return
            number = self.plan.by_rank[rank]
            for command in self._items(progress, self.plan.nodes[number], free):
                free -= 1
                yield command

    def _schedule(self, progress: DagProgress, node: Node) -> Iterator[commands.Command]:
        task, rule = node.task, node.task.trigger_rule
        if rule != "all_success" and node.before:
            reason = f"{rule}: {Tally._make(progress.tallies[node.number])}"
            yield commands.RecordDecision(
                self.plan.names[node.before[0]], (facts.EdgeTried(task.name, "run", reason=reason),)
            )
        iteration = progress.runs.get(node.number, 0) + 1
        yield commands.ScheduleStep(step_id(task.name, iteration), task.name, task.kind, iteration)

    def _expand(self, progress: DagProgress, node: Node) -> Iterator[commands.Command]:
        """Yield the decision over how many items a task maps, or that it cannot."""
        task = node.task
        source = task.map_over or task.name
        try:
            count = len(self._items_of(progress, node))
            edge = facts.EdgeTried(task.name, MAP, reason=f"{count} items", count=count)
        except PayloadRejected as error:
            reason = f"{task.where} cannot map over {source!r}: {error.message}"
            edge = facts.EdgeTried(task.name, MAP, result=False, reason=reason, count=0)
        yield commands.RecordDecision(source, (edge,))

    def _items(self, progress: DagProgress, node: Node, free: int) -> Iterator[commands.Command]:
        task, mapped = node.task, progress.mapped[node.number]
        most = min(free, (task.limit or MOST_OPEN) - mapped.open)
        for iteration, span, told in mapped.wanted(task.batch, most):
            data = msgspec.Raw(msgspec.json.encode(span)) if told else facts.NOTHING
            yield commands.ScheduleStep(
                step_id(task.name, iteration), task.name, task.kind, iteration, data=data
            )

    def _end(self, progress: DagProgress) -> commands.Command:
        error = self._failure(progress)
        if error is not None:
            return commands.FailRun(error)
        results = {
            name: progress.result(number, self._whole)
            for name, number in self.plan.in_order
            if progress.status[number] is SUCCEEDED
        }
        inline, large = split_large(results)
        self._blobs.add(large)
        return commands.CompleteRun(pack(inline))

    def _failure(self, progress: DagProgress) -> facts.ErrorInfo | None:
        """Return the error of the first task, as they were added, whose failure none has dealt with."""
        bad = (FAILED, BLOCKED)
        stack = [n.number for n in self.plan.nodes if not n.after and progress.status[n.number] in bad]
        seen = set(stack)
        while stack:
            for before in self.plan.nodes[stack.pop()].before:
                if progress.status[before] in bad and before not in seen:
                    seen.add(before)
                    stack.append(before)
        failed = (number for _, number in self.plan.in_order if number in seen)
        return next((progress.errors[n] for n in failed if progress.status[n] is FAILED), None)

    # --- values

    def _whole(self, raw: msgspec.Raw) -> msgspec.Raw:
        digest = reference(raw)
        if digest is None:
            return raw
        if digest not in self._blobs:
            raise StoreError(f"the stored value {digest} is missing", fix="Restore the store from a backup.")
        return msgspec.Raw(self._blobs[digest])

    def _items_of(self, progress: DagProgress, node: Node) -> list[msgspec.Raw]:
        """Return the items of a map, encoded; raises PayloadRejected when there is no list."""
        found = progress.items.get(node.number)
        if found is None:
            found = self._read_items(progress, node)
            if len(found) > MOST_ITEMS:
                raise PayloadRejected(
                    f"it has {len(found):,} items, and a map goes over {MOST_ITEMS:,} at most"
                )
            progress.items[node.number] = found
        return found

    def _read_items(self, progress: DagProgress, node: Node) -> list[msgspec.Raw]:
        task = node.task
        if task.items is not None:
            return [encode(item) for item in task.items]
        if node.producer >= 0:
            raw = progress.result(node.producer, self._whole)
        else:
            raw = self._params_encoded.get(task.map_over or "", facts.NOTHING)
        try:
            return _LIST.decode(raw)
        except msgspec.ValidationError:
            value = decode(raw)
        if not isinstance(value, tuple):
            raise PayloadRejected(f"it is no list but of type {type(value).__name__}")
        return [encode(item) for item in value]

    @property
    def _params_encoded(self) -> dict[str, msgspec.Raw]:
        if self._encoded is None:
            self._encoded = {name: encode(value, name) for name, value in self._params.items()}
        return self._encoded

    def _value(self, raws: Mapping[Source, msgspec.Raw], source: Source) -> Any:
        """Return an argument, decoded anew: no two attempts share a value that one of them may change."""
        match source.kind:
            case "params":
                return {name: decode(raw) for name, raw in self._params_encoded.items()}
            case "param":
                return decode(self._params_encoded[source.name])
            case "results":
                return {s.name: decode(raw) for s, raw in raws.items() if s.kind == "result"}
            case "errors":
                return _ERRORS.decode(raws[ERRORS])
            case _:
                return decode(raws.get(source, facts.NOTHING))

    def _raw(self, raws: Mapping[Source, msgspec.Raw], source: Source) -> msgspec.Raw:
        """Return an argument, encoded."""
        match source.kind:
            case "params":
                return pack(self._params_encoded)
            case "param":
                return self._params_encoded[source.name]
            case "results":
                return pack({each.name: raw for each, raw in raws.items() if each.kind == "result"})
            case _:
                return raws.get(source, facts.NOTHING)

    def _raws(self, progress: DagProgress, node: Node, step: OpenStep) -> dict[Source, msgspec.Raw]:
        """Return what a step's arguments are made of. It gets nothing from what had not ended when it began."""
        unseen = progress.unseen.get(node.number, ())
        raws = {
            Source("result", self.plan.names[number]): progress.result(number, self._whole)
            for number in node.before
            if number not in unseen
        }
        binding = self._bindings[node.number]
        if ERRORS in binding.args or ERRORS in (source for _, source in binding.kwargs):
            raws[ERRORS] = msgspec.Raw(msgspec.json.encode(self._errors(progress, node)))
        mapped = progress.mapped.get(node.number)
        if mapped is not None and step.step not in progress.abandoned:
            start, size = self._span(mapped, step)
            every = self._items_of(progress, node)
            if len(every) != mapped.total:
                raise NondeterminismError(
                    f"task {node.task.name!r} maps over {len(every)} items; in the journal over {mapped.total}",
                    fix=f"Give it the items that it began with, or begin it anew: clear(run, {node.task.name!r}).",
                )
            items = every[start : start + (size or 1)]
            raws[_ITEM] = items[0] if not size else msgspec.Raw(b"[%b]" % b",".join(map(bytes, items)))
        return raws

    def _errors(self, progress: DagProgress, node: Node) -> dict[str, facts.ErrorInfo]:
        """Return why those of the tasks before failed that did; of a map its first error."""
        errors = progress.errors
        return {self.plan.names[number]: errors[number] for number in node.before if number in errors}

    def _span(self, mapped: Mapped, step: OpenStep) -> Span:
        return mapped.span(split_step(step.step)[1])

    # --- running steps, showing and storing progress

    def work(self, progress: DagProgress, step: OpenStep) -> TaskWork:
        """Return how to run a task."""
        node = self._node(progress, step, "call")
        raws = self._raws(progress, node, step)
        mapped = progress.mapped.get(node.number)
        batch = self._span(mapped, step)[1] if mapped is not None else 0
        after = [self.plan.names[n] for n in node.after] if node.task.choice else ()
        binding, given = self._bindings[node.number], partial(self._value, raws)
        if node.task.cache is None:
            return TaskWork(node.task, binding, given, after, batch or None)
        again = self._runs_again(mapped, step)
        raw = partial(self._raw, raws)
        return TaskWork(node.task, binding, given, after, batch or None, raw=raw, again=again)

    def _runs_again(self, mapped: Mapped | None, step: OpenStep) -> bool:
        """Tell whether a step is not the first of its task, or of its item, in the run: somebody wanted it anew."""
        iteration = split_step(step.step)[1]
        return iteration > 1 if mapped is None else mapped.base > 0 or mapped.is_repeated(iteration)

    def child(self, progress: DagProgress, step: OpenStep) -> TaskRun:
        """Return what a task that is a workflow starts."""
        node = self._node(progress, step, "run")
        raws = self._raws(progress, node, step)
        before = [self.plan.names[number] for number in node.before]
        params = self._value(raws, Source("params"))
        return TaskRun(node.task, before, params, partial(self._value, raws))

    def given(self, progress: DagProgress, step: StepId) -> dict[str, Any] | None:
        """Return the arguments of an open step's task by name; for a workflow the params of its run.

        None for a step that today's code has no such task for, or whose workflow is known by name alone.
        """
        found = progress.ledger.open[step]
        try:
            node = self._node(progress, found, found.kind)
            if node.task.shape is not None:
                value = partial(self._value, self._raws(progress, node, found))
                return named(node.task.shape, self._bindings[node.number], value)
            work = self.child(progress, found)
            return None if isinstance(work.workflow, str) else work.params(work.workflow)
        except (NondeterminismError, PayloadRejected):
            return None

    def _node(self, progress: DagProgress, step: OpenStep, kind: str) -> Node:
        number = self.plan.numbers.get(step.name)
        if number is None:
            found = ", ".join(self.plan.names)
            raise NondeterminismError(
                f"the journal has a step of task {step.name!r}; the DAG has only {found}"
            )
        node = self.plan.nodes[number]
        if step.step in progress.abandoned:  # it is asked to end before anything of it starts
            return node
        if node.task.kind != kind:
            now, then = ("a workflow", "a function") if kind == "call" else ("a function", "a workflow")
            raise NondeterminismError(f"task {step.name!r} is {now}; in the journal it is {then}")
        if (node.task.map_over is not None) != (number in progress.mapped):
            raise NondeterminismError(
                f"task {step.name!r} maps over items; in the journal it does not, or vice versa"
            )
        return node

    def changes(self, given: Mapping[str, Any]) -> msgspec.Raw:
        """Return results that tasks are given in a fork, encoded; refuses names of no task."""
        for name in given:
            if name not in self.plan.numbers:
                raise PayloadRejected(
                    f"changes: there is no task {name!r}",
                    field=name,
                    fix=f"Tasks: {', '.join(self.plan.names)}.",
                )
        results, large = split_large({name: encode(value, name) for name, value in given.items()})
        self._blobs.add(large)
        return msgspec.Raw(msgspec.json.encode(Changes(results)))

    def cleared(self, anew: tuple[tuple[str, int], ...]) -> msgspec.Raw:
        """Return what begins anew in a fork, encoded."""
        return msgspec.Raw(msgspec.json.encode(Changes(cleared=anew)))

    def anew(
        self, progress: DagProgress, task: str, item: int | None, *, downstream: bool
    ) -> tuple[tuple[str, int], ...]:
        """Return what begins anew with a task, or one item of it, and with what comes after it.

        Raises PayloadRejected naming what there is not, and for items that cannot be run alone.
        """
        number = self.plan.numbers.get(task)
        if number is None:
            raise PayloadRejected(
                f"there is no task {task!r}", field="task", fix=f"Tasks: {', '.join(self.plan.names)}."
            )
        after = sorted(self.plan.downstream((number,))) if downstream else ()
        first = -1 if item is None else self._one_item(progress, number, item)
        return ((task, first), *((self.plan.names[n], -1) for n in after))

    def _one_item(self, progress: DagProgress, number: int, item: int) -> int:
        name, mapped = self.plan.names[number], progress.mapped.get(number)
        if mapped is None or not 0 <= item < mapped.total:
            told = "is no map that has begun" if mapped is None else f"has items 0 to {mapped.total - 1}"
            raise PayloadRejected(f"task {name!r} {told}", field="item", fix="Leave item out for all of it.")
        if mapped.is_batched:
            raise PayloadRejected(
                f"task {name!r} runs its items in batches", field="item", fix="Leave item out for all of it."
            )
        return item

    def state(self, progress: DagProgress) -> dict[str, Any]:
        """Return the results of the tasks that have succeeded, decoded."""
        return {
            name: decode(progress.result(number, self._whole))
            for name, number in self.plan.in_order
            if progress.status[number] is SUCCEEDED
        }

    def encode(self, progress: DagProgress) -> bytes:
        """Return what is recorded, as JSON; the rest is reckoned from it."""
        derived = progress.derived
        return msgspec.json.encode(
            _Fold(
                progress.ledger,
                [0 if n in derived else status.value for n, status in enumerate(progress.status)],
                progress.results,
                progress.mapped,
                progress.errors,
                progress.runs,
                progress.unseen,
                sorted(progress.given_up),
                sorted(progress.idle),
                sorted(progress.abandoned),
            )
        )

    def decode(self, data: bytes) -> DagProgress:
        """Return the progress of a stored fold."""
        fold = _FOLDS.decode(data)
        progress = DagProgress(self.plan)
        progress.ledger = fold.ledger
        progress.status = [Status(value) for value in fold.status]
        progress.results = fold.results
        progress.mapped = fold.mapped
        progress.errors = fold.errors
        progress.runs = fold.runs
        progress.unseen = fold.unseen
        progress.given_up, progress.idle = set(fold.given_up), set(fold.idle)
        progress.abandoned = set(fold.abandoned)
        progress.rebuild()
        return progress


_FOLDS: Final = msgspec.json.Decoder(_Fold)
_ERRORS: Final = msgspec.json.Decoder(dict[str, facts.ErrorInfo])
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM: Final = Source("item")
