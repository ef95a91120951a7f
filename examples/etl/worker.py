"""One process that runs the ETL: ``python -m examples.etl.worker STORE FOLDER --die-at SHARE``.

It starts the run, or finds it when it exists. With ``--die-at`` it gets SIGKILL in the middle of the map; whoever opens
the store next goes on. The demo does exactly that.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from holdfast import Engine, Runtime

from .workflow import NAME, Plug

RUN_ID = "report"
NOWHERE = "http://127.0.0.1:9/rates"
"""Nobody listens there."""


def params(folder: Path, exchange_url: str = NOWHERE) -> dict[str, Any]:
    """Returns the params of a run that writes into the folder."""
    return {
        "exchange_url": exchange_url,
        "warehouse": str(folder / "warehouse.db"),
        "picture": str(folder / "report.png"),
    }


async def work(store: str, folder: Path, plug: Plug) -> None:
    """Runs the workflow in this process to its end."""
    async with Engine(store, runtime=Runtime(plug=plug), observers=()) as engine:
        run = await engine.start(NAME, params(folder), id=RUN_ID)
        await run.result()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the ETL in this process.")
    parser.add_argument("store", help="where the engine keeps its runs, as in sqlite:///etl.db")
    parser.add_argument("folder", type=Path, help="where the table and the picture go")
    parser.add_argument("--die-at", metavar="SHARE", help="get SIGKILL when this share is taken in hand")
    given = parser.parse_args()
    asyncio.run(work(given.store, given.folder, Plug(given.die_at)))
