"""Events of a run: the one table that says which public event a fact is to readers, if any.

An event stands at the position of its fact, so a position is a cursor in both. The table is pure and needs no other
fact: what kind of step a fact speaks of is told by the step's id. An id that begins with `timer:` or `signal:` is a
wait of that kind, named by the rest; any other is a stage, and builders refuse names of nodes that begin so. A `#`
within the name, which names do not have either, tells a call inside of a stage, as in `detect#1/fetch#1`. Those and
START have no events.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from holdfast.core.program import START
from holdfast.errors import HoldfastError, SignalTimeout
from holdfast.model import facts, values
from holdfast.model.audit import error_data
from holdfast.model.event import RunEvent
from holdfast.model.ids import SECOND, Instant, RunId, StepId, moment, split_step

WAITS: Final = ("timer", "signal")
"""Kinds of steps that wait and run nothing; the ids of such steps begin with the kind and a colon."""

Decode = Callable[[msgspec.Raw], object]
"""Gives the user's value of its encoded form."""

_REFERENCE: Final = re.compile(rb'\{"\$ref":"([^"\\]+)"\}')
"""A large value's place. Within a JSON text the quotes would be escaped, so nothing else looks like it."""


class Row(Protocol):
    """A commit in the journal, as a store gives it: `position` is that of its first fact, counted from 1."""

    @property
    def run(self) -> RunId:
        """The run."""

    @property
    def position(self) -> int:
        """The position of the first fact."""

    @property
    def count(self) -> int:
        """How many facts."""

    @property
    def at(self) -> Instant:
        """When it was committed."""

    @property
    def worker(self) -> str:
        """Who committed it."""

    @property
    def facts(self) -> bytes:
        """The facts as JSON."""


class _Rule(NamedTuple):
    """What a fact is to readers: the event's type, its plain fields, and the key of its user's value if it has one."""

    type: str
    fields: Callable[[Any], dict[str, Any]]
    payload: str = ""


# --- values of the user


def reader(blobs: Mapping[str, bytes] | None = None, decode: Decode = values.decode) -> Decode:
    """Return a function that decodes values with their large parts put in from `blobs`.

    It never fails: what is not in `blobs` stays `{"$ref": hash}`, and a value of a type that this process does not
    know is given as its JSON, so that any process can show any run.
    """
    return partial(_read, {} if blobs is None else blobs, decode)


def references(raw: msgspec.Raw) -> list[str]:
    """Return the hashes of the large values that an encoded value has parts in."""
    return [match.decode() for match in _REFERENCE.findall(raw)]


def resolved(raw: msgspec.Raw, blobs: Mapping[str, bytes]) -> msgspec.Raw:
    """Return an encoded value with its large parts in it."""
    if _REFERENCE.search(raw) is None:
        return raw
    return msgspec.Raw(_REFERENCE.sub(partial(_large, blobs), bytes(raw)))


def _read(blobs: Mapping[str, bytes], decode: Decode, raw: msgspec.Raw) -> object:
    whole = resolved(raw, blobs)
    try:
        return decode(whole)
    except HoldfastError:
        return msgspec.json.decode(whole)


def _large(blobs: Mapping[str, bytes], reference: re.Match[bytes]) -> bytes:
    value = blobs.get(reference[1].decode())
    # The tag for a dict with a key that looks like a tag, see model.values.
    return b'{"$dict":[["$ref","%b"]]}' % reference[1] if value is None else value


# --- the table


@lru_cache(4096)  # few ids, such as detect#1, are those of most runs
def kind_of(step: StepId) -> str:
    """Return "timer" or "signal" for a wait, "inner" for START and calls inside of a stage, else "stage"."""
    kind, colon, _ = step.partition(":")
    if colon and kind in WAITS:
        return kind
    name = split_step(step)[0]
    return "inner" if name == START or "#" in name else "stage"


def duration_of(started: Instant, ended: Instant) -> float | None:
    """Return the seconds between two instants, None when the first is not known."""
    return max(ended - started, 0) / SECOND if started else None


def _named(fact: Any) -> dict[str, Any]:
    name, iteration = split_step(fact.step)
    return {"name": name, "iteration": iteration}


def _tried(fact: Any) -> dict[str, Any]:
    return _named(fact) | {"attempt": fact.attempt}


def _ended(fact: Any) -> dict[str, Any]:
    return _tried(fact) | {"duration": duration_of(fact.started, fact.at)}


def _scheduled(fact: facts.StepScheduled) -> dict[str, Any]:
    told = _named(fact) | {"attempt": 1}
    return told | {"missed": fact.missed} if fact.missed else told


def _completed(fact: facts.StepCompleted) -> dict[str, Any]:
    told = {"cached": fact.cached, "unkept": fact.unkept}
    return _ended(fact) | {name: text for name, text in told.items() if text}


def _error(error: facts.ErrorInfo | None) -> dict[str, Any] | None:
    return None if error is None else error_data(error)


def _retried(fact: facts.StepRetried) -> dict[str, Any]:
    """`attempt` is the one to come, at `next_at`; the error is that of the one before."""
    return _tried(fact) | {
        "error": _error(fact.error),
        "next_at": moment(fact.due or fact.at),
        "reason": fact.reason,
    }


def _wait(fact: Any) -> dict[str, Any]:
    kind, _, name = split_step(fact.step)[0].partition(":")
    return {"kind": kind, "name": name}


def _lapsed(error: facts.ErrorInfo) -> str:
    return "timed_out" if error.code == SignalTimeout.code else "failed"


def _decided(fact: facts.DecisionMade) -> dict[str, Any]:
    edges = [_edge(edge) for edge in fact.edges]
    chosen = next((edge for edge in edges if edge["result"]), None)
    if chosen is None:
        why = edges[0]["reason"] if edges else ""
        chosen = {"to_node": None, "name": "", "result": False, "reason": why, "count": 0}
    shown = {key: chosen[key] for key in ("to_node", "name", "result", "reason")}
    return {"from_node": fact.source, **shown, "edges": edges}


def _edge(edge: facts.EdgeTried) -> dict[str, Any]:
    return {
        "to_node": edge.target,
        "name": edge.name,
        "result": edge.result,
        "reason": edge.reason,
        "count": edge.count,
    }


def _reopened(fact: facts.RunResumed) -> dict[str, Any]:
    stages = [(split_step(step), attempt) for step, attempt in fact.reopened if kind_of(step) == "stage"]
    reopened = [{"name": n, "iteration": i, "attempt": attempt} for (n, i), attempt in stages]
    if fact.error is None:
        return {"stages": reopened}
    return {"stages": reopened, "error": error_data(fact.error), "next_at": moment(fact.due or fact.at)}


def _failed(fact: facts.RunFailed) -> dict[str, Any]:
    error = fact.error
    stage = split_step(error.step)[0] if error.step and kind_of(error.step) == "stage" else ""
    return {"error": error_data(error), "stage": stage or None}


_STAGE: Final[dict[type[facts.Fact], _Rule]] = {
    facts.StepScheduled: _Rule("stage.scheduled", _scheduled),
    facts.StepProgressed: _Rule(
        "stage.progress", lambda f: _tried(f) | {"percent": f.percent, "message": f.message}
    ),
    facts.StepRetried: _Rule("stage.retried", _retried),
    facts.StepCompleted: _Rule("stage.completed", _completed, "output"),
    facts.StepFailed: _Rule("stage.failed", lambda f: _ended(f) | {"error": _error(f.error)}),
    facts.StepCancelled: _Rule("stage.cancelled", _ended),
}

_WAIT: Final[dict[type[facts.Fact], _Rule]] = {
    facts.StepScheduled: _Rule(
        "wait.started", lambda f: _wait(f) | {"until": moment(f.due) if f.due else None}
    ),
    # A signal that ends a wait is the event `signal` alone: a fact is one event at most.
    facts.StepCompleted: _Rule("wait.ended", lambda f: _wait(f) | {"outcome": "completed"}),
    facts.StepFailed: _Rule("wait.ended", lambda f: _wait(f) | {"outcome": _lapsed(f.error)}),
    facts.StepCancelled: _Rule("wait.ended", lambda f: _wait(f) | {"outcome": "cancelled"}),
}

CHUNK, CHUNK_RESET = "stage.chunk", "stage.chunk_reset"

_RUN: Final[dict[type[facts.Fact], _Rule]] = {
    facts.RunStarted: _Rule("run.started", lambda f: {"workflow": f.workflow}, "params"),
    facts.SignalReceived: _Rule("signal", lambda f: {"name": f.name}),
    facts.DecisionMade: _Rule("decision", _decided),
    facts.EventPublished: _Rule("event", lambda f: {"type": f.type}),
    facts.RunPaused: _Rule("run.paused", lambda f: {"reason": f.reason, "error": _error(f.error)}),
    facts.RunResumed: _Rule("run.resumed", _reopened),
    facts.RunForked: _Rule("run.forked", lambda f: {"source": f.source, "at": f.at_position}),
    facts.RunContinued: _Rule("run.continued", lambda _: {}),
    facts.RunCompleted: _Rule("run.completed", lambda _: {}, "result"),
    facts.RunFailed: _Rule("run.failed", _failed),
    facts.RunCancelled: _Rule("run.cancelled", lambda f: {"reason": f.reason}),
}

_BY_KIND: Final = {"stage": _STAGE, "inner": {}, **dict.fromkeys(WAITS, _WAIT)}

EVENT_TYPES: Final = tuple(
    dict.fromkeys(rule.type for table in (_RUN, _STAGE, _WAIT) for rule in table.values())
)
"""The types of all events that come from a journal."""

CHUNK_TYPES: Final = (CHUNK, CHUNK_RESET)
"""The types of what steps send to readers beside the journal."""


def _rule(fact: Any) -> _Rule | None:
    kind = type(fact)
    if kind in _RUN:
        settles = kind is facts.DecisionMade and not fact.edges and fact.data is not facts.NOTHING
        return None if settles else _RUN[kind]
    if kind is facts.StepProgressed and fact.percent is None:
        return None
    if kind in _STAGE:  # which names each fact of a step that readers hear of
        return _BY_KIND[kind_of(fact.step)].get(kind)
    return None


# --- from facts to events


def type_of(fact: facts.Fact) -> str | None:
    """Return the type of the event that readers get for `fact`, None when they get none."""
    rule = _rule(fact)
    return None if rule is None else rule.type


def payload_of(fact: facts.Fact) -> msgspec.Raw:
    """Return the encoded value of the user that the fact's event shows; `null` when it shows none."""
    rule = _rule(fact)
    return getattr(fact, "data", facts.NOTHING) if rule is not None and rule.payload else facts.NOTHING


def event_of(run: RunId, position: int, fact: facts.Fact, decode: Decode) -> RunEvent | None:
    """Return what readers get for the fact at `position`; its value is decoded when they look at it."""
    rule = _rule(fact)
    if rule is None:
        return None
    payload = (rule.payload, partial(decode, fact.data)) if rule.payload else None  # type: ignore[attr-defined]
    return RunEvent(run, position, rule.type, moment(fact.at), rule.fields(fact), payload=payload)


def events_of(
    rows: Iterable[Row], after: int = 0, types: Collection[str] | None = None, decode: Decode | None = None
) -> Iterator[RunEvent]:
    """Return the events of journal rows at positions greater than `after`, in order; of these `types` when given."""
    decode = reader() if decode is None else decode
    for row in rows:
        for position, fact in positioned(row, after):
            if types is None or type_of(fact) in types:
                event = event_of(row.run, position, fact, decode)
                if event is not None:
                    yield event


class Sent(Protocol):
    """A chunk, as a store gives it; without data an attempt begins anew what earlier ones sent."""

    @property
    def run(self) -> RunId:
        """The run."""

    @property
    def position(self) -> int:
        """How many facts the run had."""

    @property
    def step(self) -> StepId:
        """The step."""

    @property
    def attempt(self) -> int:
        """Which attempt of it."""

    @property
    def at(self) -> Instant:
        """When it was sent."""

    @property
    def data(self) -> bytes:
        """What was sent, as JSON."""


def chunk_type(chunk: Sent) -> str:
    """Return the type of a chunk's event."""
    return CHUNK if chunk.data else CHUNK_RESET


def chunk_event(chunk: Sent) -> RunEvent:
    """Return what readers get for a chunk. It stands after the fact at its position, and has no place of its own."""
    payload = ("chunk", partial(_read, {}, values.decode, msgspec.Raw(chunk.data))) if chunk.data else None
    return RunEvent(
        chunk.run, chunk.position, chunk_type(chunk), moment(chunk.at), _tried(chunk), payload=payload
    )


def positioned(row: Row, after: int = 0) -> Iterator[tuple[int, facts.AnyFact]]:
    """Return the (position, fact) of a row at positions greater than `after`; a row before that is not decoded."""
    if row.position + row.count - 1 > after:
        for position, fact in enumerate(facts.Journal.decode(row.facts), row.position):
            if position > after:
                yield position, fact
