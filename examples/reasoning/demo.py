"""The demo: ``python -m examples.reasoning.demo [PROBLEM]``; without a problem it takes the sample."""

import argparse
import asyncio
import sys

from rich.console import Console

from examples.models import model_from_environment
from examples.terminal import named, run_in_memory
from holdfast.agents import Agent

from .workflow import FOUND, NAME, SAMPLE, offline


async def main(problem: str, agent: Agent, console: Console) -> int:
    """Runs the workflow in memory and returns the exit code."""
    console.rule(f"Reason, by {named(agent)}")
    return await run_in_memory(NAME, {"problem": problem}, agent, console, "problem", *FOUND.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Think a problem through.")
    parser.add_argument("problem", nargs="?", default=SAMPLE)
    wanted = parser.parse_args().problem
    sys.exit(asyncio.run(main(wanted, model_from_environment("AGENT") or offline(), Console())))
