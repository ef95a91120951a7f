"""What is promised about arrivals, jobs and workers."""

# ruff: noqa: S101, PLR2004 - tests: asserts are their way to speak, numbers what they expect
from __future__ import annotations

import asyncio
import threading

import msgspec

from holdfast.model import facts
from holdfast.model.commit import Conflict, Deliver, Dequeue, Enqueue, Withdraw
from holdfast.model.ids import SECOND
from holdfast.store.port import Store
from holdfast.store.rows import Delivered
from holdfast.testing.store_cases import (
    ANY,
    COMPLETED,
    FAILED,
    LANE,
    NOON,
    PAUSED,
    PENDING,
    RUNNING,
    WAITING,
    SetClock,
    effect,
    going_on,
    held,
    keys,
    opened,
    opening,
    run_of,
    send,
    worker,
)


class ArrivalContract:
    """Inboxes: from commits, from anyone, and in time."""

    async def test_a_delivery_is_kept_once(self, store: Store) -> None:
        """By its key, as long as nobody took it; without a key it never counts as a second one."""
        await opened(store, "r")
        assert await send(store, "r", "k") == Delivered("delivered", PENDING)
        assert await send(store, "r", "k") == Delivered("repeated", PENDING)
        assert (await send(store, "r")).outcome == (await send(store, "r")).outcome == "delivered"
        rows = await store.inbox("r")
        assert [row.key for row in rows] == ["k", "", ""]
        assert rows[0].fact == facts.Journal.encode_one(facts.SignalReceived(name="go", key="k"))
        assert (rows[0].run, len({row.id for row in rows})) == ("r", 3)

    async def test_a_delivery_may_be_refused(self, store: Store) -> None:
        """Unknown runs and statuses that do not allow it; nothing is kept."""
        await opened(store, "r")
        assert await send(store, "nobody", "k") == Delivered("unknown")
        assert await send(store, "r", "k", allowed=frozenset({RUNNING})) == Delivered("refused", PENDING)
        assert await keys(store) == []

    async def test_a_delivery_tells_who_holds_the_run(self, store: Store) -> None:
        """So that a hint can be sent there."""
        await held(store, "r", worker="w")
        assert await send(store, "r", "k") == Delivered("delivered", PENDING, "w")

    async def test_a_delivery_wakes_a_waiting_run(self, store: Store) -> None:
        """Its job is made; a second delivery raises the job's wakes."""
        await held(store, "r")
        assert (await effect(store, Dequeue(0), status=WAITING)).released
        assert await store.claim("w", [LANE], 1) == []
        await send(store, "r", "a")
        await send(store, "r", "b")
        (claimed,) = await store.claim("w", [LANE], 1)
        assert (claimed.run.id, claimed.run.status, claimed.wakes) == ("r", WAITING, 2)

    async def test_a_delivery_wakes_only_in_the_given_statuses(self, store: Store) -> None:
        """It is kept all the same."""
        await held(store, "r")
        await effect(store, Dequeue(), status=PAUSED)
        await send(store, "r", "k")
        assert await store.claim("w", [LANE], 1) == []
        assert await keys(store) == ["k"]
        await send(store, "r", "resume", wakes=ANY)
        assert len(await store.claim("w", [LANE], 1)) == 1

    async def test_a_delivery_reopens_a_run_that_nobody_holds(self, store: Store) -> None:
        """It becomes pending with a ready job; a held one only gets the arrival."""
        error = facts.ErrorInfo(code="x", message="y")
        for run, status in (("failed", FAILED), ("paused", PAUSED)):
            await held(store, run)
            await effect(store, Dequeue(), run=run, status=status, error=error, waiting_on=("resume",))
            assert (await send(store, run, "again", reopens=True, wakes=ANY)).status is status
            row = await run_of(store, run)
            assert (row.status, row.error, row.completed_at, row.waiting_on) == (PENDING, None, 0, ())
        assert {each.run.id for each in await store.claim("w", [LANE], 9)} == {"failed", "paused"}
        await effect(store, run="paused", status=PAUSED)
        await send(store, "paused", "once more", reopens=True, wakes=ANY)
        assert (await run_of(store, "paused")).status is PAUSED
        await held(store, "waits")
        await effect(store, Dequeue(), run="waits", status=WAITING)
        await send(store, "waits", "again", reopens=True, wakes=ANY)
        assert (await run_of(store, "waits")).status is WAITING  # it has neither ended nor is it paused

    async def test_taken_arrivals_are_gone(self, store: Store) -> None:
        """Exactly those that the commit names; their ids do not come back."""
        await held(store, "r")
        for key in "abc":
            await send(store, "r", key)
        rows = await store.inbox("r")
        await effect(store, consumed=(rows[0].id, rows[2].id))
        assert await keys(store) == ["b"]
        await send(store, "r", "c")
        assert (await store.inbox("r"))[1].id not in {row.id for row in rows}

    async def test_a_commit_delivers_to_its_run(self, store: Store) -> None:
        """At once with a wake, later without; a second row with the same key is ignored."""
        epoch = await held(store, "r")
        await effect(store, Deliver("now"), Deliver("later", due=NOON + SECOND, fact=b"{}"), Deliver("now"))
        assert await keys(store) == ["now"]
        assert await store.woken("holder") == {"r": 1}
        assert await store.next_due() == NOON + SECOND
        assert epoch == 2

    async def test_a_commit_delivers_to_another_run(self, store: Store) -> None:
        """Which is woken, unless it has ended; a completed or unknown one takes nothing."""
        await held(store, "child", worker="w")
        await held(store, "parent")
        await effect(store, Dequeue(), run="parent", status=WAITING)
        await held(store, "failed")
        await effect(store, Dequeue(), run="failed", status=FAILED)
        await store.commit([opening("done", status=COMPLETED)])
        await store.claim("other", [LANE], 9)
        targets = ("parent", "failed", "done", "nobody")
        await effect(store, *(Deliver("end", fact=b"{}", run=run) for run in targets), run="child")
        assert [await keys(store, run) for run in targets] == [["end"], ["end"], [], []]
        assert [each.run.id for each in await store.claim("w", [LANE], 9)] == ["parent"]

    async def test_arrivals_are_withdrawn(self, store: Store) -> None:
        """By key, by the beginning of the key, or all."""
        await held(store, "r")
        names = ("due:a", "due:b", "due:c", "Due:d", "x", "")
        await effect(store, *(Deliver(name) for name in names))
        await effect(store, Withdraw("due:b"))
        assert await keys(store) == ["due:a", "due:c", "Due:d", "x", ""]
        await effect(store, Withdraw("due:*"))
        assert await keys(store) == ["Due:d", "x", ""]
        await effect(store, Withdraw("*"))
        assert await keys(store) == []
        await effect(store, Deliver("y"))
        await effect(store, Withdraw())
        assert await keys(store) == []

    async def test_due_arrivals_are_moved(self, store: Store, clock: SetClock) -> None:
        """The job of a waiting run becomes ready, that of a held one is woken, an ended run stays ended."""
        for run in ("waits", "held", "ended"):
            await held(store, run)
            await effect(store, Deliver("t", due=NOON + 10 * SECOND), run=run)
        await effect(store, Dequeue(), run="waits", status=WAITING)
        await effect(store, Dequeue(), run="ended", status=FAILED)
        assert (await store.next_due(), await store.move_due()) == (NOON + 10 * SECOND, 0)
        assert await keys(store, "waits") == []
        clock.forward(10)
        assert await store.move_due() == 3
        assert (await store.next_due(), await store.move_due()) == (None, 0)
        assert await keys(store, "waits") == ["t"]
        assert [each.run.id for each in await store.claim("w", [LANE], 9)] == ["waits"]
        assert await store.woken("holder") == {"held": 1}

    async def test_due_arrivals_are_moved_by_the_batch(self, store: Store, clock: SetClock) -> None:
        """The earliest first."""
        await held(store, "r")
        await effect(store, *(Deliver(f"t{due}", due=NOON + due) for due in (3, 1, 2)))
        clock.forward(1)
        assert await store.move_due(2) == 2
        assert await store.next_due() == NOON + 3
        assert await store.move_due(2) == 1

    async def test_arrivals_are_read_in_the_order_they_came(self, store: Store, clock: SetClock) -> None:
        """A timer comes when it is due, not when it was set; one that is due may be read before it is moved."""
        await held(store, "r")
        await effect(store, Deliver("timer", due=NOON + 5 * SECOND))
        clock.forward(2)
        await send(store, "r", "before")
        clock.forward(5)
        await send(store, "r", "after")
        assert await keys(store) == ["before", "timer", "after"]
        await store.move_due()
        assert await keys(store) == ["before", "timer", "after"]


class JobContract:
    """Jobs: who drives which run, and that nothing is lost when a holder is."""

    async def test_claims_go_by_priority_then_age(self, store: Store) -> None:
        """Over all lanes asked for, and no others."""
        await opened(store, "late", "later")
        await opened(store, "first", priority=5)
        await opened(store, "tiny", priority=-5)
        await opened(store, "elsewhere", queue="gpu", priority=1)
        await opened(store, "foreign", workflow="other", priority=9)
        lanes = [LANE, ("gpu", "order"), ("none", "none"), LANE]
        assert [each.run.id for each in await store.claim("w", lanes, 3)] == ["first", "elsewhere", "late"]
        assert [each.run.id for each in await store.claim("w", lanes, 3)] == ["later", "tiny"]
        assert await store.claim("w", lanes, 3) == []
        assert await store.claim("w", [], 3) == []

    async def test_what_is_ready_is_told_and_not_taken(self, store: Store) -> None:
        """The runs that a claim would take, in its order; suspects apart."""
        await opened(store, "late", "r")
        await store.enlist(worker("holder"))
        for _ in range(2):
            await store.enlist(worker("dead"))
            assert await store.claim_run("dead", "r") is not None
            await store.reclaim(["dead"], "died")
        await opened(store, "first", priority=5)
        await opened(store, "elsewhere", queue="gpu")
        for _ in range(2):
            assert await store.ready([LANE], 9) == ["first", "late"]
            assert await store.ready([LANE], 9, suspects=True) == ["r"]
        assert await store.ready([LANE], 1) == ["first"]
        assert await store.ready([("none", "none")], 9) == []
        assert len(await store.claim("holder", [LANE], 9)) == 2
        assert await store.ready([LANE], 9) == []

    async def test_a_claim_fences_the_last_holder(self, store: Store) -> None:
        """The claimed row carries the raised epoch; the old one conflicts from then on."""
        assert await held(store, "r", worker="first") == 2
        await store.release("first", ["r"])
        (claimed,) = await store.claim("second", [LANE], 1)
        assert (claimed.run.epoch, claimed.deaths, claimed.run.status) == (3, 0, PENDING)
        assert await store.commit([going_on("r", 1, epoch=2)]) == [Conflict("r")]

    async def test_a_claim_brings_all_there_is_of_a_run_that_only_began(
        self, store: Store, clock: SetClock
    ) -> None:
        """Its facts, unless something has come for it, due now or moved; of one that went on, nothing."""
        await opened(store, "began")
        await opened(store, "sent-to")
        await send(store, "sent-to", "k")
        for run in ("went-on", "due", "later"):
            await held(store, run)
        await store.commit([going_on("went-on", 1, epoch=2)])
        await effect(store, Deliver("t", due=clock.at + SECOND), run="due")
        await effect(store, Deliver("t", due=clock.at + 3 * SECOND), run="later")
        await store.release("holder", ["went-on", "due", "later"])
        clock.forward(2)
        brought = {each.run.id: each.began for each in await store.claim("w", [LANE], 9)}
        assert {run for run, began in brought.items() if not began} == {"sent-to", "went-on", "due"}
        for run in ("began", "later"):
            stored = await store.load(run)
            assert stored is not None
            assert [row.facts for row in stored.rows] == [brought[run]]

    async def test_a_claim_skips_unknown_formats(self, store: Store) -> None:
        """A run whose journal holds newer facts waits for newer code."""
        await opened(store, "r", format=facts.FORMAT + 1)
        assert await store.claim("w", [LANE], 9) == []
        assert await store.claim_run("w", "r") is None

    async def test_a_job_is_claimed_once(self, store: Store) -> None:
        """By claims at the same time, too."""
        runs = [f"r{number}" for number in range(20)]
        await opened(store, *runs)
        claims = await asyncio.gather(*(store.claim(f"w{number}", [LANE], 3) for number in range(10)))
        assert sorted(each.run.id for claimed in claims for each in claimed) == sorted(runs)

    async def test_one_run_is_claimed(self, store: Store) -> None:
        """Its job is made if there is none; not when somebody holds it, it ended or is unknown."""
        assert await held(store, "r", worker="w") == 2
        assert await store.claim_run("w", "r") is None
        await effect(store, Dequeue(), status=WAITING)
        claimed = await store.claim_run("w", "r")
        assert claimed is not None
        assert (claimed.run.epoch, claimed.run.status) == (3, WAITING)
        await effect(store, Dequeue(), status=FAILED)
        assert await store.claim_run("w", "r") is None
        assert await store.claim_run("w", "nobody") is None

    async def test_a_release_fails_for_a_woken_run(self, store: Store) -> None:
        """The job stays held, the run is running, and the answer tells the wakes."""
        await held(store, "r")
        await send(store, "r", "k")
        answer = await effect(store, Dequeue(0), status=WAITING, waiting_on=("signal",))
        assert (answer.released, answer.wakes) == (False, 1)
        row = await run_of(store, "r")
        assert (row.status, row.waiting_on) == (RUNNING, ())
        assert await store.woken("holder") == {"r": 1}
        answer = await effect(store, Dequeue(1), status=WAITING, waiting_on=("signal",))
        assert answer.released
        row = await run_of(store, "r")
        assert (row.status, row.waiting_on) == (WAITING, ("signal",))
        assert await store.claim("w", [LANE], 1) == []

    async def test_a_commit_releases_its_job_to_others(self, store: Store) -> None:
        """A new job after the release is ready, for a lane of its own."""
        await held(store, "r")
        assert (await effect(store, Dequeue(0), Enqueue("gpu", "order", 3), status=PENDING)).released
        (claimed,) = await store.claim("w", [("gpu", "order")], 1)
        assert claimed.run.id == "r"

    async def test_a_woken_run_is_seen_by_its_holder_alone(self, store: Store, clock: SetClock) -> None:
        """Only with arrivals that are due."""
        await held(store, "r", worker="a")
        await held(store, "s", worker="a")
        await effect(store, Deliver("t", due=NOON + SECOND), run="s")
        assert await store.woken("a") == {}
        await send(store, "r", "k")
        assert await store.woken("a") == {"r": 1}
        assert await store.woken("b") == {}
        clock.forward(1)
        assert set(await store.woken("a")) == {"r", "s"}

    async def test_released_jobs_are_ready_again(self, store: Store) -> None:
        """Without a death, and only by who holds them."""
        await held(store, "r", worker="a")
        await store.release("b", ["r"])
        assert await store.claim("c", [LANE], 1) == []
        await store.release("a", ["r", "unknown"])
        (claimed,) = await store.claim("c", [LANE], 1)
        assert claimed.deaths == 0

    async def test_a_dead_workers_jobs_are_freed_with_a_death(self, store: Store) -> None:
        """After two of them the run is a suspect, claimed only as such; a commit that enqueues it clears it."""
        await opened(store, "r", "other")
        for deaths in (0, 1):
            await store.enlist(worker(f"w{deaths}"))
            (claimed,) = await store.claim(f"w{deaths}", [LANE], 1)
            assert (claimed.run.id, claimed.deaths) == ("r", deaths)
            assert await store.reclaim([f"w{deaths}"], "died") == ["r"]
        assert [each.run.id for each in await store.claim("w", [LANE], 9)] == ["other"]
        (claimed,) = await store.claim("w", [LANE], 9, suspects=True)
        assert (claimed.run.id, claimed.deaths) == ("r", 2)
        await effect(store, Enqueue(*LANE, 0, "w"))
        await store.release("w", ["r"])
        (claimed,) = await store.claim("w", [LANE], 9)
        assert claimed.deaths == 0

    async def test_a_reclaimed_holder_cannot_commit(self, store: Store) -> None:
        """Not even before anyone else claims the run."""
        await store.enlist(worker("holder"))
        epoch = await held(store, "r")
        assert await store.reclaim(["holder"], "died") == ["r"]
        assert await store.commit([going_on("r", 1, epoch=epoch)]) == [Conflict("r")]

    async def test_only_expired_leases_are_reclaimed_as_expired(self, store: Store, clock: SetClock) -> None:
        """By the store's clock; the worker is marked as stopped and cannot renew."""
        await store.enlist(worker("holder", leased_until=NOON + SECOND))
        await held(store, "r")
        assert await store.reclaim(["holder"], "expired") == []
        assert await asyncio.to_thread(store.renew, "holder", NOON + 2 * SECOND)
        clock.forward(1.5)
        assert await store.reclaim(["holder"], "expired") == []
        clock.forward(1)
        assert await store.reclaim(["holder", "nobody"], "expired") == ["r"]
        (row,) = await store.workers()
        assert row.stopped_at == clock.at
        assert not await asyncio.to_thread(store.renew, "holder", NOON + 90 * SECOND)

    async def test_workers_are_listed(self, store: Store) -> None:
        """As they enlisted last, the stopped ones, too."""
        row = worker(
            "a", queues=("q", "é"), workflows={"order": msgspec.Raw(b'{"type":"object"}')}, version="1"
        )
        await store.enlist(worker("a", pid=1))
        await store.enlist(row)
        await store.enlist(worker("b", stopped_at=NOON))
        assert msgspec.json.encode(await store.workers()) == msgspec.json.encode(
            [row, worker("b", stopped_at=NOON)]
        )

    async def test_profiles_are_kept_by_workflow_and_name(self, store: Store) -> None:
        """The last of a name counts; what is forgotten twice is gone."""
        assert await store.profiles("order") == {}
        await store.save_profile("order", "é", b'{"a":1}')
        await store.save_profile("order", "b", b"1")
        await store.save_profile("ship", "b", b"2")
        await store.save_profile("order", "b", b'{"text":"\\u0000"}')
        assert [*(await store.profiles("order")).items()] == [("b", b'{"text":"\\u0000"}'), ("é", b'{"a":1}')]
        for _ in range(2):
            await store.save_profile("order", "b", None)
        assert await store.profiles("order") == {"é": b'{"a":1}'}
        assert await store.profiles("ship") == {"b": b"2"}

    async def test_stopped_workers_are_forgotten(self, store: Store) -> None:
        """Not those that live, nor one that enlisted anew."""
        await store.enlist(worker("lives"))
        for name in ("gone", "back"):
            await store.enlist(worker(name, stopped_at=NOON))
        await store.enlist(worker("back"))
        await store.dismiss(["lives", "gone", "back", "nobody"])
        assert {row.id for row in await store.workers()} == {"lives", "back"}

    async def test_a_lease_is_renewed_while_the_loop_is_blocked(self, store: Store) -> None:
        """From a thread, whatever the loop does."""
        await store.enlist(worker("w"))
        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.append(store.renew("w", NOON + 60 * SECOND)))
        thread.start()
        thread.join()
        assert answers == [True]
        assert (await store.workers())[0].leased_until == NOON + 60 * SECOND
        assert not store.renew("nobody", NOON)
