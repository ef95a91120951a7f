"""Observers see every event, in order per run, once; nothing that they do reaches a run or one another."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from holdfast.core import observers as known
from holdfast.core.observers import (
    LoggingObserver,
    NoopObserver,
    Observer,
    ObserverLike,
    get_observer,
    register_observer,
    resolve,
)
from holdfast.errors import DefinitionError
from holdfast.model import facts
from holdfast.model.commit import Commit
from holdfast.model.event import RunEvent
from holdfast.model.ids import moment
from holdfast.model.run import RunRow, RunStatus
from holdfast.model.values import encode
from holdfast.runtime import observers as module
from holdfast.runtime import observing
from holdfast.runtime.feed import Feed
from holdfast.runtime.observers import MultiObserver, StreamingObserver
from holdfast.runtime.observing import Observers
from holdfast.store.open import open_store
from holdfast.store.port import Store

SCHEDULED = facts.StepScheduled(step="detect#1", name="detect")
ERROR = facts.ErrorInfo(code="step_failed", type="ValueError", message="no page")


class Seen(Observer):
    """Keeps what it sees."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []

    async def on_event(self, event: RunEvent) -> None:
        self.events.append(event)

    @property
    def places(self) -> list[tuple[str, int]]:
        return [(event.run_id, event.position) for event in self.events]


class SeenInThread(Seen):
    """As Seen, as a plain function."""

    def on_event(self, event: RunEvent) -> None:  # type: ignore[override]  # both forms are allowed
        self.threads = {*getattr(self, "threads", ()), threading.current_thread()}
        self.events.append(event)


class Raising(Observer):
    """Raises for every event."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    async def on_event(self, event: RunEvent) -> None:
        raise self.error("out of ink")


class RaisingInThread(Raising):
    """As Raising, as a plain function."""

    def on_event(self, event: RunEvent) -> None:  # type: ignore[override]
        raise self.error("out of ink")


class Hanging(Observer):
    """Never comes back from its first event."""

    async def on_event(self, event: RunEvent) -> None:
        await asyncio.Event().wait()


class World:
    """A store, a feed, and what is committed to both."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.feed = Feed()
        self.positions: dict[str, int] = {}
        self.places: list[tuple[str, int]] = []

    def observers(self, *given: ObserverLike | None) -> Observers:
        made = Observers(self.feed, self.store, "w1", given)
        made.start()
        return made

    async def commit(self, run: str, *recorded: facts.Fact, blobs: dict[str, bytes] | None = None) -> None:
        position = self.positions.get(run, 0)
        made = Commit(
            id=f"{run}-{position}",
            run=run,
            position=position,
            epoch=1,
            at=1,
            worker="w1",
            facts=tuple(msgspec.structs.replace(fact, at=1) for fact in recorded),
            status=RunStatus.RUNNING,
            was=RunStatus.RUNNING,
            opened=None if position else RunRow(id=run, workflow="w", epoch=1),
            blobs=blobs or {},
        )
        await self.store.commit([made])
        self.feed.publish(made)
        self.positions[run] = position + len(recorded)
        self.places += [(run, position + n) for n in range(1, len(recorded) + 1)]

    async def busy(self, commits: int = 100) -> None:
        for number in range(commits):
            await self.commit(f"r{number % 3}", SCHEDULED, facts.RunContinued())


@pytest.fixture
async def world() -> AsyncIterator[World]:
    store = open_store("sqlite:///:memory:")
    await store.open()
    yield World(store)
    await store.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


# --- feeding


async def test_every_observer_sees_every_event_in_order(world: World) -> None:
    one, two, three = Seen(), SeenInThread(), Seen()
    observers = world.observers(one, two, three)
    await world.busy()
    await observers.close(5)
    assert one.places == two.places == three.places == world.places
    assert one.events[:2] == [
        RunEvent("r0", 1, "stage.scheduled", moment(1), {"name": "detect", "iteration": 1, "attempt": 1}),
        RunEvent("r0", 2, "run.continued", moment(1)),
    ]


async def test_events_come_without_being_asked_for(world: World) -> None:
    seen = Seen()
    observers = world.observers(seen)
    for number in range(3):
        await world.commit("r", SCHEDULED)
        await until(lambda expected=number + 1: len(seen.events) == expected)  # type: ignore[misc]
    await observers.close(0)


async def test_what_is_no_event_is_not_handed_over(world: World) -> None:
    seen = Seen()
    observers = world.observers(seen)
    await world.commit("r", facts.StepScheduled(step="START#1", name="START"), SCHEDULED)
    await observers.close(5)
    assert seen.places == [("r", 2)]


async def test_what_an_observer_does_not_want_is_not_made(world: World) -> None:
    class Ends(Seen):
        asked: list[str]

        def wants(self, type: str) -> bool:
            self.asked = [*getattr(self, "asked", ()), type]
            return type == "run.continued"

    ends = Ends()
    observers = world.observers(ends)
    await world.commit("r", SCHEDULED, facts.RunContinued(), SCHEDULED)
    await observers.close(5)
    assert ends.places == [("r", 2)]
    assert ends.asked == ["stage.scheduled", "run.continued"]


async def test_a_slow_observer_gets_from_the_store_what_the_ring_has_lost(world: World) -> None:
    class Slow(Seen):
        async def on_event(self, event: RunEvent) -> None:
            await asyncio.sleep(0.01 if not self.events else 0)
            self.events.append(event)

    world.feed.capacity = 8
    slow = Slow()
    observers = world.observers(slow)
    await world.busy(300)
    await observers.close(5)
    assert slow.places == world.places


async def test_an_observer_that_hangs_falls_behind_itself_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()
    observers = world.observers(Hanging(), seen)
    await world.busy(100)
    await until(lambda: len(seen.events) == len(world.places))
    assert observers.lag() == {"Hanging": 100, "Seen": 0}
    await observers.close(0.05)  # it hangs for ever: that this returns says enough
    assert "observer Hanging did not see the last 100 commits" in caplog.text


async def test_a_plain_function_that_blocks_does_not_block_the_loop(world: World) -> None:
    released = threading.Event()

    class Blocking(SeenInThread):
        def on_event(self, event: RunEvent) -> None:  # type: ignore[override]
            released.wait(5)
            super().on_event(event)

    blocking, seen = Blocking(), Seen()
    observers = world.observers(blocking, seen)
    await world.busy(10)
    await until(lambda: len(seen.events) == 20)
    assert blocking.events == []
    released.set()
    await observers.close(5)
    assert blocking.places == world.places
    assert threading.main_thread() not in blocking.threads


async def test_a_plain_function_that_never_returns_is_left_behind(world: World) -> None:
    entered, released, left = threading.Event(), threading.Event(), threading.Event()

    class Stuck(Observer):
        def on_event(self, event: RunEvent) -> None:
            entered.set()
            released.wait(20)
            left.set()

    observers = world.observers(Stuck())
    await world.busy(10)
    await until(entered.is_set)
    await observers.close(0.01)
    assert not left.is_set()
    released.set()


async def test_a_function_that_returns_something_to_await_is_awaited(world: World) -> None:
    class Deferred(Seen):
        def on_event(self, event: RunEvent) -> Awaitable[None]:  # type: ignore[override]
            return super().on_event(event)

    deferred = Deferred()
    observers = world.observers(deferred)
    await world.busy(10)
    await observers.close(5)
    assert deferred.places == world.places


@pytest.mark.parametrize("kind", [Raising, RaisingInThread])
@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
async def test_an_observer_that_raises_is_reported_once_per_event_and_goes_on(
    world: World, caplog: pytest.LogCaptureFixture, kind: type[Raising], error: type[BaseException]
) -> None:
    seen = Seen()
    observers = world.observers(kind(error), seen)
    await world.commit("r1", facts.RunStarted(workflow="w"), SCHEDULED)
    await world.commit("r1", facts.RunContinued())
    await observers.close(5)
    records = [record for record in caplog.records if record.name == "holdfast.observers"]
    assert [getattr(record, "position", None) for record in records] == [1, 2, 3]
    assert records[0].getMessage() == (
        f"observer {kind.__name__} raised {error.__name__} on run.started of run r1 at position 1"
    )
    assert {key: vars(records[0])[key] for key in ("observer", "run_id", "event", "levelname")} == {
        "observer": kind.__name__,
        "run_id": "r1",
        "event": "run.started",
        "levelname": "ERROR",
    }
    assert records[0].exc_info is not None
    assert len(seen.events) == 3


async def test_closing_hands_over_what_is_committed_and_lets_observers_close(world: World) -> None:
    class Closing(Seen):
        closed = 0

        async def close(self) -> None:
            self.closed += 1

    closing = Closing()
    observers = world.observers(closing)
    await world.busy(500)
    assert observers.lag()["Closing"] > 0
    await observers.close(5)
    await observers.close(5)
    assert (closing.places, observers.lag(), closing.closed) == (world.places, {"Closing": 0}, 1)


async def test_an_observer_that_does_not_close_is_reported(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Open(Seen):
        def close(self) -> None:
            raise OSError("disk")

    class Endless(Seen):
        async def close(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(module, "CLOSING", 0.01)
    await world.observers(Open(), Endless()).close(1)
    assert "observer Open did not close" in caplog.text
    assert "observer Endless did not close" in caplog.text


async def test_without_observers_nothing_runs(world: World) -> None:
    before = asyncio.all_tasks()
    observers = world.observers()
    assert asyncio.all_tasks() == before
    assert observers.lag() == {}
    await observers.close(5)


async def test_an_event_that_cannot_be_made_is_reported_and_skipped(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()
    observers = world.observers(seen)
    await world.commit("r", facts.StepScheduled(step="no number", name="x"))
    await world.commit("r", SCHEDULED)
    await observers.close(5)
    assert seen.places == [("r", 2)]
    assert "cannot be shown" in caplog.text


# --- large values


def output(event: RunEvent) -> object:
    return event.data["output"]


async def test_large_values_are_in_the_events_that_show_them(world: World) -> None:
    seen = Seen()
    observers = world.observers(seen)
    large = facts.StepCompleted(step="a#1", attempt=1, data=msgspec.Raw(b'{"$ref":"h1"}'))
    await world.commit("r", large, blobs={"h1": b'"long"'})
    await world.commit("r", large)
    await observers.close(5)
    assert [output(event) for event in seen.events] == ["long", "long"]


async def test_large_values_are_not_fetched_for_who_does_not_read_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Envelopes(Seen):
        reads_values = False

    async def refuse(run: str) -> dict[str, bytes]:
        pytest.fail(f"the large values of {run} were fetched")

    monkeypatch.setattr(world.store, "blobs", refuse)
    seen = Envelopes()
    observers = world.observers(seen)
    await world.commit("r", facts.RunCompleted(data=msgspec.Raw(b'{"$ref":"h1"}')))
    await observers.close(5)
    assert seen.places == [("r", 1)]


# --- by name


def test_observers_are_given_by_name_instance_or_class() -> None:
    seen = Seen()
    named = resolve(["noop", None, seen, Seen, "logging", Seen])
    assert [name for name, _ in named] == ["noop", "Seen", "Seen-2", "logging", "Seen-3"]
    assert named[1][1] is seen
    assert len({id(observer) for _, observer in named}) == 5


def test_a_registered_name_may_look_like_a_numbered_one() -> None:
    register_observer("tests-2", NoopObserver)
    assert [name for name, _ in resolve(["tests-2", "tests-2"])] == ["tests-2", "tests-2-2"]


def test_the_known_observers_have_names() -> None:
    kinds = {name: type(get_observer(name)) for name in ("noop", "logging", "slog")}
    assert kinds == {"noop": NoopObserver, "logging": LoggingObserver, "slog": LoggingObserver}


def test_registering_replaces() -> None:
    one, two = Seen(), Seen()
    register_observer("tests-seen", one)
    assert get_observer("tests-seen") is one
    register_observer("tests-seen", two)
    assert get_observer("tests-seen") is two


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DefinitionError, match=r"^unknown observer: prometeus$") as refused:
        get_observer("prometeus")
    assert "logging, noop, slog" in refused.value.fix


@pytest.mark.parametrize("given", [42, object, print])
def test_what_is_no_observer_is_refused(given: Any) -> None:
    with pytest.raises(DefinitionError, match="not an observer"):
        resolve([given])


# --- several in one


async def test_several_observers_are_called_in_order_whatever_one_raises(
    caplog: pytest.LogCaptureFixture,
) -> None:
    order: list[str] = []

    class One(Observer):
        async def on_event(self, event: RunEvent) -> None:
            order.append("one")

    class Two(Observer):
        def on_event(self, event: RunEvent) -> None:
            order.append("two")

    multi = MultiObserver(
        One(), None, Raising(ValueError), RaisingInThread(OSError), Two(), None, NoopObserver()
    )
    assert len(multi.observers) == 5
    event = RunEvent("r", 1, "run.resumed", moment(1))
    await multi.on_event(event)
    await multi.on_event(event)
    await multi.close()
    assert order == ["one", "two", "one", "two"]
    assert [vars(record)["observer"] for record in caplog.records] == ["Raising", "RaisingInThread"] * 2


async def test_no_observers_in_one_is_fine() -> None:
    multi = MultiObserver(None)
    assert not multi.wants("run.started")
    await multi.on_event(RunEvent("r", 1, "run.started", moment(1)))


async def test_several_in_one_hear_what_each_wants(world: World) -> None:
    class Ends(Seen):
        def wants(self, type: str) -> bool:
            return type == "run.continued"

    ends, everything = Ends(), Seen()
    observers = world.observers(MultiObserver(ends, everything))
    await world.commit("r", SCHEDULED, facts.RunContinued())
    await observers.close(5)
    assert (ends.places, everything.places) == ([("r", 2)], [("r", 1), ("r", 2)])


# --- a stream


async def test_a_stream_drops_nothing_however_small_its_buffer(world: World) -> None:
    world.feed.capacity = 8
    stream = StreamingObserver(buffer=1)
    observers = world.observers(stream)
    await world.busy(200)
    assert len(stream._events) <= 1
    closing = asyncio.create_task(observers.close(5))
    assert [(event.run_id, event.position) async for event in stream.events()] == world.places
    await closing


async def test_a_stream_gives_events_as_they_come(world: World) -> None:
    stream = StreamingObserver()
    observers = world.observers(stream)
    events = stream.events()
    following = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    await world.commit("r", SCHEDULED)
    assert (await following).type == "stage.scheduled"
    await observers.close(5)
    assert [event async for event in events] == []


async def test_a_closed_stream_gives_what_waits_and_takes_no_more(world: World) -> None:
    stream = StreamingObserver(buffer=2)
    observers = world.observers(stream)
    await world.busy(10)
    await until(lambda: len(stream._events) == 2)
    stream.close()
    assert [(event.run_id, event.position) async for event in stream.events()] == world.places[:2]
    await observers.close(5)
    assert observers.lag() == {"StreamingObserver": 0}


async def test_iterators_of_a_stream_share_its_events(world: World) -> None:
    stream, got = StreamingObserver(buffer=1), []

    async def follow() -> None:
        async for event in stream.events():
            got.append((event.run_id, event.position))
            await asyncio.sleep(0)

    observers = world.observers(stream)
    followers = [asyncio.create_task(follow()) for _ in range(3)]
    await world.busy(50)
    await observers.close(5)
    await asyncio.gather(*followers)
    assert sorted(got) == sorted(world.places)


@pytest.mark.parametrize("buffer", [0, -1])
def test_a_stream_without_room_is_refused(buffer: int) -> None:
    with pytest.raises(DefinitionError, match="a buffer of"):
        StreamingObserver(buffer)


# --- logging


async def logged(
    world: World, caplog: pytest.LogCaptureFixture, *recorded: facts.Fact, level: int = logging.DEBUG
) -> list[logging.LogRecord]:
    with caplog.at_level(level, "holdfast.runs"):
        observers = world.observers("logging")
        for fact in recorded:
            await world.commit("r1", fact)
        await observers.close(5)
    return [record for record in caplog.records if record.name == "holdfast.runs"]


@pytest.mark.parametrize(
    ("fact", "level"),
    [
        (facts.RunStarted(workflow="w"), "INFO"),
        (facts.RunCompleted(), "INFO"),
        (facts.RunCancelled(), "INFO"),
        (facts.RunFailed(error=ERROR), "ERROR"),
        (facts.StepFailed(step="a#1", attempt=1, error=ERROR), "ERROR"),
        (facts.RunPaused(reason="x"), "WARNING"),
        (facts.StepRetried(step="a#1", attempt=2), "WARNING"),
        (SCHEDULED, "DEBUG"),
        (facts.SignalReceived(name="ok"), "DEBUG"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, facts.Fact) else value,
)
async def test_the_type_of_an_event_is_its_level(
    world: World, caplog: pytest.LogCaptureFixture, fact: facts.Fact, level: str
) -> None:
    (record,) = await logged(world, caplog, fact)
    assert record.levelname == level


async def test_a_record_has_the_key_fields_as_attributes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    retried = facts.StepRetried(step="detect#2", attempt=2, error=ERROR)
    (record,) = await logged(world, caplog, retried)
    shown = {"run_id", "event", "position", "subject", "iteration", "attempt", "error", "error_type"}
    assert {key: vars(record)[key] for key in shown} == {
        "run_id": "r1",
        "event": "stage.retried",
        "position": 1,
        "subject": "detect",
        "iteration": 2,
        "attempt": 2,
        "error": "no page",
        "error_type": "ValueError",
    }
    assert record.getMessage() == (
        "stage.retried r1 subject=detect iteration=2 attempt=2 error=no page error_type=ValueError"
    )


async def test_a_change_of_status_tells_from_to_and_reason(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    records = await logged(
        world,
        caplog,
        facts.RunStarted(workflow="w"),
        facts.RunPaused(reason="waits for the bank"),
        facts.RunResumed(),
        facts.RunFailed(error=ERROR),
        facts.RunResumed(),
        facts.RunPaused(reason="again"),
        facts.RunCancelled(reason="enough"),
    )
    assert [tuple(vars(record)[key] for key in ("from", "to", "reason")) for record in records] == [
        ("pending", "running", ""),
        ("running", "paused", "waits for the bank"),
        ("paused", "running", ""),
        ("running", "failed", "no page"),
        ("failed", "running", ""),
        ("running", "paused", "again"),
        ("paused", "cancelled", "enough"),
    ]


async def test_what_is_remembered_of_stopped_runs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_REMEMBERED", 3)
    observer = LoggingObserver()
    for number in range(10):
        await observer.on_event(RunEvent(f"r{number}", 1, "run.failed", moment(1), {"error": None}))
    assert list(observer._stopped) == ["r7", "r8", "r9"]


async def test_logging_looks_at_no_value(world: World, caplog: pytest.LogCaptureFixture) -> None:
    secretive = facts.RunCompleted(data=encode({"card": "4711"}))
    (record,) = await logged(world, caplog, secretive)
    assert "4711" not in str(vars(record))


async def test_a_logger_that_is_off_costs_no_event(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("an event was made")

    monkeypatch.setattr(observing, "event_of", refuse)
    assert await logged(world, caplog, SCHEDULED, facts.RunStarted(workflow="w"), level=logging.ERROR) == []


async def test_a_logger_that_is_off_writes_nothing_when_asked_to(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "holdfast.runs"):
        await LoggingObserver().on_event(RunEvent("r", 1, "run.completed", moment(1)))
    assert caplog.records == []


async def test_a_logger_may_be_given(caplog: pytest.LogCaptureFixture) -> None:
    await LoggingObserver(logging.getLogger("mine")).on_event(RunEvent("r", 1, "run.failed", moment(1)))
    assert [record.name for record in caplog.records] == ["mine"]
