"""What can be asked about runs: lists, stages, decisions, journal, state, events; and observers."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypedDict

import pytest

from holdfast import (
    END,
    START,
    Engine,
    InvalidStatus,
    Observer,
    PayloadRejected,
    RetryPolicy,
    Run,
    RunConflict,
    RunNotFound,
    RunStatus,
    State,
    StateGraph,
    StepContext,
    StreamingObserver,
)
from holdfast.model.event import RunEvent
from holdfast.registry import Registry
from holdfast.runtime.loading import load_run
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, Gate, nothing, parallel, sequence, until

AT_ONCE = RetryPolicy(attempts=2, backoff=0)


def ids(runs: Sequence[Run]) -> list[str]:
    return [run.id for run in runs]


@pytest.fixture
async def many(engine: Engine) -> Engine:
    """An engine with runs of two workflows: good-0 to good-4, then bad-0 to bad-2."""

    def fail(state: State) -> None:
        raise ValueError("bad")

    for n in range(5):
        tags = ["all", "even" if n % 2 == 0 else "odd"]
        await (await engine.start(sequence("good", node=nothing), {"n": n}, id=f"good-{n}", tags=tags)).wait()
    for n in range(3):
        await (await engine.start(sequence("bad", node=fail), {"n": n}, id=f"bad-{n}", tags=["all"])).wait()
    return engine


# --- lists


async def test_runs_are_listed_newest_first(many: Engine) -> None:
    page = await many.runs()
    assert ids(page.items) == [*(f"bad-{n}" for n in (2, 1, 0)), *(f"good-{n}" for n in (4, 3, 2, 1, 0))]
    assert (page.total, page.next, len(page)) == (8, None, 8)
    oldest = await many.runs(order="oldest")
    assert ids(oldest.items) == ids(page.items)[::-1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"workflow": "bad"}, ["bad-2", "bad-1", "bad-0"]),
        ({"workflow": "nobody"}, []),
        ({"status": "failed"}, ["bad-2", "bad-1", "bad-0"]),
        ({"status": ["failed", RunStatus.PAUSED]}, ["bad-2", "bad-1", "bad-0"]),
        ({"status": "running"}, []),
        ({"tags": ["even"]}, ["good-4", "good-2", "good-0"]),
        ({"tags": ["all", "odd"]}, ["good-3", "good-1"]),
        ({"tags": ["all"], "status": "failed", "workflow": "bad"}, ["bad-2", "bad-1", "bad-0"]),
        ({"tags": ["even"], "status": "failed"}, []),
        ({"until": datetime(2020, 1, 1, tzinfo=UTC)}, []),
        (
            {"since": datetime(2020, 1, 1, tzinfo=UTC), "workflow": "good", "tags": ["odd"]},
            ["good-3", "good-1"],
        ),
    ],
    ids=str,
)
async def test_filters(many: Engine, given: dict[str, Any], expected: list[str]) -> None:
    page = await many.runs(**given)
    assert ids(page.items) == expected
    assert page.total == len(expected)
    assert await many.count(**given) == len(expected)


async def test_since_includes_and_until_excludes_its_moment(many: Engine) -> None:
    moment = (await many.get("good-2")).created_at
    assert ids((await many.runs(workflow="good", since=moment)).items) == ["good-4", "good-3", "good-2"]
    assert ids((await many.runs(workflow="good", until=moment)).items) == ["good-1", "good-0"]


async def test_pages_follow_each_other_without_gap_or_repeat(many: Engine) -> None:
    page, seen = await many.runs(limit=3), []
    while True:
        assert page.total == 8
        seen += ids(page.items)
        if page.next is None:
            break
        page = await many.runs(limit=3, after=page.next)
    assert seen == ids((await many.runs()).items)


async def test_a_page_walks_on_by_itself_and_new_runs_do_not_disturb_it(many: Engine) -> None:
    seen: list[str] = []
    async for run in await many.runs(limit=2):
        seen.append(run.id)
        if len(seen) == 3:
            await many.start(sequence("good", node=nothing), id="late")
    assert seen == [*(f"bad-{n}" for n in (2, 1, 0)), *(f"good-{n}" for n in (4, 3, 2, 1, 0))]


async def test_a_page_that_is_just_full_has_no_next(many: Engine) -> None:
    assert (await many.runs(limit=8)).next is None
    assert (await many.runs(limit=7)).next is not None


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"status": "lost"}, "status"),
        ({"order": "random"}, "order"),
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"after": "nonsense"}, "after"),
        ({"after": "12:"}, "after"),
    ],
    ids=str,
)
async def test_a_wrong_question_is_refused_naming_the_field(
    engine: Engine, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(PayloadRejected) as caught:
        await engine.runs(**given)
    assert caught.value.field == field
    assert caught.value.fix


async def test_a_run_is_shown_as_plain_values(many: Engine) -> None:
    shown = (await many.get("bad-1")).to_dict()
    assert (shown["id"], shown["status"], shown["params"], shown["tags"]) == (
        "bad-1",
        "failed",
        {"n": 1},
        ["all"],
    )
    assert shown["error"]["message"] == "bad"
    assert "bad-1" in repr(await many.get("bad-1"))


# --- deleting


async def test_a_deleted_run_is_gone_with_all_that_is_its_own(many: Engine) -> None:
    await many.delete("good-1")
    with pytest.raises(RunNotFound):
        await many.get("good-1")
    assert await many.count() == 7
    assert ids((await many.runs(tags=["odd"])).items) == ["good-3"]
    assert await many.store.journal("good-1") == []
    assert await many.store.check() == []
    with pytest.raises(RunNotFound):
        await many.delete("good-1")
    with pytest.raises(RunConflict):
        await many.start(sequence("good", node=nothing), {"n": 1}, id="good-1")


async def test_a_run_that_goes_on_is_not_deleted(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("busy", node=lambda _: gate.wait()))
    with pytest.raises(InvalidStatus, match="is running") as caught:
        await run.delete()
    assert "Cancel it first" in caught.value.fix
    gate.open()
    await run.wait()
    await run.delete()


# --- stages, journal, state


async def test_stages_tell_all_about_each_node(engine: Engine) -> None:
    def flaky(state: State, step: StepContext) -> dict[str, int]:
        if step.attempt == 1:
            raise ConnectionError("once")
        return {"b": state["a"] + 1}

    run = await engine.start(sequence("audit", a=lambda _: {"a": 1}, b=(flaky, {"retry": AT_ONCE})), {"n": 0})
    await run.wait()
    first, second = await run.stages()
    assert (first.name, first.iteration, first.attempt, first.status) == ("a", 1, 1, "completed")
    assert first.output == {"a": 1}
    assert first.started_at is not None
    assert first.completed_at is not None
    assert first.duration == pytest.approx((first.completed_at - first.started_at).total_seconds())
    assert first.worker
    assert first.error is None
    assert (second.attempt, second.status, second.output, second.error) == (2, "completed", {"b": 2}, None)
    assert [(one.number, str(one.status)) for one in second.attempts] == [(1, "failed"), (2, "completed")]
    assert second.attempts[0].error is not None
    assert "ConnectionError: once" in second.attempts[0].error.traceback
    with_inputs = await run.stages(inputs=True)
    assert [stage.input for stage in with_inputs] == [{"n": 0}, {"n": 0, "a": 1}]


async def test_a_running_stage_is_shown_as_running(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("busy", node=lambda _: gate.wait()))
    await gate.until_reached()
    (stage,) = await run.stages()
    assert (stage.status, stage.completed_at, stage.duration) == ("running", None, None)
    assert stage.started_at is not None
    gate.open()
    await run.wait()


async def test_the_journal_is_whole_and_without_gaps(engine: Engine) -> None:
    run = await engine.start(sequence("facts", a=nothing, b=nothing), {"n": 1})
    await run.wait()
    journal = await run.journal()
    assert [fact["position"] for fact in journal] == list(range(1, len(journal) + 1))
    assert [fact["fact"] for fact in journal] == [
        *("RunStarted", "StepScheduled", "StepCompleted", "DecisionMade"),
        *("StepScheduled", "StepCompleted", "DecisionMade"),
        *("StepScheduled", "StepCompleted", "DecisionMade", "RunCompleted"),
    ]
    assert [fact["at"] for fact in journal] == sorted(fact["at"] for fact in journal)
    assert run.position == len(journal)


async def test_steps_cost_one_commit_each(engine: Engine) -> None:
    run = await engine.start(sequence("commits", a=nothing, b=nothing, c=nothing))
    await run.wait()
    assert len(await engine.store.journal(run.id)) == 4, "n + 1 for n nodes"


async def test_the_state_at_any_position(engine: Engine) -> None:
    class Log(TypedDict, total=False):
        log: Annotated[list[str], operator.add]

    graph = sequence("travel", schema=Log, a=lambda _: {"log": ["a"]}, b=lambda _: {"log": ["b"]})
    run = await engine.start(graph, {"log": []})
    await run.wait()
    states = [(await run.state(at=n)).get("log") for n in range(1, run.position + 1)]
    assert states == [None, None, [], [], [], ["a"], ["a"], ["a"], ["a", "b"], ["a", "b"], ["a", "b"]]
    assert await run.state() == {"log": ["a", "b"]}


async def test_a_state_needs_the_workflow_here(url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(url)
    run = await engine.start(sequence("here", node=nothing))
    await run.wait()
    other = await open_engine(url, workers=False, registry=Registry())
    with pytest.raises(LookupError, match="'here' is not registered"):
        await other.state(run.id)
    # What needs no code is told anywhere.
    assert [stage.name for stage in await other.stages(run.id)] == ["node"]
    assert len(await other.journal(run.id)) == run.position


async def test_a_long_run_is_folded_from_a_checkpoint(url: str, open_engine: OpenEngine) -> None:
    engine = await open_engine(url)
    graph = sequence("long", count=lambda s: {"n": s["n"] + 1})
    graph.edges.pop("count")
    graph.add_conditional_edge("count", lambda s: END if s["n"] >= 400 else "count", ["count", END])
    run = await engine.start(graph, {"n": 0})
    assert await run.result() == {"n": 400}
    assert await run.state() == {"n": 400}
    loaded = await load_run(engine.store, run.id, engine.registry.get("long"), engine.runtime)
    assert loaded.fold_size > 0
    rows = await engine.store.journal(run.id)
    assert loaded.facts < 600 < rows[-1].position
    assert loaded.facts in [sum(row.count for row in rows[kept:]) for kept in range(1, len(rows))]


# --- events


async def collected(engine: Engine, run: str, **given: Any) -> list[RunEvent]:
    async with asyncio.timeout(PATIENCE):
        return [event async for event in engine.events(run, **given)]


async def test_events_are_replayed_and_end_with_the_run(engine: Engine) -> None:
    run = await engine.start(sequence("events", a=lambda _: {"a": 1}), {"n": 1})
    await run.wait()
    events = await collected(engine, run.id)
    assert [event.type for event in events] == [
        "run.started",
        "decision",
        "stage.scheduled",
        "stage.completed",
        "decision",
        "run.completed",
    ]
    assert events[0].data == {"workflow": "events", "params": {"n": 1}}
    assert events[3].data["output"] == {"a": 1}
    assert (events[3].data["name"], events[3].data["attempt"]) == ("a", 1)
    assert events[-1].data == {"result": {"n": 1, "a": 1}}
    assert {event.run_id for event in events} == {run.id}
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))


async def test_events_go_on_after_any_position_without_gap_or_repeat(engine: Engine) -> None:
    run = await engine.start(sequence("events", a=nothing, b=nothing))
    await run.wait()
    events = await collected(engine, run.id)
    for position in range(run.position + 1):
        expected = [event for event in events if event.position > position]
        assert await collected(engine, run.id, after=position) == expected


async def test_events_of_some_types(engine: Engine) -> None:
    run = await engine.start(sequence("events", a=nothing, b=nothing))
    await run.wait()
    events = await collected(engine, run.id, types=["stage.completed", "run.completed"])
    assert [event.type for event in events] == ["stage.completed", "stage.completed", "run.completed"]


async def test_events_are_followed_live(engine: Engine) -> None:
    gates = [Gate(), Gate()]
    graph = sequence("live", a=lambda _: gates[0].wait(), b=lambda _: gates[1].wait())
    run = await engine.start(graph)
    seen: list[str] = []

    async def follow() -> None:
        async for event in run.events(types=["stage.completed", "run.completed"]):
            seen.append(str(event.data.get("name", event.type)))  # noqa: PERF401 - as they come

    followers = [asyncio.create_task(follow()) for _ in range(3)]
    for count, gate in enumerate(gates):
        await gate.until_reached()
        await until(lambda count=count: len(seen) == 3 * count)  # type: ignore[misc]
        gate.open()
    await asyncio.wait_for(asyncio.gather(*followers), PATIENCE)
    assert seen == ["a"] * 3 + ["b"] * 3 + ["run.completed"] * 3 or sorted(seen) == sorted(
        ["a", "b", "run.completed"] * 3
    )


async def test_events_of_failures_retries_pauses_and_cancels(engine: Engine) -> None:
    def flaky(state: State, step: StepContext) -> None:
        if step.attempt < 3:
            raise ConnectionError(f"attempt {step.attempt}")

    run = await engine.start(sequence("events", node=(flaky, {"retry": AT_ONCE})))
    await run.wait()
    await run.resume()
    await run.wait()
    events = {event.type: event.data for event in await collected(engine, run.id)}
    assert events["stage.retried"]["attempt"] == 2
    assert events["stage.retried"]["error"]["message"] == "attempt 1"
    assert events["stage.failed"]["attempt"] == 2
    assert events["run.failed"]["error"]["message"] == "attempt 2"
    assert events["run.failed"]["stage"] == "node"
    assert events["run.resumed"] == {"stages": [{"name": "node", "iteration": 1, "attempt": 3}]}
    assert events["stage.completed"]["attempt"] == 3


async def test_events_of_a_pause_and_a_cancel(engine: Engine) -> None:
    begun = asyncio.Event()

    async def node(state: State) -> None:
        begun.set()
        await asyncio.sleep(PATIENCE)

    run = await engine.start(sequence("stopped", node=node))
    await begun.wait()
    await engine.pause(run.id, reason="lunch")
    await engine.cancel(run.id, reason="enough")
    await run.wait()
    events = {event.type: event.data for event in await collected(engine, run.id)}
    assert events["run.paused"] == {"reason": "lunch", "error": None}
    assert events["run.cancelled"] == {"reason": "enough"}
    assert events["stage.cancelled"]["name"] == "node"


async def test_events_of_a_run_that_is_resumed_go_on_for_who_reads_again(engine: Engine) -> None:
    def flaky(state: State, step: StepContext) -> None:
        if step.attempt == 1:
            raise ConnectionError

    run = await engine.start(sequence("events", node=flaky))
    first = await collected(engine, run.id)
    assert first[-1].type == "run.failed"
    await run.resume()
    second = await collected(engine, run.id, after=first[-1].position)
    assert [event.type for event in second] == ["run.resumed", "stage.completed", "decision", "run.completed"]


async def test_a_follower_that_goes_leaves_nothing_behind(engine: Engine) -> None:
    gate = Gate()
    run = await engine.start(sequence("live", node=lambda _: gate.wait()))
    await gate.until_reached()
    following = asyncio.create_task(collected(engine, run.id))
    await asyncio.sleep(0)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    gate.open()
    await run.wait()


# --- observers


class Listener(Observer):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[RunEvent] = []

    async def on_event(self, event: RunEvent) -> None:
        self.heard.append(event)


class Raising(Observer):
    async def on_event(self, event: RunEvent) -> None:
        raise RuntimeError("not me")


async def test_observers_hear_every_event_in_order_whatever_others_do(
    any_url: str, open_engine: OpenEngine
) -> None:
    listener = Listener()
    engine = await open_engine(any_url, observers=[Raising(), listener])
    graph = parallel("heard", a=nothing, b=nothing)
    runs = [await engine.start(graph, {"n": n}) for n in range(10)]
    for run in runs:
        await run.wait()
    expected = {run.id: await collected(engine, run.id) for run in runs}
    await engine.close()
    for run in runs:
        assert [event for event in listener.heard if event.run_id == run.id] == expected[run.id]


async def test_an_observer_that_hangs_slows_no_run(any_url: str, open_engine: OpenEngine) -> None:
    gate = Gate()

    class Slow(Observer):
        async def on_event(self, event: RunEvent) -> None:
            await gate.passed()

    engine = await open_engine(any_url, observers=[Slow()])
    for n in range(20):
        await engine.execute(sequence("quick", node=nothing), {"n": n})
    assert engine.lag()["Slow"] > 20
    gate.open()
    await until(lambda: engine.lag()["Slow"] == 0)


async def test_a_stream_of_all_runs(any_url: str, open_engine: OpenEngine) -> None:
    stream = StreamingObserver(buffer=2)
    engine = await open_engine(any_url, observers=[stream])

    async def listen() -> list[str]:
        return [event.type async for event in stream.events()]

    listening = asyncio.create_task(listen())
    run = await engine.start(sequence("streamed", a=nothing, b=nothing))
    await run.wait()
    await engine.close()
    heard = await asyncio.wait_for(listening, PATIENCE)
    assert heard[0] == "run.started"
    assert heard[-1] == "run.completed"
    assert heard.count("stage.completed") == 2


async def test_an_unknown_observer_is_refused_by_name(url: str) -> None:
    with pytest.raises(Exception, match="unknown observer: papyrus"):
        await Engine(url, observers=["papyrus"]).open()


# --- progress


async def test_progress_is_kept_at_most_once_a_second_and_shown(engine: Engine) -> None:
    gate = Gate()

    def node(state: State, step: StepContext) -> None:
        for n in range(1000):
            step.progress(n / 10, f"page {n}")
        step.progress(99.5, "nearly")
        gate.wait()

    run = await engine.start(sequence("progress", node=node))
    await until(lambda: _told(engine, run.id, 99.5))
    await run.refresh()
    assert run.progress is not None
    assert (run.progress.percent, run.progress.message, run.progress.step) == (99.5, "nearly", "node#1")
    gate.open()
    await run.wait()
    told = [event for event in await collected(engine, run.id) if event.type == "stage.progress"]
    assert 1 <= len(told) <= 3
    assert told[-1].data["message"] == "nearly"


async def _told(engine: Engine, run: str, percent: float) -> bool:
    progress = (await engine.get(run)).progress
    return progress is not None and progress.percent == percent


async def test_progress_beyond_a_hundred_is_refused(engine: Engine) -> None:
    run = await engine.start(sequence("progress", node=lambda _, step: step.progress(101)))
    await run.wait()
    assert run.error is not None
    assert "101" in run.error.message


async def test_a_graph_with_a_router_from_the_start_tells_its_first_decision(engine: Engine) -> None:
    graph = StateGraph("first")
    graph.add_node("a", nothing).add_node("b", nothing).add_edge("a", END).add_edge("b", END)
    graph.add_edge(START, "a", when=lambda s: s["n"] == 1, name="one").add_edge(START, "b")
    run = await engine.start(graph, {"n": 2})
    await run.wait()
    told = [(d.from_node, d.to_node, d.result) for d in await run.decisions()]
    assert told[:2] == [("START", "a", False), ("START", "b", True)]
    assert (await run.decisions())[0].at <= datetime.now(UTC) + timedelta(seconds=1)
