"""Running a task: its function with its arguments, and what its answer means; or the workflow that it is."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.core.context import StepContext
from holdfast.core.fingerprint import digest
from holdfast.core.nesting import runnable
from holdfast.core.policy import stand_in
from holdfast.core.work import Outcome
from holdfast.errors import HoldfastError, PayloadRejected
from holdfast.model.facts import NOTHING
from holdfast.model.secrets import Secrets
from holdfast.model.state import split_large
from holdfast.model.values import encode
from holdfast.patterns.dag.binding import Binding, Source
from holdfast.patterns.dag.calls import Call
from holdfast.patterns.dag.task import Task

Given = Callable[[Source], Any]
"""Returns the value of an argument, decoded anew; a step's context is not among them."""


class Skip(HoldfastError):
    """Ends a task as skipped: it has no result, and the tasks after it go by their rules."""

    code = "skipped"


class _Skipped:
    """Stands for the result of a task that raised Skip."""


SKIPPED: Final = _Skipped()


class TaskWork:
    """One attempt of a task, or of a batch of its items."""

    __slots__ = (
        "_after",
        "_batch",
        "_binding",
        "_given",
        "_raw",
        "_task",
        "again",
        "cache",
        "heartbeat_timeout",
        "is_async",
        "name",
        "policy",
        "profile",
        "retry",
        "timeout",
    )
    inline = False

    def __init__(
        self,
        task: Task,
        binding: Binding,
        given: Given,
        after: Sequence[str],
        batch: int | None = None,
        *,
        raw: Callable[[Source], msgspec.Raw] | None = None,
        again: bool = False,
    ) -> None:
        """Keep what the call needs. `after` are the names that a branch may return, `batch` how many items it has.

        A task with a cache needs `raw`, the encoded values of its arguments; `again` tells that it has run before.
        """
        self._task = task
        self._binding = binding
        self._given = given
        self._after = after
        self._batch = batch
        self.name = task.name
        self.retry = task.retry
        self.timeout = task.timeout
        self.heartbeat_timeout = task.heartbeat_timeout
        self.policy = task.policy
        self.cache = task.cache
        self._raw = raw
        self.again = again
        self.profile = task.profile
        self.is_async = task.is_async

    def call(self, context: StepContext) -> Any:
        """Call the task with its arguments."""
        if self._batch is not None:
            return self._call_each(context) if self.is_async else self._call_all(context)
        args, kwargs = self._arguments(context, None)
        if self.is_async:
            return _unless_skipped(self._task.fn(*args, **kwargs))
        try:
            value = self._task.fn(*args, **kwargs)
        except Skip:
            return SKIPPED
        return _unless_skipped(value) if inspect.isawaitable(value) else value

    def _arguments(self, context: StepContext, item: tuple[Any] | None) -> tuple[list[Any], dict[str, Any]]:
        binding = self._binding
        args = [self._argument(source, context, item) for source in binding.args]
        return args, {name: self._argument(source, context, item) for name, source in binding.kwargs}

    def code(self) -> str:
        """Return a hash of the task's code; of a branch also of the tasks that it may choose."""
        code = self._task.code()
        return digest(" ".join((code, *self._after)).encode()) if self._after else code

    def inputs(self) -> Mapping[str, msgspec.Raw]:
        """Return the arguments, encoded, by the names of the parameters; those of a call by where they come from."""
        assert self._raw is not None  # noqa: S101 - a task with a cache was given it
        binding, shape, fn = self._binding, self._task.shape, self._task.fn
        names = [] if shape is None or isinstance(fn, Call) else [each.name for each in shape.parameters]
        labelled = [
            (names[place] if place < len(names) else source.name or source.kind, source)
            for place, source in enumerate(binding.args)
        ]
        found: dict[str, msgspec.Raw] = {}
        for place, (name, source) in enumerate((*labelled, *binding.kwargs)):
            if source.kind != "step":  # a param and a result may have one name
                found[name if name not in found else f"{name} ({place})"] = self._raw(source)
        return found

    def arguments(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return what the task is called with; with a batch, the list of the items in the place of one."""
        binding, fn = self._binding, self._task.fn
        if isinstance(fn, Call):
            return fn.arguments({each: self._given(each) for each in binding.args if each.kind != "step"})
        args = [self._given(source) for source in binding.args if source.kind != "step"]
        return args, {name: self._given(source) for name, source in binding.kwargs if source.kind != "step"}

    def _argument(self, source: Source, context: StepContext, item: tuple[Any] | None) -> Any:
        if source.kind == "step":
            return context
        if source.kind == "item" and item is not None:
            return item[0]
        return self._given(source)

    def _call_all(self, context: StepContext) -> Any:
        values = []
        for item in self._given(_ITEM):
            args, kwargs = self._arguments(context, (item,))
            try:
                value = self._task.fn(*args, **kwargs)
            except Skip:
                continue
            if inspect.isawaitable(value):
                return self._call_each(context)
            values.append(value)
        return values

    async def _call_each(self, context: StepContext) -> Any:
        values = []
        for item in self._given(_ITEM):
            args, kwargs = self._arguments(context, (item,))
            value = await _unless_skipped(self._task.fn(*args, **kwargs))
            if value is not SKIPPED:
                values.append(value)
        return values

    def instead(self, error: BaseException, context: StepContext) -> Callable[[], Any]:
        """Return what gives the stand-in for what the task would have returned, of the same arguments."""
        policy = self._task.policy
        assert policy is not None  # noqa: S101 - without a policy nothing falls back
        if self._batch is not None:
            return lambda: [
                self._stand_in(policy.fallback, error, context, (item,))() for item in self._given(_ITEM)
            ]
        return self._stand_in(policy.fallback, error, context, None)

    def _stand_in(
        self, fallback: Any, error: BaseException, context: StepContext, item: tuple[Any] | None
    ) -> Callable[[], Any]:
        args, kwargs = self._arguments(context, item)
        return stand_in(fallback, error, tuple(args), kwargs)

    def accept(self, value: Any, context: StepContext) -> Outcome:
        """Return the result, encoded; refuses what cannot be stored, holds a secret, or is no choice."""
        if value is SKIPPED:
            return Outcome(NOTHING, gone=(self.name,), unkept="it was skipped")
        if self._task.choice == "branch":
            self._check_choice(value)
        return outcome_of(encode(value, f"the result of {self._task.where}"), context.secrets, self._task)

    def _check_choice(self, value: Any) -> None:
        names = [value] if isinstance(value, str) else value
        if names is not None and not isinstance(names, list | tuple):
            raise PayloadRejected(
                f"{self._task.where} returned {type(value).__name__}",
                fix="A branch returns the name of a task after it, a list of names, or None.",
            )
        unknown = [name for name in names or () if name not in self._after]
        if unknown:
            raise PayloadRejected(
                f"{self._task.where} chose {', '.join(map(repr, unknown))}, which is no task after it",
                fix=f"A branch returns names of tasks that depend on it: {', '.join(self._after)}.",
            )


async def _unless_skipped(value: Awaitable[Any]) -> Any:
    try:
        return await value
    except Skip:
        return SKIPPED


def outcome_of(raw: msgspec.Raw, secrets: Mapping[str, str], task: Task) -> Outcome:
    """Return an encoded result as a step's outcome, a large one apart; refuses one that holds a secret."""
    if secrets and isinstance(secrets, Secrets):
        secrets.refuse({"result": raw}, task.where)
    small, large = split_large({"": raw})
    return Outcome(small[""], (), large)


class TaskRun:
    """One step that is a child run, for the task or for one of its items."""

    def __init__(
        self, task: Task, depends_on: Sequence[str], params: Mapping[str, Any], given: Given
    ) -> None:
        """Keep what beginning and end need."""
        self._task = task
        self._depends_on = depends_on
        self._params = params
        self._given = given
        self.name = task.name
        self.workflow = runnable(task.workflow, task.name)
        self.queue = task.queue or ""
        self.retry = task.retry
        self.timeout = task.timeout

    def params(self, workflow: Any) -> dict[str, Any]:
        """Return what the child is started with: as a function's arguments, by the names of its parameters.

        A workflow that does not name its parameters gets all params and results by name, and an item that is a dict
        key by key.
        """
        schema = workflow.schema()
        every = {**self._params, **{n: self._given(Source("result", n)) for n in self._depends_on}}
        is_map = self._task.map_over is not None
        if "properties" not in schema:
            item = self._given(_ITEM) if is_map else {}
            return {**every, **(item if isinstance(item, dict) else {"item": item})}
        names = list(schema["properties"])
        found = {name: every[name] for name in names if name in every}
        free = [name for name in schema.get("required", names) if name not in found]
        if is_map:
            over = self._task.map_over
            place = free or [name for name in names if name not in found] or [n for n in names if n == over]
            if not place:
                raise PayloadRejected(
                    f"{self._task.where}: its workflow has no parameter left for the item",
                    fix=f"Its parameters are {', '.join(names)}; the run and the tasks before give all of them.",
                )
            target = place[0]
            found[target] = self._given(_ITEM)
            free = [name for name in free if name != target]
        rest = [name for name in self._depends_on if name not in found and name != self._task.map_over]
        found |= {name: every[source] for name, source in zip(free, rest, strict=False)}
        return found

    def accept(self, result: msgspec.Raw) -> Outcome:
        """Return what the child returned."""
        return outcome_of(result, {}, self._task)


_ITEM: Final = Source("item")
