"""Named predicates for edges: their names stand in decisions, pictures and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from holdfast.errors import DefinitionError
from holdfast.model.facts import readable
from holdfast.model.state import State

__all__ = ["always", "and_", "key_equals", "key_exists", "not_", "or_"]

Predicate = Callable[[State], bool]

_LONGEST: Final = 40
_PLAIN: Final = (str, int, float, bool, type(None))
"""Types of values that a name shows. The text of others may differ by process, and with it the graph's hash."""


def always(state: State) -> bool:  # noqa: ARG001 - called as every predicate
    """Hold for every state."""
    return True


def key_exists(key: str) -> Predicate:
    """Return a predicate that holds when the state has `key`, also with the value None."""
    _check_key("key_exists", key)

    def exists(state: State) -> bool:
        return key in state

    return _named(exists, f"key_exists({key!r})")


def key_equals(key: str, value: object) -> Predicate:
    """Return a predicate that holds when the state has `key` with a value equal to `value`.

    It never raises: a missing key, or a value whose comparison raises, is not equal.
    """
    _check_key("key_equals", key)

    def equals(state: State) -> bool:
        try:
            return key in state and bool(state[key] == value)
        except Exception:  # noqa: BLE001 - user code: whatever a comparison raises, the values are not equal
            return False

    return _named(equals, f"key_equals({key!r}, {_shown(value)})")


def not_(predicate: Predicate) -> Predicate:
    """Return a predicate that holds when the given one does not."""
    _check(predicate)

    def negated(state: State) -> bool:
        answer = predicate(state)
        return answer if hasattr(answer, "__await__") else not answer  # an async one is refused by who asked

    return _named(negated, f"not {_inner(predicate)}")


def and_(*predicates: Predicate) -> Predicate:
    """Return a predicate that holds when all do; those after the first that does not are not asked. None: it holds."""
    return _combined(predicates, "and", ends_with=False)


def or_(*predicates: Predicate) -> Predicate:
    """Return a predicate that holds when one does; those after it are not asked. None: it does not hold."""
    return _combined(predicates, "or", ends_with=True)


def _combined(predicates: tuple[Predicate, ...], word: str, *, ends_with: bool) -> Predicate:
    for predicate in predicates:
        _check(predicate)

    def combined(state: State) -> bool:
        for predicate in predicates:
            answer = predicate(state)
            if hasattr(answer, "__await__") or bool(answer) is ends_with:
                return answer
        return not ends_with

    return _named(combined, f" {word} ".join(map(_inner, predicates)) or f"{word}_()")


def _named(predicate: Predicate, name: str) -> Predicate:
    predicate.__name__ = predicate.__qualname__ = readable(name)
    return predicate


def _inner(predicate: Predicate) -> str:
    """Return a predicate's name as a part of another's."""
    name = getattr(predicate, "__name__", type(predicate).__name__)
    if name == "<lambda>":
        return "lambda"
    return f"({name})" if " and " in name or " or " in name else name


def _shown(value: object) -> str:
    if type(value) not in _PLAIN:
        return type(value).__name__
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _check(predicate: object) -> None:
    if not callable(predicate):
        raise DefinitionError(
            f"predicate {predicate!r:.80} is not callable", fix="Give a function of (state)."
        )


def _check_key(what: str, key: object) -> None:
    if not isinstance(key, str):
        raise DefinitionError(f"{what}: the key {key!r:.80} is no text", fix="Give the name of a key.")
