"""What the witness of a simulation hears, and when."""

from __future__ import annotations

from functools import partial

from holdfast.testing.writes import Writes


def test_calls_are_told_in_the_order_in_which_they_were_made() -> None:
    told: list[str] = []
    writes = Writes()
    first, second, third = writes.place(), writes.place(), writes.place()
    writes.tell(second, partial(told.append, "second"))
    assert told == []
    writes.tell(first, partial(told.append, "first"))
    assert told == ["first", "second"]
    writes.tell(third, partial(told.append, "third"))
    assert told == ["first", "second", "third"]
