"""Task: one function, agent or workflow of a DAG, with what it depends on and its policies."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from math import floor
from typing import Any, Final, Literal, NamedTuple, Unpack

from holdfast.core.caching import CacheOption, cache_of
from holdfast.core.fingerprint import code_of
from holdfast.core.naming import check_step_name
from holdfast.core.nesting import workflow_in
from holdfast.core.policy import PolicyOptions, policy_of
from holdfast.core.retries import RetryPolicy
from holdfast.errors import DefinitionError
from holdfast.model.checks import (
    COUNT,
    LABEL,
    LIMIT,
    PRIORITY,
    TEXT,
    WORDS,
    Kind,
    instance_of,
    is_number,
    setting,
)
from holdfast.model.ids import seconds
from holdfast.model.profile import StageProfile
from holdfast.model.values import encode
from holdfast.patterns.dag.agent import asking
from holdfast.patterns.dag.binding import Binding, Shape, shape_of
from holdfast.patterns.dag.calls import Call
from holdfast.patterns.dag.rules import RULES, Join, RuleName

Work = Callable[..., Any]

_MAP_OVER: Final = Kind(
    lambda given: TEXT.holds(given) or (isinstance(given, Sequence) and not isinstance(given, str | bytes)),
    "the name of a task or param, or a list",
)
_TOLERATE: Final = Kind(
    lambda n: is_number(n) and (n >= 0 if isinstance(n, int) else 0 <= n <= 1),
    "how many items may fail, or their share from 0.0 to 1.0",
)
_KINDS: Final = {
    "agent": TEXT.or_none(),
    "instructions": WORDS.or_none(),
    "limit": COUNT.or_none(),
    "tolerate": _TOLERATE,
    "batch": COUNT,
    "priority": PRIORITY,
    "queue": LABEL.or_none(),
    "retry": instance_of(RetryPolicy, expected="a RetryPolicy").or_none(),
    "timeout": LIMIT.or_none(),
    "heartbeat_timeout": LIMIT.or_none(),
    "profile": instance_of(StageProfile, expected="a StageProfile").or_none(),
    "map_over": _MAP_OVER.or_none(),
}
_NAMES: Final = Kind(
    lambda given: isinstance(given, Iterable) and not isinstance(given, Mapping),
    "the name of a task, or a list of names",
)
_RULE: Final = Kind(
    lambda given: isinstance(given, Join) or given in RULES, f"one of {', '.join(RULES)}, or at_least(n)"
)


ELSEWHERE: Final = {
    "executor": "An async function runs in the event loop, a plain one in a thread. For other processes make the task "
    "a workflow with a queue= that they serve.",
    "updates": "Have a last task start the runs that depend on the data.",
    "on_success": "A task that depends on it is that: it runs when this one has succeeded.",
    "on_failure": 'A task that depends on it with trigger_rule="one_failed" is that; its parameter `errors` says why.',
}
"""What other systems have as options of a task, and what to do here."""


class Choice(NamedTuple):
    """A function whose result says which of the tasks after it run. `dags.branch` and `dags.short_circuit` make it."""

    fn: Work
    kind: Literal["branch", "short_circuit"]


class Task:
    """A named task of a DAG.

    `run` (or `func`, which is the same) is a plain or async function, or a workflow: a builder, a registered name or a
    workflow object, which makes each of its steps a child run. Instead of it `agent` names a registered agent, which
    is asked with `instructions`, the params of the run and the results of the tasks before.

    `depends_on` names the tasks whose results it gets, see `trigger_rule` for when it runs. With `map_over`, the name
    of a task or of a param of the run, or a list, it runs once for each item, at most `limit` at once; `tolerate` says
    how many items may fail, or which share of them; `batch` of them make one step. A larger `priority` goes first where
    `max_parallel` makes tasks wait. `queue` is that of the child runs of a task that is a workflow, which has
    one of its own otherwise. `retry`, `timeout` and the rest guard each attempt, as for a node of a graph. With
    `cache` (a `CachePolicy`, a time to live, or True) it does not run when its result for the same inputs is there;
    each item of a map, or each batch of them, has a result of its own.
    """

    def __init__(
        self,
        name: str,
        func: Any = None,
        *,
        run: Any = None,
        agent: str | None = None,
        instructions: str | None = None,
        depends_on: str | Iterable[str] = (),
        map_over: str | Sequence[Any] | None = None,
        limit: int | None = None,
        tolerate: float = 0,
        batch: int = 1,
        trigger_rule: RuleName | Join = "all_success",
        priority: int = 0,
        queue: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        profile: StageProfile | None = None,
        cache: CacheOption = None,
        **guards: Unpack[PolicyOptions],
    ) -> None:
        """Refuse what cannot be a task, naming the task and the field."""
        check_step_name("task", setting("a task", "name", name, WORDS))
        self.name: Final = name
        self.where: Final = f"task {name!r}"
        self.changed: list[Callable[[], None]] = []
        """What to tell when its dependencies change."""
        given: dict[str, Any] = {
            "agent": agent,
            "instructions": instructions,
            "limit": limit,
            "tolerate": tolerate,
            "batch": batch,
            "priority": priority,
            "queue": queue,
        }
        given |= {"retry": retry, "timeout": timeout, "heartbeat_timeout": heartbeat_timeout}
        for field, value in {**given, "profile": profile, "map_over": map_over}.items():
            setting(self.where, field, value, _KINDS[field])
        self.trigger_rule: Final = setting(self.where, "trigger_rule", trigger_rule, _RULE)
        self.depends_on: tuple[str, ...] = names_in(self.where, depends_on)
        self.map_over: str | None = None
        self.items: tuple[Any, ...] | None = None
        self._map(map_over)
        self.limit: Final = limit
        self.tolerate: Final = tolerate
        self.batch: Final = batch
        self.priority: Final = priority
        self.queue: Final = queue
        self.profile: Final = profile
        self.cache: Final = cache_of(self.where, cache)
        self._code = ""
        self.heartbeat_timeout: Final = None if heartbeat_timeout is None else seconds(heartbeat_timeout)
        self._guard(retry, timeout, guards)
        self._read(func, run, agent, instructions)

    def _map(self, map_over: Any) -> None:
        if map_over is None:
            return
        if isinstance(map_over, str):
            self.map_over = map_over
            return
        self.items = tuple(map_over)
        for number, item in enumerate(self.items):
            encode(item, f"{self.where}: map_over[{number}]")
        self.map_over = ""

    def _guard(
        self,
        retry: RetryPolicy | None,
        timeout: float | timedelta | None,
        guards: Mapping[str, Any],
    ) -> None:
        for option in guards.keys() & ELSEWHERE.keys():
            raise DefinitionError(f"{self.where} has no {option}", fix=ELSEWHERE[option])
        policy = policy_of(self.where, retry, timeout, guards)
        self.retry = policy.retry
        self.timeout = None if policy.timeout is None else seconds(policy.timeout)
        self.policy = None if policy.is_plain else policy

    def _read(self, func: Any, run: Any, agent: str | None, instructions: str | None) -> None:
        """Take what the task runs: one of a function, a workflow and an agent."""
        if sum(given is not None for given in (func, run, agent)) != 1:
            raise DefinitionError(
                f"{self.where} needs one thing to run", fix="Give one of run (or func) and agent."
            )
        made: Any = func if run is None else run
        if agent is not None:
            made = asking(self.name, agent, instructions or "")
        elif instructions is not None:
            raise DefinitionError(f"{self.where}: only an agent has instructions", fix="Leave them out.")
        self.choice: str = ""
        if isinstance(made, Choice):
            self.choice, made = made.kind, made.fn
        self.workflow: Any = workflow_in(made)
        self.kind = "call" if self.workflow is None else "run"
        if self.workflow is None and not callable(made):
            raise DefinitionError(
                f"{self.where}: {made!r:.80} is not callable",
                fix="Give a function, a workflow, or an agent's name as agent=.",
            )
        self._refuse_generator(made.fn if isinstance(made, Call) else made)
        self.fn: Work = made
        self.binding: Binding | None = made.binding if isinstance(made, Call) else None
        self.shape: Shape | None = None if self.workflow is not None else shape_of(made)
        self.is_async = self.workflow is not None or _is_async(made.fn if isinstance(made, Call) else made)
        self._refuse()

    def _refuse_generator(self, fn: Work) -> None:
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise DefinitionError(
                f"{self.where} is a generator, which has no result to keep",
                fix="Return a list; what readers shall see before its end goes to step.stream(chunk).",
            )

    def _refuse(self) -> None:
        """Refuse what does not go together."""
        if self.choice and (self.map_over is not None or self.workflow is not None):
            raise DefinitionError(
                f"{self.where}: a {self.choice} is a plain task", fix="Let a task before it do the rest."
            )
        if self.policy is not None and self.policy.hedge is not None and not self.is_async:
            raise DefinitionError(
                f"{self.where}: hedge={self.policy.hedge} is not allowed for a plain function",
                fix="Only what can be cancelled is made twice: give an async function.",
            )
        self._refuse_of_kind()
        if self.map_over is None:
            for option, value, plain in (
                ("limit", self.limit, None),
                ("tolerate", self.tolerate, 0),
                ("batch", self.batch, 1),
            ):
                if value != plain:
                    raise DefinitionError(
                        f"{self.where}: only a map has {option}={value}",
                        fix="Give map_over, or leave it out.",
                    )

    def _refuse_of_kind(self) -> None:
        """Refuse what a workflow does not take, or a function."""
        if self.workflow is not None:
            given = {
                "heartbeat_timeout": self.heartbeat_timeout,
                "profile": self.profile,
                "policy": self.policy,
                "cache": self.cache,
            }
            for option, value in given.items():
                if value is not None:
                    raise DefinitionError(
                        f"{self.where} is a workflow, which has no {option}",
                        fix="Give it to the workflow's own steps.",
                    )
            if self.batch != 1:
                raise DefinitionError(
                    f"{self.where}: a run for each item has no batches", fix="Leave batch out."
                )
        if self.workflow is None and self.queue is not None:
            raise DefinitionError(
                f"{self.where} is a function, which runs where its run does: queue={self.queue!r} is not for it",
                fix=f"Make it a workflow: Task({self.name!r}, DAGWorkflow([Task(...)]), queue={self.queue!r}).",
            )

    def defaults(self, retry: RetryPolicy | None, timeout: float | timedelta | None) -> None:
        """Take what the DAG says where the task says nothing."""
        self.retry = self.retry or retry
        if self.timeout is None and timeout is not None:
            self.timeout = seconds(timeout)

    def tolerated(self, items: int) -> int:
        """Return how many of so many items may fail."""
        if isinstance(self.tolerate, int):
            return self.tolerate
        return floor(self.tolerate * items + 1e-9)

    def code(self) -> str:
        """Return a hash of the function's code, and of the values in its call, made once."""
        if not self._code:
            self._code = code_of(*self.fn.told()) if isinstance(self.fn, Call) else code_of(self.fn)
        return self._code

    def structure(self) -> tuple[Any, ...]:
        """Return what of a task makes a DAG another one."""
        over = () if self.map_over is None else ("map", self.map_over, len(self.items or ()))
        return (self.name, self.depends_on, str(self.trigger_rule), self.choice, self.kind, *over)

    # --- a >> b

    def after(self, *names: str) -> None:
        """Have the task depend on these, too."""
        self.depends_on += tuple(name for name in dict.fromkeys(names) if name not in self.depends_on)
        for forget in self.changed:
            forget()

    def __rshift__(self, other: Any) -> Any:
        """Have the other task, or each of a list of them, depend on this one: `a >> b`, `a >> [b, c]`."""
        for task in _tasks_in(other, first=True):
            task.after(self.name)
        return other

    def __lshift__(self, other: Any) -> Any:
        """Have this task depend on the other, or on each of a list: `b << a`."""
        self.after(*(task.name for task in _tasks_in(other, first=False)))
        return other

    def __rrshift__(self, other: Any) -> Task:
        """Have this task depend on each of a list: `[a, b] >> c`."""
        self << other
        return self

    def __rlshift__(self, other: Any) -> Task:
        """Have each of a list depend on this task: `[b, c] << a`."""
        self >> other
        return self

    def __repr__(self) -> str:
        """Show name and dependencies."""
        return f"Task({self.name!r}, depends_on={list(self.depends_on)})"


def _tasks_in(given: Any, *, first: bool) -> list[Task]:
    """Return tasks, those of lists and, of a group, the first or the last ones."""
    if isinstance(given, Task):
        return [given]
    ends = getattr(given, "first" if first else "last", None)
    if ends is None and not isinstance(given, list | tuple):
        raise DefinitionError(f"{given!r:.80} is no task", fix="Give a task, a list of tasks, or a group.")
    return [task for each in (given if ends is None else ends) for task in _tasks_in(each, first=first)]


def names_in(where: str, given: Any) -> tuple[str, ...]:
    """Return the names of the tasks that one depends on: given by name or as tasks. Raises DefinitionError."""
    if isinstance(given, str):
        return (given,)
    setting(where, "depends_on", given, _NAMES)
    found = tuple(each.name if isinstance(each, Task) else each for each in given)
    for name in found:
        setting(where, "depends_on", name, TEXT)
    return found


def _is_async(fn: Work) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
