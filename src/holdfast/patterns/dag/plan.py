"""A DAG made ready to run: its tasks by number, with what comes after each, whoever starts how many runs of it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from holdfast.patterns.dag.binding import Binding, bind
from holdfast.patterns.dag.order import topological, upstream
from holdfast.patterns.dag.rules import Judge, is_early, judge_of
from holdfast.patterns.dag.task import Task


class Node(NamedTuple):
    """A task as the program sees it: by number, with its rule as a function."""

    number: int
    task: Task
    before: tuple[int, ...]
    after: tuple[int, ...]
    judge: Judge
    is_early: bool
    """One more success may settle its rule before all have ended."""
    rank: int
    """Its place among all tasks in the order of priority, counted from the last."""
    producer: int
    """The task that it maps over, -1 for another source."""
    gates: tuple[int, ...]
    """Choices that may leave it out: nothing is said of it before they have ended."""


class Plan:
    """The tasks of a valid DAG in topological order. Shared by all its runs; nothing of it changes."""

    def __init__(self, name: str, tasks: Mapping[str, Task], max_parallel: int | None) -> None:
        """Number the tasks and join them."""
        order = topological(tasks)
        self.names: Final = tuple(order)
        self.numbers: Final = {name: number for number, name in enumerate(order)}
        self.in_order: Final = tuple((each, self.numbers[each]) for each in tasks)
        """Names and numbers as the tasks were added."""
        self.max_parallel: Final = max_parallel
        before = [tuple(self.numbers[each] for each in upstream(tasks, tasks[name])) for name in order]
        after: list[list[int]] = [[] for _ in order]
        for number, each in enumerate(before):
            for earlier in each:
                after[earlier].append(number)
        by_priority = sorted(range(len(order)), key=lambda n: (-tasks[order[n]].priority, n))
        ranks = {number: len(order) - 1 - place for place, number in enumerate(by_priority)}
        self.by_rank: Final = tuple(reversed(by_priority))
        self.gated: Final = _gated(order, tasks, after)
        """What each choice may leave out."""
        gates = {n: tuple(c for c, each in self.gated.items() if n in each) for n in range(len(order))}
        self.nodes: Final = tuple(
            Node(
                number,
                task := tasks[name],
                before[number],
                tuple(after[number]),
                judge_of(task.trigger_rule),
                is_early(task.trigger_rule),
                ranks[number],
                self.numbers.get(task.map_over or "", -1),
                gates[number],
            )
            for number, name in enumerate(order)
        )
        self.choices: Final = tuple(node.number for node in self.nodes if node.task.choice)
        self.hash: Final = _hash_of(name, tasks)
        self._bindings: dict[frozenset[str], tuple[Binding, ...]] = {}

    def bindings(self, params: Collection[str]) -> tuple[Binding, ...]:
        """Return how each task is called in a run that was given params of these names."""
        key = frozenset(params)
        found = self._bindings.get(key)
        if found is None:
            if len(self._bindings) > MOST_BINDINGS:
                self._bindings.clear()
            found = self._bindings[key] = tuple(self._binding(node, params) for node in self.nodes)
        return found

    def _binding(self, node: Node, params: Collection[str]) -> Binding:
        if node.task.binding is not None:
            return node.task.binding
        shape = node.task.shape
        if shape is None:
            return Binding()
        return bind(shape, [self.names[n] for n in node.before], node.task.map_over, params)

    def downstream(self, numbers: Collection[int]) -> set[int]:
        """Return all tasks that depend on these, directly or not."""
        return _reached([node.after for node in self.nodes], numbers)


MOST_BINDINGS: Final = 100
"""So many sets of params' names are kept in mind."""


def _reached(after: Sequence[Sequence[int]], numbers: Collection[int]) -> set[int]:
    found: set[int] = set()
    stack = list(numbers)
    while stack:
        for each in after[stack.pop()]:
            if each not in found:
                found.add(each)
                stack.append(each)
    return found


def _gated(
    order: Sequence[str], tasks: Mapping[str, Task], after: Sequence[Sequence[int]]
) -> dict[int, tuple[int, ...]]:
    """Return what each choice may leave out: a branch what comes next, a short circuit all that comes after it."""
    gated = {}
    for number, name in enumerate(order):
        if tasks[name].choice:
            reach = after[number] if tasks[name].choice == "branch" else sorted(_reached(after, (number,)))
            gated[number] = tuple(n for n in reach if tasks[order[n]].trigger_rule != "always")
    return gated


def _hash_of(name: str, tasks: Mapping[str, Task]) -> str:
    shape = (name, [task.structure() for task in tasks.values()])
    return hashlib.blake2b(msgspec.json.encode(shape), digest_size=12).hexdigest()
