"""From the markings of all pages to the marking of the document: pure functions.

The highest level wins, and every marking counts, however hard it was to read: to treat a document too carefully
costs less than the opposite. Caveats of all pages are joined.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, TypedDict

from .levels import Level, Parsed, in_banner_order, marking_text, parse_marking
from .readings import UNREADABLE, Detection, Marking

UNMARKED: Final = "UNMARKED"
"""The classification of a document without any marking: nobody has said that it is unclassified."""
_SMALLEST_WEIGHT: Final = 0.01


class Alternative(TypedDict):
    """Another reading of the document and what speaks for it."""

    classification: str
    probability: float
    reason: str


class Classification(TypedDict):
    """The document's classification and how it came about."""

    classification: str
    level: str
    caveats: list[str]
    alternative_readings: list[Alternative]
    marking_summary: list[str]
    rationale: str


def classify_document(detections: Sequence[Detection]) -> Classification:
    """Returns the classification that the pages' markings add up to."""
    parsed = [
        (detection["page_number"], marking, found)
        for detection in detections
        for marking in detection["markings_found"]
        if (found := parse_marking(marking["text"]))
    ]
    summary = summarise(detections)
    if not parsed:
        return {
            "classification": UNMARKED,
            "level": UNMARKED,
            "caveats": [],
            "alternative_readings": [],
            "marking_summary": summary,
            "rationale": f"No marking was found on any of {len(detections)} pages." + _unreadable(detections),
        }
    level = max(found.level for _, _, found in parsed)
    caveats = in_banner_order(_joined_caveats(found for _, _, found in parsed))
    pages = sorted({number for number, _, found in parsed if found.level is level})
    return {
        "classification": marking_text(level, caveats),
        "level": level.label,
        "caveats": list(caveats),
        "alternative_readings": alternatives(level, parsed),
        "marking_summary": summary,
        "rationale": f"{level.label} is the highest level marked, on {_pages(pages)} of {len(detections)}."
        + _unreadable(detections),
    }


def summarise(detections: Iterable[Detection]) -> list[str]:
    """Returns one line per marking: its text, where it stands and on which pages."""
    places: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for detection in detections:
        for marking in detection["markings_found"]:
            places[marking["text"]][marking["location"]].append(detection["page_number"])
    return [
        f"{text}: " + ", ".join(f"{location} of {_pages(pages)}" for location, pages in where.items())
        for text, where in places.items()
    ]


def alternatives(level: Level, parsed: Sequence[tuple[int, Marking, Parsed]]) -> list[Alternative]:
    """Returns what the document would be by its other banner levels, the likeliest first.

    A banner speaks for the whole page it stands on, so banners that disagree are a question for a person. Portion
    markings differ within a page by design and are none. Weights are legibilities.
    """
    weights: dict[Level, float] = defaultdict(float)
    pages: dict[Level, set[int]] = defaultdict(set)
    caveats: dict[Level, set[str]] = defaultdict(set)
    for number, marking, found in parsed:
        if marking["location"] == "body" and found.level is not level:
            continue
        weights[found.level] += max(marking["legibility"], _SMALLEST_WEIGHT)
        pages[found.level].add(number)
        caveats[found.level].update(found.caveats)
    total = sum(weights.values())
    others = sorted((other for other in weights if other is not level), key=lambda other: -weights[other])
    return [
        {
            "classification": marking_text(other, in_banner_order(caveats[other])),
            "probability": round(weights[other] / total, 3),
            "reason": f"the banner of {_pages(sorted(pages[other]))}",
        }
        for other in others
    ]


def _joined_caveats(parsed: Iterable[Parsed]) -> set[str]:
    return {caveat for found in parsed for caveat in found.caveats}


def _unreadable(detections: Sequence[Detection]) -> str:
    """Returns a sentence about what nobody could read, or nothing."""
    pages = {
        detection["page_number"]
        for detection in detections
        for marking in detection["markings_found"]
        if marking["text"] == UNREADABLE
    }
    return f" What is written at the edge of {_pages(sorted(pages))} could not be read." if pages else ""


def _pages(numbers: Sequence[int]) -> str:
    """Returns page numbers as people write them: ``pages 1-3, 7``."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    text = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
    return f"{'page' if len(set(numbers)) == 1 else 'pages'} {text}"
