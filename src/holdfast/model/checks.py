"""Checks of arguments: of which kind one must be, and the error that names it when it is something else.

A caller's argument is refused with PayloadRejected, whose `field` is its name; an author's with DefinitionError.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from math import inf
from typing import Any, Final, NamedTuple, TypeVar, cast

from holdfast.errors import DefinitionError, PayloadRejected
from holdfast.model.ids import seconds

T = TypeVar("T")

MOST_SECONDS: Final = 100 * 365 * 86_400
"""No wait is longer: an instant must fit into the database."""

MOST_PRIORITY: Final = 2**31 - 1

MOST_CHARACTERS: Final = 200
"""No name is longer: what is looked up must fit into an index, whatever the characters and the database."""


class Kind(NamedTuple):
    """What an argument may be: a test, and the words that end the sentence "Give …"."""

    holds: Callable[[Any], bool]
    expected: str

    def or_none(self) -> Kind:
        """Return the kind that None is of, too."""
        return Kind(lambda given: given is None or self.holds(given), f"{self.expected}, or None")


def argument(field: str, given: T, kind: Kind) -> T:
    """Return what a caller gave. Raises PayloadRejected naming `field` when it is of another kind."""
    if kind.holds(given):
        return given
    raise PayloadRejected(_told(field, given), field=field, fix=f"Give {kind.expected}.")


def setting(owner: str, field: str, given: T, kind: Kind) -> T:
    """Return what an author gave. Raises DefinitionError naming `owner` and `field` when it is of another kind."""
    if kind.holds(given):
        return given
    raise DefinitionError(f"{owner}: {field}={given!r:.80} is not allowed", fix=f"Give {kind.expected}.")


def _told(field: str, given: object) -> str:
    """Return what is wrong. Of what a caller gave no more is shown than is of use: it may not be for messages."""
    if given is None or isinstance(given, str | int | float):
        return f"{field}={given!r:.80}"
    return f"{field} is of type {type(given).__name__}"


def instance_of(*classes: type, expected: str) -> Kind:
    """Return the kind of everything that is an instance of one of the classes."""
    return Kind(lambda given: isinstance(given, classes), expected)


def whole(lowest: int, expected: str) -> Kind:
    """Return the kind of whole numbers from `lowest` on."""
    return Kind(lambda given: type(given) is int and given >= lowest, expected)


def is_number(given: object) -> bool:
    """Tell whether it is a number that can be reckoned with; True and False are none."""
    return isinstance(given, int | float) and not isinstance(given, bool) and given == given  # noqa: PLR0124 - NaN


def lasts(given: Any) -> float:
    """Return a duration in seconds; what is none lasts less than nothing."""
    if not (isinstance(given, timedelta) or is_number(given)):
        return -1.0
    try:
        return seconds(given)
    except OverflowError:
        return inf


def _is_text(given: object) -> bool:
    """Tell whether it is a text that every database can store, and not empty."""
    if not isinstance(given, str) or not given or "\0" in given:
        return False
    return given.encode(errors="ignore").decode() == given


def _is_label(given: object) -> bool:
    """Tell whether it is a text that something can be looked up by."""
    return _is_text(given) and len(cast("str", given)) <= MOST_CHARACTERS


def _are_texts(given: object) -> bool:
    if not isinstance(given, Collection) or isinstance(given, str | bytes | Mapping):
        return False
    return all(map(_is_label, given))


def _are_names(given: object) -> bool:
    """Tell whether there is at least one name, and each is printable without blanks around it."""
    return (
        _are_texts(given)
        and bool(given)
        and all(n.strip() == n and n.isprintable() for n in cast("Any", given))
    )


TEXT: Final = Kind(_is_text, "a text that is not empty")
LABEL: Final = Kind(_is_label, f"a text of 1 to {MOST_CHARACTERS} characters, none of them NUL")
WORDS: Final = instance_of(str, expected="a text")
TEXTS: Final = Kind(_are_texts, f'a list of texts of 1 to {MOST_CHARACTERS} characters, such as ["nightly"]')
NAMES: Final = Kind(_are_names, 'a list of names, such as ["default", "gpu"]')
FLAG: Final = instance_of(bool, expected="True or False")
CALLABLE: Final = Kind(callable, "a function")
COUNT: Final = whole(1, "a whole number of at least 1")
POSITION: Final = whole(0, "a whole number, not negative")
PRIORITY: Final = Kind(
    lambda n: type(n) is int and abs(n) <= MOST_PRIORITY,
    f"a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}",
)
DURATION: Final = Kind(lambda d: 0 <= lasts(d) < MOST_SECONDS, "seconds or a timedelta, not negative")
LIMIT: Final = Kind(lambda d: 0 < lasts(d) < MOST_SECONDS, "seconds above 0, or a timedelta")
PERCENT: Final = Kind(lambda n: is_number(n) and 0 <= n <= 100, "a number from 0 to 100")  # noqa: PLR2004
DATA: Final = Kind(
    lambda given: isinstance(given, Mapping) and all(isinstance(key, str) for key in given),
    'a dict with texts as keys, such as {"pages": 3}',
)
