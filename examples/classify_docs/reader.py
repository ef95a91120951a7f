"""Who reads a page: the protocol, and the reader that needs no network.

`OcrReader` runs PaddleOCR's models through onnxruntime. They are part of the ``rapidocr`` wheel and are named here
by path, so nothing is ever downloaded. `VisionReader` (vision.py) asks a model behind an OpenAI-compatible address.
"""

import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from PIL import Image

from .markings import TextLine, clarity, find_markings
from .readings import UNREADABLE, FilterSuggestion, Marking, PageReading
from .tones import FaintInk, Grey, faint_ink, grey_of, paper_and_ink, suggest_filter

_UNREADABLE_LEGIBILITY: Final = 0.05
_SUGGEST_BELOW: Final = 0.7
"""A filter is suggested for any marking below this, so that a run may ask for more than the usual threshold."""
_SAME_ROW: Final = 0.6
_GAP_IN_HEIGHTS: Final = 2.5


class Reader(Protocol):
    """Reads one page. Safe to call from several threads."""

    @property
    def slots(self) -> AbstractContextManager[Any]:
        """Entered around a page's rendering and reading: bounds how many pages are in memory at once."""

    def read(self, image: Image.Image, page_number: int) -> PageReading:
        """Returns what stands on the page."""


class OcrReader:
    """Reads markings by optical character recognition, on this machine alone."""

    def __init__(self, parallel: int = 2) -> None:
        """Takes how many pages are read at once; each uses one processor."""
        self.slots: AbstractContextManager[Any] = threading.BoundedSemaphore(parallel)
        self._loading = threading.Lock()

    def read(self, image: Image.Image, page_number: int) -> PageReading:
        """Returns the markings on the page, and faint writing at its edges as markings nobody could read."""
        grey = grey_of(image)
        lines = self.lines(image)
        faint = faint_ink(grey, lines)
        markings = find_markings(lines)
        return {
            "page_number": page_number,
            "markings_found": markings + [_unreadable(ink) for ink in faint],
            "clarity_score": _clarity(lines, faint),
            "filter_suggestion": _suggestion(grey, lines, markings, faint),
        }

    def lines(self, image: Image.Image) -> list[TextLine]:
        """Returns the lines of text on the page, each with its place and how sure the OCR is of it."""
        with self._loading:
            engine = self._engine
        # OpenCV's order of channels.
        output = engine(np.asarray(image.convert("RGB"))[:, :, ::-1], use_cls=False)
        if output.boxes is None or not output.txts:
            return []
        grey = grey_of(image)
        found = [
            _line(grey, str(text), float(score), box)
            for text, score, box in zip(output.txts, output.scores, output.boxes, strict=True)
        ]
        return join_rows(found)

    @cached_property
    def _engine(self) -> Any:
        # Late, because it takes half a second that a vision model's user need not wait.
        from rapidocr import RapidOCR  # noqa: PLC0415

        return RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.use_cls": False,
                "Det.model_path": str(_bundled("det")),
                "Rec.model_path": str(_bundled("rec")),
                # Lines of one length per batch would be padded to the longest: one by one is faster on a processor.
                "Rec.rec_batch_num": 1,
                "Det.limit_type": "max",
                "Det.limit_side_len": 1280,
                # Pages are the unit of parallelism; threads within a page would only fight over the processors.
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                # Memory is kept from page to page; giving it back each time is what threads wait for.
                "EngineConfig.onnxruntime.enable_cpu_mem_arena": True,
            }
        )


def _bundled(task: str) -> Path:
    """Returns the model that came with rapidocr's wheel; raises FileNotFoundError rather than fetch one."""
    rapidocr = find_spec("rapidocr")
    if rapidocr is None or rapidocr.origin is None:
        raise ModuleNotFoundError("the OCR needs the package rapidocr; see requirements.txt beside this file")
    folder = Path(rapidocr.origin).parent / "models"
    models = sorted(folder.glob(f"*_{task}_*.onnx"))
    if not models:
        raise FileNotFoundError(f"no {task} model in {folder}: this version of rapidocr ships without models")
    return models[-1]


def join_rows(lines: Iterable[TextLine]) -> list[TextLine]:
    """Returns the lines with neighbours of one row joined: TOP and SECRET may come in two boxes."""
    joined: list[TextLine] = []
    for line in sorted(lines, key=lambda line: (round((line.top + line.bottom) / 2, 2), line.left)):
        left = next((other for other in joined if _continues(other, line)), None)
        if left is None:
            joined.append(line)
        else:
            joined[joined.index(left)] = _joined(left, line)
    return joined


def _continues(left: TextLine, right: TextLine) -> bool:
    height = min(left.bottom - left.top, right.bottom - right.top)
    overlap = min(left.bottom, right.bottom) - max(left.top, right.top)
    # Shares of width and of height: a page is some 1.3 times as high as it is wide.
    gap = (right.left - left.right) / 1.3
    return overlap > _SAME_ROW * height and -height < gap < _GAP_IN_HEIGHTS * height


def _joined(left: TextLine, right: TextLine) -> TextLine:
    return TextLine(
        text=f"{left.text} {right.text}",
        confidence=min(left.confidence, right.confidence),
        left=left.left,
        top=min(left.top, right.top),
        right=right.right,
        bottom=max(left.bottom, right.bottom),
        contrast=min(left.contrast, right.contrast),
    )


def _line(grey: Grey, text: str, score: float, box: Any) -> TextLine:
    height, width = grey.shape
    corners = np.asarray(box, dtype=np.float64)
    left, right = _extent(corners[:, 0] / width)
    top, bottom = _extent(corners[:, 1] / height)
    place = TextLine(text, score, left, top, right, bottom)
    paper, ink = paper_and_ink(grey, place)
    return TextLine(text, score, left, top, right, bottom, contrast=max(0.0, paper - ink) / 255)


def _extent(values: Any) -> tuple[float, float]:
    return max(0.0, float(values.min())), min(1.0, float(values.max()))


def _unreadable(ink: FaintInk) -> Marking:
    return {"text": UNREADABLE, "location": ink.location, "legibility": _UNREADABLE_LEGIBILITY, "faded": True}


def _clarity(lines: list[TextLine], faint: list[FaintInk]) -> float:
    # Each edge with writing that cannot be read takes a quarter.
    return round(clarity(lines) * (1 - 0.25 * len(faint)), 3)


def _suggestion(
    grey: Grey, lines: list[TextLine], markings: list[Marking], faint: list[FaintInk]
) -> FilterSuggestion | None:
    if faint:
        return suggest_filter([(ink.paper, ink.ink) for ink in faint])
    pale = [line for line in lines if find_markings([line])]
    if pale and any(marking["legibility"] < _SUGGEST_BELOW for marking in markings):
        return suggest_filter([paper_and_ink(grey, min(pale, key=lambda line: line.contrast))])
    return None
