"""Enhancing a page: the filter, who needs it, and which of two readings is kept."""

import math
from collections.abc import Iterable
from typing import Final

import numpy as np
from PIL import Image

from .readings import UNREADABLE, Detection, FilterSuggestion, Location, Marking, PageReading

_MIDDLE: Final = 127.5


def apply_filter(image: Image.Image, suggestion: FilterSuggestion) -> Image.Image:
    """Returns the page with brightness, then saturation, then contrast changed as suggested."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) * (suggestion["brightness"] / 100)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * (suggestion["saturation"] / 100)
    pixels = (pixels - _MIDDLE) * _slope(suggestion["contrast"]) + _MIDDLE
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def filter_name(suggestion: FilterSuggestion) -> str:
    """Returns a short name of the filter, as part of an image's name."""
    return f"+b{suggestion['brightness']:g}c{suggestion['contrast']:g}s{suggestion['saturation']:g}"


def needs_enhancement(reading: PageReading, threshold: float) -> bool:
    """Returns whether a page is to be read again: a filter would help, and a marking is hard to read."""
    hard_to_read = any(marking["legibility"] < threshold for marking in reading["markings_found"])
    return reading["filter_suggestion"] is not None and hard_to_read


def merge_reading(
    original: Detection, enhanced: PageReading, enhanced_image: str, threshold: float
) -> Detection:
    """Returns the better of two readings of one page.

    The order is stable: the original's markings as they were, then what only the enhanced page showed.
    """
    better = _best_by_key(enhanced["markings_found"])
    readable = {location for text, location in better if text != UNREADABLE}
    kept = [
        _better_of(marking, better.get(_key(marking)), threshold)
        for marking in original["markings_found"]
        # What nobody could read stands for whatever is written there: once that is read, it goes.
        if not (marking["text"] == UNREADABLE and marking["location"] in readable)
    ]
    known = {_key(marking) for marking in original["markings_found"]}
    new = [marking for key, marking in better.items() if key not in known and key[0] != UNREADABLE]
    return {
        **original,
        "markings_found": kept + new,
        "clarity_score": max(original["clarity_score"], enhanced["clarity_score"]),
        "enhanced_image": enhanced_image,
    }


def _slope(contrast: float) -> float:
    # 0 keeps, 100 would be a step: the tangent that image editors use, held below the step.
    return math.tan((min(contrast, 99.0) / 100 + 1) * math.pi / 4)


def _key(marking: Marking) -> tuple[str, Location]:
    return marking["text"], marking["location"]


def _best_by_key(markings: Iterable[Marking]) -> dict[tuple[str, Location], Marking]:
    best: dict[tuple[str, Location], Marking] = {}
    for marking in markings:
        known = best.get(_key(marking))
        if known is None or known["legibility"] < marking["legibility"]:
            best[_key(marking)] = marking
    return best


def _better_of(original: Marking, enhanced: Marking | None, threshold: float) -> Marking:
    doubtful = original["faded"] or original["legibility"] < threshold
    if enhanced is not None and doubtful and enhanced["legibility"] > original["legibility"]:
        return enhanced
    return original
