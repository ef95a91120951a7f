"""Ink and paper: what the grey levels of a page say, apart from any text on it.

OCR says nothing at all about writing that it cannot see. So the edges of a page, where markings stand, are also
searched for faint ink: strokes a little darker than the paper, dense enough to be a line of text, that no text line
covers. Only numpy; no state.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from .markings import FOOTER_BEGINS, HEADER_ENDS, TextLine
from .readings import FilterSuggestion, Location, clamp

Grey = npt.NDArray[np.float32]

_CELLS: Final = 412
"""Along the longer side: 4 pixels at 150 dpi, which leaves a quarter of the noise and all strokes of a banner."""
_SIGMAS: Final = 3.0
_WINDOW: Final = (5, 30)
"""Cells, height and width: as a piece of a banner line of ten letters at 150 dpi."""
_DENSE: Final = 0.30
_CHANGES: Final = 0.15
"""Of a window's cells, how many differ from the one before: letters alternate with paper, a shadow does not."""
_BINDING: Final = 0.05
"""Share of the width at each side where bindings throw their shadow and no marking stands."""
_FAINT_FROM: Final = 5.0
"""Grey levels below the paper; less is an uneven light or the squares of a JPEG."""
_FAINT_UP_TO: Final = 70.0
"""Grey levels below the paper; darker ink is for the OCR to see."""
_LIGHT_PAPER: Final = 190.0
"""Darker ground is a photograph, or a page whose contrast was raised already."""
_STRETCH_TO: Final = 110.0
"""Grey levels between ink and paper after enhancing: more turns noise into letters."""
_MIDDLE: Final = 127.5


@dataclass(frozen=True, slots=True)
class FaintInk:
    """Writing too pale to be read: where it stands, and the grey levels of paper and ink."""

    location: Location
    paper: float
    ink: float


def grey_of(image: Image.Image) -> Grey:
    """Returns the page's grey levels, 0 black to 255 white."""
    return np.asarray(image.convert("L"), dtype=np.float32)


def paper_and_ink(grey: Grey, line: TextLine) -> tuple[float, float]:
    """Returns the grey levels of paper and ink within the line's box."""
    height, width = grey.shape
    rows = slice(int(line.top * height), max(int(line.bottom * height), int(line.top * height) + 1))
    columns = slice(int(line.left * width), max(int(line.right * width), int(line.left * width) + 1))
    # Neighbours averaged first, so that the darkest grains of noise do not pass for ink.
    box = _averaged(grey[rows, columns], 2)
    return float(np.percentile(box, 85)), float(np.percentile(box, 4))


def faint_ink(grey: Grey, lines: Sequence[TextLine]) -> list[FaintInk]:
    """Returns the faint writing at the head and the foot of a page that no line covers."""
    found = []
    for location, top, bottom in (("header", 0.0, HEADER_ENDS), ("footer", FOOTER_BEGINS, 1.0)):
        tones = _faint_tones(grey, lines, top, bottom)
        if tones:
            found.append(FaintInk("header" if location == "header" else "footer", *tones))
    return found


def suggest_filter(tones: Sequence[tuple[float, float]]) -> FilterSuggestion:
    """Returns the filter that spreads these pairs of (paper, ink) far enough apart to read them.

    Brightness moves the middle between ink and paper to mid grey, contrast then pulls both away from it.
    """
    paper = sum(pair[0] for pair in tones) / len(tones)
    ink = sum(pair[1] for pair in tones) / len(tones)
    brightness = clamp(100 * _MIDDLE / max((paper + ink) / 2, 1.0), 0, 200)
    spread = max((paper - ink) * brightness / 100, 1.0)
    contrast = clamp((math.atan(_STRETCH_TO / spread) * 4 / math.pi - 1) * 100, 0, 97)
    return {"brightness": round(brightness, 1), "contrast": round(contrast, 1), "saturation": 100.0}


def _averaged(grey: Grey, cell: int) -> Grey:
    """Returns the mean of each square of cells; what is too small for one stays as it is."""
    rows, columns = grey.shape[0] // cell, grey.shape[1] // cell
    if rows == 0 or columns == 0:
        return grey
    squares = grey[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell)
    return np.asarray(squares.mean(axis=(1, 3)), dtype=np.float32)


def _faint_tones(
    grey: Grey, lines: Sequence[TextLine], top: float, bottom: float
) -> tuple[float, float] | None:
    """Returns the tones of paper and ink of the faint writing in a band of the page, or None."""
    height = grey.shape[0]
    edge = int(_BINDING * grey.shape[1])
    band = grey[int(top * height) : int(bottom * height), edge : grey.shape[1] - edge]
    cells = _averaged(band, max(1, round(max(grey.shape) / _CELLS)))
    if cells.shape[0] < _WINDOW[0] or cells.shape[1] < _WINDOW[1]:
        return None
    depth = _local_paper(cells) - cells
    noise = 1.4826 * float(np.median(np.abs(depth - np.median(depth))))
    seen = _widened(depth >= _FAINT_UP_TO) | _covered(cells.shape, lines, top, bottom)
    strokes = (depth > max(_SIGMAS * noise, 1.0)) & ~seen
    place = _densest(strokes)
    if place is None:
        return None
    row, column = place
    window = (slice(row, row + _WINDOW[0]), slice(column, column + _WINDOW[1]))
    paper = float(np.median(_local_paper(cells)[window]))
    below = depth[window][strokes[window]]
    if paper < _LIGHT_PAPER or float(np.percentile(below, 85)) < _FAINT_FROM:
        return None
    # The median, as specks of dust are among the strokes and far darker.
    return paper, paper - float(np.median(below))


def _densest(strokes: npt.NDArray[np.bool_]) -> tuple[int, int] | None:
    """Returns the window that looks most like a line of text, by its upper left cell, or None when none does."""
    area = _WINDOW[0] * _WINDOW[1]
    changes = np.zeros(strokes.shape, dtype=np.float32)
    changes[:, 1:] = strokes[:, 1:] != strokes[:, :-1]
    dense = _box_sums(strokes.astype(np.float32), *_WINDOW) / area
    lively = _box_sums(changes, *_WINDOW) / area >= _CHANGES
    score = np.where(lively, dense, 0.0)
    if float(score.max()) < _DENSE:
        return None
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    return int(row), int(column)


def _widened(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Returns the mask grown by two cells: the soft edge of dark ink is no faint ink."""
    reach = 2
    around = _box_sums(np.pad(mask.astype(np.float32), reach), 2 * reach + 1, 2 * reach + 1)
    return np.asarray(around > 0)


def _local_paper(cells: Grey) -> Grey:
    """Returns the paper's tone around each cell: light falls unevenly on a scanned page."""
    size = 25
    rows, columns = cells.shape
    coarse_rows, coarse_columns = max(1, round(rows / size)), max(1, round(columns / size))
    coarse = np.empty((coarse_rows, coarse_columns), dtype=np.float32)
    for i, stripe in enumerate(np.array_split(cells, coarse_rows, axis=0)):
        for j, part in enumerate(np.array_split(stripe, coarse_columns, axis=1)):
            coarse[i, j] = np.percentile(part, 70)
    smooth = Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.asarray(smooth, dtype=np.float32)


def _covered(
    shape: tuple[int, ...], lines: Sequence[TextLine], top: float, bottom: float
) -> npt.NDArray[np.bool_]:
    """Returns which cells of the band lie under a line of text, with some room around it."""
    rows, columns = shape[0], shape[1]
    mask = np.zeros((rows, columns), dtype=np.bool_)
    for line in lines:
        room = (line.bottom - line.top) / 2
        first = int((line.top - room - top) / (bottom - top) * rows)
        last = int((line.bottom + room - top) / (bottom - top) * rows) + 1
        if last > 0:
            left = (line.left - _BINDING) / (1 - 2 * _BINDING) * columns
            right = (line.right - _BINDING) / (1 - 2 * _BINDING) * columns
            mask[max(first, 0) : last, max(int(left) - 2, 0) : max(int(right) + 3, 0)] = True
    return mask


def _box_sums(values: Grey, height: int, width: int) -> Grey:
    """Returns the sum over each window of that size."""
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    sums = (
        total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    )
    return np.asarray(sums, dtype=np.float32)
