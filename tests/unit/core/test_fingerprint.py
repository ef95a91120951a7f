"""When code is the same: by how it is compiled and what it closes over, in whatever process and wherever it stands."""

from __future__ import annotations

import dataclasses
import enum
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from holdfast.core.fingerprint import canonical, code_of
from holdfast.model.values import encode

LIMIT = 3


def made(source: str, name: str = "f", **given: Any) -> Any:
    """The function of that name which some source defines, in a module of its own."""
    space: dict[str, Any] = {"__name__": "made", **given}
    exec(compile(source, "made.py", "exec"), space)  # noqa: S102 - our own source
    return space[name]


PLAIN = "def f(x):\n    return x + 1\n"

SAME = {
    "it stands elsewhere": "\n\n# moved\n" + PLAIN,
    "a comment was added": "def f(x):\n    # one more\n    return x + 1\n",
    "it is laid out anew": "def f(x):\n    return (\n        x\n        + 1\n    )\n",
    "another function changed": PLAIN + "def g():\n    return 2\n",
    "another function was added which it does not call": "LIMIT = 4\n" + PLAIN,
}
OTHER = {
    "a constant": "def f(x):\n    return x + 2\n",
    "an operation": "def f(x):\n    return x - 1\n",
    "a name": "def f(x):\n    return abs(x) + 1\n",
    "a parameter": "def f(y):\n    return y + 1\n",
    "a default": "def f(x=1):\n    return x + 1\n",
    "it is async": "async def f(x):\n    return x + 1\n",
    "it is caught": "def f(x):\n    try:\n        return x + 1\n    except ValueError:\n        return 1\n",
}


@pytest.mark.parametrize("source", SAME.values(), ids=SAME)
def test_code_that_does_the_same_is_the_same(source: str) -> None:
    assert code_of(made(source)) == code_of(made(PLAIN))


@pytest.mark.parametrize("source", OTHER.values(), ids=OTHER)
def test_code_that_was_changed_is_another_one(source: str) -> None:
    assert code_of(made(source)) != code_of(made(PLAIN))


INNER = {
    "an inner function": "def f():\n    def g():\n        return {n}\n    return g\n",
    "a function of its module": "def g():\n    return {n}\ndef f():\n    return g()\n",
    "one that calls itself": "def f(x={n}):\n    return f(x - 1) if x else 0\n",
    "a constant of its module": "LIMIT = {n}\ndef f():\n    return LIMIT\n",
    "a default": "def f(*, n={n}):\n    return n\n",
    "a closure": "def o():\n    n = {n}\n    return lambda: n\nf = o()\n",
    "a list that it closes over": "def o():\n    n = [{n}]\n    return lambda: n\nf = o()\n",
    "a function that it closes over": "def o():\n    g = lambda: {n}\n    return lambda: g()\nf = o()\n",
    "a set of constants": "def f(x):\n    return x in {{{n}, 'a', 'b'}}\n",
}


@pytest.mark.parametrize("source", INNER.values(), ids=INNER)
def test_what_it_is_made_of_counts(source: str) -> None:
    one, same, two = (made(source.format(n=n)) for n in (1, 1, 2))
    assert code_of(one) == code_of(same)
    assert code_of(one) != code_of(two)


def test_a_name_in_small_letters_is_no_constant() -> None:
    source = "count = {n}\ndef f():\n    return count\n"
    assert code_of(made(source.format(n=1))) == code_of(made(source.format(n=2)))


@dataclasses.dataclass
class Settings:
    """Not registered: it cannot be stored."""

    threshold: float
    names: tuple[str, ...] = ()


class Named(msgspec.Struct):
    """Nor this."""

    name: str


class Level(enum.Enum):
    """Nor this."""

    LOW = 1
    HIGH = 2


class Client:
    """Something that is no data."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, x: int) -> int:
        return x

    def __call__(self, x: int) -> int:
        return x


def over(value: Any) -> Callable[[], Any]:
    """A function that closes over a value."""
    return lambda: value


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (Settings(0.4), Settings(0.5)),
        ([Settings(0.4)], [Settings(0.5)]),
        ({"a": Named("x")}, {"a": Named("y")}),
        (Level.LOW, Level.HIGH),
        (functools.partial(max, 1), functools.partial(max, 2)),
        (functools.partial(max, key=len), functools.partial(max, key=abs)),
        (Client("a"), Settings(0.4)),
    ],
    ids=["data class", "list of them", "struct", "enum", "partial", "named argument", "type"],
)
def test_data_that_it_closes_over_counts_by_value(one: Any, two: Any) -> None:
    assert code_of(over(one)) == code_of(over(one))
    assert code_of(over(one)) != code_of(over(two))


def test_what_is_no_data_counts_by_its_type() -> None:
    assert code_of(over(Client("a"))) == code_of(over(Client("b")))
    assert code_of(over(Client("a").ask)) == code_of(over(Client("b").ask))


def test_of_an_object_that_is_the_function_its_fields_count() -> None:
    assert code_of(Client("a")) == code_of(Client("a"))
    assert code_of(Client("a")) != code_of(Client("b"))
    assert code_of(Client("a").ask) != code_of(Client("b").ask)


def test_a_decorated_function_is_known_by_what_it_wraps() -> None:
    source = "import functools\n@functools.lru_cache\ndef f():\n    return {n}\n"
    one, same, two = (made(source.format(n=n)) for n in (1, 1, 2))
    assert code_of(one) == code_of(same) != code_of(two)


def test_what_holds_itself_has_an_end() -> None:
    ring: list[Any] = [Client("a")]
    ring.append(ring)
    assert code_of(over(ring)) == code_of(over(ring))


def test_a_cell_that_is_not_filled_yet_does_no_harm() -> None:
    def outer() -> str:
        def f() -> Any:
            return later

        told = code_of(f)
        later = 1
        assert f() == later
        return told

    assert outer() == outer()


SCRIPT = """
from holdfast.core.fingerprint import code_of
names = {"a", "b", "c", "d"}
def f(x):
    return x in {"p", "q", "r", "s"} and x in names
def o(held):
    return lambda: held
print(code_of(f, o(names), o([object, names]), o({"k": {"w", "x", "y", object()}})))
"""


def test_another_process_says_the_same() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(told) == 1


def test_equal_values_have_one_form() -> None:
    one = canonical(encode({"b": [1, {"y": 1, "x": {3, 2}}], "a": 1.0}))
    assert one == canonical(encode({"a": 1.0, "b": [1, {"x": {2, 3}, "y": 1}]}))
    assert canonical(encode([1, "a"])) == b'[1,"a"]'
    assert canonical(encode({"a": 2**70, "b": 0.1})) == canonical(encode({"b": 0.1, "a": 2**70}))
    assert canonical(encode({"a": 1})) != canonical(encode({"a": 1.0}))
