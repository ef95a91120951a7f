"""Machines from SCXML: structure, events, `In()` and the actions that are data. No scripts, no entities, no files.

What would need an interpreter of expressions (scripts, data models, conditions other than `In()`) is refused, with its
line, and so is every document with a DTD: nothing is ever expanded, fetched or run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from xml.parsers import expat

import msgspec

from holdfast.errors import DefinitionError
from holdfast.model.ids import SECOND
from holdfast.patterns.machine.actions import Action, Call, Cancel, Guard, Log, Raise, SendLater, Within
from holdfast.patterns.machine.chart import ROOT
from holdfast.patterns.machine.definition import DeclaredState, DeclaredTransition, Definition
from holdfast.patterns.machine.table import Named

if TYPE_CHECKING:
    from holdfast.patterns.machine.builder import StateMachine

NAMESPACE: Final = "http://www.w3.org/2005/07/scxml"
MOST_CHARACTERS: Final = 10_000_000
MOST_DEPTH: Final = 200
"""How deep elements may be nested: no document needs more, and reading must not exhaust the stack."""

_STATES: Final = ("state", "parallel", "final", "history")
_DELAY: Final = re.compile(r"(\d*\.?\d+)(ms|s)")
_TOKEN: Final = re.compile(r"\s*(In\s*\(\s*'([^']*)'\s*\)|In\s*\(\s*\"([^\"]*)\"\s*\)|&&|\|\||!|\(|\)|\w+)")

Active = Callable[[str], bool]
Formula = Callable[[Active], bool]


class Element(msgspec.Struct):
    """An element of the document, with its line."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[Element] = []
    text: str = ""

    def all(self, *tags: str) -> list[Element]:
        """Return the children with one of these tags."""
        return [child for child in self.children if child.tag in tags]

    def fails(self, what: str, fix: str = "") -> DefinitionError:
        """Return the error that names the line."""
        return DefinitionError(f"line {self.line}: <{self.tag}> {what}", fix=fix)


def document(text: str | bytes) -> Element:
    """Return the root of a document; raises DefinitionError with the line of what is malformed or has a DTD."""
    if len(text) > MOST_CHARACTERS:
        raise DefinitionError(f"the document has more than {MOST_CHARACTERS} characters")
    parser = expat.ParserCreate(namespace_separator=" ")
    top = Element("", {}, 0)
    stack = [top]

    def begin(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > MOST_DEPTH:
            raise DefinitionError(
                f"line {parser.CurrentLineNumber}: nested more than {MOST_DEPTH} elements deep"
            )
        namespace, _, tag = name.rpartition(" ")
        plain = {key.rpartition(" ")[2]: value for key, value in attributes.items()}
        element = Element(tag if namespace in ("", NAMESPACE) else name, plain, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def refuse(*_: object) -> None:
        raise DefinitionError(
            f"line {parser.CurrentLineNumber}: the document has a DTD",
            fix="Leave it out: entities are not expanded.",
        )

    def say(text: str) -> None:
        stack[-1].text += text

    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda _: stack.pop()
    parser.CharacterDataHandler = say
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise DefinitionError(
            f"line {error.lineno}: {expat.ErrorString(error.code)}", fix="Give well-formed XML."
        ) from error
    except (ValueError, UnicodeError) as error:
        raise DefinitionError(f"the document cannot be read: {error}") from error
    return top.children[0]


class Reading:
    """Reads one document. `guards` have functions for conditions by their text, `actions` for `<script src>`."""

    def __init__(self, root: Element, guards: Named, actions: Named) -> None:
        """Refuse what is no statechart."""
        if root.tag != "scxml":
            raise root.fails("is no statechart", "Give a document whose root is <scxml>.")
        self.root: Final = root
        self._guards = guards
        self._actions = actions
        self._names: dict[int, str] = {}
        self._known: set[str] = set()
        self._name(root)

    def _name(self, element: Element) -> None:
        """Give each state its name; refuses one that is there twice."""
        for child in element.all(*_STATES):
            name = child.attributes.get("id") or f"{child.tag}@{child.line}"
            if name in self._known:
                raise child.fails(f"has the id {name!r} of another", "Give each state an id of its own.")
            if "#" in name:
                raise child.fails(f"has an id with #: {name!r}", "Give it another id.")
            self._names[id(child)] = name
            self._known.add(name)
            self._name(child)

    @property
    def initial(self) -> tuple[str, ...]:
        """The initial states of the machine."""
        given, _ = self._initial(self.root)
        if given:
            return given
        first = self.root.all("state", "parallel", "final")
        if not first:
            raise self.root.fails("has no states", "Add a <state>.")
        return (self._names[id(first[0])],)

    def into(self, definition: Definition) -> None:
        """Declare all states and transitions."""
        _only(self.root, *_STATES, "initial", "datamodel", "script")
        self._no_scripts(self.root)
        definition.initial_actions = self._initial(self.root)[1]
        for child in self.root.all(*_STATES):
            self._declare(definition, child, ROOT)

    def _no_scripts(self, element: Element) -> None:
        for child in element.all("script", "datamodel"):
            if child.tag == "script" or child.children:
                raise child.fails(
                    "is not supported", "Put data into the context, and what scripts do into actions."
                )

    def _declare(self, definition: Definition, element: Element, parent: str) -> None:
        name = self._names[id(element)]
        _only(
            element, *_STATES, "initial", "transition", "onentry", "onexit", "donedata", "datamodel", "invoke"
        )
        self._no_scripts(element)
        for invoke in element.all("invoke"):
            raise invoke.fails(
                "is not supported", "Invoke workflows from Python: add_transition(..., invoke=workflow)."
            )
        begins, first = self._initial(element)
        if element.tag == "history":
            begins, first = self._default(element)
        depth = element.attributes.get("type", "shallow")
        definition.states[name] = DeclaredState(
            name,
            parent,
            self._actions_in(element, "onentry"),
            self._actions_in(element, "onexit"),
            element.tag == "final",
            element.tag == "parallel",
            ("deep" if depth == "deep" else "shallow") if element.tag == "history" else "",
            begins,
            first,
        )
        for child in element.all(*_STATES):
            self._declare(definition, child, name)
        if element.tag != "history":
            for transition in element.all("transition"):
                definition.transitions.append(self._transition(transition, name))

    def _initial(self, element: Element) -> tuple[tuple[str, ...], tuple[Action, ...]]:
        if "initial" in element.attributes:
            return self._targets(element, element.attributes["initial"]), ()
        for initial in element.all("initial"):
            return self._default(initial)
        return (), ()

    def _default(self, element: Element) -> tuple[tuple[str, ...], tuple[Action, ...]]:
        transitions = element.all("transition")
        if len(transitions) != 1 or "target" not in transitions[0].attributes:
            raise element.fails("needs one transition with a target", "Say where to begin.")
        (transition,) = transitions
        return self._targets(transition, transition.attributes["target"]), self._content(transition)

    def _targets(self, element: Element, given: str) -> tuple[str, ...]:
        names = tuple(given.split())
        for name in names:
            if name not in self._known:
                raise element.fails(
                    f"leads to {name!r}, which is not there",
                    f"The states are {', '.join(sorted(self._known))}.",
                )
        return names

    def _transition(self, element: Element, source: str) -> DeclaredTransition:
        attributes = element.attributes
        for key in attributes.keys() - {"event", "cond", "target", "type", "id"}:
            raise element.fails(f"has an unknown attribute {key!r}")
        kind = attributes.get("type", "external")
        if kind not in ("external", "internal"):
            raise element.fails(f"has the type {kind!r}", "Use external or internal.")
        condition = attributes.get("cond")
        return DeclaredTransition(
            source,
            self._targets(element, attributes.get("target", "")),
            tuple(attributes.get("event", "").split()),
            None if condition is None else self._guard(element, condition),
            self._content(element),
            internal=kind == "internal",
        )

    def _guard(self, element: Element, condition: str) -> Guard:
        if condition in self._guards:
            return Guard(self._guards[condition], condition)
        return Within(_Condition(element, condition, self._known).formula(), condition)

    # --- what is done

    def _actions_in(self, element: Element, tag: str) -> tuple[Action, ...]:
        return tuple(action for block in element.all(tag) for action in self._content(block))

    def _content(self, element: Element) -> tuple[Action, ...]:
        return tuple(self._action(child) for child in element.children)

    def _action(self, element: Element) -> Action:
        given = element.attributes
        match element.tag:
            case "raise":
                return Raise(_needed(element, "event"))
            case "send":
                return self._send(element)
            case "cancel":
                return Cancel(_needed(element, "sendid"))
            case "log":
                return Log(" ".join(filter(None, (given.get("label"), given.get("expr")))))
            case "script" if given.get("src") in self._actions:
                found = self._actions[given["src"]]
                return found if isinstance(found, Call) else Call(found, given["src"])
            case _:
                raise element.fails("is not supported", "Supported are raise, send, cancel and log.")

    def _send(self, element: Element) -> Action:
        given = element.attributes
        for key in given.keys() - {"event", "delay", "id", "target"}:
            raise element.fails(f"has {key!r}, which is not supported", "Give event, delay and id.")
        event = _needed(element, "event")
        if given.get("target", "") not in ("", "#_internal"):
            raise element.fails("has a target outside of the machine", "Send to others from actions.")
        if given.get("target") == "#_internal" and "delay" not in given:
            return Raise(event)
        match = _DELAY.fullmatch(given.get("delay", "0s"))
        if match is None:
            raise element.fails(f"has the delay {given['delay']!r}", "Write 5s or 500ms.")
        delay = round(float(match[1]) * (SECOND if match[2] == "s" else SECOND // 1000))
        return SendLater(event, delay, given.get("id", f"send@{element.line}"))


class _Condition:
    """A formula of `In()`, and, or, not, true and false: read once, without evaluating any text."""

    def __init__(self, element: Element, text: str, known: set[str]) -> None:
        self._element = element
        self._text = text
        self._known = known
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._fails()
            self._tokens.append((match[1], match[2] or match[3] or ""))
            at = match.end()

    def _fails(self) -> DefinitionError:
        return self._element.fails(
            f"has the condition {self._text!r:.80}",
            "Supported are In('state') with and, or, not; for others give guards={condition: function}.",
        )

    def formula(self) -> Formula:
        formula = self._any()
        if self._tokens:
            raise self._fails()
        return formula

    def _accept(self, *words: str) -> bool:
        if self._tokens and self._tokens[0][0] in words:
            self._tokens.pop(0)
            return True
        return False

    def _any(self) -> Formula:
        parts = [self._both()]
        while self._accept("||", "or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda active: any(part(active) for part in parts)

    def _both(self) -> Formula:
        parts = [self._one()]
        while self._accept("&&", "and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda active: all(part(active) for part in parts)

    def _one(self) -> Formula:
        if self._accept("!", "not"):
            inner = self._one()
            return lambda active: not inner(active)
        if self._accept("("):
            inner = self._any()
            if not self._accept(")"):
                raise self._fails()
            return inner
        if not self._tokens:
            raise self._fails()
        word, state = self._tokens.pop(0)
        if word in ("true", "false"):
            return lambda _: word == "true"
        if not word.startswith("In") or not state:
            raise self._fails()
        if state not in self._known:
            raise self._element.fails(f"asks for {state!r}, which is not there")
        return lambda active: active(state)


def _needed(element: Element, attribute: str) -> str:
    given = element.attributes.get(attribute)
    if not given:
        raise element.fails(f"has no {attribute}", f'Give it: {attribute}="...".')
    return given


def _only(element: Element, *tags: str) -> None:
    for child in element.children:
        if child.tag not in tags:
            raise child.fails(
                f"has no place within <{element.tag}>", "See the SCXML recommendation of the W3C."
            )


def read(
    make: Callable[..., StateMachine], text: str | bytes, name: str | None, guards: Named, actions: Named
) -> StateMachine:
    """Return the machine of a document; `make` is the class. Events that nobody listens to are ignored, as in SCXML."""
    reading = Reading(document(text), guards, actions)
    label = name or reading.root.attributes.get("name")
    machine = make(label, initial=reading.initial, unhandled="ignore")
    reading.into(machine.definition)
    machine.validate()
    return machine
