"""Makes the sample PDFs: invented harbour memos that look like scans.

Each page is drawn upright, then goes through what paper and scanner do to it: faded ink, uneven light, skew,
blur, noise, dust and at last JPEG. Everything is drawn from one seed per page, so the same versions of pillow
and numpy give the same bytes. The texts are invented; the markings on them mean nothing.

Run it with ``python -m examples.classify_docs.make_samples [FOLDER]``.
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import gmtime
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SAMPLES: Final = Path(__file__).parent / "samples"
EXPECTED: Final = "expected.json"

DPI: Final = 120
WIDTH: Final = round(8.5 * DPI)
HEIGHT: Final = 11 * DPI
LEFT: Final = round(1.0 * DPI)
PAPER: Final = 243
INK: Final = 38
DISCLAIMER: Final = "Invented sample of a software demonstration. The markings mean nothing."
_EPOCH: Final = gmtime(0)


@dataclass(frozen=True, slots=True)
class Scan:
    """What paper and scanner did to a page."""

    skew: float = 0.4
    """Degrees, counter-clockwise."""
    noise: float = 4.0
    """Standard deviation in grey levels."""
    blur: float = 0.5
    """Radius in pixels."""
    dust: int = 40
    banner_ink: int = INK
    """Grey level of the header and footer marking; close to the paper's means faded."""
    body_ink: int = INK + 12
    quality: int = 50
    """Of the JPEG in the PDF."""


_PLAIN: Final = Scan()


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its banner marking, a title and paragraphs with their portion markings."""

    banner: str
    title: str
    paragraphs: tuple[str, ...]
    footer: str | None = None
    """Another marking at the foot; None repeats the banner."""
    scan: Scan = _PLAIN


@dataclass(frozen=True, slots=True)
class Sample:
    """One document and the classification that a careful reader gives it."""

    name: str
    expected: str | None
    pages: tuple[Page, ...]
    seed: int


_FACTS: Final = (
    "The dredger will work the inner basin from Monday to Thursday and leave the fairway open at high water.",
    "Buoy seven was lifted, scraped and painted; its lamp now flashes twice in ten seconds.",
    "The north crane needs a new slewing ring, which the yard can fit within three working days.",
    "Divers found the sluice gate sound, apart from two anodes that are eaten away to half their weight.",
    "Berth four stays closed for the ferry until the fenders have been replaced and the load test is passed.",
    "The tide gauge reads eleven millimetres low; the correction is to be applied to all tables of this year.",
    "Stores hold enough mooring rope for the season, but only nine of the heavy shackles.",
    "The pilot boat was slipped for its survey and goes back into the water on the second of the month.",
    "Rust on the ladder of the east pier has been chipped off, primed and given two coats of grey.",
    "The harbour office asks all skippers to keep the slipway free during the delivery of the pontoon.",
    "Fuel for the work boats is to be drawn from tank two, as the meter of tank one is under repair.",
    "A spare bulb for the leading light was ordered in spring and has not come so far.",
)


def _paragraphs(seed: int, portion: str, count: int) -> tuple[str, ...]:
    rng = random.Random(seed)
    prefix = f"({portion}) " if portion else ""
    return tuple(prefix + " ".join(rng.sample(_FACTS, 2)) for _ in range(count))


def _series(
    seed: int, banner: str, portion: str, titles: Sequence[str], scan: Scan = _PLAIN
) -> tuple[Page, ...]:
    """Pages of one document, each with its own skew and paragraphs."""
    rng = random.Random(seed)
    return tuple(
        Page(
            banner,
            title,
            _paragraphs(seed * 100 + number, portion, 3),
            scan=replace(scan, skew=round(rng.uniform(-1.1, 1.1), 2)),
        )
        for number, title in enumerate(titles)
    )


def _faded(page: Page, banner_ink: int, body_ink: int = 150, noise: float = 2.2) -> Page:
    scan = replace(page.scan, banner_ink=banner_ink, body_ink=body_ink, noise=noise, quality=58, dust=10)
    return replace(page, scan=scan)


def _logbook() -> tuple[Page, ...]:
    titles = [f"Lighthouse logbook, week {week}" for week in range(31, 45)]
    pages = list(_series(6, "TOP SECRET//SI//NOFORN", "TS//SI//NF", titles, Scan(noise=4.5, quality=45)))
    pages[8] = _faded(pages[8], banner_ink=234)
    return tuple(
        page if number % 3 else replace(page, paragraphs=page.paragraphs[:2])
        for number, page in enumerate(pages)
    )


def samples() -> tuple[Sample, ...]:
    """Returns the sample documents, as make_samples draws them."""
    memo = _series(1, "SECRET//NOFORN", "S//NF", ["Memorandum: repair of the north crane"], Scan(noise=3.5))
    plan = _series(
        2, "CONFIDENTIAL", "C", [f"Dredging plan, part {part}" for part in ("one", "two", "three")]
    )
    survey = _series(
        3, "SECRET//SI//NOFORN", "U", ["Survey of the old mole", "Survey of the old mole, continued"]
    )
    annex_u = _series(41, "UNCLASSIFIED", "U", ["Annex A: opening hours", "Annex D: list of suppliers"])
    annex_c = _series(42, "CONFIDENTIAL//ORCON", "C//OC", ["Annex B: berthing plan"])
    annex_s = _series(43, "SECRET//NOFORN", "S//NF", ["Annex C: harbour watch"], Scan(blur=0.8, noise=6.0))
    notice = Page(
        "",
        "SECRETARY'S NOTICE TO ALL SKIPPERS",
        (
            "The cook keeps the recipe of the harbour soup secret, but the kitchen is open on all days.",
            "Parcels are handed out at the office; please bring a letter if they are not for you.",
            *_paragraphs(5, "", 2),
        ),
        scan=Scan(skew=-0.8),
    )
    visitors = _series(
        7, "UNCLASSIFIED", "U", ["Visitors' guide to the pier"], Scan(skew=0.9, noise=6.0, blur=0.7)
    )
    return (
        Sample("crane-memo", "SECRET//NOFORN", memo, 11),
        Sample("dredging-plan", "CONFIDENTIAL", plan, 12),
        Sample("faded-survey", "SECRET//SI//NOFORN", (_faded(survey[0], 234), _faded(survey[1], 232)), 13),
        Sample(
            "mixed-annexes",
            "SECRET//ORCON//NOFORN",
            (annex_u[0], annex_c[0], annex_s[0], annex_u[1]),
            14,
        ),
        Sample("skippers-notice", None, (notice,), 15),
        Sample("visitors-guide", "UNCLASSIFIED", visitors, 16),
        Sample("lighthouse-logbook", "TOP SECRET//SI//NOFORN", _logbook(), 17),
    )


def _font(points: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Pillow's own font: the samples must not depend on what is installed.
    return ImageFont.load_default(size=points * DPI / 72)


def _centred(draw: ImageDraw.ImageDraw, y: float, text: str, points: float, ink: int) -> None:
    font = _font(points)
    x = (WIDTH - draw.textlength(text, font=font)) / 2
    draw.text((x, y), text, font=font, fill=ink, stroke_width=0.5, stroke_fill=ink)


def _wrapped(draw: ImageDraw.ImageDraw, text: str, points: float) -> list[str]:
    font, lines, line = _font(points), [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if draw.textlength(longer, font=font) > WIDTH - 2 * LEFT:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


def draw_page(page: Page, number: int, total: int) -> Image.Image:
    """Returns the page as it came from the typewriter: upright and clean."""
    image = Image.new("L", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    scan = page.scan
    footer = page.banner if page.footer is None else page.footer
    _centred(draw, 0.42 * DPI, page.banner, 17, scan.banner_ink)
    _centred(draw, HEIGHT - 0.72 * DPI, footer, 17, scan.banner_ink)
    _centred(draw, HEIGHT - 1.25 * DPI, DISCLAIMER, 8, scan.body_ink)
    draw.text(
        (WIDTH - LEFT - 60, HEIGHT - 1.55 * DPI), f"{number} / {total}", font=_font(9), fill=scan.body_ink
    )
    _centred(draw, 1.3 * DPI, page.title, 14, scan.body_ink)
    y = 2.1 * DPI
    for paragraph in page.paragraphs:
        for line in _wrapped(draw, paragraph, 11):
            draw.text((LEFT, y), line, font=_font(11), fill=scan.body_ink)
            y += 0.22 * DPI
        y += 0.22 * DPI
    return image


def _uneven_light(rng: np.random.Generator) -> np.ndarray:
    """Returns a slow shading of a few grey levels, as a lid that does not close gives."""
    coarse = rng.normal(0.0, 2.2, size=(5, 4)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def _edge_shadow() -> np.ndarray:
    """Returns the shadow of the binding, along the left edge."""
    return np.asarray(70 * np.exp(-np.arange(WIDTH, dtype=np.float32) / 9.0))


def _punched(clean: Image.Image) -> Image.Image:
    """Returns the page with the two holes of a binder."""
    page, radius, x = clean.copy(), round(0.11 * DPI), round(0.42 * DPI)
    draw = ImageDraw.Draw(page)
    for y in (HEIGHT / 2 - 1.57 * DPI, HEIGHT / 2 + 1.57 * DPI):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=120, outline=95)
    return page


def scan_page(clean: Image.Image, scan: Scan, seed: int) -> Image.Image:
    """Returns the page as the scanner saw it."""
    rng = np.random.default_rng(seed)
    punched = _punched(clean)
    skewed = punched.rotate(scan.skew, resample=Image.Resampling.BICUBIC, fillcolor=PAPER)
    blurred = skewed.filter(ImageFilter.GaussianBlur(scan.blur))
    grey = np.asarray(blurred, dtype=np.float32) + _uneven_light(rng) - _edge_shadow()
    grey = grey + rng.normal(0.0, scan.noise, size=grey.shape).astype(np.float32)
    rows, columns = rng.integers(0, HEIGHT - 2, scan.dust), rng.integers(0, WIDTH - 2, scan.dust)
    for row, column in zip(rows, columns, strict=True):
        grey[row : row + 2, column : column + 2] -= 70
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))


def write_pdf(sample: Sample, folder: Path) -> Path:
    """Writes one sample as a PDF of scanned pages and returns its path."""
    total = len(sample.pages)
    images = [
        scan_page(draw_page(page, number, total), page.scan, sample.seed * 1000 + number)
        for number, page in enumerate(sample.pages, start=1)
    ]
    path = folder / f"{sample.name}.pdf"
    images[0].save(
        path,
        save_all=True,
        append_images=images[1:],
        resolution=DPI,
        # One quality for all pages of a file: the best that any page asks for.
        quality=max(page.scan.quality for page in sample.pages),
        title=sample.name,
        # Fixed times: the same samples are the same bytes.
        creationDate=_EPOCH,
        modDate=_EPOCH,
    )
    return path


def write_samples(folder: Path = SAMPLES) -> list[Path]:
    """Writes all samples and what is expected of them; returns the paths of the PDFs."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = samples()
    expected = {
        sample.name: {"classification": sample.expected, "pages": len(sample.pages)} for sample in everything
    }
    (folder / EXPECTED).write_text(json.dumps(expected, indent=2) + "\n", encoding="utf-8")
    return [write_pdf(sample, folder) for sample in everything]


def main() -> None:
    """Writes the samples into the folder named on the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=SAMPLES)
    for path in write_samples(parser.parse_args().folder):
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
