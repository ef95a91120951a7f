"""What is known of a DAG's run, and what follows from it: which tasks may run, and which will not.

Each task holds a tally of how those before it ended. An end changes the tallies of the tasks after it, and where that
settles a rule, the task is ready, or it will not run, which is an end in turn. So one fact costs what follows from it.
What a task will not run for is wanted as a decision until it is recorded. What is taken back (by a resume, a fork, or
a journal that was written by other code) is reckoned anew from what is recorded: `rebuild`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from typing import Final

from msgspec import Raw

from holdfast.core.ledger import Ledger
from holdfast.model import facts
from holdfast.model.commands import RecordDecision
from holdfast.model.ids import StepId, split_step, step_id
from holdfast.patterns.dag.choosing import kept_by, needed_by_none_but
from holdfast.patterns.dag.mapped import Mapped
from holdfast.patterns.dag.plan import Node, Plan
from holdfast.patterns.dag.rules import Join, Tally, Verdict
from holdfast.patterns.dag.standing import (
    BLOCKED,
    FAILED,
    OF_EDGE,
    OF_VERDICT,
    READY,
    RUNNING,
    SHARES,
    SKIPPED,
    SUCCEEDED,
    UNENDED,
    WAITING,
    Share,
    Status,
)


class DagProgress:
    """See the module. Tasks are known by their numbers in the plan; `ready` and `expanding` hold ranks, the next last.

    `left` counts the tasks that have not ended, `running` the open steps, `runs` the steps that a task ever had.
    `decisions` are wanted and not recorded, `derived` the tasks whose end is one of them. `unseen` are those before a
    task that had not ended when it began, so that it got nothing from them, `idle` the tasks that ran and skipped.
    `abandoned` are open steps of tasks that begin anew: they are asked to end, and what they come to does not count.
    """

    __slots__ = (
        "abandoned",
        "decisions",
        "derived",
        "errors",
        "expanding",
        "given_up",
        "giving_up",
        "idle",
        "items",
        "joined",
        "ledger",
        "left",
        "mapped",
        "plan",
        "ready",
        "results",
        "running",
        "runs",
        "status",
        "tallies",
        "unseen",
    )

    def __init__(self, plan: Plan) -> None:
        """Begin before the first fact."""
        self.plan: Final = plan
        self.ledger = Ledger()
        self.status: list[Status] = [WAITING] * len(plan.nodes)
        self.results: dict[int, Raw] = {}
        self.mapped: dict[int, Mapped] = {}
        self.errors: dict[int, facts.ErrorInfo] = {}
        self.runs: dict[int, int] = {}
        self.unseen: dict[int, tuple[int, ...]] = {}
        self.given_up: set[int] = set()
        self.idle: set[int] = set()
        self.abandoned: set[StepId] = set()
        self.derived: set[int] = set()
        self.items: dict[int, list[Raw]] = {}
        self.joined: dict[int, Raw] = {}
        self.rebuild()

    # --- reckoning

    def rebuild(self) -> None:
        """Reckon everything that follows from what is recorded."""
        for number in self.derived:
            self.status[number] = WAITING
        self.status = [WAITING if status is READY else status for status in self.status]
        self.derived.clear()
        self.joined.clear()
        self.decisions: dict[str, RecordDecision] = {}
        opened = self.ledger.open
        self.giving_up: dict[StepId, None] = {
            step: None for step in sorted(self.abandoned) if step in opened and not opened[step].cancelling
        }
        self.ready: list[int] = []
        self.expanding: list[int] = []
        self.left = sum(status in UNENDED for status in self.status)
        numbers = self.plan.numbers
        self.running = sum(not step.parent and step.name in numbers for step in opened.values())
        self.tallies = [self._reckoned(node) for node in self.plan.nodes]
        for number, mapped in self.mapped.items():
            if mapped.unbegun and self.status[number] is RUNNING:
                insort(self.expanding, self.plan.nodes[number].rank)
        for number in self.plan.choices:
            if self.status[number] is SUCCEEDED:
                self._choose(self.plan.nodes[number])
        for node in self.plan.nodes:
            if self.status[node.number] is WAITING:
                changed: list[tuple[int, Share, Share]] = []
                self._judge(node, changed)
                for change in changed:
                    self._spread(*change)

    def _reckoned(self, node: Node) -> list[int]:
        shares = [self.share(number) for number in node.before]
        return [sum(column) for column in zip(*shares, strict=True)] or [0, 0, 0, 0, 0]

    def share(self, number: int) -> Share:
        """Return what a task adds to the tallies of those after it; a mapped one that began adds each of its items."""
        status, mapped = self.status[number], self.mapped.get(number)
        if mapped is None or not mapped.total or status in (SKIPPED, BLOCKED):
            return SHARES[status]
        failed = mapped.lost if self.is_lost(number) else 0
        share = (mapped.won, failed, mapped.skipped, 0, mapped.waiting)
        return share if any(share) else SHARES[SUCCEEDED]

    def result(self, number: int, whole: Callable[[Raw], Raw]) -> Raw:
        """Return a task's result, whole: of a mapped one the list of those that its items gave; `null` for none."""
        mapped = self.mapped.get(number)
        if mapped is None:
            return whole(self.results.get(number, facts.NOTHING))
        if self.status[number] in UNENDED:
            return facts.NOTHING
        found = self.joined.get(number)
        if found is None:
            found = self.joined[number] = mapped.joined(whole)
        return found

    def is_lost(self, number: int) -> bool:
        """Tell whether more items of a mapped task have failed than it tolerates."""
        mapped = self.mapped[number]
        return mapped.lost > self.plan.nodes[number].task.tolerated(mapped.total)

    def _spread(self, number: int, before: Share, after: Share) -> None:
        """Have the tasks after this one take note of a change, and judge those whose rule it may settle."""
        changed = [(number, before, after)]
        while changed:
            number, before, after = changed.pop()
            nodes, tallies, status = self.plan.nodes, self.tallies, self.status
            plain = after is _SUCCESS and before is _WAITING
            for each in nodes[number].after:
                tally = tallies[each]
                if plain:  # the usual case
                    tally[0] += 1
                    tally[4] -= 1
                    if tally[4] and not nodes[each].is_early:
                        continue
                else:
                    tally[:] = [n + new - old for n, new, old in zip(tally, after, before, strict=True)]
                if status[each] is WAITING:
                    self._judge(nodes[each], changed)
            for each in self.plan.gated.get(number, ()):
                if status[each] is WAITING:
                    self._judge(nodes[each], changed)

    def _judge(self, node: Node, changed: list[tuple[int, Share, Share]]) -> None:
        """Take the verdict on a task that waits, if there is one."""
        if node.gates and any(self.status[number] in UNENDED for number in node.gates):
            return
        tally = Tally._make(self.tallies[node.number])
        verdict = node.judge(tally) if node.before else Verdict.RUN
        if verdict is Verdict.RUN and node.producer >= 0:
            verdict = self._of_producer(node.producer)
        if verdict is None:
            return
        if verdict is Verdict.RUN:
            self.status[node.number] = READY
            insort(self.ready, node.rank)
            rule = node.task.trigger_rule
            if isinstance(rule, Join) and rule.rest == "cancel":
                self._give_up(node, changed)
        else:
            reason = f"{node.task.trigger_rule}: {tally}"
            self._rule_out(node, verdict, self._decisive(node, verdict), reason, changed)

    def _of_producer(self, number: int) -> Verdict | None:
        """Return whether there is something to map over; None while that is open."""
        status = self.status[number]
        if status in UNENDED:
            return None
        if status is SKIPPED:
            return Verdict.SKIP
        return Verdict.RUN if status is SUCCEEDED or number in self.mapped else Verdict.BLOCK

    def _rule_out(
        self, node: Node, verdict: Verdict, source: str, reason: str, changed: list[tuple[int, Share, Share]]
    ) -> None:
        """End a task that will not run, and want that as a decision."""
        number, status = node.number, OF_VERDICT[verdict]
        edge = facts.EdgeTried(node.task.name, verdict.value, result=False, reason=reason)
        self._want(RecordDecision(source, (edge,)))
        self.status[number] = status
        self.derived.add(number)
        self.left -= 1
        changed.append((number, _WAITING, SHARES[status]))

    def _want(self, decision: RecordDecision) -> None:
        self.decisions[_key(decision.source, decision.edges)] = decision

    def _decisive(self, node: Node, verdict: Verdict) -> str:
        """Return the first of the tasks before that speaks for the verdict."""
        _, failed, skipped, blocked, _ = range(len(SHARES[WAITING]))
        wanted = (failed, blocked) if verdict is Verdict.BLOCK else (skipped,)
        found = (n for n in node.before if any(self.share(n)[each] for each in wanted))
        return self.plan.names[next(found, node.before[0])]

    # --- choices

    def _choose(self, node: Node) -> None:
        """Rule out what a branch or a short circuit does not let run. Before those after it hear of its success."""
        nodes, changed = self.plan.nodes, list[tuple[int, Share, Share]]()
        kept = kept_by(self.plan, node, self.results.get(node.number, facts.NOTHING))
        asked = self.plan.gated[node.number]
        if node.task.choice == "short_circuit" and kept:
            return
        edges = []
        for number in asked:
            if number in kept:
                edges.append(facts.EdgeTried(nodes[number].task.name, "run", reason=node.task.choice))
            elif self.status[number] in (WAITING, READY):
                edges.append(
                    facts.EdgeTried(
                        nodes[number].task.name,
                        Verdict.SKIP.value,
                        result=False,
                        reason=f"{node.task.choice}: not chosen",
                    )
                )
                self._drop_ready(number)
                self.status[number] = SKIPPED
                self.derived.add(number)
                self.left -= 1
                changed.append((number, _WAITING, SHARES[SKIPPED]))
        if any(not edge.result for edge in edges):
            self._want(RecordDecision(node.task.name, tuple(edges)))
        for change in changed:
            self._spread(*change)

    def _give_up(self, node: Node, changed: list[tuple[int, Share, Share]]) -> None:
        """End what a join needs no more: the tasks before it that have not ended, and what leads to these alone."""
        for number in sorted(needed_by_none_but(self.plan, node)):
            if self.status[number] in (WAITING, READY):
                self._drop_ready(number)
                reason = f"{node.task.trigger_rule} of {node.task.name!r}: enough have succeeded"
                self._rule_out(self.plan.nodes[number], Verdict.SKIP, node.task.name, reason, changed)
            elif self.status[number] is RUNNING:
                self.given_up.add(number)
        if self.given_up:
            for step in self.ledger.open.values():
                found = self.plan.numbers.get(step.name)
                if found in self.given_up and not step.cancelling and not step.parent:
                    self.giving_up[step.step] = None

    def _drop_ready(self, number: int) -> None:
        if self.status[number] is READY:
            self.ready.remove(self.plan.nodes[number].rank)

    # --- absorbing facts

    def scheduled(self, fact: facts.StepScheduled) -> None:
        """Take note of a step of a task."""
        number = self.plan.numbers.get(fact.name)
        if number is None:
            return
        self.running += 1
        self.runs[number] = fact.iteration
        mapped = self.mapped.get(number)
        if mapped is not None:
            mapped.begin(fact.iteration, fact.data)
            if not mapped.unbegun:
                self._stop_expanding(number)
            return
        fits = self.status[number] is READY
        if fits:
            self._take_ready(number)
        self.status[number] = RUNNING
        self._look_back(self.plan.nodes[number])
        if not fits:  # other code than today's found that it may run
            self.derived.discard(number)
            self.rebuild()

    def _take_ready(self, number: int) -> None:
        rank = self.plan.nodes[number].rank
        if self.ready[-1] == rank:
            self.ready.pop()
        else:
            self.ready.remove(rank)

    def _stop_expanding(self, number: int) -> None:
        rank = self.plan.nodes[number].rank
        if rank in self.expanding:
            self.expanding.remove(rank)

    def _look_back(self, node: Node) -> None:
        """Keep in mind what had not ended when a task began: it gets nothing from there, whenever it is tried."""
        if self.tallies[node.number][4]:
            self.unseen[node.number] = tuple(n for n in node.before if self.status[n] in UNENDED)
        else:
            self.unseen.pop(node.number, None)

    def completed(self, fact: facts.StepCompleted) -> None:
        """Take a step's result. One that takes its own task away has none: the task is skipped."""
        found = self._ended(fact.step)
        if found is None:
            return
        number, iteration = found
        mapped = self.mapped.get(number)
        if mapped is not None:
            before = self.share(number)
            if fact.gone:
                mapped.skip(iteration)
            else:
                mapped.win(iteration, fact.data)
            self._item_ended(number, before)
        elif fact.gone:
            self.idle.add(number)
            self._settle(number, SKIPPED)
        else:
            self.results[number] = fact.data
            node = self.plan.nodes[number]
            if node.task.choice:
                self._choose(node)
            self._settle(number, SUCCEEDED)

    def failed(self, fact: facts.StepFailed) -> None:
        """Take a step's failure for good. One that was asked to end did not fail."""
        step = self.ledger.unresolved.get(fact.step)
        if step is not None and not step.failed:
            self.cancelled(fact)
            return
        found = self._ended(fact.step)
        if found is None:
            return
        number, iteration = found
        mapped = self.mapped.get(number)
        if mapped is None:
            self.errors[number] = fact.error
            self._settle(number, FAILED)
        else:
            before = self.share(number)
            mapped.lose(iteration, fact.error)
            self._item_ended(number, before)

    def cancelled(self, fact: facts.StepCancelled | facts.StepFailed) -> None:
        """Take note that a step ended because it was asked to. One that nobody needs any more is skipped for good."""
        found = self._ended(fact.step)
        if found is None:
            return
        number, iteration = found
        if number not in self.given_up:
            return  # the run is being cancelled; a resume opens the step again
        self.ledger.unresolved.pop(fact.step, None)
        mapped = self.mapped.get(number)
        if mapped is None:
            self._settle(number, SKIPPED)
        else:
            before = self.share(number)
            mapped.skip(iteration)
            self._item_ended(number, before)

    def _ended(self, step: StepId) -> tuple[int, int] | None:
        """Return task and iteration of a step that has just ended; None when it is none of a task, or of one before."""
        if step in self.abandoned:  # its task has begun anew
            self.abandoned.discard(step)
            self.ledger.unresolved.pop(step, None)
            self.running -= 1
            return None
        name, iteration = split_step(step)
        number = self.plan.numbers.get(name)
        if number is None:
            return None
        self.running -= 1
        mapped = self.mapped.get(number)
        if self.status[number] is not RUNNING:
            return None
        if mapped is None:
            return (number, iteration) if self.runs.get(number) == iteration else None
        return (number, iteration) if iteration > mapped.base else None

    def _item_ended(self, number: int, before: Share) -> None:
        mapped = self.mapped[number]
        if number in self.given_up and not mapped.open:
            mapped.skipped += mapped.waiting
            mapped.next, mapped.again = mapped.total, []
            self._stop_expanding(number)
        if mapped.waiting:
            self._spread(number, before, self.share(number))
            return
        if self.is_lost(number):
            status = FAILED
            self.errors[number] = mapped.first_error() or _NO_ERROR
        else:
            self._forgive(number)
            status = SKIPPED if mapped.skipped and not (mapped.won or mapped.lost) else SUCCEEDED
        self.status[number] = status
        self.left -= 1
        self._spread(number, before, self.share(number))

    def _forgive(self, number: int) -> None:
        """Have no resume try again what failed and was tolerated: those after the map go on without it."""
        mapped, name = self.mapped[number], self.plan.names[number]
        if mapped.errors:
            for iteration in range(mapped.base + 1, mapped.base + mapped.steps + 1):
                self.ledger.unresolved.pop(step_id(name, iteration), None)

    def _settle(self, number: int, status: Status) -> None:
        self.status[number] = status
        self.left -= 1
        self._spread(number, _WAITING, SHARES[status])

    def decided(self, fact: facts.DecisionMade) -> None:
        """Take note of a recorded decision."""
        self.decisions.pop(_key(fact.source, fact.edges), None)
        strange = False
        for edge in fact.edges:
            number = self.plan.numbers.get(edge.target)
            if number is None:
                continue
            if edge.name == MAP:
                self._expand(number, edge)
            elif edge.name in OF_EDGE and not edge.result:
                if number in self.derived and self.status[number] is OF_EDGE[edge.name]:
                    self.derived.discard(number)
                else:  # other code than today's decided that
                    self.derived.discard(number)
                    self.status[number], strange = OF_EDGE[edge.name], True
        if strange:
            self.rebuild()

    def _expand(self, number: int, edge: facts.EdgeTried) -> None:
        """Begin a map over so many items, or fail it when there is nothing to map over."""
        fits = self.status[number] is READY
        if fits:
            self._take_ready(number)
        self.derived.discard(number)
        if edge.result:
            base = self.runs.get(number, 0)
            self.mapped[number] = mapped = Mapped(edge.count, base)
            self.status[number] = RUNNING if mapped.total else SUCCEEDED
        else:
            name = self.plan.names[number]
            self.errors[number] = facts.ErrorInfo(
                code="map_failed", message=edge.reason, type="MapFailed", name=name, step=step_id(name, 1)
            )
            self.status[number] = FAILED
        if not fits:
            self.rebuild()
            return
        self.left -= self.status[number] is not RUNNING
        if self.status[number] is RUNNING:
            insort(self.expanding, self.plan.nodes[number].rank)
        self._spread(number, _WAITING, self.share(number))


MAP: Final = "map"
"""The name of the decision over how many items a task maps."""

_WAITING: Final = SHARES[WAITING]
_SUCCESS: Final = SHARES[SUCCEEDED]
_NO_ERROR: Final = facts.ErrorInfo(code="step_failed", message="items of the map failed")


def _key(source: str, edges: tuple[facts.EdgeTried, ...]) -> str:
    return "\0".join((source, *(edge.target for edge in edges)))
