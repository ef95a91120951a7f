"""Actions of a durable machine: what they get of the context, and which of its keys they have changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from holdfast.core.context import StepContext
from holdfast.core.work import Blobs
from holdfast.model.state import split_large
from holdfast.model.values import decode, encode, encode_map, unpack
from holdfast.patterns.machine.actions import Call
from holdfast.patterns.machine.events import KeptEvent
from holdfast.patterns.machine.work import ActionWork
from tests.unit.core.test_context import Attempting

FIRST, SECOND = "some text", "another text"

Change = Callable[[dict[str, Any]], Any]


def done(
    change: Callable[..., Any], context: dict[str, Any], blobs: Blobs | None = None
) -> tuple[dict[str, Any], Any]:
    """Do an action on a context; return the keys that it changed, and those that are gone then."""
    kept = Blobs() if blobs is None else blobs
    encoded, large = split_large(encode_map(context))
    kept.add(large)
    work = ActionWork("act", Call(change), encoded, KeptEvent("go", payload=encode(7)), kept)
    told = StepContext(Attempting())
    outcome = work.accept(work.call(told), told)
    return {key: decode(raw) for key, raw in unpack(outcome.data).items()}, outcome.gone


def swap(context: dict[str, Any]) -> None:
    a, b = context.pop("a"), context.pop("b")
    context["b"], context["a"] = a, b


def leave(_: dict[str, Any]) -> None: ...


def give(_: dict[str, Any]) -> dict[str, Any]:
    return {"a": SECOND, "z": 1}


def rename(context: dict[str, Any]) -> None:
    context["c"] = context.pop("a")


@pytest.mark.parametrize(
    ("change", "changed", "gone"),
    [
        (leave, {}, ()),
        (lambda c: c.update(a=c["a"]), {}, ()),
        (lambda c: c.update(a=SECOND), {"a": SECOND}, ()),
        (give, {"a": SECOND, "z": 1}, ()),
        (lambda c: c.update(n=True), {"n": True}, ()),  # equal to 1, and of another type
        (lambda c: c.update(n=1.0), {"n": 1.0}, ()),
        (swap, {"a": SECOND, "b": FIRST}, ()),  # the same values in the same order, at other keys
        (rename, {"c": FIRST}, ("a",)),
        (lambda c: c["items"].append(2), {"items": [1, 2]}, ()),
        (lambda c: c["items"].reverse(), {}, ()),  # one item: nothing has changed
        (lambda c: c.update(items=(1,)), {"items": (1,)}, ()),
        (lambda c: c.clear(), {}, ("a", "b", "n", "items")),
        (lambda c: c.pop("a") and {"a": SECOND}, {"a": SECOND}, ()),
    ],
)
def test_what_an_action_changes_is_found(change: Change, changed: dict[str, Any], gone: Any) -> None:
    found = done(change, {"a": FIRST, "b": SECOND, "n": 1, "items": [1]})
    assert found == (changed, gone)
    assert [type(value) for value in found[0].values()] == [type(value) for value in changed.values()]


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (leave, {}),
        (lambda c: c.update(a="b"), {"a": "b"}),
        (lambda c: c.update(a="c", b="c"), {"a": "c", "b": "c"}),
        (swap, {"a": SECOND, "b": FIRST}),
    ],
)
def test_what_an_action_changes_of_plain_values_is_found(change: Change, changed: dict[str, Any]) -> None:
    assert done(change, {"a": FIRST, "b": SECOND}) == (changed, ())


def test_an_action_gets_large_values_and_other_types_whole() -> None:
    seen: list[Any] = []
    given = {"text": "x" * 100_000, "when": date(2026, 7, 1), "$odd": 1, "n": 2}
    assert done(lambda context, event: seen.append((dict(context), event.data)), given) == ({}, ())
    assert seen == [(given, 7)]


@pytest.mark.parametrize(
    "values", [{}, {"a": 1, "b": "$"}, {"a": (1, 2), "b": [None]}, {"$dict": 1}, {"é": 1.5}]
)
def test_an_action_gets_the_values_that_were_given(values: dict[str, Any]) -> None:
    seen: list[dict[str, Any]] = []
    done(lambda context: seen.append(dict(context)), values)
    assert seen == [values]
