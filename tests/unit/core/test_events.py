"""The table from facts to events: given a fact, readers get exactly this event, or none."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import msgspec
import pytest

from holdfast.core.events import (
    EVENT_TYPES,
    event_of,
    events_of,
    kind_of,
    payload_of,
    reader,
    references,
    type_of,
)
from holdfast.model import facts
from holdfast.model.event import RunEvent
from holdfast.model.ids import SECOND, moment, split_step, step_id
from holdfast.model.values import encode
from holdfast.store.rows import JournalRow

AT = 1_700_000_000 * SECOND
STARTED = AT - 1_500_000
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DUE = int(NOON.timestamp()) * SECOND
ERROR = facts.ErrorInfo(
    code="step_failed", type="ValueError", message="no page", traceback="Traceback ...", attempt=1
)
ERROR_DATA = {"code": "step_failed", "type": "ValueError", "message": "no page", "traceback": "Traceback ..."}

TABLE: list[tuple[facts.Fact, str, dict[str, Any]]] = [
    (
        facts.RunStarted(workflow="classify", version="2", data=encode({"document": "memo.pdf"})),
        "run.started",
        {"workflow": "classify", "params": {"document": "memo.pdf"}},
    ),
    (
        facts.StepScheduled(step="detect#2", name="detect", iteration=2),
        "stage.scheduled",
        {"name": "detect", "iteration": 2, "attempt": 1},
    ),
    (
        facts.StepProgressed(step="detect#1", attempt=2, percent=40.0, message="page 4"),
        "stage.progress",
        {"name": "detect", "iteration": 1, "attempt": 2, "percent": 40.0, "message": "page 4"},
    ),
    (
        facts.StepRetried(step="detect#1", attempt=2, due=DUE, error=ERROR),
        "stage.retried",
        {"name": "detect", "iteration": 1, "attempt": 2, "error": ERROR_DATA, "next_at": NOON, "reason": ""},
    ),
    (
        facts.StepRetried(step="detect#1", attempt=2, reason="worker lost"),
        "stage.retried",
        {
            "name": "detect",
            "iteration": 1,
            "attempt": 2,
            "error": None,
            "next_at": moment(AT),
            "reason": "worker lost",
        },
    ),
    (
        facts.StepCompleted(step="detect#1", attempt=2, started=STARTED, data=encode({"pages": 3})),
        "stage.completed",
        {"name": "detect", "iteration": 1, "attempt": 2, "duration": 1.5, "output": {"pages": 3}},
    ),
    (
        facts.StepCompleted(step="detect#1", attempt=1),
        "stage.completed",
        {"name": "detect", "iteration": 1, "attempt": 1, "duration": None, "output": None},
    ),
    (
        facts.StepFailed(step="detect#1", attempt=3, started=STARTED, error=ERROR),
        "stage.failed",
        {"name": "detect", "iteration": 1, "attempt": 3, "duration": 1.5, "error": ERROR_DATA},
    ),
    (
        facts.StepCancelled(step="detect#1", attempt=1, started=STARTED),
        "stage.cancelled",
        {"name": "detect", "iteration": 1, "attempt": 1, "duration": 1.5},
    ),
    (
        facts.StepScheduled(step="timer:nap#1", name="nap", kind="timer", due=DUE),
        "wait.started",
        {"kind": "timer", "name": "nap", "until": NOON},
    ),
    (
        facts.StepScheduled(step="signal:approved#1", name="approved", kind="signal", parent="ask#1"),
        "wait.started",
        {"kind": "signal", "name": "approved", "until": None},
    ),
    (
        facts.StepCompleted(step="timer:nap#1", attempt=1),
        "wait.ended",
        {"kind": "timer", "name": "nap", "outcome": "completed"},
    ),
    (
        facts.StepCancelled(step="signal:a:b#7", attempt=1),
        "wait.ended",
        {"kind": "signal", "name": "a:b", "outcome": "cancelled"},
    ),
    (
        facts.StepFailed(step="signal:approved#1", attempt=1, error=ERROR),
        "wait.ended",
        {"kind": "signal", "name": "approved", "outcome": "failed"},
    ),
    (facts.SignalReceived(name="approved", data=encode(True)), "signal", {"name": "approved"}),
    (facts.EventPublished(type="order.paid", data=encode({})), "event", {"type": "order.paid"}),
    (
        facts.RunPaused(reason="waits for the bank"),
        "run.paused",
        {"reason": "waits for the bank", "error": None},
    ),
    (facts.RunPaused(reason="parked", error=ERROR), "run.paused", {"reason": "parked", "error": ERROR_DATA}),
    (
        facts.RunResumed(reopened=(("detect#1", 3), ("timer:nap#1", 2), ("START#1", 2))),
        "run.resumed",
        {"stages": [{"name": "detect", "iteration": 1, "attempt": 3}]},
    ),
    (facts.RunForked(source="r0", at_position=7), "run.forked", {"source": "r0", "at": 7}),
    (facts.RunContinued(), "run.continued", {}),
    (facts.RunCompleted(data=encode([1, 2])), "run.completed", {"result": [1, 2]}),
    (
        facts.RunFailed(error=msgspec.structs.replace(ERROR, step="detect#1", name="detect")),
        "run.failed",
        {"error": ERROR_DATA, "stage": "detect"},
    ),
    (
        facts.RunFailed(error=facts.ErrorInfo("run_timed_out", "")),
        "run.failed",
        {
            "error": {"code": "run_timed_out", "type": "", "message": ""},
            "stage": None,
        },
    ),
    (
        facts.RunFailed(error=msgspec.structs.replace(ERROR, step="START#1", name="START")),
        "run.failed",
        {"error": ERROR_DATA, "stage": None},
    ),
    (facts.RunCancelled(reason="no longer needed"), "run.cancelled", {"reason": "no longer needed"}),
]

SILENT: list[facts.Fact] = [
    facts.StepSuspended(step="detect#1", attempt=1),
    facts.StepCancelRequested(step="detect#1"),
    facts.CancelRequested(reason="enough"),
    facts.StepScheduled(step="START#1", name="START"),
    facts.StepCompleted(step="START#1", attempt=1, data=encode({})),
    facts.StepFailed(step="START#1", attempt=1, error=ERROR),
    facts.StepScheduled(step="detect#1/fetch#1", name="fetch", parent="detect#1"),
    facts.StepCompleted(step="detect#1/fetch#1", attempt=1),
    facts.StepProgressed(step="timer:nap#1", attempt=1, percent=1.0),
]


def at(fact: facts.Fact) -> facts.Fact:
    return msgspec.structs.replace(fact, at=AT)


def row(position: int, *recorded: facts.Fact, run: str = "r1") -> JournalRow:
    encoded = facts.Journal.encode(tuple(at(fact) for fact in recorded))
    return JournalRow("1", run, position, len(recorded), AT, "c", "w1", encoded)


def made(fact: facts.Fact, **blobs: bytes) -> RunEvent:
    event = event_of("r1", 5, at(fact), reader(blobs))
    assert event is not None
    return event


# --- the table


@pytest.mark.parametrize(
    ("fact", "type", "data"), TABLE, ids=[f"{n}-{name}" for n, (_, name, _) in enumerate(TABLE)]
)
def test_a_fact_is_one_event_at_its_position(fact: facts.Fact, type: str, data: dict[str, Any]) -> None:
    event = made(fact)
    assert (event.run_id, event.position, event.type, event.at) == ("r1", 5, type, moment(AT))
    assert event.data == data
    assert type_of(fact) == type


@pytest.mark.parametrize("fact", SILENT, ids=[f"{n}-{type(fact).__name__}" for n, fact in enumerate(SILENT)])
def test_a_fact_that_is_for_the_engine_alone_is_no_event(fact: facts.Fact) -> None:
    assert type_of(fact) is None
    assert event_of("r1", 5, fact, reader()) is None


def test_every_fact_has_been_thought_of() -> None:
    assert {type(fact) for fact, *_ in TABLE} | {type(fact) for fact in SILENT} | {facts.DecisionMade} == set(
        get_args(facts.AnyFact)
    )


def test_every_type_that_comes_from_a_journal_is_listed() -> None:
    assert {name for _, name, _ in TABLE} | {"decision"} == set(EVENT_TYPES)


def test_a_decision_names_the_first_edge_taken_and_shows_all() -> None:
    no = facts.EdgeTried("enhance", "faded", result=False, reason="legibility is 0.9")
    yes, fan = facts.EdgeTried("classify", "else", reason="otherwise"), facts.EdgeTried("page", count=3)
    data = made(facts.DecisionMade(source="detect", edges=(no, yes, fan))).data
    assert {key: data[key] for key in data if key != "edges"} == {
        "from_node": "detect",
        "to_node": "classify",
        "name": "else",
        "result": True,
        "reason": "otherwise",
    }
    assert data["edges"][0] == {
        "to_node": "enhance",
        "name": "faded",
        "result": False,
        "reason": "legibility is 0.9",
        "count": 1,
    }
    assert [(edge["to_node"], edge["count"]) for edge in data["edges"][1:]] == [("classify", 1), ("page", 3)]


@pytest.mark.parametrize(
    ("edges", "reason"), [((), ""), ((facts.EdgeTried("b", result=False, reason="too small"),), "too small")]
)
def test_a_decision_that_takes_no_edge_leads_nowhere(edges: tuple[facts.EdgeTried, ...], reason: str) -> None:
    data = made(facts.DecisionMade(source="a", edges=edges)).data
    assert (data["to_node"], data["result"], data["reason"]) == (None, False, reason)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("detect#1", "stage"),
        ("order:paid#1", "stage"),
        ("timer#1", "stage"),
        ("timer:detect#1", "timer"),
        ("signal:START#1", "signal"),
        ("START#1", "inner"),
        ("timer#1/fetch#2", "inner"),
    ],
)
def test_the_id_of_a_step_tells_its_kind(step: str, kind: str) -> None:
    assert kind_of(step) == kind


@pytest.mark.parametrize("name", ["detect", "C#", "signal:a#b", ""])
def test_a_step_id_can_be_taken_apart(name: str) -> None:
    assert split_step(step_id(name, 12)) == (name, 12)


# --- values of the user


def test_a_value_is_decoded_when_somebody_looks_and_once() -> None:
    asked: list[msgspec.Raw] = []

    def decode(raw: msgspec.Raw) -> object:
        asked.append(raw)
        return "decoded"

    event = event_of("r1", 5, facts.RunCompleted(data=encode(1)), decode)
    assert event is not None
    assert (event.type, event.envelope, asked) == ("run.completed", {}, [])
    assert event.data is event.data
    assert (event.data, asked) == ({"result": "decoded"}, [encode(1)])


def test_large_values_are_put_in_wherever_they_stand() -> None:
    raw = msgspec.Raw(b'{"a":{"$ref":"h1"},"b":[1,{"$ref":"h2"}],"c":"{\\"$ref\\":\\"h1\\"}"}')
    read = reader({"h1": bytes(encode("long")), "h2": bytes(encode((1, 2)))})
    assert references(raw) == ["h1", "h2"]
    assert read(raw) == {"a": "long", "b": [1, (1, 2)], "c": '{"$ref":"h1"}'}
    assert read(msgspec.Raw(b'{"$ref":"h2"}')) == (1, 2)


def test_a_large_value_that_is_not_at_hand_stays_a_reference() -> None:
    assert reader()(msgspec.Raw(b'{"a":{"$ref":"h1"}}')) == {"a": {"$ref": "h1"}}


def test_what_a_user_wrote_is_no_reference() -> None:
    value = {"$ref": "h1"}
    assert references(encode(value)) == []
    assert reader({"h1": b"1"})(encode(value)) == value


def test_a_value_of_a_type_that_is_not_known_here_is_shown_as_its_json() -> None:
    assert reader()(msgspec.Raw(b'{"$type":["elsewhere.Invoice",{"id":7}]}')) == {
        "$type": ["elsewhere.Invoice", {"id": 7}]
    }


def test_only_what_an_event_shows_is_its_payload() -> None:
    assert payload_of(facts.RunCompleted(data=encode(1))) == encode(1)
    assert payload_of(facts.SignalReceived(name="a", data=encode(1))) == facts.NOTHING
    assert payload_of(facts.StepCompleted(step="START#1", attempt=1, data=encode(1))) == facts.NOTHING
    assert payload_of(facts.RunContinued(data=encode(1))) == facts.NOTHING


# --- from rows

JOURNAL = [
    row(1, facts.RunStarted(workflow="w"), facts.StepScheduled(step="START#1", name="START")),
    row(3, facts.StepCompleted(step="START#1", attempt=1), facts.StepScheduled(step="a#1", name="a")),
    row(5, facts.StepCompleted(step="a#1", attempt=1), facts.RunCompleted()),
]


def places(events: Any) -> list[tuple[int, str]]:
    return [(event.position, event.type) for event in events]


def test_rows_unfold_into_events_at_the_positions_of_their_facts() -> None:
    assert places(events_of(JOURNAL)) == [
        (1, "run.started"),
        (4, "stage.scheduled"),
        (5, "stage.completed"),
        (6, "run.completed"),
    ]


@pytest.mark.parametrize("after", range(8))
def test_a_reader_goes_on_after_any_position(after: int) -> None:
    everything = places(events_of(JOURNAL))
    assert places(events_of(JOURNAL, after)) == [place for place in everything if place[0] > after]


def test_a_reader_that_begins_in_the_middle_reads_the_same() -> None:
    assert places(events_of(JOURNAL[2:])) == places(events_of(JOURNAL, 4))


def test_types_are_chosen_before_anything_is_made() -> None:
    def refuse(_: msgspec.Raw) -> object:
        pytest.fail("nobody looked at a value")

    assert places(events_of(JOURNAL, types={"stage.completed"}, decode=refuse)) == [(5, "stage.completed")]


def test_a_row_that_was_read_already_is_not_decoded() -> None:
    broken = JournalRow("1", "r1", 1, 2, AT, "c", "w1", b"not JSON")
    assert list(events_of([broken], after=2)) == []


def test_the_facts_of_a_row_may_be_gone_when_the_value_is_read() -> None:
    rows = [row(1, facts.RunCompleted(data=encode("kept")))]
    (event,) = events_of(rows)
    rows.clear()
    assert event.data == {"result": "kept"}


# --- the event itself


def test_an_event_does_not_change() -> None:
    event = made(facts.RunContinued())
    with pytest.raises(AttributeError, match="cannot be changed"):
        event.position = 3
    with pytest.raises(AttributeError, match="cannot be changed"):
        del event.type


def test_equal_events_are_equal_and_hash_alike() -> None:
    one, same = made(facts.RunCompleted(data=encode(1))), made(facts.RunCompleted(data=encode(1)))
    assert one == same
    assert len({one, same}) == 1
    assert one != made(facts.RunCompleted(data=encode(2)))
    assert one != SimpleNamespace(run_id="r1")


def test_an_event_can_be_copied_and_pickled() -> None:
    event = made(facts.RunCompleted(data=encode({"a": 1})))
    assert copy.deepcopy(event) == event
    assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301 - our own bytes


def test_an_event_shows_its_place_and_not_the_value() -> None:
    event = made(facts.RunStarted(workflow="w", data=encode("x" * 1000)))
    assert repr(event) == "RunEvent('r1', 5, 'run.started', {'workflow': 'w'})"


@dataclass
class Invoice:
    id: int
    paid: datetime


class Model:
    def model_dump(self) -> dict[str, Any]:
        return {"of": "pydantic"}


def test_json_is_plain_for_readers_in_other_languages() -> None:
    value = {
        "invoice": Invoice(7, NOON),
        "path": Path("a/b"),
        "model": Model(),
        "nan": float("nan"),
        "tuple": (1, {2}),
        "pairs": {(1, 2): "x", 3: "y"},
        "surrogate": "\ud800",
    }
    event = RunEvent("r1", 5, "run.completed", NOON, {"result": value})
    shown = event.to_dict()
    assert shown == {
        "run_id": "r1",
        "position": 5,
        "type": "run.completed",
        "at": "2026-11-21T12:00:00Z",
        "data": {
            "result": {
                "invoice": {"id": 7, "paid": "2026-11-21T12:00:00Z"},
                "path": "a/b",
                "model": {"of": "pydantic"},
                "nan": None,
                "tuple": [1, [2]],
                "pairs": {"(1, 2)": "x", "3": "y"},
                "surrogate": "?",
            }
        },
    }
    assert json.loads(event.to_json()) == shown


def test_that_a_choice_has_taken_effect_is_no_event_and_no_row() -> None:
    """A machine's actions are done: the choice was told before, when it was made."""
    done = facts.DecisionMade(source="paid", data=msgspec.Raw(b'{"state":["sent"]}'))
    assert type_of(done) is None
    assert type_of(facts.DecisionMade(source="paid")) == "decision"
