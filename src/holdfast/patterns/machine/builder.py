"""StateMachine: what a user builds, and runs in memory; an engine runs the same definition durably."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, Unpack

from holdfast.core.jobs import JobDefaults, job_of
from holdfast.core.naming import check_step_name
from holdfast.core.picture.drawable import Drawable
from holdfast.core.work import Blobs
from holdfast.errors import DefinitionError
from holdfast.model.checks import (
    DATA,
    DURATION,
    FLAG,
    LABEL,
    TEXTS,
    WORDS,
    Kind,
    argument,
    setting,
)
from holdfast.model.ids import microseconds
from holdfast.patterns.machine.actions import PURE, Action, Call, Guard
from holdfast.patterns.machine.chart import ROOT, Chart
from holdfast.patterns.machine.definition import (
    ANY_STATE,
    DeclaredState,
    DeclaredTransition,
    Definition,
    invoke_name,
)
from holdfast.patterns.machine.memory import Memory, Taken
from holdfast.patterns.machine.program import MachineProgram
from holdfast.patterns.machine.table import parsed, read

if TYPE_CHECKING:
    from holdfast.core.picture.shape import Picture
    from holdfast.patterns.machine.findings import Finding

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

_NAME: Final = Kind(lambda given: LABEL.holds(given) and given != ANY_STATE, LABEL.expected)
_NAMES: Final = Kind(
    lambda given: _NAME.holds(given) or (isinstance(given, list | tuple) and all(map(_NAME.holds, given))),
    "the name of a state, or a list of names",
)
_SOURCES: Final = Kind(
    lambda given: given == ANY_STATE or _NAMES.holds(given), 'the name of a state, a list of names, or "*"'
)
_EVENTS: Final = Kind(
    lambda given: given is None or isinstance(given, str) or (TEXTS.holds(given) and bool(given)),
    "the name of an event, a list of names, or None for any",
)
_HISTORY: Final = Kind(lambda given: given in (None, "shallow", "deep"), '"shallow" or "deep"')
_UNHANDLED: Final = Kind(
    lambda given: given in ("refuse", "ignore", "defer"), '"refuse", "ignore" or "defer"'
)
_SETTINGS: Final = {
    "name": Kind(lambda given: given in (None, "") or LABEL.holds(given), LABEL.expected),
    "initial": _NAMES,
    "context": DATA.or_none(),
    "unhandled": _UNHANDLED,
    "description": WORDS,
}

Names = str | Sequence[str]
Does = Any
"""An action: a function of nothing, `(context)` or `(context, event)`, a workflow, what `holdfast.machines` makes, or a
list of them."""


class StateMachine(Drawable):
    """States, and transitions between them that events lead to.

    `trigger` runs it in memory, for one thread at a time; an engine that is given the machine runs it durably, each
    transition in a commit. Transitions of a state are tried in the order they were added, then those of the states
    around it, then those from `"*"`. A state that is only named by a transition is there, too.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        initial: Names,
        context: Mapping[str, Any] | None = None,
        unhandled: Literal["refuse", "ignore", "defer"] = "refuse",
        description: str = "",
        **defaults: Unpack[JobDefaults],
    ) -> None:
        """Begin with the initial state and the context that each run has at first.

        `unhandled` says what becomes of an event that nobody listens to: it is refused with InvalidTransition, ignored,
        or kept until a state listens to it. The rest are defaults of its durable runs.
        """
        given: dict[str, Any] = {"name": name, "initial": initial, "context": context, "unhandled": unhandled}
        for field, value in {**given, "description": description}.items():
            setting("StateMachine", field, value, _SETTINGS[field])
        self.job: Final = job_of("StateMachine", defaults)
        self.name = name or ""
        self.version: Final = self.job.version
        self.description = description
        self.queue: Final = self.job.queue
        self.priority: Final = self.job.priority
        self.timeout: Final = self.job.timeout
        self.definition = Definition(self.name, _names(initial))
        self.definition.unhandled = unhandled
        self.initial_context: Final[dict[str, Any]] = dict(context or {})
        self._chart: Chart | None = None
        self._memory = Memory(self)

    # --- building

    def add_state(
        self,
        name: str,
        *,
        entry: Does = None,
        exit: Does = None,
        final: bool = False,
        parent: str | None = None,
        parallel: bool = False,
        history: Literal["shallow", "deep"] | None = None,
        initial: Names | None = None,
        invoke: Any = None,
        data: Any = None,
    ) -> StateMachine:
        """Add a state, with what is done when it is entered and left; returns the machine.

        A `parent` has one of its states active, its `initial` one at first, or all of them when it is `parallel`. A
        state with `history` stands for what was active in its parent when that was left, for `initial` before that.
        `invoke` is a workflow, or a list of them, that runs while the state is active. The `data` of a `final` state
        comes with the event that tells of the end of its parent.
        """
        check_step_name("state", setting("add_state", "name", name, _NAME))
        given = {"final": final, "parallel": parallel}
        for field, value in given.items():
            setting(f"state {name!r}", field, value, FLAG)
        setting(f"state {name!r}", "history", history, _HISTORY)
        setting(f"state {name!r}", "parent", parent, _NAME.or_none())
        setting(f"state {name!r}", "initial", initial, _NAMES.or_none())
        before = self.definition.states.get(name)
        if before is not None and not before.implied:
            raise DefinitionError(
                f"state {name!r} is there already", fix="Give each state a name of its own."
            )
        invokes = tuple(invoke) if isinstance(invoke, list | tuple) else () if invoke is None else (invoke,)
        for workflow in invokes:
            invoke_name(workflow)
        self.definition.states[name] = DeclaredState(
            name,
            parent or ROOT,
            actions_in(entry),
            actions_in(exit),
            final,
            parallel,
            history or "",
            () if initial is None else _names(initial),
            invokes=invokes,
            data=data,
        )
        self._chart = None
        return self

    def add_transition(
        self,
        source: Names,
        target: Names | None,
        event: str | Sequence[str] | None = None,
        *,
        guard: Callable[..., bool] | Guard | None = None,
        action: Does = None,
        after: float | timedelta | None = None,
        invoke: Any = None,
        internal: bool = False,
    ) -> StateMachine:
        """Add a transition from a state, several, or `"*"` for all that are not final; returns the machine.

        Without an event it answers any, but for those that a transition from `"*"` names; from `"*"` it answers
        `trigger(target)` and failures of actions and invoked workflows. With `after` it is taken when the source was
        active for so long, with `invoke` when that workflow, which runs while the source is active, has completed.
        An event `order` is also `order.paid`; `*` is every event. Without a target nothing is left; `internal` ones to
        states within the source do not leave that.
        """
        setting("add_transition", "source", source, _SOURCES)
        setting("add_transition", "target", target, _NAMES.or_none())
        where = f"transition {source} -> {target}"
        setting(where, "event", event, _EVENTS)
        setting(where, "after", after, DURATION.or_none())
        setting(where, "internal", internal, FLAG)
        if source == ANY_STATE and (after is not None or invoke is not None):
            raise DefinitionError(
                f'{where}: a transition from "*" has no `after` and no `invoke`', fix="Name its source."
            )
        if invoke is not None:
            invoke_name(invoke)
        targets = () if target is None else _names(target)
        for each in {*_names(source), *targets}:
            check_step_name("state", each)
        for each in _names(source):
            self.definition.imply([each, *targets])
            self.definition.transitions.append(
                DeclaredTransition(
                    each,
                    targets,
                    None if event is None else _events(event),
                    guard if isinstance(guard, Guard) or guard is None else Guard(guard),
                    actions_in(action),
                    None if after is None else microseconds(after),
                    invoke,
                    internal,
                )
            )
        self._chart = None
        return self

    @property
    def chart(self) -> Chart:
        """The compiled definition; raises DefinitionError naming what is wrong with it."""
        chart = self._chart
        if chart is None:
            chart = self._chart = self.definition.compiled()
        return chart

    def validate(self) -> None:
        """Raise DefinitionError naming the state or transition that cannot be."""
        _ = self.chart

    # --- as a workflow

    answers = True
    """Its runs answer events: `run.send`."""

    @property
    def shape(self) -> str:
        """A hash of the definition: two machines of one shape are the same workflow built anew."""
        return self.chart.fingerprint

    def renamed(self, name: str, description: str = "") -> StateMachine:
        """Return the same machine under another name."""
        other = copy(self)
        other.name, other.description = name, description or self.description
        other.definition = copy(self.definition)
        other.definition.name = name
        other._chart, other._memory = None, Memory(other)  # noqa: SLF001 - of the same class
        return other

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params of a run: keys that go over the context."""
        return dict(params)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the params."""
        return {"type": "object"}

    def open(self, services: Any, params: dict[str, Any], blobs: Blobs) -> MachineProgram:
        """Return the program of one run."""
        return MachineProgram(self.chart, {**self.initial_context, **params}, blobs)

    def part(self, name: str, services: Any, params: dict[str, Any]) -> Any:
        """Return the workflow that an action or invoke of this name was given; None when there is no such."""
        return self.chart.part(name)

    # --- definitions from elsewhere

    @classmethod
    def from_dict(
        cls,
        table: Mapping[str, Any],
        initial: str | None = None,
        name: str | None = None,
        guards: Mapping[str, Callable[..., Any]] = NOTHING,
        actions: Mapping[str, Any] = NOTHING,
    ) -> Self:
        """Return the machine of a table in the style of XState; the first state is the initial one, unless it says so.

        `guards` and `actions` have the functions that the table names. Raises DefinitionError with the place of what is
        wrong: an unknown state, function or key.
        """
        return read(cls, table, initial, name, guards, actions)  # type: ignore[return-value]  # made by cls

    @classmethod
    def from_json(
        cls,
        text: str | bytes,
        initial: str | None = None,
        name: str | None = None,
        guards: Mapping[str, Callable[..., Any]] = NOTHING,
        actions: Mapping[str, Any] = NOTHING,
    ) -> Self:
        """Return the machine of a table as JSON; raises DefinitionError, with the line where the text is no JSON."""
        return cls.from_dict(parsed(text), initial, name, guards, actions)

    @classmethod
    def from_scxml(
        cls,
        text: str | bytes,
        name: str | None = None,
        guards: Mapping[str, Callable[..., Any]] = NOTHING,
        actions: Mapping[str, Any] = NOTHING,
    ) -> Self:
        """Return the machine of an SCXML document: structure, events, `In()`, raise, send, cancel and log.

        `guards` have functions for other conditions by their text, `actions` for `<script src="name"/>`. Events that
        nobody listens to are ignored. Raises DefinitionError with the line: of what is malformed, not supported (other
        scripts, data models), or a DTD, for nothing is expanded.
        """
        from holdfast.patterns.machine.scxml import read as read_scxml  # noqa: PLC0415 - only for such documents

        return read_scxml(cls, text, name, guards, actions)  # type: ignore[return-value]  # made by cls

    # --- showing

    def findings(self) -> list[Finding]:
        """Return what is probably a mistake: states nobody reaches, traps, transitions that are never taken."""
        from holdfast.patterns.machine.findings import findings  # noqa: PLC0415 - only when asked

        return findings(self.chart)

    def to_dict(self) -> dict[str, Any]:
        """Return the table of the machine, with functions as their names; `from_dict` takes it with these functions."""
        from holdfast.patterns.machine.writing import written  # noqa: PLC0415 - only when asked

        return written(self.definition, self.initial_context)

    def picture(self, services: Any = None, params: Mapping[str, Any] | None = None) -> Picture:
        """Return what a picture of the machine shows, for `holdfast.core.picture` to draw."""
        from holdfast.patterns.machine.drawing import picture  # noqa: PLC0415 - only for pictures

        return picture(self.chart)

    def to_mermaid(self) -> str:
        """Return a Mermaid state diagram; where the machine in memory is, if it has begun, stands in colour."""
        from holdfast.patterns.machine.drawing import state_diagram  # noqa: PLC0415 - only for pictures

        active = self.configuration if self._memory.has_begun else ()
        return state_diagram(self.chart, active)

    def _drawn(self, format: str) -> str:
        from holdfast.core.picture.drawing import drawn  # noqa: PLC0415 - only for pictures
        from holdfast.core.picture.trace import activated  # noqa: PLC0415 - only for pictures

        active = self.configuration if self._memory.has_begun else ()
        return drawn(activated(self.picture(), active), format)

    def __repr__(self) -> str:
        """Show name and size."""
        return f"StateMachine({self.name!r}, {len(self.chart.states)} states)"

    # --- running in memory

    @property
    def state(self) -> str | tuple[str, ...]:
        """The active state; of several regions the innermost active states, in the order of their definition."""
        leaves = self._memory.leaves
        return leaves[0] if len(leaves) == 1 else leaves

    @property
    def configuration(self) -> frozenset[str]:
        """The names of all active states, with the states that they are within."""
        return frozenset(node.id for node in self.chart.active(self._memory.leaves))

    @property
    def context(self) -> dict[str, Any]:
        """The machine's own data, which actions change."""
        return self._memory.context

    @property
    def history(self) -> list[Taken]:
        """The last transitions that were taken, the oldest first."""
        return list(self._memory.trail)

    @property
    def is_ended(self) -> bool:
        """Tell whether a final state of the machine was reached; no event leads on from there."""
        return self.chart.is_over(self._memory.leaves)

    @property
    def available_events(self) -> list[str]:
        """The events that are listened to where the machine is, guards left aside; `*` stands for any."""
        return list(self.chart.events(self._memory.leaves))

    def trigger(self, event: str, data: Any = None) -> bool:
        """Take an event; True when it led to a transition, False when guards refused it.

        Raises InvalidTransition when nobody listens to it where the machine is. What an action raises comes out, and
        the machine is as it was before, unless a transition answers failures. From within an action the event is taken
        after the transition, and the answer is True.
        """
        return self._memory.trigger(event, data)

    def can_trigger(self, event: str, data: Any = None) -> bool:
        """Tell whether the event would lead to a transition now."""
        return self._memory.can_trigger(argument("event", event, LABEL), data)

    def reset(self) -> None:
        """Begin anew, with the context of the beginning."""
        self._memory = Memory(self)

    def elapse(self, duration: float | timedelta) -> None:
        """Let time pass for a machine in memory, which has no clock of its own: delayed transitions are taken."""
        self._memory.elapse(microseconds(argument("duration", duration, DURATION)))

    def save(self) -> dict[str, Any]:
        """Return where the machine in memory is as plain values, for `load` to go on from."""
        return self._memory.save()

    def load(self, saved: Mapping[str, Any]) -> StateMachine:
        """Go on from what `save` returned; returns the machine. Raises PayloadRejected for a state it does not have."""
        self._memory = Memory(self)
        self._memory.load(argument("saved", saved, DATA))
        return self

    def next_state(
        self, state: str, event: str, data: Any = None, context: Mapping[str, Any] | None = None
    ) -> str:
        """Return where an event leads from a state, without doing anything: for a status in a row of your own.

        The same state when guards refuse it. Raises InvalidTransition when nobody listens to it there.
        """
        return self._memory.next_state(
            argument("state", state, LABEL), argument("event", event, LABEL), data, context
        )


def _names(given: Names) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _events(given: str | Iterable[str]) -> tuple[str, ...]:
    if not isinstance(given, str):
        return tuple(given)
    return (given,) if given else ()


def actions_in(given: Does) -> tuple[Action, ...]:
    """Return what was given as actions, in order."""
    if given is None:
        return ()
    if isinstance(given, list | tuple):
        return tuple(each for one in given for each in actions_in(one))
    return (given if isinstance(given, (Call, *PURE)) else Call(given),)
