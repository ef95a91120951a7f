"""Markings among the lines of a page: where a line stands decides what counts."""

from dataclasses import replace

import pytest

from examples.classify_docs.markings import TextLine, clarity, find_markings, legibility, location_of
from examples.classify_docs.reader import join_rows
from examples.classify_docs.readings import Location


def line(
    text: str, top: float = 0.5, left: float = 0.3, *, confidence: float = 1.0, contrast: float = 0.8
) -> TextLine:
    return TextLine(text, confidence, left, top, left + 0.4, top + 0.02, contrast)


def texts(*lines: TextLine) -> list[tuple[str, Location]]:
    return [(marking["text"], marking["location"]) for marking in find_markings(lines)]


@pytest.mark.parametrize(
    ("top", "left", "location"),
    [
        (0.03, 0.3, "header"),
        (0.94, 0.3, "footer"),
        (0.5, -0.15, "margin"),
        (0.5, 0.75, "margin"),
        (0.5, 0.3, "body"),
    ],
)
def test_the_middle_of_a_line_decides_where_it_stands(top: float, left: float, location: Location) -> None:
    assert location_of(line("SECRET", top, left)) == location


def test_a_page_with_banners_and_portions_gives_each_text_once_per_location() -> None:
    found = texts(
        line("SECRET//NOFORN", 0.94),
        line("SECRET//NOFORN", 0.04),
        line("Memorandum", 0.15),
        line("(S//NF) The north crane needs a new ring.", 0.3),
        line("(S//NF) Divers found the gate sound.", 0.4),
    )

    assert found == [("SECRET//NOFORN", "header"), ("SECRET//NOFORN", "body"), ("SECRET//NOFORN", "footer")]


def test_of_two_lines_with_one_marking_the_more_legible_is_kept() -> None:
    dim, sharp = line("SECRET", 0.03, confidence=0.7), line("SECRET", 0.06, confidence=0.99)

    [marking] = find_markings([dim, sharp])

    assert marking["legibility"] == pytest.approx(legibility(0.99, 1.0, 0.8))


def test_a_banner_shares_its_line_at_the_edge_but_not_in_the_body() -> None:
    text = "SECRET//NOFORN    HARBOUR OFFICE"

    assert texts(line(text, 0.04)) == [("SECRET//NOFORN", "header")]
    assert texts(line(text, 0.5)) == []


def test_a_banner_alone_on_its_line_counts_in_the_body() -> None:
    assert texts(line("CONFIDENTIAL")) == [("CONFIDENTIAL", "body")]


@pytest.mark.parametrize(
    "prose",
    [
        "The cook keeps the recipe of the harbour soup secret.",
        "Top secret, said the cook, and laughed.",
        "This part is UNCLASSIFIED when separated from the annex.",
        "SECRETARY'S NOTICE TO ALL SKIPPERS",
    ],
)
@pytest.mark.parametrize("top", [0.04, 0.5])
def test_prose_is_no_marking_wherever_it_stands(prose: str, top: float) -> None:
    assert texts(line(prose, top)) == []


def test_a_header_in_small_letters_counts_when_it_stands_alone() -> None:
    assert texts(line("Confidential", 0.04)) == [("CONFIDENTIAL", "header")]


def test_a_c_in_a_list_and_a_copyright_are_no_portion_markings() -> None:
    assert texts(line("(A) ropes", 0.3), line("(C) shackles", 0.4)) == []
    assert texts(line("(C) 2031 the harbour office", 0.3)) == []
    assert texts(line("(C) The shackles are short.", 0.3)) == [("CONFIDENTIAL", "body")]


def test_pale_ink_is_faded_but_not_illegible() -> None:
    [pale] = find_markings([line("SECRET", 0.04, contrast=0.1)])
    [dark] = find_markings([line("SECRET", 0.04, contrast=0.7)])

    assert pale["faded"]
    assert not dark["faded"]
    assert 0.6 < pale["legibility"] < dark["legibility"]


@pytest.mark.parametrize(("confidence", "expected"), [(1.0, 1.0), (0.7, 0.5), (0.4, 0.0), (0.1, 0.0)])
def test_half_sure_ocr_has_guessed(confidence: float, expected: float) -> None:
    assert legibility(confidence, 1.0, 1.0) == pytest.approx(expected)


def test_long_lines_weigh_more_in_the_clarity_of_a_page() -> None:
    long, short = line("x" * 90, confidence=1.0), line("y" * 10, confidence=0.4)

    assert clarity([long, short]) == pytest.approx(0.9)
    assert clarity([]) == 0.0


def test_boxes_of_one_row_are_joined_before_they_are_understood() -> None:
    top = TextLine("TOP", 0.99, 0.40, 0.040, 0.45, 0.060)
    secret = TextLine("SECRET//SI", 0.98, 0.46, 0.041, 0.60, 0.061)

    [joined] = join_rows([secret, top])

    assert joined.text == "TOP SECRET//SI"
    assert joined.confidence == 0.98
    assert (joined.left, joined.right) == (0.40, 0.60)


def test_columns_and_rows_are_not_joined() -> None:
    first = TextLine("SECRET", 0.99, 0.10, 0.040, 0.20, 0.060)

    assert len(join_rows([first, replace(first, text="page 3", left=0.80, right=0.90)])) == 2
    assert len(join_rows([first, replace(first, text="below", top=0.065, bottom=0.085)])) == 2
