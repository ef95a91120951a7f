"""What follows from facts: rows beside the journal, the run's status, and what it waits on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast.core.effects import SHORT_WAIT, Holding, derive, opening_row, status_of, waiting_on
from holdfast.core.ledger import Ledger
from holdfast.model import facts
from holdfast.model.commit import Deliver, Dequeue, Enqueue, Withdraw
from holdfast.model.ids import moment
from holdfast.model.run import RunStatus
from tests.unit.errand import STARTED, cancelled, completed, error_of, failed, retried, scheduled
from tests.unit.given import NOON, SECOND, cases

HOLDING = Holding("default", "errand", 3, "me")
SHOWN = f"{moment(NOON):%Y-%m-%dT%H:%M:%SZ}"


def folded(*journal: facts.Fact) -> Ledger:
    ledger = Ledger()
    for fact in journal:
        ledger.absorb(fact)
    return ledger


def effects(
    *recorded: facts.Fact, before: tuple[facts.Fact, ...] = (), deaths: int = 0, release: int | None = None
) -> Any:
    holding = msgspec.structs.replace(HOLDING, deaths=deaths)
    return derive(recorded, folded(*before, *recorded), holding, release, 0)


# --- rows


def test_most_commits_have_no_rows() -> None:
    assert effects(completed("a"), scheduled("b"), before=(STARTED, scheduled("a"))) == ()


def test_a_new_run_has_a_job_held_by_who_starts_it() -> None:
    assert effects(STARTED, scheduled("a")) == (Enqueue("default", "errand", 3, "me"),)


def test_a_run_that_ends_in_its_first_commit_has_none() -> None:
    assert effects(STARTED, facts.RunFailed(error=error_of("a"))) == (Dequeue(), Withdraw("due:*"))


def test_a_delayed_run_has_a_row_that_wakes_it_in_place_of_a_job() -> None:
    started = msgspec.structs.replace(STARTED, not_before=NOON)
    assert effects(started) == (Deliver(key="due:start", due=NOON),)


def test_a_deadline_is_a_cancel_that_comes_due() -> None:
    job, row = effects(msgspec.structs.replace(STARTED, deadline=NOON))
    assert isinstance(job, Enqueue)
    assert (row.key, row.due) == ("due:deadline", NOON)
    request = facts.Journal.decode_one(row.fact)
    assert isinstance(request, facts.CancelRequested)
    assert request.code == "run_timed_out"


@pytest.mark.parametrize(("wait", "rows"), [(SHORT_WAIT, 0), (SHORT_WAIT + 1, 1)])
def test_only_a_long_back_off_has_a_row_that_wakes_the_run(wait: int, rows: int) -> None:
    fact = retried("a", 2, at=NOON, due=NOON + wait)
    expected = (Deliver(key="due:a#1:2", due=NOON + wait),) * rows
    assert effects(fact, before=(STARTED, scheduled("a"))) == expected


def test_a_release_takes_the_job_away_unless_it_was_woken() -> None:
    assert effects(before=(STARTED, scheduled("a")), release=7) == (Dequeue(7),)


def test_a_release_of_a_run_that_has_not_begun_keeps_its_alarm() -> None:
    started = msgspec.structs.replace(STARTED, not_before=NOON)
    signal = facts.SignalReceived(name="x", key="k")
    assert effects(signal, before=(started,), release=1) == (Dequeue(1), Deliver(key="due:start", due=NOON))


def test_a_release_of_a_paused_run_that_has_not_begun_asks_for_no_alarm() -> None:
    """Its holder's clock may be behind: laid down with an alarm that is due already, it would be woken at once."""
    started = msgspec.structs.replace(STARTED, not_before=NOON)
    assert effects(facts.RunPaused(), before=(started,), release=1) == (Dequeue(1),)
    resumed = effects(facts.RunResumed(), before=(started, facts.RunPaused()), release=1)
    assert resumed == (Dequeue(1), Deliver(key="due:start", due=NOON))


def test_the_end_takes_the_job_and_the_inbox() -> None:
    assert effects(facts.RunCompleted(), before=(STARTED,), release=1) == (Dequeue(), Withdraw("*"))


@pytest.mark.parametrize("end", [facts.RunFailed(error=error_of("a")), facts.RunCancelled()])
def test_an_end_that_can_be_taken_back_leaves_what_was_sent(end: facts.Fact) -> None:
    assert effects(end, before=(STARTED,)) == (Dequeue(), Withdraw("due:*"))


@pytest.mark.parametrize("end", [completed("a"), failed("a"), cancelled("a")])
def test_a_step_that_ends_takes_the_suspicion_away(end: facts.Fact) -> None:
    before = (STARTED, scheduled("a"), scheduled("b"))
    assert effects(end, before=before, deaths=2) == (Enqueue("default", "errand", 3, "me"),)
    assert effects(end, before=before, deaths=0) == ()


def test_what_ends_no_step_leaves_the_suspicion() -> None:
    before = (STARTED, scheduled("a"))
    assert effects(retried("a", 2, reason="worker lost"), before=before, deaths=2) == ()
    assert effects(facts.StepProgressed(step="a#1", attempt=1, percent=1), before=before, deaths=2) == ()


# --- status


@pytest.mark.parametrize(
    ("journal", "held", "releasing", "status"),
    cases(
        ((STARTED,), False, False, "pending"),
        ((STARTED, scheduled("a")), True, False, "running"),
        ((STARTED, scheduled("a")), True, True, "waiting"),
        ((STARTED, facts.RunPaused()), True, False, "paused"),
        ((STARTED, facts.RunPaused()), True, True, "paused"),
        ((STARTED, facts.RunCompleted()), True, False, "completed"),
        ((STARTED, facts.RunFailed(error=error_of("a"))), True, False, "failed"),
        ((STARTED, facts.RunCancelled()), True, False, "cancelled"),
        ((STARTED, facts.RunPaused(), facts.RunCancelled()), True, False, "cancelled"),
        ((msgspec.structs.replace(STARTED, not_before=NOON),), True, True, "pending"),
    ),
)
def test_status(journal: tuple[facts.Fact, ...], held: bool, releasing: bool, status: str) -> None:
    assert status_of(folded(*journal), held=held, releasing=releasing) is RunStatus(status)


# --- what it waits on


@pytest.mark.parametrize(
    ("journal", "waits"),
    cases(
        ((STARTED, scheduled("a")), ()),
        ((STARTED, scheduled("a"), retried("a", 2, due=NOON)), (f"retry of a {SHOWN}",)),
        ((STARTED, scheduled("x", kind="signal")), ("signal x",)),
        ((STARTED, scheduled("t", kind="timer", due=NOON)), (f"timer {SHOWN}",)),
        ((STARTED, scheduled("x", kind="signal"), scheduled("y", kind="signal")), ("signal x", "signal y")),
        ((STARTED, facts.RunPaused()), ("resume",)),
        ((STARTED, facts.RunPaused(reason="lunch")), ("resume: lunch",)),
        ((STARTED, scheduled("x", kind="signal"), facts.RunCompleted()), ()),
        ((msgspec.structs.replace(STARTED, not_before=NOON),), (f"start {SHOWN}",)),
    ),
)
def test_waiting_on(journal: tuple[facts.Fact, ...], waits: tuple[str, ...]) -> None:
    assert waiting_on(folded(*journal)) == waits


def test_missing_secrets_are_told_by_name() -> None:
    assert waiting_on(folded(STARTED, scheduled("a")), ["token", "key"]) == ("secret token", "secret key")


def test_the_row_of_a_new_run_derives_from_its_first_fact() -> None:
    started = facts.RunStarted(
        at=NOON,
        workflow="errand",
        version="2",
        hash="h",
        queue="q",
        priority=5,
        tags=("a",),
        secrets=("token",),
        not_before=NOON + SECOND,
        parent="p",
        data=msgspec.Raw(b'{"n":1}'),
    )
    row = opening_row("r", started)
    assert (row.id, row.workflow, row.version, row.hash, row.queue, row.priority) == (
        "r",
        "errand",
        "2",
        "h",
        "q",
        5,
    )
    assert (row.tags, row.secrets, row.parent, bytes(row.params)) == (("a",), ("token",), "p", b'{"n":1}')
    assert (row.created_at, row.updated_at, row.started_at, row.epoch) == (NOON, NOON, 0, 1)
    assert row.waiting_on[0].startswith("start ")
    assert (row.status, row.format) == (RunStatus.PENDING, facts.FORMAT)
