"""Named predicates: their truth tables, their names, and that asking never goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from holdfast import END, START, DefinitionError, RunFailed, State, StateGraph
from holdfast.predicates import always, and_, key_equals, key_exists, not_, or_
from tests.graphs import nothing


class Quarrelsome:
    def __eq__(self, other: object) -> bool:
        raise TypeError("no comparing")

    __hash__ = None  # type: ignore[assignment]


def never(state: State) -> bool:
    return False


STATE = State({"n": 1, "text": "x", "none": None, "list": [1, {"a": 2}]})


@pytest.mark.parametrize(
    ("predicate", "holds"),
    [
        (always, True),
        (key_exists("n"), True),
        (key_exists("none"), True),
        (key_exists("missing"), False),
        (key_equals("n", 1), True),
        (key_equals("n", "1"), False),
        (key_equals("text", "x"), True),
        (key_equals("none", None), True),
        (key_equals("missing", None), False),
        (key_equals("list", [1, {"a": 2}]), True),
        (key_equals("list", [1]), False),
        (key_equals("n", Quarrelsome()), False),
        (not_(always), False),
        (not_(never), True),
        (and_(), True),
        (and_(always, always), True),
        (and_(always, never), False),
        (or_(), False),
        (or_(never, always), True),
        (or_(never, never), False),
        (and_(key_exists("n"), not_(or_(key_equals("n", 2), key_exists("missing")))), True),
    ],
    ids=lambda given: getattr(given, "__name__", None),
)
def test_truth(predicate: Callable[[State], bool], holds: bool) -> None:
    assert predicate(STATE) is holds


def test_what_decides_ends_the_asking() -> None:
    def must_not_be_asked(state: State) -> bool:
        raise AssertionError

    assert and_(never, must_not_be_asked)(STATE) is False
    assert or_(always, must_not_be_asked)(STATE) is True


@pytest.mark.parametrize(
    ("predicate", "name"),
    [
        (always, "always"),
        (key_exists("a"), "key_exists('a')"),
        (key_equals("n", 5), "key_equals('n', 5)"),
        (key_equals("n", [1]), "key_equals('n', list)"),
        (key_equals("n", "y" * 99), f"key_equals('n', '{'y' * 38}…)"),
        (key_equals("\udc80", 1), "key_equals('\\udc80', 1)"),
        (not_(key_exists("a")), "not key_exists('a')"),
        (and_(always, lambda _: True), "always and lambda"),
        (or_(and_(always, never), never), "(always and never) or never"),
        (not_(or_(always, never)), "not (always or never)"),
        (and_(), "and_()"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_names(predicate: Any, name: str) -> None:
    assert predicate.__name__ == name


def test_what_is_no_predicate_or_key_is_refused() -> None:
    bad: Any = 5
    for make in (not_, and_, or_):
        with pytest.raises(DefinitionError, match="5 is not callable"):
            make(bad)
    with pytest.raises(DefinitionError, match="key 5 is no text"):
        key_exists(bad)
    with pytest.raises(DefinitionError, match="key 5 is no text"):
        key_equals(bad, 1)


def routed(when: Any) -> StateGraph:
    graph = StateGraph("routed").add_node("a", nothing).add_node("b", lambda _: {"b": True})
    graph.add_edge(START, "a").add_edge("a", "b", when=when).add_edge("a", END).add_edge("b", END)
    return graph


def test_the_name_is_that_of_the_edge() -> None:
    when = and_(key_exists("n"), not_(key_equals("n", 0)))
    assert routed(when).edges["a"][0].name == "key_exists('n') and not key_equals('n', 0)"
    assert routed(when).execute({"n": 1}) == {"n": 1, "b": True}
    assert routed(when).execute({"n": 0}) == {"n": 0}


@pytest.mark.parametrize("combine", [not_, and_, or_])
def test_an_async_predicate_is_refused_inside_of_others_too(combine: Any) -> None:
    async def slow(state: State) -> bool:
        return True

    with pytest.raises(RunFailed, match="its predicate is async"):
        routed(combine(slow)).execute()
