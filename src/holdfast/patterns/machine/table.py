"""Machines as tables: a dict, or JSON, in the style of XState. `read` makes a machine of one.

A state within another has the path as its name: `payment.waiting`. Delays are seconds, or texts such as `30s` and
`500ms`. What is misspelt is refused with its place in the table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from holdfast.core.nesting import workflow_in
from holdfast.errors import DefinitionError
from holdfast.model.checks import DURATION
from holdfast.model.ids import microseconds
from holdfast.patterns.machine.actions import (
    PURE,
    Action,
    Assign,
    Call,
    Cancel,
    Guard,
    Log,
    Raise,
    SendLater,
)
from holdfast.patterns.machine.chart import ROOT, Invoke
from holdfast.patterns.machine.definition import (
    ANY_STATE,
    DeclaredState,
    DeclaredTransition,
    Definition,
    invoke_name,
)
from holdfast.patterns.machine.events import EXACTLY, done_invoke, done_of, failed_invoke

if TYPE_CHECKING:
    from holdfast.patterns.machine.builder import StateMachine

_REMARKS: Final = {"description", "meta", "tags", "version", "$schema", "predictableActionArguments"}
_STATE: Final = _REMARKS | {
    *("id", "type", "initial", "states", "on", "entry", "exit", "after", "always", "invoke", "onDone"),
    *("history", "target", "data", "output"),
}
_MACHINE: Final = _STATE | {"context", "name"}
_TRANSITION: Final = _REMARKS | {"target", "guard", "cond", "actions", "internal", "reenter", "any"}
_INVOKE: Final = _REMARKS | {"src", "id", "onDone", "onError"}
_TYPES: Final = ("atomic", "compound", "parallel", "final", "history")
_DELAY: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_SIZES: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}

Named = Mapping[str, Callable[..., Any]]


MOST_DEPTH: Final = 100
"""How deep states may be nested: no machine needs more, and reading must not exhaust the stack."""


def parsed(text: str | bytes) -> dict[str, Any]:
    """Return the table that a JSON text holds; raises DefinitionError with the line where it is none."""
    try:
        table = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise DefinitionError(
            f"line {error.lineno}, column {error.colno}: {error.msg}", fix="Give a table as JSON."
        ) from error
    except UnicodeDecodeError as error:
        raise DefinitionError(f"the JSON is not UTF-8: {error}") from error
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(table, dict):
        raise DefinitionError(
            f"the JSON is no object but {type(table).__name__}", fix='Give {"states": {...}}.'
        )
    return table


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DefinitionError(
            f"the key {twice!r} is there twice in one object", fix="Give each a name of its own."
        )
    return found


class Reading:
    """Reads one table. `guards` and `actions` have the functions that it names."""

    def __init__(self, table: Mapping[str, Any], guards: Named, actions: Named) -> None:
        """Keep the parts."""
        self._guards = guards
        self._actions = actions
        self._table = _mapping(table, "the table")
        self._paths: dict[str, str] = {}
        self._ids: dict[str, str] = {}

    def into(self, definition: Definition) -> None:
        """Declare all states and transitions. Raises DefinitionError naming the place of what is wrong."""
        table = self._table
        _known(table, _MACHINE, "the table")
        self._collect(table, ROOT, "")
        outer = ROOT
        if table.get("type") == "parallel":
            outer = definition.initial[0]
            definition.states[outer] = DeclaredState(outer, parallel=True)
        for key, state in self._states(table, ""):
            if key == ANY_STATE:
                self._transitions(definition, ANY_STATE, ROOT, state, "states.*")
            else:
                self._declare(definition, key, outer, state, f"states.{key}")
        self._transitions(
            definition, ANY_STATE, ROOT, {k: v for k, v in table.items() if k != "onDone"}, "the table"
        )

    def _collect(self, table: Mapping[str, Any], path: str, where: str, depth: int = 0) -> None:
        """Learn the names of all states, so that targets can be found."""
        if depth > MOST_DEPTH:
            raise _too_deep()
        for key, state in self._states(table, where):
            if key == ANY_STATE and not path:
                continue
            if "#" in key:
                raise DefinitionError(f"{where}states.{key}: a name has no #", fix="Give it another name.")
            name = f"{path}.{key}" if path else key
            self._paths[name] = name
            if isinstance(given := state.get("id"), str):
                self._ids[given] = name
            self._collect(state, name, f"{where}states.{key}.", depth + 1)

    def _states(self, table: Mapping[str, Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for key, state in _mapping(table.get("states", {}), f"{where}states").items():
            yield str(key), _mapping({} if state is None else state, f"{where}states.{key}")

    def _declare(
        self, definition: Definition, name: str, parent: str, state: Mapping[str, Any], where: str
    ) -> None:
        _known(state, _STATE, where)
        kind = state.get("type") or ("history" if "history" in state else "")
        if kind and kind not in _TYPES:
            raise DefinitionError(
                f"{where}: type={kind!r} is not allowed", fix=f"Use one of {', '.join(_TYPES)}."
            )
        initial = state.get("target") if kind == "history" else state.get("initial")
        scope = parent if kind == "history" else name
        depth = "deep" if state.get("history") == "deep" else "shallow"
        definition.states[name] = DeclaredState(
            name,
            parent,
            self._all_actions(state.get("entry"), f"{where}.entry"),
            self._all_actions(state.get("exit"), f"{where}.exit"),
            kind == "final",
            kind == "parallel",
            depth if kind == "history" else "",  # type: ignore[arg-type]  # one of the three
            () if initial is None else self._targets(initial, scope, where, inner=True),
            invokes=tuple(self._invokes(state, where)),
            data=state.get("output", state.get("data")),
        )
        for key, inner in self._states(state, where):
            self._declare(definition, f"{name}.{key}", name, inner, f"{where}.states.{key}")
        self._transitions(definition, name, name, state, where)

    # --- transitions

    def _transitions(
        self, definition: Definition, source: str, scope: str, state: Mapping[str, Any], where: str
    ) -> None:
        def add(given: Any, place: str, events: tuple[str, ...], after: int | None = None) -> None:
            for one in given if isinstance(given, list) else [given]:
                declared = self._transition(one, source, scope, events, place)
                declared.after = after
                definition.transitions.append(declared)

        for event, given in _mapping(state.get("on", {}), f"{where}.on").items():
            add(given, f"{where}.on.{event}", (str(event),) if event else ())
        for delay, given in _mapping(state.get("after", {}), f"{where}.after").items():
            add(given, f"{where}.after.{delay}", (), delay_in(delay, f"{where}.after"))
        if "always" in state:
            add(state["always"], f"{where}.always", ())
        if "onDone" in state:
            add(state["onDone"], f"{where}.onDone", (EXACTLY + done_of(source),))
        for invoke in _listed(state.get("invoke")):
            name = self._invoked(invoke, f"{where}.invoke").id
            for key, event in (("onDone", done_invoke(name)), ("onError", failed_invoke(name))):
                if isinstance(invoke, Mapping) and key in invoke:
                    add(invoke[key], f"{where}.invoke.{key}", (EXACTLY + event,))

    def _transition(
        self, given: Any, source: str, scope: str, events: tuple[str, ...], where: str
    ) -> DeclaredTransition:
        if given is None or isinstance(given, str):
            given = {"target": given}
        given = _mapping(given, where)
        _known(given, _TRANSITION, where)
        target = given.get("target")
        targets = () if target is None else self._targets(target, scope, where)
        inward = all(isinstance(each, str) and each.startswith(".") for each in _listed(target)) and bool(
            targets
        )
        internal = bool(given.get("internal", inward and not given.get("reenter")))
        guard = given.get("guard", given.get("cond"))
        return DeclaredTransition(
            source,
            targets,
            None if given.get("any") else events,
            None if guard is None else self._guard(guard, where),
            self._all_actions(given.get("actions"), f"{where}.actions"),
            internal=internal,
        )

    def _targets(self, given: Any, scope: str, where: str, *, inner: bool = False) -> tuple[str, ...]:
        return tuple(self._target(each, scope, where, inner=inner) for each in _listed(given))

    def _target(self, given: Any, scope: str, where: str, *, inner: bool) -> str:
        """Return the name of the state: within `scope` for `.child` and initial ones, else the nearest beside it."""
        if not isinstance(given, str):
            raise DefinitionError(f"{where}: the target {given!r:.80} is no text", fix="Name a state.")
        if given.startswith("#"):
            name = given[1:]
            found = self._ids.get(name.partition(".")[0], name)
            return self._there(found if name in (found, self._paths.get(name)) else name, given, where)
        if given.startswith("."):
            return self._there(f"{scope}{given}" if scope else given[1:], given, where)
        around = scope if inner else scope.rpartition(".")[0]
        while True:
            name = f"{around}.{given}" if around else given
            if name in self._paths or not around:
                return self._there(name, given, where)
            around = around.rpartition(".")[0]

    def _there(self, name: str, given: str, where: str) -> str:
        name = self._ids.get(name, name)
        if name not in self._paths:
            raise DefinitionError(
                f"{where}: there is no state {given!r}", fix=f"The states are {', '.join(self._paths)}."
            )
        return name

    # --- functions

    def _guard(self, given: Any, where: str) -> Guard:
        if isinstance(given, Guard):
            return given
        if callable(given):
            return Guard(given)
        name = given.get("type") if isinstance(given, Mapping) else given
        if not isinstance(name, str) or name not in self._guards:
            raise DefinitionError(
                f"{where}: there is no guard {name!r:.80}", fix="Give it: guards={name: function}."
            )
        return Guard(self._guards[name], name)

    def _all_actions(self, given: Any, where: str) -> tuple[Action, ...]:
        return tuple(self._action(each, where) for each in _listed(given))

    def _action(self, given: Any, where: str) -> Action:
        if isinstance(given, (Call, *PURE)):
            return given
        if isinstance(given, Mapping):
            name = str(given.get("type", "")).removeprefix("xstate.")
            if name not in self._actions and name in _BUILT_IN:
                return _BUILT_IN[name](given, where)
            given = given.get("type")
        if isinstance(given, str):
            if given not in self._actions:
                raise DefinitionError(
                    f"{where}: there is no action {given!r}", fix="Give it: actions={name: function}."
                )
            found = self._actions[given]
            return found if isinstance(found, (Call, *PURE)) else Call(found, given)
        return Call(given)

    def _invokes(self, state: Mapping[str, Any], where: str) -> Iterator[Invoke]:
        for given in _listed(state.get("invoke")):
            yield self._invoked(given, f"{where}.invoke")

    def _invoked(self, given: Any, where: str) -> Invoke:
        if not isinstance(given, Mapping):
            return Invoke(invoke_name(given), given)
        _known(given, _INVOKE, where)
        source = given.get("src")
        if isinstance(source, str) and source in self._actions:
            source = self._actions[source]
        if workflow_in(source) is None:
            raise DefinitionError(
                f"{where}: src={source!r:.80} is no workflow", fix="Name a registered workflow."
            )
        return Invoke(str(given.get("id") or invoke_name(source)), source)


def _raise(given: Mapping[str, Any], where: str) -> Action:
    event = given.get("event")
    name = event.get("type") if isinstance(event, Mapping) else event
    if not isinstance(name, str) or not name:
        raise DefinitionError(
            f"{where}: the event to raise has no name", fix='Give {"type": "raise", "event": NAME}.'
        )
    if "delay" in given:
        return SendLater(name, delay_in(given["delay"], where), str(given.get("id", name)))
    return Raise(name, given.get("data"))


def _assign(given: Mapping[str, Any], where: str) -> Action:
    return Assign(_mapping(given.get("assignment", given.get("values", {})), f"{where}.assignment"))


_BUILT_IN: Final[dict[str, Callable[[Mapping[str, Any], str], Action]]] = {
    "raise": _raise,
    "send": _raise,
    "cancel": lambda given, _: Cancel(str(given.get("id", given.get("sendId", "")))),
    "log": lambda given, _: Log(str(given.get("message", given.get("expr", "")))),
    "assign": _assign,
}


def _too_deep() -> DefinitionError:
    return DefinitionError(
        f"the table is nested too deep: at most {MOST_DEPTH} states may be within one another",
        fix="Check whether the table was meant to be so.",
    )


def _listed(given: Any) -> list[Any]:
    return [] if given is None else list(given) if isinstance(given, list | tuple) else [given]


def _mapping(given: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise DefinitionError(f"{where} is no object but {type(given).__name__}", fix="Give a dict.")
    return given


def _known(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in given:
        if key not in known:
            fix = f"Known are {', '.join(sorted(known - _REMARKS))}."
            raise DefinitionError(f"{where}: unknown key {key!r:.80}", fix=fix)


def delay_in(given: Any, where: str) -> int:
    """Return a delay of a table in microseconds. Raises DefinitionError for what is none."""
    if isinstance(given, str) and (match := _DELAY.fullmatch(given.strip())):
        given = float(match[1]) * _SIZES[match[2] or "s"]
    if not DURATION.holds(given):
        raise DefinitionError(
            f"{where}: {given!r:.80} is no delay", fix="Give seconds, or a text such as 30s."
        )
    return microseconds(given)


def read(
    make: Callable[..., StateMachine],
    table: Mapping[str, Any],
    initial: str | None,
    name: str | None,
    guards: Named,
    actions: Named,
) -> StateMachine:
    """Return the machine that a table says; `make` is the class."""
    reading = Reading(table, guards, actions)
    states = _mapping(table.get("states", {}), "states")
    names = [str(key) for key in states if key != ANY_STATE]
    label = name or table.get("name") or table.get("id")
    begins = initial or table.get("initial") or next(iter(names), None)
    if begins is None:
        raise DefinitionError("the table has no states", fix='Give {"states": {"DRAFT": {...}}}.')
    if table.get("type") == "parallel":
        begins = str(label or "machine")
    elif begins not in names:
        raise DefinitionError(
            f"the initial state {begins!r:.80} is not there", fix=f"The states are {', '.join(names)}."
        )
    context = table.get("context")
    machine = make(label, initial=begins, context=context, version=str(table.get("version", "")))
    reading.into(machine.definition)
    machine.validate()
    return machine
