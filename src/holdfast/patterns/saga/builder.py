"""Saga: what a user builds. Each step says what it does and what takes that back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol, Unpack

from holdfast.core.embedding import embedded
from holdfast.core.jobs import JobDefaults, job_of
from holdfast.core.naming import check_step_name
from holdfast.core.nesting import runnable
from holdfast.core.picture.drawable import Drawable
from holdfast.core.policy import Policy, PolicyOptions, policy_of
from holdfast.core.program import Workflow
from holdfast.core.retries import RetryPolicy
from holdfast.core.work import Blobs
from holdfast.errors import DefinitionError, RunFailed
from holdfast.model.checks import DATA, LABEL, WORDS, Kind, argument, setting, whole
from holdfast.model.ids import COMPENSATION
from holdfast.model.schema import Params, read_params
from holdfast.patterns.saga.actions import BACKWARD, CHOOSING, FORWARD, Action, Nested, action_of, guarded
from holdfast.patterns.saga.definition import (
    KINDS,
    ON_FAILURE,
    RECOVERIES,
    Definition,
    OnFailure,
    Recovery,
    SagaStep,
    check_savepoints,
)
from holdfast.patterns.saga.definition import Kind as StepKind
from holdfast.patterns.saga.program import SagaProgram

if TYPE_CHECKING:
    from holdfast.core.picture.shape import Picture


def _one_of(names: tuple[str, ...]) -> Kind:
    return Kind(lambda given: given in names, f"one of {', '.join(names)}")


_NAME: Final = Kind(lambda given: given in (None, "") or LABEL.holds(given), LABEL.expected)
_SETTINGS: Final = {
    "name": _NAME,
    "recovery": _one_of(RECOVERIES),
    "on_compensation_failure": _one_of(ON_FAILURE),
    "description": WORDS,
}
_TRIES: Final = whole(2, "a whole number of at least 2; it counts all tries")
_STEP: Final = {"name": _NAME, "kind": _one_of(KINDS), "parallel": LABEL.or_none()}


class Builder(Protocol):
    """What makes a workflow of itself, such as a graph."""

    def as_workflow(self, name: str) -> Workflow:
        """Return it."""


Acting = Callable[..., Any] | Workflow | Builder | str
"""A function, a workflow, or the name of a registered one."""


class Saga(Drawable):
    """A sequence of steps, each with what takes it back. It is a workflow: an engine runs it, or `execute`.

    When a step fails, the compensations of all steps before it run in the reverse order of the log, and the run fails
    with the step's error. `on_compensation_failure` says whether the others go on when one of them fails for good.
    """

    def __init__(
        self,
        name: str | None = None,
        recovery: Recovery = "backward",
        on_compensation_failure: OnFailure = "continue",
        *,
        steps: Iterable[Any] = (),
        params: Any = None,
        description: str = "",
        **defaults: Unpack[JobDefaults],
    ) -> None:
        """Make a saga, empty or of `steps`: objects with `forward()` and `compensate()`. `params` types the params.

        The rest are defaults of its runs.
        """
        given: dict[str, Any] = {
            "name": name,
            "recovery": recovery,
            "on_compensation_failure": on_compensation_failure,
            "description": description,
        }
        for field, value in given.items():
            setting("Saga", field, value, _SETTINGS[field])
        self.job = job_of("Saga", defaults)
        self.name = name or ""
        self.recovery: Recovery = recovery
        self.on_compensation_failure: OnFailure = on_compensation_failure
        self.version = self.job.version
        self.description = description
        self.queue = self.job.queue
        self.priority = self.job.priority
        self.timeout = self.job.timeout
        self.steps: list[SagaStep] = []
        self._params: Params | None = None if params is None else read_params(params)
        self._definition: Definition | None = None
        self._embedded: Saga | None = None
        self._savepoint = 0
        for each in steps:
            self._add_object(each)

    # --- building

    def add_step(
        self,
        name: str | None = None,
        *,
        forward: Acting,
        compensate: Acting | None = None,
        kind: StepKind = "compensatable",
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        parallel: str | None = None,
        foreach: str | Callable[..., Iterable[Any]] | None = None,
        **guards: Unpack[PolicyOptions],
    ) -> Saga:
        """Add a step. `forward` and `compensate` are plain or async functions, or workflows, which are child runs.

        They take nothing, or by name any of `params`, `results` (of the steps before, by name), `idempotency_key`,
        `step`, `runtime`; a compensation also `output`, what its step returned, and `reason`, why it is undone.
        A `pivot` is the point of no return: no compensation of what came before follows once it succeeded, and steps
        after it are `retriable`. `timeout` bounds one attempt, `retry` says when another follows; both are for the
        compensation, too. Neighbours with the same `parallel` run at once. With `foreach`, the name of an earlier step
        or of a param, or a function of `params` and `results`, the step runs once for each item of that, all at once,
        and its result is a list; the actions may take `item` and `index`. `policy`, or its parts `breaker`,
        `rate_limit`, `bulkhead`, `hedge`, `fallback` and `total_timeout`, guard each attempt of `forward`.
        """
        setting("add_step", "name", name, _STEP["name"])
        label = name or self._label(forward)
        where = f"step {label!r}"
        check_step_name("step", label)
        for field, value in (("kind", kind), ("parallel", parallel)):
            setting(where, field, value, _STEP[field])
        if any(step.name == label for step in self.steps):
            raise DefinitionError(f"{where} is there already", fix="Give each step a name of its own.")
        if compensate is not None and kind != "compensatable":
            raise DefinitionError(
                f"{where} is {kind}, which is never undone; it cannot have a compensation",
                fix="Leave compensate out, or make the step compensatable.",
            )
        step = SagaStep(
            label,
            *_halves(where, forward, compensate, policy_of(where, retry, timeout, guards)),
            kind,
            parallel,
            self._chosen_by(where, foreach),
            self._savepoint,
        )
        if step.compensation is None and kind == "compensatable" and getattr(step.forward, "is_saga", False):
            raise DefinitionError(
                f"{where} is a saga, which undoes itself when it fails, but not after it has completed",
                fix="Give compensate=, which takes back all that it did.",
            )
        Definition(self.name, [*self.steps, step], self.recovery, self.on_compensation_failure)
        self.steps.append(step)
        self._savepoint = 0
        self._definition = self._embedded = None
        return self

    def savepoint(self, attempts: int = 3) -> Saga:
        """Let a saga with recovery "savepoint" go back no further than to here, and begin here again.

        When a step after it fails, what was done since is undone. After `attempts` in all, counted per savepoint, the
        one before counts, and when there is none the saga is undone as a whole.
        """
        self._savepoint = setting("savepoint", "attempts", attempts, _TRIES)
        return self

    def _chosen_by(self, where: str, foreach: Any) -> Any:
        if foreach is None or isinstance(foreach, str):
            return setting(where, "foreach", foreach, LABEL.or_none())
        return Action(f"foreach of {where}", foreach, CHOOSING, None, None)

    def _label(self, forward: object) -> str:
        named = forward if isinstance(forward, str) else getattr(forward, "__name__", None)
        named = named or getattr(forward, "name", None) or ""
        return named if named.isidentifier() or isinstance(forward, str) else f"step-{len(self.steps) + 1}"

    def _add_object(self, given: Any) -> None:
        forward = getattr(given, "forward", None)
        if not callable(forward):
            raise DefinitionError(
                f"a saga has no place for {given!r:.80}",
                fix="Give objects with forward() and compensate(), or use add_step.",
            )
        name = getattr(given, "name", None) or type(given).__name__
        self.add_step(name, forward=forward, compensate=getattr(given, "compensate", None))

    @property
    def definition(self) -> Definition:
        """The steps as runs use them. Raises DefinitionError when there are none."""
        if self._definition is None:
            if not self.steps:
                raise DefinitionError(
                    f"saga {self.name!r} has no steps" if self.name else "the saga has no steps",
                    fix="Add one: saga.add_step(forward=..., compensate=...).",
                )
            check_savepoints(repr(self), self.recovery, self.steps)
            self._definition = Definition(self.name, self.steps, self.recovery, self.on_compensation_failure)
        return self._definition

    # --- being a workflow

    @property
    def shape(self) -> str:
        """A text that is the same for a saga that is built anew in the same way."""
        return self.definition.hash

    def renamed(self, name: str, description: str = "") -> Saga:
        """Return the same saga under another name."""
        other = Saga(
            name,
            self.recovery,
            self.on_compensation_failure,
            description=description or self.description,
            **self.job.given,
        )
        other.steps = list(self.steps)
        other._params = self._params
        return other

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params as the steps get them; raises PayloadRejected naming the field."""
        self.definition  # noqa: B018 - raises when there are no steps
        return dict(params) if self._params is None else self._params.bind(params)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the params."""
        return {"type": "object"} if self._params is None else self._params.json_schema()

    def open(self, services: Any, params: dict[str, Any], blobs: Blobs) -> SagaProgram:
        """Return the program of one run."""
        return SagaProgram(self.definition, params, blobs)

    def part(self, node: str, services: Any, params: dict[str, Any]) -> Any:
        """Return the workflow of a step, or of its compensation; None when there is no such one."""
        step = self.definition.by_name.get(node.removeprefix(COMPENSATION))
        if step is None:
            return None
        action = step.compensation if node.startswith(COMPENSATION) else step.forward
        if not isinstance(action, Nested) or isinstance(action.workflow, str):
            return None
        return runnable(action.workflow, node)

    # --- showing

    def validate(self) -> None:
        """Raise DefinitionError when it cannot run; what is wrong with a step is refused when that is added."""
        self.definition  # noqa: B018 - raises

    def to_dict(self) -> dict[str, Any]:
        """Return the structure: steps with kinds, groups and compensations, and how the saga recovers."""
        return {
            "name": self.name,
            "recovery": self.recovery,
            "on_compensation_failure": self.on_compensation_failure,
            "steps": [
                {
                    "name": step.name,
                    "kind": step.kind,
                    "compensated": step.compensation is not None,
                    "parallel": step.parallel,
                    "foreach": step.foreach is not None,
                    "savepoint": step.savepoint,
                }
                for step in self.steps
            ],
        }

    def picture(self, services: Any = None, params: Mapping[str, Any] | None = None) -> Picture:
        """Return what a picture of the saga shows, for `holdfast.core.picture` to draw."""
        from holdfast.patterns.saga.drawing import picture  # noqa: PLC0415 - only for pictures

        return picture(self.definition)

    # --- running here

    def execute(self, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run the saga in memory to its end and return {step: result}; waits, also in a notebook.

        When a step fails, the compensations run and the step's own error is raised. Its `failed_compensations` lists
        those that failed, too. Nothing is kept when the process ends.
        """
        argument("params", params, DATA.or_none())
        if self._embedded is None:
            self._embedded = self.renamed(f"{self.name or 'saga'}-{next(_unnamed)}")
        try:
            result: dict[str, Any] = embedded().execute(self._embedded, self.check(params or {}), {})
        except RunFailed as failure:
            raise original(failure) from None
        return result

    def __repr__(self) -> str:
        """Show name and size."""
        return f"Saga({self.name!r}, {len(self.steps)} steps)"


def _halves(where: str, forward: Any, compensate: Any, policy: Policy) -> tuple[Any, Any]:
    """Return the two actions of a step; the policy guards the first, its tries and timeout are for both."""
    tries = (policy.retry, policy.timeout)
    does = guarded(action_of(where, forward, FORWARD, *tries), policy)
    if compensate is None:
        return does, None
    return does, action_of(f"the compensation of {where}", compensate, BACKWARD, *tries)


_unnamed: Final = count(1)


def original(failure: RunFailed) -> BaseException:
    """Return the error of the step that failed, told which compensations failed; the run's own where there is none."""
    error = failure.__cause__ or failure
    info = failure.error
    error.failed_compensations = list(info.failed_compensations)  # type: ignore[attr-defined]  # an error takes notes
    error.compensated = list(info.compensated or ())  # type: ignore[attr-defined]
    return error
