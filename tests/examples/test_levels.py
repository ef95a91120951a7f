"""Markings taken apart: what OCR makes of them is understood, what only resembles them is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.classify_docs.levels import (
    Level,
    edit_distance,
    in_banner_order,
    marking_text,
    parse_banner,
    parse_marking,
    parse_portion,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("UNCLASSIFIED", "UNCLASSIFIED"),
        ("UNCLASSIFIED//FOUO", "UNCLASSIFIED//FOUO"),
        ("CUI", "CUI"),
        ("CONTROLLED UNCLASSIFIED INFORMATION", "CUI"),
        ("RESTRICTED", "RESTRICTED"),
        ("CONFIDENTIAL", "CONFIDENTIAL"),
        ("SECRET//NOFORN", "SECRET//NOFORN"),
        ("SECRET // NOFORN", "SECRET//NOFORN"),
        ("TOP SECRET//SI//NOFORN", "TOP SECRET//SI//NOFORN"),
        ("TOP SECRET//SI/TK//ORCON/NOFORN", "TOP SECRET//SI//TK//ORCON//NOFORN"),
        ("TOP SECRET//NOFORN//SI", "TOP SECRET//SI//NOFORN"),
        ("CONFIDENTIAL//REL TO USA, GBR", "CONFIDENTIAL//REL TO USA, GBR"),
    ],
)
def test_a_banner_is_taken_apart(text: str, expected: str) -> None:
    parsed = parse_banner(text)

    assert parsed is not None
    assert parsed.text == expected
    assert parsed.similarity == 1.0
    assert parsed.share == 1.0


@pytest.mark.parametrize(
    ("misread", "expected"),
    [
        ("T0P SECRET//SI//N0F0RN", "TOP SECRET//SI//NOFORN"),
        ("TOPSECRET//SI//NOFORN", "TOP SECRET//SI//NOFORN"),
        ("TQP SECRET//SI//NOFORN", "TOP SECRET//SI//NOFORN"),
        ("TOP SECRET//SV/NOFORN", "TOP SECRET//SI//NOFORN"),
        ("5ECRET//NOFORN", "SECRET//NOFORN"),
        ("SECRET//S//NOFORN", "SECRET//SI//NOFORN"),
        ("SECRETW/SWNOFORN", "SECRET//SI//NOFORN"),
        ("SECRETUSI/NOFORN", "SECRET//SI//NOFORN"),
        ("ECRET//SI//NOFORN", "SECRET//SI//NOFORN"),
        ("SECREW//SI//NOFORN", "SECRET//SI//NOFORN"),
        ("SECRET/NOF0RN", "SECRET//NOFORN"),
        ("SECRET//NOFCRN", "SECRET//NOFORN"),
        ("C0NF1DENTIAL", "CONFIDENTIAL"),
        ("CONFLDENTIAL", "CONFIDENTIAL"),
        ("CÓNFIDENTIAL", "CONFIDENTIAL"),
        ("UNCLASSIF1ED", "UNCLASSIFIED"),
        ("UNCLASSFIED", "UNCLASSIFIED"),
    ],
)
def test_a_misread_banner_is_understood(misread: str, expected: str) -> None:
    parsed = parse_banner(misread)

    assert parsed is not None
    assert parsed.text == expected


def test_a_guessed_letter_costs_similarity() -> None:
    parsed = parse_banner("SECRFT//NOFORN")

    assert parsed is not None
    assert parsed.similarity == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7 / 14",
        "CLASSIFIED BY: THE HARBOUR MASTER",
        "DECLASSIFY ON: 2051",
        "DECLASSIFIED",
        "SECRETARY",
        "SECRETARY'S NOTICE TO ALL SKIPPERS",
        "SECRETS",
        "CONFIDENTIALLY",
        "MEMORANDUM",
        "Invented sample of a software demonstration. The markings mean nothing.",
    ],
)
def test_what_only_resembles_a_marking_is_none(text: str) -> None:
    assert parse_banner(text) is None


def test_a_page_number_beside_a_banner_takes_no_share_of_the_line() -> None:
    parsed = parse_banner("SECRET//NOFORN   Page 3 of 14")

    assert parsed is not None
    assert parsed.text == "SECRET//NOFORN"
    assert parsed.share == 1.0


def test_prose_around_a_level_leaves_it_a_small_share_of_the_line() -> None:
    parsed = parse_banner("The annex is UNCLASSIFIED when it is separated from this memorandum")

    assert parsed is not None
    assert parsed.share < 0.3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(U) The crane", "UNCLASSIFIED"),
        ("(C) The crane", "CONFIDENTIAL"),
        ("(S//NF) The crane", "SECRET//NOFORN"),
        ("(TS//SI//NF) The crane", "TOP SECRET//SI//NOFORN"),
        ("(TS//Sl//NF) read with a small l", "TOP SECRET//SI//NOFORN"),
        ("(TS//SIl//NF) read with one stroke too many", "TOP SECRET//SI//NOFORN"),
        ("[S/NF] The crane", "SECRET//NOFORN"),
        ("(5//NF) The crane", "SECRET//NOFORN"),
        ("(S//REL TO USA, GBR) The crane", "SECRET//REL TO USA, GBR"),
    ],
)
def test_a_portion_marking_is_taken_apart(text: str, expected: str) -> None:
    parsed = parse_portion(text)

    assert parsed is not None
    assert parsed.text == expected


@pytest.mark.parametrize(
    "text", ["(see annex) The crane", "(X) The crane", "The crane (S) is repaired", "(u) small", "S"]
)
def test_other_brackets_are_no_portion_marking(text: str) -> None:
    assert parse_portion(text) is None


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("TS//SI", Level.TOP_SECRET),
        ("(S//NF)", Level.SECRET),
        ("Secret//Noforn", Level.SECRET),
        ("U", Level.UNCLASSIFIED),
    ],
)
def test_a_marking_that_a_model_reports_may_be_banner_or_portion(text: str, level: Level) -> None:
    parsed = parse_marking(text)

    assert parsed is not None
    assert parsed.level is level


def test_levels_are_ordered_from_unclassified_to_top_secret() -> None:
    assert [level.label for level in sorted(Level)] == [
        "UNCLASSIFIED",
        "CUI",
        "RESTRICTED",
        "CONFIDENTIAL",
        "SECRET",
        "TOP SECRET",
    ]


def test_caveats_come_in_banner_order_whatever_the_order_they_were_found_in() -> None:
    assert in_banner_order({"REL TO USA", "NOFORN", "SI", "ORCON"}) == ("SI", "ORCON", "NOFORN", "REL TO USA")


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [
        ("", "", 0),
        ("SECRET", "SECRET", 0),
        ("SECRFT", "SECRET", 1),
        ("ECRET", "SECRET", 1),
        ("", "TOP", 3),
        ("KITTEN", "SITTING", 3),
    ],
)
def test_the_edit_distance_counts_letters(left: str, right: str, distance: int) -> None:
    assert edit_distance(left, right) == distance
    assert edit_distance(right, left) == distance


CAVEATS = ["HCS", "SI", "TK", "FOUO", "ORCON", "IMCON", "NOFORN", "PROPIN", "RELIDO", "REL TO USA, AUS, GBR"]


@given(st.sampled_from(Level), st.sets(st.sampled_from(CAVEATS)))
def test_what_is_written_is_read_again(level: Level, caveats: set[str]) -> None:
    ordered = in_banner_order(caveats)

    parsed = parse_banner(marking_text(level, ordered))

    assert parsed is not None
    assert (parsed.level, parsed.caveats, parsed.similarity) == (level, ordered, 1.0)


@given(st.text(max_size=60))
def test_no_text_is_too_strange(text: str) -> None:
    for parsed in (parse_banner(text), parse_portion(text), parse_marking(text)):
        assert parsed is None or 0 < parsed.similarity <= 1
