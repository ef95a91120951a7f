"""Enhancing: who needs it, what the filter does, and which of two readings is kept."""

import numpy as np
import pytest
from PIL import Image

from examples.classify_docs.enhance import apply_filter, filter_name, merge_reading, needs_enhancement
from examples.classify_docs.readings import (
    UNREADABLE,
    Detection,
    FilterSuggestion,
    Location,
    Marking,
    PageReading,
    clamp,
)
from examples.classify_docs.tones import suggest_filter

NEUTRAL: FilterSuggestion = {"brightness": 100, "contrast": 0, "saturation": 100}


def marking(
    text: str, location: Location = "header", legibility: float = 0.9, *, faded: bool = False
) -> Marking:
    return {"text": text, "location": location, "legibility": legibility, "faded": faded}


def reading(
    *markings: Marking, clarity: float = 0.5, suggestion: FilterSuggestion | None = None
) -> PageReading:
    return {
        "page_number": 4,
        "markings_found": list(markings),
        "clarity_score": clarity,
        "filter_suggestion": suggestion,
    }


def detection(*markings: Marking, clarity: float = 0.5) -> Detection:
    return {
        **reading(*markings, clarity=clarity, suggestion=NEUTRAL),
        "image": "page-4",
        "enhanced_image": None,
    }


def merged(original: Detection, enhanced: PageReading) -> list[Marking]:
    return merge_reading(original, enhanced, "page-4+", 0.4)["markings_found"]


@pytest.mark.parametrize(
    ("legibility", "suggestion", "needed"),
    [(0.39, NEUTRAL, True), (0.4, NEUTRAL, False), (0.39, None, False), (0.9, NEUTRAL, False)],
)
def test_a_page_needs_enhancement_with_a_filter_and_a_marking_below_the_threshold(
    legibility: float, suggestion: FilterSuggestion | None, needed: bool
) -> None:
    page = reading(marking("SECRET"), marking("SECRET", "footer", legibility), suggestion=suggestion)

    assert needs_enhancement(page, 0.4) is needed


def test_a_page_without_markings_needs_none() -> None:
    assert not needs_enhancement(reading(suggestion=NEUTRAL), 0.4)


def test_the_threshold_is_the_runs() -> None:
    assert needs_enhancement(reading(marking("SECRET", legibility=0.5), suggestion=NEUTRAL), 0.6)


def test_an_enhanced_marking_replaces_a_faded_one_that_it_makes_more_legible() -> None:
    faded, clear = marking("SECRET", legibility=0.5, faded=True), marking("SECRET", legibility=0.8)

    assert merged(detection(faded), reading(clear)) == [clear]


def test_an_enhanced_marking_replaces_one_below_the_threshold() -> None:
    low, better = marking("SECRET", legibility=0.3), marking("SECRET", legibility=0.35)

    assert merged(detection(low), reading(better)) == [better]


def test_a_good_original_is_kept_even_if_the_enhanced_one_is_better() -> None:
    good, better = marking("SECRET", legibility=0.7), marking("SECRET", legibility=0.99)

    assert merged(detection(good), reading(better)) == [good]


@pytest.mark.parametrize("legibility", [0.2, 0.3])
def test_a_faded_original_is_kept_when_enhancing_made_it_no_better(legibility: float) -> None:
    faded = marking("SECRET", legibility=0.3, faded=True)

    assert merged(detection(faded), reading(marking("SECRET", legibility=legibility))) == [faded]


def test_the_same_text_elsewhere_is_another_marking() -> None:
    header, footer = marking("SECRET", "header", 0.2), marking("SECRET", "footer", 0.9)

    assert merged(detection(header), reading(footer)) == [header, footer]


def test_the_order_is_the_originals_then_what_is_new() -> None:
    original = detection(marking("A"), marking("B", legibility=0.1), marking("C"))
    enhanced = reading(marking("E"), marking("C"), marking("B"), marking("D"))

    assert [found["text"] for found in merged(original, enhanced)] == ["A", "B", "C", "E", "D"]


def test_what_nobody_could_read_goes_once_its_place_was_read() -> None:
    original = detection(marking(UNREADABLE, "header", 0.05), marking(UNREADABLE, "footer", 0.05))

    found = merged(original, reading(marking("SECRET", "header"), marking(UNREADABLE, "footer", 0.05)))

    assert [(item["text"], item["location"]) for item in found] == [
        (UNREADABLE, "footer"),
        ("SECRET", "header"),
    ]


def test_enhancing_never_adds_something_unreadable() -> None:
    assert merged(detection(marking("SECRET")), reading(marking(UNREADABLE, "footer"))) == [marking("SECRET")]


def test_the_merged_page_has_the_better_clarity_and_both_image_names() -> None:
    page = merge_reading(detection(clarity=0.7), reading(clarity=0.6), "page-4+", 0.4)

    assert page["clarity_score"] == 0.7
    assert (page["image"], page["enhanced_image"]) == ("page-4", "page-4+")
    assert merge_reading(detection(clarity=0.7), reading(clarity=0.8), "x", 0.4)["clarity_score"] == 0.8


def test_a_neutral_filter_changes_nothing() -> None:
    image = Image.new("RGB", (4, 4), (200, 120, 40))

    assert apply_filter(image, NEUTRAL).tobytes() == image.tobytes()


def test_the_suggested_filter_spreads_pale_ink_from_its_paper() -> None:
    suggestion = suggest_filter([(242.0, 232.0)])
    image = Image.fromarray(np.array([[242, 232]], dtype=np.uint8)).convert("RGB")

    paper, ink = np.asarray(apply_filter(image, suggestion).convert("L"), dtype=int)[0]

    assert 100 <= paper - ink <= 130
    assert 0 < ink < 127 < paper < 255


def test_full_contrast_stays_below_a_step() -> None:
    image = Image.new("RGB", (1, 1), (128, 128, 128))

    enhanced = apply_filter(image, {"brightness": 100, "contrast": 100, "saturation": 100})

    assert 120 < enhanced.convert("L").getpixel((0, 0)) < 200  # type: ignore[operator]


def test_saturation_zero_leaves_grey() -> None:
    enhanced = apply_filter(Image.new("RGB", (1, 1), (200, 100, 0)), {**NEUTRAL, "saturation": 0})

    assert enhanced.getpixel((0, 0)) == (100, 100, 100)


def test_an_image_is_named_by_its_filter() -> None:
    assert filter_name({"brightness": 53.5, "contrast": 94.0, "saturation": 100}) == "+b53.5c94s100"


@pytest.mark.parametrize(
    ("value", "expected"), [(-1, 0), (0.5, 0.5), (7, 1), (float("nan"), 0), (float("inf"), 1)]
)
def test_clamp_moves_a_value_into_its_range(value: float, expected: float) -> None:
    assert clamp(value) == expected
