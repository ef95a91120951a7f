"""Documents that need no scanner."""

from collections.abc import Callable
from pathlib import Path

import pypdfium2
import pytest

BlankPdf = Callable[..., Path]


@pytest.fixture
def blank_pdf(tmp_path: Path) -> BlankPdf:
    """Gives a function that writes a PDF of empty pages, one for each size in points."""

    def write(*sizes: tuple[float, float], name: str = "blank") -> Path:
        document = pypdfium2.PdfDocument.new()
        for size in sizes:
            document.new_page(*size).close()
        path = tmp_path / f"{name}.pdf"
        document.save(path)
        document.close()
        return path

    return write
