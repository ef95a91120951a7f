"""Real OCR over sample pages: no network, a clear page is read, a faded one only after enhancing."""

import socket

import pytest

from examples.classify_docs.enhance import apply_filter, merge_reading, needs_enhancement
from examples.classify_docs.make_samples import SAMPLES
from examples.classify_docs.pages import render_page
from examples.classify_docs.reader import OcrReader
from examples.classify_docs.readings import UNREADABLE, Detection, Location


@pytest.fixture(scope="module")
def reader() -> OcrReader:
    return OcrReader()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the OCR must not ask the network for anything")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def texts(detection: Detection) -> set[tuple[str, Location]]:
    return {(marking["text"], marking["location"]) for marking in detection["markings_found"]}


def read(reader: OcrReader, name: str) -> Detection:
    page = render_page(SAMPLES / f"{name}.pdf", 1)
    return {**reader.read(page, 1), "image": "page-1", "enhanced_image": None}


def test_a_clear_page_is_read_at_once(reader: OcrReader) -> None:
    detection = read(reader, "crane-memo")

    assert texts(detection) == {("SECRET//NOFORN", place) for place in ("header", "body", "footer")}
    assert min(marking["legibility"] for marking in detection["markings_found"]) > 0.8
    assert not needs_enhancement(detection, 0.4)


def test_a_faded_page_is_read_only_after_enhancing(reader: OcrReader) -> None:
    detection = read(reader, "faded-survey")

    assert {(UNREADABLE, "header"), (UNREADABLE, "footer")} <= texts(detection)
    assert not any("SECRET" in text for text, _ in texts(detection))
    assert needs_enhancement(detection, 0.4)
    suggestion = detection["filter_suggestion"]
    assert suggestion is not None

    enhanced = apply_filter(render_page(SAMPLES / "faded-survey.pdf", 1), suggestion)
    better = merge_reading(detection, reader.read(enhanced, 1), "page-1+", 0.4)

    assert {("SECRET//SI//NOFORN", "header"), ("SECRET//SI//NOFORN", "footer")} <= texts(better)
    assert not any(text == UNREADABLE for text, _ in texts(better))
    assert better["clarity_score"] > detection["clarity_score"]


def test_a_page_that_only_speaks_of_secrets_has_no_markings(reader: OcrReader) -> None:
    detection = read(reader, "skippers-notice")

    assert detection["markings_found"] == []
    assert detection["filter_suggestion"] is None
    assert detection["clarity_score"] > 0.9
