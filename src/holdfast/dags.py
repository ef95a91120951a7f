"""DAGs as functions: calls of tasks, `a >> b`, groups, and the forms of other systems; all build a `DAGWorkflow`.

@task(retry=RetryPolicy(attempts=3))
def fetch(day): ...

@dag
def report(day):
    pages = fetch(day)
    total(parse.map(pages, limit=8))

report.execute({"day": "2026-11-20"})
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final, overload

from holdfast.core.retries import RetryPolicy
from holdfast.errors import DefinitionError
from holdfast.patterns.dag.builder import DAGWorkflow
from holdfast.patterns.dag.calls import Call, Item, Param
from holdfast.patterns.dag.rules import RULES, Join, at_least
from holdfast.patterns.dag.task import Choice, Task, names_in
from holdfast.patterns.dag.work import Skip

__all__ = [
    "RULES",
    "DAGWorkflow",
    "Group",
    "Join",
    "Skip",
    "Task",
    "TaskFunction",
    "at_least",
    "branch",
    "chain",
    "chord",
    "chunks",
    "dag",
    "group",
    "short_circuit",
    "starmap",
    "task",
    "task_group",
]


def branch(fn: Callable[..., Any]) -> Choice:
    """Return the function as a choice: it returns the name of a task after it, a list of names, or None for none.

    The other tasks after it are skipped, but for those that come after a chosen one.
    """
    return Choice(fn, "branch")


def short_circuit(fn: Callable[..., Any]) -> Choice:
    """Return the function as a choice: unless it returns something true, all tasks after it are skipped.

    Also those that come later, whatever their rules say, but for those that always run.
    """
    return Choice(fn, "short_circuit")


# --- building


class Group(list[Any]):
    """Tasks that stand together: `group >> task`, `task >> group`; as an argument it is the list of their results."""

    def __init__(self, tasks: Sequence[Any] = ()) -> None:
        """Hold these tasks, and groups of them."""
        super().__init__(tasks)

    @property
    def tasks(self) -> list[Task]:
        """All its tasks."""
        return [task for each in self for task in (each.tasks if isinstance(each, Group) else [each])]

    @property
    def first(self) -> list[Task]:
        """Those that depend on no other one of the group."""
        names = {task.name for task in self.tasks}
        return [task for task in self.tasks if not names & {*task.depends_on, task.map_over}]

    @property
    def last(self) -> list[Task]:
        """Those that no other one of the group depends on."""
        needed = {name for task in self.tasks for name in (*task.depends_on, task.map_over)}
        return [task for task in self.tasks if task.name not in needed]

    def __rshift__(self, other: Any) -> Any:
        """Have the other depend on the last tasks of the group."""
        for each in self.last:
            each >> other
        return other

    def __lshift__(self, other: Any) -> Any:
        """Have the first tasks of the group depend on the other."""
        for each in self.first:
            each << other
        return other

    def __rrshift__(self, other: Any) -> Group:
        """Have the first tasks of the group depend on a list of tasks."""
        self << other
        return self


class _Building:
    """A DAG that a `@dag` function is building, and the groups that it is in."""

    def __init__(self, workflow: DAGWorkflow) -> None:
        self.workflow = workflow
        self.groups: list[tuple[str, Group, dict[str, Any]]] = []

    def name(self, wanted: str, *, exact: bool) -> str:
        """Return a name that is free: within groups after theirs, with a number when it is called once more."""
        prefix = "".join(f"{name}." for name, _, _ in self.groups)
        name, number = prefix + wanted, 1
        while name in self.workflow.tasks and not exact:
            number += 1
            name = f"{prefix}{wanted}_{number}"
        return name

    def add(self, name: str, run: Any, options: dict[str, Any], *, exact: bool) -> Task:
        defaults = {key: value for _, _, given in self.groups for key, value in given.items()}
        made = self.workflow.add_task(self.name(name, exact=exact), run, **{**defaults, **options})
        for _, held, _ in self.groups[-1:]:
            held.append(made)
        return made


_building: Final[ContextVar[_Building | None]] = ContextVar("holdfast_dag", default=None)


class TaskFunction:
    """A function (or workflow) as a task. In a `@dag` function a call adds it; elsewhere it calls the function."""

    def __init__(self, fn: Any, name: str | None, options: dict[str, Any]) -> None:
        """Made by `task`."""
        self.choice = fn.kind if isinstance(fn, Choice) else ""
        self.fn: Any = fn.fn if isinstance(fn, Choice) else fn
        self._name = name
        self._options = options
        self.name: str = name or getattr(self.fn, "__name__", None) or getattr(self.fn, "name", "") or "task"
        self.__doc__ = getattr(self.fn, "__doc__", None)

    def options(self, name: str | None = None, **options: Any) -> TaskFunction:
        """Return the same task with other options for its next calls: a name, or what `Task` takes."""
        fn = Choice(self.fn, self.choice) if self.choice else self.fn
        return TaskFunction(fn, name or self._name, {**self._options, **options})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Add the task with these arguments: results of other tasks, params of the DAG, or values."""
        building = _building.get()
        if building is None:
            return self.fn(*args, **kwargs)
        return self._add(building, args, kwargs, {})

    def map(self, items: Any, /, *args: Any, **kwargs: Any) -> Task:
        """Add the task once for each item of a result, a param or a list; the item is its first argument."""
        return self._map(items, Item(), args, kwargs)

    def starmap(self, items: Any, /, *args: Any, **kwargs: Any) -> Task:
        """Add the task once for each item, whose parts are the arguments: of a list by position, of a dict by name."""
        return self._map(items, Item(spread=True), args, kwargs)

    def _map(self, items: Any, item: Item, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task:
        building = _building.get()
        if building is None:
            raise DefinitionError(
                f"task {self.name!r} is mapped outside of a @dag function", fix="Map it in one."
            )
        over = items.name if isinstance(items, Task | Param) else list(items)
        return self._add(building, (item, *args), kwargs, {"map_over": over})

    def _add(
        self, building: _Building, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> Task:
        run: Any = self.fn
        given: dict[str, Any] = {**self._options, **options}
        depends_on = [*names_in(f"task {self.name!r}", given.pop("depends_on", ()))]
        if callable(self.fn) and not hasattr(self.fn, "open"):
            run = Call(self.fn, args, kwargs, _name_of)
            depends_on += [name for name in run.depends_on if name not in depends_on]
        else:
            depends_on += [each.name for each in args if isinstance(each, Task)]
            _refuse_values(self.name, args, kwargs)
        run = Choice(run, self.choice) if self.choice else run
        return building.add(self.name, run, {**given, "depends_on": depends_on}, exact=self._name is not None)


def _name_of(value: Any) -> str | None:
    return value.name if isinstance(value, Task) else None


def _refuse_values(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse what a workflow cannot be given: its params are named after tasks and params."""
    if kwargs or any(not isinstance(each, Task | Item) for each in args):
        raise DefinitionError(
            f"task {name!r} is a workflow, which is called with results of tasks",
            fix="Its params are those of the run and the results of the tasks before, by name.",
        )


@overload
def task(fn: Any, /, *, name: str | None = None, **options: Any) -> TaskFunction: ...
@overload
def task(*, name: str | None = None, **options: Any) -> Callable[[Any], TaskFunction]: ...
def task(fn: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
    """Return a function, a choice or a workflow as a task; also as a decorator, with what `Task` takes."""
    if fn is None:
        return lambda made: TaskFunction(made, name, options)
    return TaskFunction(fn, name, options)


@overload
def dag(fn: Callable[..., Any], /) -> DAGWorkflow: ...
@overload
def dag(
    fn: None = None, /, *, name: str | None = None, **options: Any
) -> Callable[[Callable[..., Any]], DAGWorkflow]: ...
def dag(fn: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
    """Build a DAG of a function that calls tasks; its parameters are the params of the runs, with their types.

    The function runs once, when it is decorated. Takes what `DAGWorkflow` takes; the name is by default the function's.
    """
    if fn is None:
        return lambda made: _built(made, name, options)
    return _built(fn, name, options)


def _built(fn: Callable[..., Any], name: str | None, options: dict[str, Any]) -> DAGWorkflow:
    parameters = inspect.signature(fn).parameters.values()
    description = (fn.__doc__ or "").strip().partition("\n")[0]
    given = {"description": description, **options}
    if parameters:
        given.setdefault("params", fn)
    workflow = DAGWorkflow(name=name or fn.__name__, **given)
    workflow.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    token = _building.set(_Building(workflow))
    try:
        fn(*(Param(parameter.name) for parameter in parameters))
    finally:
        _building.reset(token)
    workflow.validate()
    return workflow


@contextmanager
def task_group(
    name: str,
    *,
    retry: RetryPolicy | None = None,
    timeout: float | timedelta | None = None,
    **defaults: Any,
) -> Iterator[Group]:
    """Add the tasks called within as a group: named `group.task`, with these defaults where they say nothing."""
    building = _building.get()
    if building is None:
        raise DefinitionError(f"task_group({name!r}) outside of a @dag function", fix="Use it in one.")
    given = {"retry": retry, "timeout": timeout, **defaults}
    made = Group()
    for _, held, _ in building.groups[-1:]:
        held.append(made)
    building.groups.append((name, made, {key: value for key, value in given.items() if value is not None}))
    try:
        yield made
    finally:
        building.groups.pop()


# --- forms of other systems


def chain(*steps: Any) -> Any:
    """Have each step depend on the one before it, and return the last. A task that is not called yet gets its result.

    A step is a task, a list of tasks, a group, or a task function, which is called here.
    """
    last: Any = None
    for step in steps:
        made = step
        if isinstance(step, TaskFunction):
            made = step() if last is None else step(Group(last) if isinstance(last, list) else last)
        elif last is not None:
            for each in last if isinstance(last, list) and not isinstance(last, Group) else [last]:
                each >> made
        last = made
    return last


def group(*tasks: Any) -> Group:
    """Return tasks that run side by side as one: as an argument it is the list of their results."""
    return Group([each() if isinstance(each, TaskFunction) else each for each in tasks])


def chord(header: Sequence[Any], body: TaskFunction) -> Task:
    """Call a task with the list of the results of others."""
    made: Task = body(group(*header))
    return made


def starmap(fn: TaskFunction, items: Any) -> Task:
    """Call a task once for each item, whose parts are the arguments."""
    return fn.starmap(items)


def chunks(fn: TaskFunction, items: Any, size: int) -> Task:
    """Call a task once for each item, `size` of them in one step."""
    return fn.options(batch=size).map(items)
