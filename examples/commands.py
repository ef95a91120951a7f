"""Running other programs, so that a cancelled step leaves none behind."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

LINES_SHOWN: Final = 30
FOREIGN: Final = ("COVERAGE_", "COV_", "PYTHON", "VIRTUAL_ENV")


class CommandFailed(Exception):
    """A program ended with another exit code than 0; says first what it printed last."""


async def run(*command: str | Path, folder: Path, **variables: str) -> str:
    """Returns what a program prints. It gets these variables beside the process's own, but for what Python reads."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=folder,
        env={**own, "PYTHONDONTWRITEBYTECODE": "1", **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    text = printed.decode(errors="replace").strip()
    if process.returncode:
        lines = text.splitlines()[-LINES_SHOWN:] or ["it said nothing"]
        said = "\n".join((lines[-1], *lines))
        raise CommandFailed(f"{Path(command[0]).name} ended with {process.returncode}: {said}")
    return text
