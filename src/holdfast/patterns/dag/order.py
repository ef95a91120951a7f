"""What is wrong with a DAG, found before it runs, and the order of its tasks."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush

from holdfast.patterns.dag.rules import Join
from holdfast.patterns.dag.task import Task


def upstream(tasks: Mapping[str, Task], task: Task) -> tuple[str, ...]:
    """Return what a task depends on directly, the task that it maps over included."""
    over = task.map_over
    if over and over in tasks and over not in task.depends_on:
        return (*task.depends_on, over)
    return task.depends_on


def problems(tasks: Mapping[str, Task]) -> list[str]:
    """Return one sentence for each problem, in the order of the tasks; empty when the DAG can run."""
    if not tasks:
        return ["it has no tasks"]
    found = [sentence for task in tasks.values() for sentence in _problems_of(tasks, task)]
    cycle = cycle_in(tasks)
    return [*found, f"it has a cycle: {' -> '.join(cycle)}"] if cycle else found


def _problems_of(tasks: Mapping[str, Task], task: Task) -> list[str]:
    found = []
    known = [name for name in task.depends_on if name in tasks]
    for name, count in Counter(task.depends_on).items():
        if name not in tasks:
            near = difflib.get_close_matches(name, tasks, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            found.append(f"{task.where} depends on {name!r}, which is no task{hint}")
        elif count > 1:
            found.append(f"{task.where} depends on {name!r} twice")
    rule = task.trigger_rule
    if isinstance(rule, Join) and not any(tasks[name].map_over is not None for name in known):
        before = len(upstream(tasks, task))
        if rule.count > before:
            found.append(f"{task.where} waits for {rule.count} of {before} tasks")
    if rule == "always" and task.map_over in tasks:
        found.append(
            f"{task.where} always runs, so it cannot map over the result of {task.map_over!r}: it does not wait for it"
        )
    if task.choice and not any(task.name in each.depends_on for each in tasks.values()):
        found.append(f"{task.where} is a {task.choice}, and no task depends on it")
    return found


def cycle_in(tasks: Mapping[str, Task]) -> list[str]:
    """Return the first cycle as a path that ends where it begins, empty when there is none."""
    done: set[str] = set()
    for origin in tasks:
        path: list[str] = []
        on_path: set[str] = set()
        stack: list[tuple[str, bool]] = [(origin, True)]
        while stack:
            name, enters = stack.pop()
            if not enters:
                on_path.discard(path.pop())
                done.add(name)
            elif name in on_path:
                return [*path[path.index(name) :], name][::-1]
            elif name not in done:
                path.append(name)
                on_path.add(name)
                stack.append((name, False))
                stack += [(each, True) for each in reversed(upstream(tasks, tasks[name])) if each in tasks]
    return []


def topological(tasks: Mapping[str, Task]) -> list[str]:
    """Return the tasks so that each comes after those that it depends on, else as they were added. No cycle allowed."""
    waits = {name: len(upstream(tasks, task)) for name, task in tasks.items()}
    after: dict[str, list[str]] = {name: [] for name in tasks}
    for name, task in tasks.items():
        for each in upstream(tasks, task):
            after[each].append(name)
    place = {name: number for number, name in enumerate(tasks)}
    return _sorted(waits, after, place)


def _sorted(waits: dict[str, int], after: Mapping[str, Sequence[str]], place: Mapping[str, int]) -> list[str]:
    names = list(place)
    ready = [place[name] for name, count in waits.items() if not count]
    heapify(ready)
    order: list[str] = []
    while ready:
        name = names[heappop(ready)]
        order.append(name)
        for each in after[name]:
            waits[each] -= 1
            if not waits[each]:
                heappush(ready, place[each])
    return order
