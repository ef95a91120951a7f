"""From markings to a classification and the confidence in it."""

import pytest

from examples.classify_docs.classify import UNMARKED, classify_document
from examples.classify_docs.readings import UNREADABLE, Detection, Location, Marking
from examples.classify_docs.score import (
    WEIGHTS,
    Factor,
    consistency,
    enhancement_impact,
    overall_score,
    recommend,
    score_document,
)


def marking(text: str, location: Location = "header", legibility: float = 1.0) -> Marking:
    return {"text": text, "location": location, "legibility": legibility, "faded": False}


def page(number: int, *markings: Marking, clarity: float = 1.0, enhanced: bool = False) -> Detection:
    return {
        "page_number": number,
        "markings_found": list(markings),
        "clarity_score": clarity,
        "filter_suggestion": None,
        "image": f"page-{number}",
        "enhanced_image": f"page-{number}+" if enhanced else None,
    }


def test_the_highest_level_of_any_page_wins() -> None:
    pages = [page(1, marking("UNCLASSIFIED")), page(2, marking("TOP SECRET//SI")), page(3, marking("SECRET"))]

    result = classify_document(pages)

    assert result["classification"] == "TOP SECRET//SI"
    assert result["rationale"] == "TOP SECRET is the highest level marked, on page 2 of 3."


def test_a_marking_counts_however_hard_it_was_to_read() -> None:
    pages = [page(1, marking("UNCLASSIFIED"), marking("SECRET", legibility=0.01))]

    assert classify_document(pages)["level"] == "SECRET"


def test_a_portion_marking_counts_like_a_banner() -> None:
    pages = [page(1, marking("CONFIDENTIAL"), marking("(S//NF)", "body"))]

    assert classify_document(pages)["classification"] == "SECRET//NOFORN"


def test_caveats_of_all_pages_are_joined_in_banner_order() -> None:
    pages = [
        page(1, marking("SECRET//NOFORN")),
        page(2, marking("CONFIDENTIAL//ORCON")),
        page(3, marking("SECRET//SI")),
    ]

    result = classify_document(pages)

    assert result["classification"] == "SECRET//SI//ORCON//NOFORN"
    assert result["caveats"] == ["SI", "ORCON", "NOFORN"]


def test_a_document_without_markings_is_unmarked_not_unclassified() -> None:
    result = classify_document([page(1), page(2)])

    assert result["classification"] == UNMARKED
    assert result["rationale"] == "No marking was found on any of 2 pages."
    assert result["marking_summary"] == []


def test_an_unreadable_marking_is_no_level_but_is_told() -> None:
    result = classify_document([page(1), page(2, marking(UNREADABLE, "footer"))])

    assert result["classification"] == UNMARKED
    assert result["rationale"].endswith("What is written at the edge of page 2 could not be read.")
    assert result["marking_summary"] == ["[unreadable]: footer of page 2"]


def test_the_summary_names_each_marking_with_its_places() -> None:
    pages = [page(number, marking("SECRET"), marking("SECRET", "footer")) for number in (1, 2, 3, 5)]

    assert classify_document(pages)["marking_summary"] == [
        "SECRET: header of pages 1-3, 5, footer of pages 1-3, 5"
    ]


def test_banners_of_other_levels_are_alternatives_with_their_share_of_the_legibility() -> None:
    pages = [
        page(1, marking("SECRET//NOFORN")),
        page(2, marking("UNCLASSIFIED", legibility=0.25)),
        page(3, marking("CONFIDENTIAL//ORCON", legibility=0.75)),
    ]

    alternatives = classify_document(pages)["alternative_readings"]

    assert alternatives == [
        {"classification": "CONFIDENTIAL//ORCON", "probability": 0.375, "reason": "the banner of page 3"},
        {"classification": "UNCLASSIFIED", "probability": 0.125, "reason": "the banner of page 2"},
    ]


def test_portions_below_the_banner_are_no_alternatives() -> None:
    pages = [page(1, marking("SECRET"), marking("UNCLASSIFIED", "body"))]

    assert classify_document(pages)["alternative_readings"] == []


@pytest.mark.parametrize(
    ("overall", "recommendation"),
    [
        (1.0, "ACCEPT"),
        (0.9, "ACCEPT"),
        (0.899, "REVIEW"),
        (0.7, "REVIEW"),
        (0.699, "REJECT"),
        (0.0, "REJECT"),
    ],
)
def test_the_score_decides_the_recommendation(overall: float, recommendation: str) -> None:
    assert recommend(overall) == recommendation


def test_the_six_weights_are_those_of_the_specification_and_add_up_to_one() -> None:
    assert list(WEIGHTS.values()) == [0.30, 0.25, 0.15, 0.10, 0.10, 0.10]
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)


def test_a_clear_document_scores_one_and_is_accepted() -> None:
    pages = [page(number, marking("SECRET"), marking("SECRET", "footer")) for number in (1, 2)]

    confidence = score_document(pages, classify_document(pages))

    assert confidence["overall_score"] == 1.0
    assert confidence["recommendation"] == "ACCEPT"
    assert [factor["name"] for factor in confidence["factors"]] == list(WEIGHTS)


def test_each_factor_measures_what_it_says() -> None:
    pages = [
        page(1, marking("SECRET", legibility=0.8), marking("SECRET", "footer", legibility=0.8)),
        page(2, marking("UNCLASSIFIED", legibility=0.4), clarity=0.5, enhanced=True),
        page(3, marking("SECRET", "body", legibility=1.0), clarity=0.6),
        page(4),
    ]

    confidence = score_document(pages, classify_document(pages))
    scores = {factor["name"]: factor["score"] for factor in confidence["factors"]}

    assert scores == {
        "marking_clarity": 0.775,
        "marking_consistency": 0.667,
        "spatial_coverage": 0.5,
        "enhancement_impact": 0.4,
        "alternative_count": 0.5,
        "detection_legibility": 0.75,
    }
    assert confidence["overall_score"] == pytest.approx(
        0.30 * 0.775 + 0.25 * 0.667 + 0.15 * 0.5 + 0.1 * (0.4 + 0.5 + 0.75), abs=0.001
    )


def test_an_unmarked_document_is_rejected_so_that_a_person_looks() -> None:
    pages = [page(1)]

    assert score_document(pages, classify_document(pages))["recommendation"] == "REJECT"


def test_unreadable_writing_is_no_coverage() -> None:
    pages = [page(1, marking(UNREADABLE))]
    factors = score_document(pages, classify_document(pages))["factors"]

    assert next(factor["score"] for factor in factors if factor["name"] == "spatial_coverage") == 0.0


def test_a_portion_does_not_speak_for_a_banner_that_nobody_could_read() -> None:
    pages = [
        page(
            1,
            marking("UNCLASSIFIED", "body"),
            marking(UNREADABLE),
            marking(UNREADABLE, "footer"),
            clarity=0.5,
        )
    ]

    classification = classify_document(pages)
    confidence = score_document(pages, classification)

    assert "could not be read" in classification["rationale"]
    assert consistency(pages[0]["markings_found"]) == 0.0
    assert confidence["recommendation"] == "REJECT"


def test_weights_and_sum_are_clamped() -> None:
    factor: Factor = {"name": "x", "score": 1.0, "weight": 7.0, "description": ""}

    assert overall_score([factor, factor]) == 1.0
    assert overall_score([]) == 0.0


def test_without_banners_there_is_no_consistency_and_without_enhancing_no_harm() -> None:
    assert consistency([marking("SECRET", "body")]) == 0.0
    assert enhancement_impact([page(1, marking("SECRET", legibility=0.1))]) == 1.0
