"""Which argument of a task gets what: by name, then the item, then by position."""

# ruff: noqa: ARG005 - it is the names of parameters that are bound
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from holdfast.patterns.dag.binding import bind, shape_of


def bound(
    fn: Callable[..., Any],
    depends_on: Sequence[str] = (),
    over: str | None = None,
    params: Sequence[str] = (),
) -> str:
    """The call as text: sources by their letters, `?` before what is missing."""
    binding = bind(shape_of(fn), depends_on, over, params)
    letters = {"result": "", "param": "$", "params": "$$", "item": "*", "step": "@", "results": "**"}
    args = [letters[source.kind] + source.name for source in binding.args]
    kwargs = [f"{name}={letters[source.kind]}{source.name}" for name, source in binding.kwargs]
    return ", ".join([*args, *kwargs, *(f"?{name}" for name in binding.missing)])


CALLS = (
    (bound(lambda: 0, ["a"]), ""),
    (bound(lambda data: 0, ["a"]), "a"),
    (bound(lambda y, x: 0, ["a", "b"]), "a, b"),
    (bound(lambda b, x: 0, ["a", "b"]), "b, a"),
    (bound(lambda a, b: 0, ["b", "a"]), "a, b"),
    (bound(lambda n: 0, ["a"], params=["n"]), "$n"),
    (bound(lambda n: 0, ["n"], params=["n"]), "n"),
    (bound(lambda x, n: 0, ["a"], params=["n"]), "a, $n"),
    (bound(lambda x=1: 0, ["a"]), ""),
    (bound(lambda x=1, a=2: 0, ["a"]), "a=a"),
    (bound(lambda params, a: 0, ["a"]), "$$, a"),
    (bound(lambda step, a: 0, ["a"]), "@, a"),
    (bound(lambda x, y: 0, ["a"]), "a, ?y"),
    (bound(lambda *all: 0, ["a", "b"]), "a, b"),
    (bound(lambda **all: 0, ["a"], params=["n"]), "n=$n, a=a"),
    (bound(lambda x, *rest: 0, ["a", "b", "c"]), "a, b, c"),
    (bound(lambda *, b, x: 0, ["a", "b"]), "b=b, x=a"),
    (bound(len, ["a"]), "a"),
    (bound(lambda item: 0, ["a"], "a"), "*"),
    (bound(lambda item, a: 0, ["a"], "a"), "*, a"),
    (bound(lambda a: 0, ["a"], "a"), "*"),
    (bound(lambda item, x: 0, ["b", "a"], "a"), "*, b"),
    (bound(lambda b, item: 0, ["b", "a"], "a"), "b, *"),
    (bound(lambda item=0: 0, ["a"], "a"), "*"),
    (bound(lambda *args: 0, ["b", "a"], "a"), "*, b"),
    (bound(lambda: 0, ["a"], "a"), "?(one for the item)"),
    (bound(lambda x: 0, [], "files", ["files"]), "*"),
)


def test_binding() -> None:
    assert [call for call, _ in CALLS] == [expected for _, expected in CALLS]
