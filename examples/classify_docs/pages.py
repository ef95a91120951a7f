"""Pages of a PDF as images.

Rendering is the only place that opens a document. PDFium is not safe to use from several threads, so one lock
stands around it; the reading, which takes much longer, runs outside of the lock.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pypdfium2
from PIL import Image

_PDFIUM = threading.Lock()
_POINTS_PER_INCH: Final = 72
_HEADER_WITHIN: Final = 1024
_LOCKED: Final = frozenset({pypdfium2.raw.FPDF_ERR_PASSWORD, pypdfium2.raw.FPDF_ERR_SECURITY})


class DocumentError(ValueError):
    """The document cannot be classified, whatever is tried; the message says why."""


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """How pages become images."""

    dpi: int = 150
    """More than 200 gains nothing with the OCR, which scales an image down to 2000 pixels."""
    longest_side: int = 4000
    """Pixels; a poster is rendered smaller than `dpi` asks, so that no page needs more than some 50 MB."""


def page_count(path: str | Path) -> int:
    """Returns the number of pages; raises DocumentError when there is nothing to classify."""
    with _PDFIUM, _opened(Path(path)) as document:
        return len(document)


def render_page(path: str | Path, number: int, settings: RenderSettings | None = None) -> Image.Image:
    """Returns page `number`, counted from 1, as an RGB image."""
    settings = settings or RenderSettings()
    with _PDFIUM, _opened(Path(path)) as document:
        if not 1 <= number <= len(document):
            raise DocumentError(f"{path} has no page {number}, only 1 to {len(document)}")
        try:
            with closing(document[number - 1]) as page:
                longest = max(page.get_size()) or 1.0
                scale = min(settings.dpi / _POINTS_PER_INCH, settings.longest_side / longest)
                with closing(page.render(scale=scale)) as bitmap:
                    # A copy: the bitmap's memory is PDFium's and ends with it.
                    image: Image.Image = bitmap.to_pil().convert("RGB").copy()
                    return image
        except pypdfium2.PdfiumError as error:
            raise DocumentError(f"page {number} of {path} cannot be rendered: {error}") from error


def png_bytes(image: Image.Image) -> bytes:
    """Returns the image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def image_name(number: int, settings: RenderSettings, enhancement: str = "") -> str:
    """Returns the name by which a state refers to a page image that it does not hold."""
    return f"page-{number}@{settings.dpi}dpi{enhancement}"


@contextmanager
def _opened(path: Path) -> Iterator[pypdfium2.PdfDocument]:
    if not path.is_file():
        raise DocumentError(f"there is no file {path}")
    if not _looks_like_pdf(path):
        raise DocumentError(f"{path} is not a PDF")
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise DocumentError(_why_closed(path, error)) from error
    with closing(document):
        if len(document) == 0:
            raise DocumentError(f"{path} has no pages")
        yield document


def _looks_like_pdf(path: Path) -> bool:
    with path.open("rb") as file:
        # Readers accept some bytes before the header, and so do we.
        return b"%PDF-" in file.read(_HEADER_WITHIN)


def _why_closed(path: Path, error: pypdfium2.PdfiumError) -> str:
    # PDFium also reports the error before this one, so a wrong password counts only if the file asks for one.
    if error.err_code in _LOCKED and b"/Encrypt" in path.read_bytes():
        return f"{path} is encrypted; save it without a password first"
    return f"{path} is damaged or has no pages: {error}"
