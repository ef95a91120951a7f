"""DAGWorkflow: what a user builds. Adding refuses what is wrong at once; `validate` reports what shows only in all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Unpack

from holdfast.core.caching import CacheOption
from holdfast.core.embedding import embedded
from holdfast.core.jobs import JobDefaults, job_of
from holdfast.core.nesting import runnable
from holdfast.core.picture.drawable import Drawable
from holdfast.core.policy import PolicyOptions
from holdfast.core.retries import RetryPolicy
from holdfast.core.work import Blobs
from holdfast.errors import DefinitionError, PayloadRejected, RunFailed
from holdfast.model.checks import (
    COUNT,
    DATA,
    LABEL,
    LIMIT,
    WORDS,
    Kind,
    argument,
    instance_of,
    setting,
)
from holdfast.model.profile import StageProfile
from holdfast.model.schema import Params, read_params
from holdfast.patterns.dag.order import problems, topological
from holdfast.patterns.dag.plan import Plan
from holdfast.patterns.dag.program import DagProgram
from holdfast.patterns.dag.rules import Join, RuleName
from holdfast.patterns.dag.task import Task

if TYPE_CHECKING:
    from holdfast.core.picture.shape import Picture
    from holdfast.model.audit import Stage
    from holdfast.patterns.dag.timing import Timing

_KINDS: Final = {
    "name": Kind(lambda given: given is None or LABEL.holds(given), LABEL.expected),
    "max_parallel": COUNT.or_none(),
    "default_retry": instance_of(RetryPolicy, expected="a RetryPolicy").or_none(),
    "default_timeout": LIMIT.or_none(),
    "description": WORDS,
}
_TASK: Final = instance_of(Task, expected="a Task")
ELSEWHERE: Final = {
    "schedule": "Start runs by a clock of yours, such as cron: engine.start(dag, id=the day) gives each day one run.",
    "when": "Start runs where the data is made: the last task of one DAG may start a run of the next.",
}
"""What other systems have as options of a DAG, and what to do here."""
_unnamed: Final = count(1)


class DAGWorkflow(Drawable):
    """Tasks and what they depend on. Each starts as soon as those before it allow; a failure stops what needs it alone.

    Its result is `{task: result}`. At most `max_parallel` steps of a run are under way at once; one that waits for an
    answer is. `params` types the params of its runs. What tasks do not say of retries and timeouts, `default_retry` and
    `default_timeout` say. The rest are defaults of the workflow's runs.
    """

    def __init__(
        self,
        tasks: Iterable[Task] = (),
        *,
        name: str | None = None,
        max_parallel: int | None = None,
        params: Any = None,
        default_retry: RetryPolicy | None = None,
        default_timeout: float | timedelta | None = None,
        description: str = "",
        **defaults: Unpack[JobDefaults],
    ) -> None:
        """Begin with these tasks. Raises DefinitionError naming what is not allowed."""
        self._options: Final[dict[str, Any]] = {
            "max_parallel": max_parallel,
            "default_retry": default_retry,
            "default_timeout": default_timeout,
            "description": description,
        }
        for field, value in {"name": name, **self._options}.items():
            setting("DAGWorkflow", field, value, _KINDS[field])
        for option in defaults.keys() & ELSEWHERE.keys():
            raise DefinitionError(f"DAGWorkflow has no {option}", fix=ELSEWHERE[option])
        self.job: Final = job_of("DAGWorkflow", defaults)
        self._name = name
        self.max_parallel: Final = max_parallel
        self.description: Final = description
        self.version: Final = self.job.version
        self.queue: Final = self.job.queue
        self.priority: Final = self.job.priority
        self.timeout: Final = self.job.timeout
        self.tasks: Final[dict[str, Task]] = {}
        self._default_retry = default_retry
        self._default_timeout = default_timeout
        self._given_params = params
        self._params: Params | None = None if params is None else read_params(params)
        self.defaults: Mapping[str, Any] = {}
        """What params are that a run is not given; those of a type are in the type."""
        self._made: Plan | None = None
        self._embedded: DAGWorkflow | None = None
        for task in tasks:
            self.add(task)

    @property
    def name(self) -> str:
        """The name that runs are started by; empty when it was given none."""
        return self._name or ""

    # --- building

    def add(self, task: Task) -> Task:
        """Add a task; refuses a name that is taken."""
        setting("DAGWorkflow", "tasks", task, _TASK)
        if task.name in self.tasks:
            raise DefinitionError(f"{task.where} is there already", fix="Give each task a name of its own.")
        if self._is_within(task):
            raise DefinitionError(
                f"{task.where}: the DAG would contain itself",
                fix="Register it, and give the task the registered name: then each run of it is a decision of its own.",
            )
        task.defaults(self._default_retry, self._default_timeout)
        self.tasks[task.name] = task
        task.changed.append(self._forget)
        self._forget()
        return task

    def _is_within(self, task: Task) -> bool:
        """Tell whether a task's workflow is this DAG, or holds it."""
        stack, seen = [task.workflow], set[int]()
        while stack:
            found = stack.pop()
            if found is self:
                return True
            if isinstance(found, DAGWorkflow) and id(found) not in seen:
                seen.add(id(found))
                stack += [each.workflow for each in found.tasks.values()]
        return False

    def _forget(self) -> None:
        self._made = None

    def add_task(
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
    ) -> Task:
        """Add a task and return it; takes what `Task` takes. Those that it depends on may be added later."""
        return self.add(
            Task(
                name,
                func,
                run=run,
                agent=agent,
                instructions=instructions,
                depends_on=depends_on,
                map_over=map_over,
                limit=limit,
                tolerate=tolerate,
                batch=batch,
                trigger_rule=trigger_rule,
                priority=priority,
                queue=queue,
                retry=retry,
                timeout=timeout,
                heartbeat_timeout=heartbeat_timeout,
                profile=profile,
                cache=cache,
                **guards,
            )
        )

    # --- judging

    def validate(self) -> None:
        """Raise one DefinitionError that lists every problem, such as a cycle with its path."""
        if self._made is not None:
            return
        found = problems(self.tasks)
        if not found and self._params is not None:
            found = self._unbound(self._params.fields)
        if found:
            label = f"DAG {self.name!r}" if self.name else "the DAG"
            raise DefinitionError(
                f"{label} is not valid: {'; '.join(found)}", fix="Mend each of these before you run it."
            )

    def topological_sort(self) -> list[str]:
        """Return the tasks so that each comes after those that it depends on; raises what `validate` raises."""
        self.validate()
        return topological(self.tasks)

    def critical_path(self, seconds: Mapping[str, float] | None = None) -> list[str]:
        """Return the longest way through the tasks, by how long each takes; each as long as the others if not given.

        Raises what `validate` raises. For the recorded times of a run see `timing`.
        """
        from holdfast.patterns.dag.timing import critical_path  # noqa: PLC0415 - only for who asks

        self.validate()
        return critical_path(self.tasks, dict.fromkeys(self.tasks, 1.0) if seconds is None else seconds)[0]

    def timing(self, stages: Iterable[Stage]) -> Timing | None:
        """Return how long a run took by its `stages()`, its critical path, and where more parallelism had saved time.

        None when none of its tasks has ended. `str` of it is two sentences.
        """
        from holdfast.patterns.dag.timing import timing  # noqa: PLC0415 - only for who asks

        return timing(self.tasks, stages)

    def _plan(self) -> Plan:
        if self._made is None:
            self.validate()
            self._made = Plan(self.name, self.tasks, self.max_parallel)
        return self._made

    def _unbound(self, params: Iterable[str]) -> list[str]:
        """Return one sentence for each task with parameters that get nothing when a run has these params."""
        plan = Plan(self.name, self.tasks, self.max_parallel)
        bindings = plan.bindings(frozenset(params))
        return [
            f"{node.task.where}: nothing to give to {', '.join(bindings[node.number].missing)} of {_shown(node.task)}"
            for node in plan.nodes
            if bindings[node.number].missing
        ]

    # --- as a workflow

    def renamed(self, name: str, description: str = "") -> DAGWorkflow:
        """Return the same DAG under another name."""
        options = {**self._options, "description": description or self.description}
        made = DAGWorkflow(name=name, params=self._given_params, **options, **self.job.given)
        made.tasks.update(self.tasks)
        made.defaults = self.defaults
        return made

    @property
    def shape(self) -> str:
        """A text that changes with the structure."""
        return self._plan().hash

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params as a run gets them; raises PayloadRejected naming one that is missing or does not fit."""
        plan = self._plan()
        if self._params is not None:
            return {**self.defaults, **self._params.bind(params)}
        given = argument("params", dict(params), DATA)
        for node, binding in zip(plan.nodes, plan.bindings(given.keys()), strict=True):
            if binding.missing:
                name = binding.missing[0]
                raise PayloadRejected(
                    f"the parameter {name!r} is missing: {node.task.where}, {_shown(node.task)}, gets nothing for it",
                    field=name,
                    fix=f"Start the run with a param {name!r}, or have the task depend on what gives it.",
                )
            over = node.task.map_over
            if over and over not in plan.numbers and over not in given:
                raise PayloadRejected(
                    f"the parameter {over!r} is missing: {node.task.where} maps over it",
                    field=over,
                    fix=f"Start the run with a list as the param {over!r}, or map over a task.",
                )
        return given

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the params. Where they are not typed, those that the tasks need are named."""
        if self._params is not None:
            return self._params.json_schema()
        plan = self._plan()
        names: dict[str, dict[str, str]] = {
            name: {} for binding in plan.bindings(()) for name in binding.missing if name.isidentifier()
        }
        over = (node.task.map_over for node in plan.nodes if node.producer < 0)
        names |= {name: {"type": "array"} for name in over if name}
        return (
            {"type": "object", "properties": names, "required": list(names)} if names else {"type": "object"}
        )

    def part(self, task: str, services: Any, params: dict[str, Any]) -> Any:
        """Return the workflow of a task that was given one of its own; None when there is no such task."""
        found = self.tasks.get(task)
        if found is None or found.workflow is None or isinstance(found.workflow, str):
            return None
        return runnable(found.workflow, task)

    def open(self, services: Any, params: dict[str, Any], blobs: Blobs) -> DagProgram:
        """Return the program of one run."""
        return DagProgram(self._plan(), params, blobs)

    # --- running without an engine

    def execute(self, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run the DAG in memory to its end and return `{task: result}`; waits, also in a notebook.

        Raises what the first task raised that failed, as they were added. `error.results` has what finished, and
        `error.run_id` goes to `resume`. Nothing is kept when the process ends.
        """
        argument("params", params, DATA.or_none())
        if self._embedded is None or self._embedded._made is not self._plan():  # noqa: SLF001 - its own copy
            self._embedded = self.renamed(f"{self.name or 'dag'}-{next(_unnamed)}")
            self._embedded._made = self._plan()  # noqa: SLF001
        workflow = self._embedded
        return _outcome(lambda: embedded().execute(workflow, params or {}, {}))

    def resume(self, run_id: str) -> dict[str, Any]:
        """Go on with a run of `execute` that failed: what failed or never ran; returns `{task: result}`."""
        return _outcome(lambda: embedded().resume(run_id))

    # --- showing

    def to_dict(self) -> dict[str, Any]:
        """Return the structure: tasks with what they depend on, their rules and maps."""
        return {
            "name": self.name,
            "tasks": [
                {
                    "name": task.name,
                    "depends_on": list(task.depends_on),
                    "trigger_rule": str(task.trigger_rule),
                    "map_over": task.map_over,
                    "kind": task.kind,
                }
                for task in self.tasks.values()
            ],
        }

    def picture(self, services: Any = None, params: Mapping[str, Any] | None = None) -> Picture:
        """Return what a picture of the DAG shows, for `holdfast.core.picture` to draw."""
        from holdfast.patterns.dag.drawing import picture  # noqa: PLC0415 - only for pictures

        return picture(self.name, self.tasks)

    def __repr__(self) -> str:
        """Show name and size."""
        return f"DAGWorkflow({self.name!r}, {len(self.tasks)} tasks)"


def _shown(task: Task) -> str:
    name = getattr(task.fn, "__name__", type(task.fn).__name__)
    return f"{name}{task.shape.text if task.shape is not None else ''}"


def _outcome(run: Callable[[], Any]) -> dict[str, Any]:
    """Return a run's result, or raise what its first task raised, with the results that there are."""
    try:
        result: dict[str, Any] = run()
    except RunFailed as error:
        failure = error
    else:
        return result
    cause = failure.__cause__
    if cause is None:
        failure.fix = "Mend the cause, then go on from there: dag.resume(error.run_id)"
        raise failure
    cause.results, cause.run_id = failure.results, failure.run_id  # type: ignore[attr-defined]
    cause.add_note(f"at task {failure.stage!r}; when that is mended, go on: dag.resume({failure.run_id!r})")
    raise cause
