"""Markings among the lines of text that OCR read on a page: pure functions.

A line counts by where it stands. At the head, the foot and the margin a marking may share its line with a page
number or a title; in the body it must be the whole line, or the portion marking at a paragraph's head. Prose that
happens to speak of secrets is no marking.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from .levels import Parsed, parse_banner, parse_portion
from .readings import Location, Marking, clamp

HEADER_ENDS: Final = 0.12
FOOTER_BEGINS: Final = 0.88
_MARGIN: Final = 0.08
_FADED_BELOW: Final = 0.22
_FULL_CONTRAST: Final = 0.30
# Of the line's letters: an office's name or a date beside a banner is common, in the body the rest is prose.
_SHARE_AT_EDGE: Final = 0.3
_SHARE_IN_BODY: Final = 0.9
_MOSTLY_UPPER: Final = 0.7
_ENUMERATION: Final = re.compile(r"^\s*\([ABD]\)")
_YEAR_FOLLOWS: Final = re.compile(r"^\s*\(.\)\s*\d{4}\b")


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of text on a page, its box in shares of the page's width and height."""

    text: str
    confidence: float
    left: float
    top: float
    right: float
    bottom: float
    contrast: float = 1.0
    """Between ink and paper, 0 to 1."""


def find_markings(lines: Sequence[TextLine]) -> list[Marking]:
    """Returns the markings of a page in reading order, each text once per location."""
    enumerated = any(_ENUMERATION.match(line.text) for line in lines)
    best: dict[tuple[str, Location], Marking] = {}
    for line in sorted(lines, key=lambda line: (line.top, line.left)):
        location = location_of(line)
        parsed = _banner(line, location) or _portion(line, enumerated=enumerated)
        if parsed is None:
            continue
        marking = _marking(line, location, parsed)
        key = (marking["text"], location)
        known = best.get(key)
        if known is None or known["legibility"] < marking["legibility"]:
            best[key] = marking
    return list(best.values())


def location_of(line: TextLine) -> Location:
    """Returns the part of the page in which the middle of the line stands."""
    x, y = (line.left + line.right) / 2, (line.top + line.bottom) / 2
    if y < HEADER_ENDS:
        return "header"
    if y > FOOTER_BEGINS:
        return "footer"
    return "margin" if x < _MARGIN or x > 1 - _MARGIN else "body"


def legibility(confidence: float, similarity: float, contrast: float) -> float:
    """Returns how well a marking can be read, 0 to 1.

    OCR that is only half sure has guessed, so the lower part of its scale counts as nothing. Pale ink that
    was read all the same takes away less than half: faded is not the same as illegible.
    """
    sure = clamp((confidence - 0.4) / 0.6)
    ink = 0.6 + 0.4 * clamp(contrast / _FULL_CONTRAST)
    return round(sure * similarity * ink, 3)


def clarity(lines: Iterable[TextLine]) -> float:
    """Returns how clear a page is, 0 to 1: the lines' legibility, long lines counting more."""
    weighed = [(len(line.text), legibility(line.confidence, 1.0, line.contrast)) for line in lines]
    letters = sum(weight for weight, _ in weighed)
    return round(sum(weight * value for weight, value in weighed) / letters, 3) if letters else 0.0


def _banner(line: TextLine, location: Location) -> Parsed | None:
    parsed = parse_banner(line.text)
    if parsed is None:
        return None
    in_body, upper = location == "body", _is_upper(line.text)
    wanted = _SHARE_AT_EDGE if upper and not in_body else _SHARE_IN_BODY
    return parsed if parsed.share >= wanted and (upper or not in_body) else None


def _portion(line: TextLine, *, enumerated: bool) -> Parsed | None:
    parsed = parse_portion(line.text)
    if parsed is None:
        return None
    # "(C) 2031" is a copyright, and where there is an (A) or a (B), a (C) is the third item of a list.
    lone = not parsed.caveats and len(line.text.split(")", 1)[0].strip(" (")) == 1
    return None if lone and (enumerated or _YEAR_FOLLOWS.match(line.text)) else parsed


def _marking(line: TextLine, location: Location, parsed: Parsed) -> Marking:
    return {
        "text": parsed.text,
        "location": location,
        "legibility": legibility(line.confidence, parsed.similarity, line.contrast),
        "faded": line.contrast < _FADED_BELOW,
    }


def _is_upper(text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    return bool(letters) and sum(map(str.isupper, letters)) / len(letters) >= _MOSTLY_UPPER
