"""given(program, journal).when(arrivals).then(facts): how a pure program is tried, without store, loop or clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from holdfast.core.advance import advance
from holdfast.core.ledger import Ledger
from holdfast.core.program import Program, fold
from holdfast.model import facts

SECOND = 1_000_000
NOON = 1_800_000_000 * SECOND
"""An instant like any other."""


class Given:
    """A program after some facts."""

    def __init__(self, program: Program[Any], journal: Iterable[facts.Fact]) -> None:
        self.program = program
        self.progress = fold(program, program.start(), list(journal))
        self.now = NOON
        self.recorded: list[facts.Fact] = []

    @property
    def ledger(self) -> Ledger:
        ledger: Ledger = self.progress.ledger
        return ledger

    def when(self, *arrivals: facts.Fact, now: int | None = None) -> Given:
        """Let these arrive together; a second later than what was before, if `now` does not say it."""
        self.now = self.now + SECOND if now is None else now
        self.progress, self.recorded = advance(self.program, self.progress, arrivals, self.now)
        return self

    def then(self, *expected: facts.Fact | type[facts.Fact]) -> Given:
        """Check what was recorded, the instants left aside; a type stands for any fact of it."""
        assert len(self.recorded) == len(expected), f"recorded were {kinds(self.recorded)}"
        for fact, wanted in zip(self.recorded, expected, strict=True):
            if isinstance(wanted, type):
                assert type(fact) is wanted, fact
            else:
                assert timeless(fact) == timeless(wanted)
        return self


def given(program: Program[Any], journal: Iterable[facts.Fact] = ()) -> Given:
    return Given(program, journal)


def timeless(fact: facts.Fact) -> facts.Fact:
    return msgspec.structs.replace(fact, at=0)


def kinds(recorded: Iterable[facts.Fact]) -> list[str]:
    return [type(fact).__name__ for fact in recorded]


def cases(*tried: tuple[Any, ...]) -> list[Any]:
    """Parameters of a test, named by their number and the last fact in them."""
    return [pytest.param(*case, id=f"{n}-{_name(case)}") for n, case in enumerate(tried, 1)]


def _name(value: Any) -> str:
    if isinstance(value, facts.Fact):
        return type(value).__name__
    return (
        next((name for part in reversed(value) if (name := _name(part))), "")
        if isinstance(value, tuple)
        else ""
    )
