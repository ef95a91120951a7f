"""Circuit breakers: what they let through, against a model that is told everything."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.breaker import (
    BreakerRow,
    CircuitBreaker,
    Result,
    Ticket,
    admit,
    force,
    info_of,
    report,
    says_nothing,
)
from holdfast.errors import DefinitionError
from holdfast.model.ids import SECOND

NOON = 1_700_000_000 * SECOND
RESET = 10


def breaker(**changes: Any) -> CircuitBreaker:
    return CircuitBreaker("b", **{"threshold": 3, "reset_timeout": RESET, **changes})


class Calls:
    """A breaker with a clock: calls begin and end."""

    def __init__(self, settings: CircuitBreaker) -> None:
        self.settings = settings
        self.row = BreakerRow()
        self.now = NOON

    @property
    def state(self) -> str:
        return self.row.state

    def begin(self) -> Ticket | None:
        self.row, answer = admit(self.settings, self.row, self.now)
        if isinstance(answer, Ticket):
            return answer
        assert 0 < answer <= max(self.settings.reset, self.settings.patience)
        return None

    def end(self, ticket: Ticket | None, result: Result) -> None:
        assert ticket is not None
        self.row = report(self.settings, self.row, ticket, result, self.now)

    def call(self, result: Result) -> bool:
        ticket = self.begin()
        if ticket is not None:
            self.end(ticket, result)
        return ticket is not None


def opened(**changes: Any) -> Calls:
    calls = Calls(breaker(**changes))
    while calls.state == "closed":
        calls.call("failed")
    return calls


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    calls = Calls(breaker())
    for result in ("failed", "failed", "passed", "failed", "failed", "unknown", "failed"):
        assert calls.state == "closed"
        calls.call(result)
    assert calls.state == "open"
    assert not calls.call("passed")


def test_one_failure_of_one_call_opens_no_window() -> None:
    """B-R4: a share counts only over enough calls."""
    calls = Calls(breaker(window=10, failure_rate=0.5, minimum_calls=4))
    calls.call("failed")
    assert calls.state == "closed"
    for result in ("passed", "passed", "passed", "failed"):
        calls.call(result)
    assert calls.state == "closed"
    calls.call("failed")
    assert calls.state == "open"


def test_a_window_of_time_forgets() -> None:
    calls = Calls(breaker(window=timedelta(seconds=10), failure_rate=1, minimum_calls=3))
    for _ in range(20):
        calls.call("failed")
        calls.now += 6 * SECOND
        assert calls.state == "closed"
    calls.call("failed")
    calls.now += SECOND
    calls.call("failed")
    assert calls.state == "open"


def test_of_a_hundred_calls_at_the_instant_it_lapses_one_is_let_through() -> None:
    """B-R1."""
    calls = opened()
    calls.now += RESET * SECOND - 1
    assert calls.begin() is None
    calls.now += 1
    tickets = [calls.begin() for _ in range(100)]
    assert [bool(ticket) for ticket in tickets] == [True] + [False] * 99
    calls.end(tickets[0], "passed")
    assert calls.state == "closed"


def test_a_probe_that_fails_opens_it_for_as_long_again() -> None:
    calls = opened()
    calls.now += RESET * SECOND
    calls.call("failed")
    calls.now += RESET * SECOND - 1
    assert not calls.call("passed")
    calls.now += 1
    assert calls.call("passed")


def test_it_closes_when_as_many_probes_have_passed_as_decide() -> None:
    calls = opened(half_open=3)
    calls.now += RESET * SECOND
    probes = [calls.begin() for _ in range(3)]
    assert calls.begin() is None
    for probe in probes[:2]:
        calls.end(probe, "passed")
        assert (calls.state, calls.begin()) == ("half_open", None)
    calls.end(probes[2], "passed")
    assert calls.row == BreakerRow("closed", calls.row.epoch, calls.now, opened=1)


def test_what_is_forced_open_lets_nothing_through_until_it_is_told_otherwise() -> None:
    calls = Calls(breaker())
    late = calls.begin()
    calls.row = force(calls.row, "forced_open", calls.now)
    for _ in range(3):
        calls.now += RESET * SECOND
        assert calls.begin() is None
    calls.row = force(calls.row, "closed", calls.now)
    calls.end(late, "failed")
    assert (calls.state, calls.row.failures) == ("closed", 0)
    for _ in range(3):
        calls.call("failed")
    assert (calls.state, calls.row.opened) == ("open", 1)


def test_what_is_disabled_lets_all_through_and_counts_nothing() -> None:
    calls = opened()
    calls.row = force(calls.row, "disabled", calls.now)
    for _ in range(20):
        assert calls.call("failed")
    assert (calls.state, calls.row.failures) == ("disabled", 0)
    assert says_nothing(calls.settings, calls.row, Ticket(calls.row.epoch), "failed")


def test_forcing_it_twice_is_as_once_and_a_probe_that_was_under_way_counts_no_more() -> None:
    calls = opened()
    calls.now += RESET * SECOND
    probe = calls.begin()
    calls.row = force(calls.row, "disabled", calls.now)
    assert force(calls.row, "disabled", calls.now + 9) is calls.row
    calls.end(probe, "failed")
    assert calls.state == "disabled"


def test_a_breaker_is_shown_with_what_people_ask_for() -> None:
    calls = opened(window=4, failure_rate=0.5, minimum_calls=2, threshold=2)
    info = info_of("b", calls.row)
    assert (info.name, info.state, info.opened) == ("b", "open", 1)
    assert info.since is not None
    assert info.retry_at is not None
    assert (info.retry_at - info.since).total_seconds() == RESET
    calls.now += RESET * SECOND
    calls.call("passed")
    calls.call("failed")
    shown = info_of("b", calls.row).to_dict()
    assert (shown["state"], shown["failures"], shown["retry_at"]) == ("closed", 1, None)
    assert info_of("new", BreakerRow()).since is None


def test_a_late_result_changes_nothing() -> None:
    """B-R2: neither a failure after it closed, nor a success while it is open."""
    calls = Calls(breaker())
    late = [calls.begin() for _ in range(9)]
    for _ in range(3):
        calls.call("failed")
    calls.end(late[0], "passed")
    assert calls.state == "open"
    calls.now += RESET * SECOND
    calls.call("passed")
    for ticket in late:
        calls.end(ticket, "failed")
    assert (calls.state, calls.row.failures) == ("closed", 0)


def test_a_probe_that_hangs_makes_room_for_another_and_counts_no_more() -> None:
    """B-R3."""
    calls = opened(probe_timeout=2)
    calls.now += RESET * SECOND
    hung = calls.begin()
    calls.now += 2 * SECOND - 1
    assert calls.begin() is None
    calls.now += 1
    second = calls.begin()
    assert second is not None
    calls.end(hung, "failed")
    assert calls.state == "half_open"
    calls.end(second, "passed")
    assert calls.state == "closed"


def test_a_probe_that_was_cancelled_gives_its_place_back() -> None:
    """B-R3."""
    calls = opened()
    calls.now += RESET * SECOND
    calls.call("unknown")
    assert calls.state == "half_open"
    assert calls.call("passed")
    assert calls.state == "closed"


@pytest.mark.parametrize("back", [1, 3600, 10**9])
def test_a_clock_that_is_set_back_neither_opens_it_early_nor_blocks_for_ever(back: int) -> None:
    calls = opened()
    calls.now -= back * SECOND
    assert calls.begin() is None
    calls.now += RESET * SECOND - 1
    assert calls.begin() is None
    calls.now += 1
    assert calls.begin() is not None
    calls.now -= back * SECOND
    calls.begin()
    calls.now += RESET * SECOND
    assert calls.begin() is not None


def test_what_is_no_failure_does_not_count() -> None:
    settings = breaker(count=(OSError,), ignore=(FileNotFoundError,))
    told = [settings.result(error) for error in (None, OSError(), FileNotFoundError(), ValueError())]
    assert told == ["passed", "failed", "unknown", "unknown"]
    assert breaker().result(KeyboardInterrupt()) == "unknown"


class Model:
    """A breaker that keeps every call with its end, and reckons from all of them."""

    def __init__(self, settings: CircuitBreaker) -> None:
        self.settings = settings
        self.state = "closed"
        self.since = 0
        self.results: list[bool] = []
        self.probes: dict[int, int] = {}
        self.era = 0
        self.passed = 0

    def turn(self, state: str, now: int) -> None:
        self.state, self.since, self.era = state, now, self.era + 1
        self.results, self.probes, self.passed = [], {}, 0

    def begin(self, call: int, now: int) -> bool:
        if self.state == "open" and now - self.since >= self.settings.reset:
            self.turn("half_open", now)
        if self.state == "half_open":
            if any(now >= begun + self.settings.patience for begun in self.probes.values()):
                self.turn("half_open", now)
            if len(self.probes) + self.passed >= self.settings.half_open:
                return False
            self.probes[call] = now
        return self.state != "open"

    def end(self, call: int, era: int, result: str, now: int) -> None:
        if era != self.era or result == "unknown":
            if era == self.era:
                self.probes.pop(call, None)
            return
        if self.state == "half_open":
            del self.probes[call]
            self.passed += 1
            if result == "failed":
                self.turn("open", now)
            elif self.passed == self.settings.half_open:
                self.turn("closed", now)
            return
        self.results.append(result == "passed")
        if self.is_too_much():
            self.turn("open", now)

    def is_too_much(self) -> bool:
        if self.settings.window is None:
            last = self.results[-self.settings.threshold :]
            return len(last) == self.settings.threshold and not any(last)
        assert isinstance(self.settings.window, int)
        last = self.results[-self.settings.window :]
        enough = len(last) >= min(self.settings.threshold, self.settings.window)
        return enough and False in last and last.count(False) >= self.settings.failure_rate * len(last)


_RESULTS = st.sampled_from(["passed", "failed", "unknown"])
_ACTS = st.lists(
    st.one_of(
        st.just(("begin", "")),
        st.tuples(st.just("end"), _RESULTS),
        st.tuples(st.just("pass"), st.integers(0, 6)),
    ),
    max_size=80,
)


@given(
    acts=_ACTS,
    threshold=st.integers(1, 3),
    half_open=st.integers(1, 3),
    window=st.one_of(st.none(), st.integers(1, 5)),
    order=st.randoms(use_true_random=False),
)
def test_it_does_what_the_model_does(
    acts: Any, threshold: int, half_open: int, window: Any, order: Any
) -> None:
    """Whatever calls begin and end, in whatever order, early and late."""
    settings = breaker(
        threshold=threshold, half_open=half_open, window=window, reset_timeout=5, probe_timeout=7
    )
    calls, model = Calls(settings), Model(settings)
    under_way: list[tuple[int, int, Ticket]] = []
    for number, (act, what) in enumerate(acts):
        if act == "pass":
            calls.now += what * SECOND
        elif act == "begin":
            ticket, expected = calls.begin(), model.begin(number, calls.now)
            assert (ticket is not None) == expected
            if ticket is not None:
                under_way.append((number, model.era, ticket))
        elif under_way:
            call, era, ticket = under_way.pop(order.randrange(len(under_way)))
            before = calls.row
            silent = says_nothing(settings, before, ticket, what)
            calls.end(ticket, what)
            model.end(call, era, what, calls.now)
            assert not silent or calls.row == before
        assert calls.state == model.state


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0},
        {"threshold": -1},
        {"threshold": 2.5},
        {"reset_timeout": 0},
        {"reset_timeout": -1},
        {"reset_timeout": float("nan")},
        {"half_open": 0},
        {"window": 0},
        {"window": 1e9},
        {"window": timedelta(0)},
        {"failure_rate": 0},
        {"failure_rate": 1.1},
        {"minimum_calls": 0},
        {"probe_timeout": 0},
        {"count": [ValueError]},
        {"ignore": ("ValueError",)},
    ],
    ids=str,
)
def test_what_makes_no_breaker_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=f"CircuitBreaker: {next(iter(wrong))}=") as refused:
        breaker(**wrong)
    assert refused.value.fix


@pytest.mark.parametrize("name", ["", "x" * 201, 7, None])
def test_a_breaker_has_a_name(name: Any) -> None:
    with pytest.raises(DefinitionError, match="CircuitBreaker: name="):
        CircuitBreaker(name)
