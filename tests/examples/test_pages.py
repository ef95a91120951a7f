"""Pages of a PDF: what can be rendered is, what cannot says why."""

from pathlib import Path

import pytest
from PIL import Image

from examples.classify_docs.make_samples import Page, Sample, Scan, samples, write_pdf
from examples.classify_docs.pages import (
    DocumentError,
    RenderSettings,
    image_name,
    page_count,
    png_bytes,
    render_page,
)
from examples.classify_docs.readlog import ReadLog
from tests.examples.conftest import BlankPdf

# The standard security handler with a password nobody has; the smallest file that PDFium takes for encrypted.
ENCRYPTED = b"""%%PDF-1.4
1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj
2 0 obj <</Type /Pages /Kids [3 0 R] /Count 1>> endobj
3 0 obj <</Type /Page /Parent 2 0 R /MediaBox [0 0 72 72]>> endobj
4 0 obj <</Filter /Standard /V 1 /R 2 /P -4 /O <%(o)s> /U <%(u)s>>> endobj
trailer <</Root 1 0 R /Encrypt 4 0 R /ID [<00> <00>] /Size 5>>
%%%%EOF
""" % {b"o": b"11" * 32, b"u": b"22" * 32}


@pytest.fixture
def two_pages(tmp_path: Path) -> Path:
    first, second = (
        Page("SECRET", title, ("One paragraph.",), scan=Scan(dust=0)) for title in ("First", "Second")
    )
    return write_pdf(Sample("two", "SECRET", (first, second), seed=1), tmp_path)


def test_pages_are_counted_and_rendered_in_the_resolution_asked_for(two_pages: Path) -> None:
    assert page_count(two_pages) == 2
    assert render_page(two_pages, 2, RenderSettings(dpi=50)).size == (425, 550)
    assert render_page(two_pages, 1, RenderSettings(dpi=72)).size == (612, 792)
    assert render_page(two_pages, 1).mode == "RGB"


def test_a_poster_is_rendered_no_larger_than_the_longest_side(blank_pdf: BlankPdf) -> None:
    poster = blank_pdf((2000, 4000))

    assert render_page(poster, 1, RenderSettings(dpi=300, longest_side=1000)).size == (500, 1000)


@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_page_that_does_not_exist_is_named(two_pages: Path, number: int) -> None:
    with pytest.raises(DocumentError, match=f"has no page {number}, only 1 to 2"):
        render_page(two_pages, number)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a PDF"),
        (b"PK\x03\x04 an office file", "is not a PDF"),
        (b"%PDF-1.7\nbut that is all", "is damaged"),
        (ENCRYPTED, "is encrypted"),
    ],
    ids=["empty", "another format", "damaged", "encrypted"],
)
def test_what_is_no_readable_pdf_says_why(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "memo.pdf"
    path.write_bytes(content)

    with pytest.raises(DocumentError, match=reason):
        page_count(path)


def test_a_file_that_is_missing_or_a_folder_says_so(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pdf", tmp_path):
        with pytest.raises(DocumentError, match="there is no file"):
            page_count(path)


def test_a_pdf_without_pages_says_so(blank_pdf: BlankPdf) -> None:
    with pytest.raises(DocumentError, match="damaged or has no pages"):
        page_count(blank_pdf())


def test_an_image_becomes_a_png() -> None:
    assert png_bytes(Image.new("RGB", (3, 2))).startswith(b"\x89PNG")


def test_an_image_has_a_name_instead_of_pixels() -> None:
    assert image_name(3, RenderSettings(dpi=150)) == "page-3@150dpi"
    assert image_name(3, RenderSettings(dpi=150), "+b50c90s100") == "page-3@150dpi+b50c90s100"


def test_the_same_sample_is_the_same_bytes(tmp_path: Path) -> None:
    memo = next(sample for sample in samples() if sample.name == "crane-memo")
    (tmp_path / "again").mkdir()

    assert write_pdf(memo, tmp_path).read_bytes() == write_pdf(memo, tmp_path / "again").read_bytes()


def test_a_log_of_readings_counts_pages_and_knows_the_enhanced_ones(tmp_path: Path) -> None:
    log = ReadLog(tmp_path / "reads.jsonl")
    assert log.reads() == []

    log.record("memo.pdf", 1)
    log.record("memo.pdf", 2)
    log.record("memo.pdf", 2)
    log.record("memo.pdf", 2, enhanced=True)

    assert log.times_read() == {1: 1, 2: 2}
    assert [(read.page, read.enhanced) for read in log.reads()] == [
        (1, False),
        (2, False),
        (2, False),
        (2, True),
    ]
