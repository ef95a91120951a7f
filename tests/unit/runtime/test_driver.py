"""The driver where it meets the store: commits that are refused, lost, or slow, and runs that cannot be driven."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from holdfast import END, RetryPolicy, State, StateGraph, StepContext
from holdfast.core.effects import Holding
from holdfast.core.work import Blobs
from holdfast.errors import StoreUnavailable
from holdfast.model import facts
from holdfast.model.commit import Commit, Committed, Conflict
from holdfast.model.run import RunStatus
from holdfast.model.secrets import Secrets
from holdfast.patterns.graph.factory import from_graph
from holdfast.patterns.graph.program import GraphProgram
from holdfast.runtime.caching import Caching
from holdfast.runtime.children import Children
from holdfast.runtime.clock import SystemClock
from holdfast.runtime.committer import Committer
from holdfast.runtime.driver import Driver
from holdfast.runtime.executor import Executor
from holdfast.runtime.feed import Feed
from holdfast.runtime.held import Held
from holdfast.runtime.streaming import Streams
from holdfast.runtime.threads import Threads
from holdfast.services import Runtime
from holdfast.store.rows import Delivery
from holdfast.store.sqlite.store import SqliteStore
from tests.graphs import PATIENCE, nothing, sequence, until
from tests.unit.errand import retried
from tests.unit.given import NOON

Answers = Sequence[Committed | Conflict]


class FaultyStore(SqliteStore):
    """A store in memory whose commits go through what a test puts in between."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.fault: Callable[[Commit, Callable[[], Any]], Any] | None = None

    async def commit(self, commits: Sequence[Commit]) -> Answers:  # type: ignore[override]
        async def write() -> Answers:
            return await SqliteStore.commit(self, commits)

        if self.fault is None:
            return await write()
        answers: Answers = await self.fault(commits[0], write)
        return answers


class QuickClock(SystemClock):
    """Draws always the least, so that waits are short."""

    def draw(self) -> float:
        return 0.0


class Listening(Feed):
    """A feed that keeps the kinds of all facts that were shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []

    def publish(self, commit: Commit, cause: BaseException | None = None) -> None:
        self.shown += [type(fact).__name__ for fact in commit.facts]
        super().publish(commit, cause)


class Bench:
    def __init__(self, store: FaultyStore) -> None:
        self.store = store
        self.feed = Listening()
        self.executor = Executor(QuickClock(), 10, 10, Streams(store, self.feed), Threads("bench"))
        self.committer = Committer(store, self.feed, QuickClock(), "me")
        children = Children(QuickClock(), store, self.committer, dict)
        self.driver = Driver(
            self.committer, self.executor, children, Caching(store), QuickClock(), Runtime(), 1.0
        )

    async def start(self, graph: StateGraph, program: GraphProgram | None = None) -> Held:
        """Begin a run and return it, committed and not yet driven."""
        workflow = from_graph(graph)
        started = facts.RunStarted(workflow=workflow.name, at=QuickClock().now())
        blobs = Blobs()
        opened = program or workflow.open(Runtime(), {}, blobs)
        holding = Holding("default", workflow.name, 0, "me")
        run = Held("run", opened, opened.start(), blobs=blobs, secrets=Secrets(), holding=holding)
        commit = await self.driver.open(run, started, held=True)
        await self.store.commit((commit,))
        self.driver.opened(run, commit)
        return run

    async def drive(self, run: Held) -> None:
        await asyncio.wait_for(self.driver.drive(run), PATIENCE)

    async def journal(self) -> list[facts.AnyFact]:
        return [fact for row in await self.store.journal("run") for fact in facts.Journal.decode(row.facts)]

    async def status(self) -> RunStatus:
        row = await self.store.run("run")
        assert row is not None
        return row.status

    async def jobs(self) -> dict[str, int]:
        """The runs that this worker holds, with their wakes."""
        return dict.fromkeys(await self.store.held("me"), 0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    store = FaultyStore()
    await store.open()
    made = Bench(store)
    yield made
    made.executor.close()
    await store.close()


def names(journal: Sequence[facts.Fact]) -> list[str]:
    return [type(fact).__name__ for fact in journal]


async def test_a_run_is_driven_to_its_end(bench: Bench) -> None:
    run = await bench.start(sequence("run", a=lambda _: {"n": 1}, b=nothing))
    await bench.drive(run)
    assert await bench.status() is RunStatus.COMPLETED
    assert run.committed
    assert names(await bench.journal()) == bench.feed.shown
    assert await bench.jobs() == {}


# --- commits that go wrong


async def test_who_lost_a_run_stops_its_steps_and_says_nothing_more(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    stopped = asyncio.Event()
    begun = asyncio.Event()

    async def slow(state: State) -> None:
        begun.set()
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            stopped.set()

    async def quick(state: State) -> None:
        await begun.wait()

    graph = StateGraph("run").add_node("slow", slow).add_node("quick", quick)
    graph.add_edge("START", "slow").add_edge("START", "quick").add_edge("slow", END).add_edge("quick", END)
    run = await bench.start(graph)
    driving = asyncio.create_task(bench.drive(run))
    await begun.wait()
    await bench.store.reclaim(["me"], "died")
    await driving
    await asyncio.wait_for(stopped.wait(), PATIENCE)
    assert run.live == {}
    assert not run.committed
    assert "taken over" in caplog.text
    assert "StepCompleted" not in bench.feed.shown[3:]
    assert names(await bench.journal()) == bench.feed.shown


async def test_a_store_that_is_away_is_waited_for(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    run = await bench.start(sequence("run", a=lambda _: {"n": 1}))
    away = [1, 1]

    async def fault(commit: Commit, write: Callable[[], Any]) -> Any:
        if away:
            away.pop()
            raise StoreUnavailable("the disk is full", fix="Make room.")
        return await write()

    bench.store.fault = fault
    await bench.drive(run)
    assert await bench.status() is RunStatus.COMPLETED
    # Told once, with what to do, however often it is tried.
    assert caplog.text.count("waits for the store: the disk is full. Make room.") == 1
    assert names(await bench.journal()) == bench.feed.shown


async def test_a_commit_whose_answer_was_lost_is_known_again(bench: Bench) -> None:
    calls: list[str] = []
    run = await bench.start(sequence("run", a=lambda _: calls.append("a"), b=lambda _: calls.append("b")))
    lost: list[str] = []

    async def fault(commit: Commit, write: Callable[[], Any]) -> Any:
        if commit.id not in lost:
            lost.append(commit.id)
            await write()
            raise StoreUnavailable("the connection is gone")
        return await write()

    bench.store.fault = fault
    await bench.drive(run)
    assert len(lost) == 2, "each commit once"
    assert await bench.status() is RunStatus.COMPLETED
    assert calls == ["a", "b"]
    assert names(await bench.journal()) == bench.feed.shown


async def test_a_release_whose_answer_was_lost_is_a_release(bench: Bench) -> None:
    def fail(state: State) -> None:
        raise ConnectionError

    policy = RetryPolicy(attempts=2, backoff=60, jitter="none")
    run = await bench.start(sequence("run", a=(fail, {"retry": policy})))
    tries: list[str] = []

    async def fault(commit: Commit, write: Callable[[], Any]) -> Any:
        tries.append(commit.id)
        answer = await write()
        if len(tries) == 1:
            raise StoreUnavailable("the connection is gone")
        return answer

    bench.store.fault = fault
    await bench.drive(run)
    assert len(set(tries)) == 1
    assert await bench.status() is RunStatus.WAITING
    assert await bench.jobs() == {}


async def test_a_release_that_was_refused_leaves_the_run_running_until_it_is_not(bench: Bench) -> None:
    def fail(state: State) -> None:
        raise ConnectionError

    policy = RetryPolicy(attempts=2, backoff=60, jitter="none")
    run = await bench.start(sequence("run", a=(fail, {"retry": policy})))
    seen: list[tuple[RunStatus, RunStatus]] = []

    async def fault(commit: Commit, write: Callable[[], Any]) -> Any:
        if not seen:
            await bench.store._write(lambda database: database.execute("UPDATE jobs SET wakes = wakes + 1"))
        answer = await write()
        seen.append((commit.status, await bench.status()))
        return answer

    bench.store.fault = fault
    await bench.drive(run)
    assert seen == [(RunStatus.WAITING, RunStatus.RUNNING), (RunStatus.WAITING, RunStatus.WAITING)]
    assert await bench.jobs() == {}


# --- runs that cannot be driven


async def test_an_internal_error_parks_the_run(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(GraphProgram):
        def decide(self, progress: Any) -> Any:
            if "a#1" in progress.results:
                raise RuntimeError("a bug")
            return super().decide(progress)

    graph = sequence("run", a=nothing)
    run = await bench.start(graph, Broken(graph, dict, Blobs()))
    await bench.drive(run)
    row = await bench.store.run("run")
    assert row is not None
    assert row.status is RunStatus.PAUSED
    assert row.error is not None
    assert "internal error: RuntimeError('a bug" in row.error.message
    assert row.waiting_on[0].startswith("resume: internal error")
    assert "an internal error" in caplog.text
    assert await bench.jobs() == {}


async def test_slow_decisions_are_told_of(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    graph = sequence("run", a=nothing, b=nothing)
    graph.edges.pop("a")

    def ponder(state: State) -> str:
        time.sleep(0.06)
        return "b"

    graph.add_conditional_edge("a", ponder, ["b"])
    with caplog.at_level(logging.WARNING):
        await bench.drive(await bench.start(graph))
    assert "deciding took over 50 ms" in caplog.text


async def test_a_commit_in_doubt_is_not_taken_for_one_of_equal_facts(bench: Bench) -> None:
    """Its holder lost the run, had it again, and recorded the same in the same microsecond."""
    run = await bench.start(sequence("run", a=nothing))
    pause = facts.RunPaused(at=1, key="pause:1")
    doubted, written = (bench.committer.build(run, [pause]) for _ in range(2))
    bench.committer.doubt(doubted)
    bench.committer.done(run, written, await bench.committer.write(written))
    await bench.committer.settle("run")
    assert bench.feed.shown.count("RunPaused") == 1


async def test_a_run_that_kills_is_buried_with_its_lost_attempts(bench: Bench) -> None:
    run = await bench.start(sequence("run", a=nothing))
    row = await bench.store.run("run")
    assert row is not None
    await bench.committer.bury(row, 3)
    *_, pause, lost = await bench.journal()
    assert isinstance(lost, facts.StepRetried)
    assert (lost.step, lost.attempt, lost.reason) == ("a#1", 2, "worker lost")
    assert isinstance(pause, facts.RunPaused)
    assert pause.error is not None
    assert pause.error.code == "poison"
    assert await bench.status() is RunStatus.PAUSED
    assert run.position == row.position


async def test_a_failed_run_that_kills_when_it_is_resumed_is_buried_as_one_that_goes_on(bench: Bench) -> None:
    def fail(_: State) -> None:
        raise ValueError("no")

    await bench.drive(await bench.start(sequence("run", a=fail)))
    resume = facts.Journal.encode_one(facts.RunResumed(key="resume:1"))
    failed = frozenset({RunStatus.FAILED})
    delivery = Delivery(run="run", key="resume:1", fact=resume, allowed=failed, wakes=failed, reopens=True)
    await bench.store.deliver([delivery])
    (claimed,) = await bench.store.claim("me", [("default", "run")], 1)
    await bench.committer.bury(claimed.run, 3)
    assert [type(fact) for fact in (await bench.journal())[-4:]] == [
        facts.RunFailed,
        facts.RunResumed,
        facts.RunPaused,
        facts.StepRetried,
    ]
    assert await bench.status() is RunStatus.PAUSED


async def test_who_buries_a_run_that_is_another_s_changes_nothing(bench: Bench) -> None:
    await bench.start(sequence("run", a=nothing))
    row = await bench.store.run("run")
    assert row is not None
    await bench.store.reclaim(["me"], "died")
    before = await bench.journal()
    await bench.committer.bury(row, 3)
    assert await bench.journal() == before


# --- taking over


@pytest.mark.parametrize("lost", [True, False])
async def test_a_new_holder_begins_what_is_due_and_waits_for_the_rest(bench: Bench, lost: bool) -> None:
    def fail(state: State, step: StepContext) -> None:
        raise ConnectionError

    policy = RetryPolicy(attempts=2, backoff=60, jitter="none")
    graph = StateGraph("run").add_node("a", nothing).add_node("b", fail, retry=policy)
    graph.add_edge("START", "a").add_edge("START", "b").add_edge("a", END).add_edge("b", END)
    run = await bench.start(graph)
    run.program.evolve(run.progress, retried("b", 2, at=NOON, due=2 * NOON))
    arrivals = bench.driver.takeover(run, lost=lost)
    due = {fact.step: fact.due for fact in arrivals if isinstance(fact, facts.StepRetried)}
    assert due == ({"a#1": 0, "b#1": 2 * NOON} if lost else {})
    # What is retried waits when that is recorded.
    assert [step for _, step in sorted(run.backoff)] == ([] if lost else ["a#1", "b#1"])


async def test_a_step_that_today_s_code_does_not_know_parks_the_run(bench: Bench) -> None:
    run = await bench.start(sequence("run", a=nothing, b=nothing))
    run.program.graph.nodes.pop("b")  # type: ignore[attr-defined]
    await bench.drive(run)
    row = await bench.store.run("run")
    assert row is not None
    assert row.status is RunStatus.PAUSED
    assert row.error is not None
    assert row.error.code == "nondeterminism"
    await until(lambda: run.live == {})
