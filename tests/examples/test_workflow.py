"""The workflow on a real engine: a step for each page, the branch taken, and what the run leaves behind."""

import json
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from examples.classify_docs.pages import DocumentError, RenderSettings
from examples.classify_docs.readings import Detection, Marking, PageReading
from examples.classify_docs.readlog import ReadLog
from examples.classify_docs.workflow import NAME, by_page
from holdfast import Engine, Runtime
from holdfast.agents import AgentUnavailable
from holdfast.errors import RunFailed
from tests.examples.conftest import BlankPdf

PAGE = (200.0, 300.0)


def marking(text: str, legibility: float = 0.9, *, faded: bool = False) -> Marking:
    return {"text": text, "location": "header", "legibility": legibility, "faded": faded}


class ScriptedReader:
    """Reads what the test says: the first answer for a page, and the second when it is shown again."""

    def __init__(self) -> None:
        self.slots: AbstractContextManager[Any] = threading.BoundedSemaphore(2)
        self.markings: dict[int, list[Marking]] = {}
        self.better: dict[int, list[Marking]] = {}
        self.failures: list[Exception] = []
        self.shown: list[int] = []

    def read(self, image: Image.Image, page_number: int) -> PageReading:
        assert image.size == (139, 209)
        if self.failures:
            raise self.failures.pop()
        again = page_number in self.shown
        self.shown.append(page_number)
        found = (self.better if again else self.markings).get(page_number, [])
        return {
            "page_number": page_number,
            "markings_found": found,
            "clarity_score": 0.9 if again else 0.8,
            "filter_suggestion": {"brightness": 50, "contrast": 90, "saturation": 100},
        }


@pytest.fixture
def reader() -> ScriptedReader:
    return ScriptedReader()


@pytest.fixture
def reads(tmp_path: Path) -> ReadLog:
    return ReadLog(tmp_path / "reads.jsonl")


@pytest.fixture
async def engine(tmp_path: Path, reader: ScriptedReader, reads: ReadLog) -> AsyncIterator[Engine]:
    runtime = Runtime(reader=reader, render=RenderSettings(dpi=50), reads=reads)
    async with Engine(f"sqlite:///{tmp_path / 'runs.db'}", runtime=runtime) as running:
        yield running


async def stages(engine: Engine, run_id: str) -> list[str]:
    return [stage.name for stage in await (await engine.get(run_id)).stages()]


async def test_each_page_is_a_step_of_its_own(
    engine: Engine, reader: ScriptedReader, reads: ReadLog, blank_pdf: BlankPdf
) -> None:
    document = blank_pdf(PAGE, PAGE, PAGE)
    reader.markings = {number: [marking("SECRET//NOFORN")] for number in (1, 2, 3)}

    run = await engine.start(NAME, {"document": str(document)})
    result = await run.result()

    assert await stages(engine, run.id) == [
        "init",
        "detect",
        "detect",
        "detect",
        "assess",
        "classify",
        "score",
    ]
    assert reads.times_read() == {1: 1, 2: 1, 3: 1}
    assert [page["page_number"] for page in result["detections"]] == [1, 2, 3]
    assert result["classification"]["classification"] == "SECRET//NOFORN"
    assert result["needs_enhancement"] is result["enhancement_applied"] is False


async def test_only_pages_that_are_hard_to_read_are_enhanced(
    engine: Engine, reader: ScriptedReader, reads: ReadLog, blank_pdf: BlankPdf
) -> None:
    document = blank_pdf(PAGE, PAGE, PAGE)
    reader.markings = {
        1: [marking("SECRET")],
        2: [marking("SECRET", 0.1, faded=True)],
        3: [marking("SECRET")],
    }
    reader.better = {2: [marking("SECRET", 0.8), marking("TOP SECRET")]}

    run = await engine.start(NAME, {"document": str(document)})
    result = await run.result()

    assert (await stages(engine, run.id)).count("enhance") == 1
    assert [read.page for read in reads.reads() if read.enhanced] == [2]
    assert result["enhancement_applied"] is True
    assert result["detections"][1]["markings_found"] == [marking("SECRET", 0.8), marking("TOP SECRET")]
    assert result["detections"][1]["enhanced_image"] == "page-2@50dpi+b50c90s100"
    assert [page["enhanced_image"] for page in result["detections"]].count(None) == 2
    assert result["classification"]["level"] == "TOP SECRET"


@pytest.mark.parametrize(("threshold", "enhanced"), [(0.6, 1), (0.4, 0), (-3, 0), (7, 1)])
async def test_the_threshold_is_a_parameter_held_between_none_and_all(
    engine: Engine, reader: ScriptedReader, blank_pdf: BlankPdf, threshold: float, enhanced: int
) -> None:
    reader.markings = {1: [marking("SECRET", 0.5)]}

    run = await engine.start(NAME, {"document": str(blank_pdf(PAGE)), "threshold": threshold})
    await run.result()

    assert (await stages(engine, run.id)).count("enhance") == enhanced


async def test_the_state_is_plain_json_without_pixels(
    engine: Engine, reader: ScriptedReader, blank_pdf: BlankPdf
) -> None:
    reader.markings = {1: [marking("SECRET", 0.1)]}

    result = await engine.execute(NAME, {"document": str(blank_pdf(PAGE))})

    text = json.dumps(result)
    assert json.loads(text) == result
    assert len(text) < 4000
    assert set(result) == {
        "document",
        "threshold",
        "page_count",
        "detections",
        "needs_enhancement",
        "enhancement_applied",
        "classification",
        "confidence",
    }


async def test_what_is_no_pdf_fails_in_the_first_step_and_says_why(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "memo.pdf").write_bytes(b"no PDF at all")

    with pytest.raises(RunFailed, match="is not a PDF") as caught:
        await engine.execute(NAME, {"document": str(tmp_path / "memo.pdf")})

    assert caught.value.stage == "init"
    assert isinstance(caught.value.__cause__, DocumentError)


async def test_a_reader_out_of_reach_is_asked_again(
    engine: Engine, reader: ScriptedReader, reads: ReadLog, blank_pdf: BlankPdf
) -> None:
    reader.markings = {1: [marking("SECRET")]}
    reader.failures = [AgentUnavailable("busy")]

    result = await engine.execute(NAME, {"document": str(blank_pdf(PAGE))})

    assert result["classification"]["level"] == "SECRET"
    assert reads.times_read() == {1: 2}


async def test_a_failed_page_is_read_again_on_resume_and_the_others_are_not(
    engine: Engine, reader: ScriptedReader, reads: ReadLog, blank_pdf: BlankPdf
) -> None:
    reader.markings = {number: [marking("SECRET")] for number in (1, 2, 3)}
    reader.failures = [ValueError("the scanner's cat")]
    run = await engine.start(NAME, {"document": str(blank_pdf(PAGE, PAGE, PAGE))})
    with pytest.raises(RunFailed, match="cat"):
        await run.result()

    await engine.resume(run.id)
    await run.result()

    assert sorted(reads.times_read().values()) == [1, 1, 2]


def test_detections_come_in_any_order_and_stand_in_page_order() -> None:
    def page(number: int, image: str = "") -> Detection:
        return {
            "page_number": number,
            "markings_found": [],
            "clarity_score": 0.0,
            "filter_suggestion": None,
            "image": image,
            "enhanced_image": None,
        }

    assert by_page([page(2), page(5)], [page(1), page(5, "newer"), page(3)]) == [
        page(1),
        page(2),
        page(3),
        page(5, "newer"),
    ]
    assert by_page([], []) == []
