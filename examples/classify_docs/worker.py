"""One process that classifies documents: ``python -m examples.classify_docs.worker --store URL PDF``.

It starts the run, or finds it when it exists, and waits for its end. Kill it at any time and start it again: what
was read stays read. The demo does exactly that.
"""

import argparse
import asyncio
import os
from pathlib import Path

from holdfast import Engine, Runtime

from .pages import RenderSettings
from .reader import OcrReader, Reader
from .readlog import ReadLog
from .vision import vision_from_environment
from .workflow import NAME


def services(reads: Path | None = None) -> Runtime:
    """Returns what the nodes need: the model that the environment names, or else the OCR, and the render settings."""
    # One processor for each page: more at once would be slower each and hold more images.
    reader: Reader = vision_from_environment() or OcrReader(parallel=max(1, os.cpu_count() or 1))
    return Runtime(reader=reader, render=RenderSettings(), reads=ReadLog(reads) if reads else None)


async def classify_here(store: str, document: Path, run_id: str, reads: Path | None) -> None:
    """Runs the workflow over one document in this process, to its end."""
    async with Engine(store, runtime=services(reads)) as engine:
        run = await engine.start(NAME, {"document": str(document.resolve())}, id=run_id)
        await run.result()


def main() -> None:
    """Classifies the document named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("document", type=Path)
    parser.add_argument(
        "--store", required=True, help="where the engine keeps its runs, as in sqlite:///demo.db"
    )
    parser.add_argument("--run-id", required=True)
    parser.add_argument("--reads", type=Path, help="append a line to this file for each page that is read")
    given = parser.parse_args()
    asyncio.run(classify_here(given.store, given.document, given.run_id, given.reads))


if __name__ == "__main__":
    main()
