"""The demo: ``python -m examples.summarize.demo [FILE]``; without a file it takes a sample text."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

from rich.console import Console

from examples.models import model_from_environment
from examples.terminal import named, run_in_memory
from holdfast.agents import Agent

from .workflow import NAME, offline

SAMPLE: Final = """\
The lighthouse on Gull Rock was lit in 1871, after three ships had been lost in one winter. Its keepers carried oil \
up 194 steps every evening. In 1926 the lighthouse got an electric lamp, and the keepers a telephone. The last keeper \
left Gull Rock in 1984. Since then the lighthouse on Gull Rock has run by itself, and no ship has been lost."""


async def main(text: str, agent: Agent, console: Console) -> int:
    """Runs the workflow in memory and returns the exit code."""
    console.rule(f"Summarize, by {named(agent)}")
    return await run_in_memory(NAME, {"text": text}, agent, console, "text", "summary")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Summarize a text.")
    parser.add_argument("file", nargs="?", type=Path)
    given = parser.parse_args().file
    wanted = given.read_text(encoding="utf-8") if given else SAMPLE
    sys.exit(asyncio.run(main(wanted, model_from_environment("AGENT") or offline(), Console())))
