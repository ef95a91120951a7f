"""The demo: ``python -m examples.code_agents.demo [FILE]``; without a file it takes the sample."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.syntax import Syntax

from examples.models import model_from_environment
from examples.terminal import follow, named, result_of
from holdfast import Engine
from holdfast.agents import Agent

from .script import SAMPLE, offline
from .workflow import NAME, employ

TRIES: Final = 3


async def main(source: str, agent: Agent, console: Console) -> int:
    """Runs the workflow in memory and returns the exit code; what was rejected is written anew, twice at most."""
    employ(agent)
    console.rule(f"Refactor a module, by {named(agent)}")
    async with Engine("sqlite:///:memory:", observers=()) as engine:
        run = await engine.start(NAME, {"source": source})
        await follow(run, console)
        for _ in range(TRIES - 1):
            ended = await run.wait()
            if ended.error is None or ended.error.name != "accept":
                break
            console.rule("Again from refactor; analysis and tests are kept")
            await follow(await engine.clear(run.id, "refactor"), console, ended.position)
        result = await result_of(run, console)
    if result is None:
        return 1
    show(source, result, console)
    return 0


def show(source: str, result: Mapping[str, Any], console: Console) -> None:
    """Prints what was found, what changed, and what the reviewer says."""
    console.print()
    console.print(result["analyze"], highlight=False, markup=False)
    console.print()
    old, new = source.splitlines(), result["accept"].splitlines()
    lines = difflib.unified_diff(old, new, "before", "after", lineterm="")
    console.print(Syntax("\n".join(lines), "diff", background_color="default"))
    console.print()
    console.print(result["review"], style="green", highlight=False, markup=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Have a Python module refactored.")
    parser.add_argument("file", nargs="?", type=Path)
    given = parser.parse_args().file
    wanted = given.read_text("utf-8") if given else SAMPLE
    sys.exit(asyncio.run(main(wanted, model_from_environment("AGENT") or offline(), Console())))
